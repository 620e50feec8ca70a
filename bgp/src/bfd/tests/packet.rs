//! The codec: all that can be written comes back, and each malformed packet is refused for its own reason.

use proptest::prelude::*;

use super::*;

fn packets() -> impl Strategy<Value = Packet> {
    let states = prop_oneof![Just(State::AdminDown), Just(State::Down), Just(State::Init), Just(State::Up)];
    let interval = || any::<u32>().prop_map(|micros| Duration::from_micros(micros.into()));
    let bits = any::<[bool; 4]>();
    (states, bits, 0..32u8, 1..=255u8, 1..=u32::MAX, any::<u32>(), [interval(), interval(), interval()]).prop_map(
        |(state, [poll, is_final, independent, demand], diagnostic, multiplier, mine, yours, intervals)| Packet {
            diagnostic: Diagnostic(diagnostic),
            state,
            poll,
            is_final,
            independent,
            demand,
            multiplier,
            mine: number(mine),
            yours: NonZeroU32::new(if state > State::Down { yours.max(1) } else { yours }),
            desired_min_tx: intervals[0],
            required_min_rx: intervals[1],
            required_min_echo_rx: intervals[2],
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_same(packet in packets()) {
        prop_assert_eq!(Packet::decode(&packet.encode()), Ok(packet));
    }

    #[test]
    fn what_is_read_is_written_as_the_same(bytes in prop::array::uniform24(any::<u8>()), more in prop::collection::vec(any::<u8>(), 0..9)) {
        let bytes = [&bytes[..], &more].concat();
        if let Ok(packet) = Packet::decode(&bytes) {
            let mut expected = bytes[..LENGTH].to_vec();
            expected[3] = 24;
            prop_assert_eq!(packet.encode().to_vec(), expected);
        }
    }

    #[test]
    fn no_packet_makes_a_session_panic(history in prop::collection::vec((packets(), 0..3000u64, any::<u32>()), 0..40)) {
        let mut bench = Bench::new();
        for (packet, wait, chance) in history {
            bench.now += millis(wait);
            let _outputs = bench.session.step(bench.now, chance, Input::Tick);
            let _outputs = bench.session.step(bench.now, chance, Input::Received(&packet));
            let gone = bench.session.remote.map(|remote| remote.gone);
            prop_assert!(gone.is_none_or(|gone| gone > bench.now || bench.session.detection_time() == Some(Duration::ZERO)));
        }
    }
}

#[test]
fn a_packet_is_that_of_the_rfc() {
    let bytes = [0x21, 0xE0, 3, 24, 0, 0, 0, 22, 0, 0, 0, 11, 0, 4, 0x93, 0xE0, 0, 4, 0x93, 0xE0, 0, 0, 0, 0];
    let expected = Packet { diagnostic: Diagnostic::EXPIRED, poll: true, ..packet(State::Up) };
    assert_eq!(Packet::decode(&bytes), Ok(expected));
    assert_eq!(expected.encode(), bytes);
}

#[test]
fn each_malformed_packet_is_refused() {
    let good = packet(State::Up).encode();
    let with = |at: usize, bytes: &[u8]| {
        let mut packet = good;
        packet[at..at + bytes.len()].copy_from_slice(bytes);
        packet
    };
    let table = [
        (with(0, &[0]), Refused::Version(0)),
        (with(0, &[0x40]), Refused::Version(2)),
        (with(3, &[23]), Refused::Length { claimed: 23, there: 24 }),
        (with(3, &[25]), Refused::Length { claimed: 25, there: 24 }),
        (with(2, &[0]), Refused::Multiplier),
        (with(1, &[0xC1]), Refused::Multipoint),
        (with(4, &[0; 4]), Refused::Discriminator),
        (with(8, &[0; 4]), Refused::Unaddressed(State::Up)),
        (with(1, &[0xC4]), Refused::Authentication),
    ];
    for (bytes, refused) in table {
        assert_eq!(Packet::decode(&bytes), Err(refused));
    }
    for there in 0..LENGTH {
        assert_eq!(Packet::decode(&good[..there]), Err(Refused::Short { there }));
    }
    let unaddressed = |state| Packet::decode(&Packet { yours: None, ..packet(state) }.encode());
    assert_eq!(unaddressed(State::Init), Err(Refused::Unaddressed(State::Init)));
    assert!(unaddressed(State::Down).is_ok() && unaddressed(State::AdminDown).is_ok());
    let padded = [&good[..], &[0; 8]].concat();
    assert!(Packet::decode(&padded).is_ok(), "what is behind the packet is not of it");
}
