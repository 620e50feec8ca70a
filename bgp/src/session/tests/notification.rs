//! Each NOTIFICATION of RFC 4271 that can be provoked is, and what the peer says of itself is checked.
//!
//! Two cannot: Missing Well-known Attribute and AS Routing Loop, since RFC 7606 treats the first as withdraw and RFC 4271 has
//! deprecated the second. Those are in no table here because nothing sends them.

use super::*;

/// What is answered to bytes in a state, beside the end of the connection.
fn answer(state: State, bytes: &[u8]) -> ErrorCode {
    let mut bench = Bench::at(state, config(1), &config(2));
    let outputs = bench.step(Input::Received(DIALLED, bytes));
    let notification = told(&outputs).unwrap_or_else(|| panic!("{outputs:?}"));
    assert!(outputs.contains(&Output::Close(DIALLED)));
    assert_eq!((bench.session.state(), bench.session.connect_retry_counter()), (State::Idle, 1));
    notification.error
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[0xFF; 16][..], &(19 + body.len() as u16).to_be_bytes(), &[kind], body].concat()
}

fn update(attributes: &[u8]) -> Vec<u8> {
    frame(2, &[&[0, 0][..], &(attributes.len() as u16).to_be_bytes(), attributes].concat())
}

#[test]
fn each_code_is_provoked() {
    let open = |change: fn(&mut Open)| {
        let mut open = peer_open(&config(2));
        change(&mut open);
        bytes(&Message::Open(open))
    };
    let mut version = open(|_| ());
    version[19] = 3;
    let opens = [
        (frame(1, &[&[4, 0xFC, 0, 0, 90, 10, 0, 0, 2, 2][..], &[2, 9]].concat()), ErrorCode::OPEN_UNSPECIFIC),
        (version, ErrorCode::UNSUPPORTED_VERSION),
        (open(|open| open.capabilities.four_octet = Some(Asn(64513))), ErrorCode::BAD_PEER_AS),
        (open(|open| open.capabilities.four_octet = Some(Asn(0))), ErrorCode::BAD_PEER_AS),
        (open(|open| open.identifier = Ipv4Addr::UNSPECIFIED), ErrorCode::BAD_IDENTIFIER),
        (open(|open| open.identifier = Ipv4Addr::new(10, 0, 0, 1)), ErrorCode::BAD_IDENTIFIER),
        (frame(1, &[4, 0xFC, 0, 0, 90, 10, 0, 0, 2, 2, 1, 0]), ErrorCode::UNSUPPORTED_PARAMETER),
        (open(|open| open.hold_time = 1), ErrorCode::UNACCEPTABLE_HOLD_TIME),
        (open(|open| open.hold_time = 2), ErrorCode::UNACCEPTABLE_HOLD_TIME),
        (frame(1, &[4, 0xFC, 0, 0, 90, 10, 0, 0, 2, 8, 2, 6, 1, 4, 0, 25, 0, 70]), ErrorCode::UNSUPPORTED_CAPABILITY),
        (bytes(&Message::Keepalive), ErrorCode::FSM_OPEN_SENT),
    ];
    for (bytes, error) in opens {
        assert_eq!(answer(State::OpenSent, &bytes), error);
    }
    let updates = [
        (frame(2, &[0, 9, 0, 0]), ErrorCode::MALFORMED_ATTRIBUTES),
        (update(&[0x40, 99, 0]), ErrorCode::UNRECOGNIZED_WELL_KNOWN),
        (update(&[0xC0, 1, 1, 0]), ErrorCode::ATTRIBUTE_FLAGS),
        (update(&[0x40, 1, 2, 0, 0]), ErrorCode::ATTRIBUTE_LENGTH),
        (update(&[0x40, 1, 1, 3]), ErrorCode::INVALID_ORIGIN),
        (update(&[0x40, 3, 4, 127, 0, 0, 1]), ErrorCode::INVALID_NEXT_HOP),
        (update(&[0x80, 15, 4, 0, 2, 1, 129]), ErrorCode::OPTIONAL_ATTRIBUTE),
        (frame(2, &[0, 1, 33, 0, 0]), ErrorCode::INVALID_NETWORK_FIELD),
        (update(&[0x40, 2, 2, 2, 0]), ErrorCode::MALFORMED_AS_PATH),
    ];
    for (bytes, error) in updates {
        assert_eq!(answer(State::Established, &bytes), error);
    }
    for state in [State::OpenSent, State::OpenConfirm, State::Established] {
        assert_eq!(answer(state, &[0; 19]), ErrorCode::NOT_SYNCHRONIZED);
        assert_eq!(answer(state, &frame(4, &[0])), ErrorCode::BAD_MESSAGE_LENGTH);
        assert_eq!(answer(state, &frame(9, &[])), ErrorCode::BAD_MESSAGE_TYPE);
    }
    assert_eq!(answer(State::OpenConfirm, &update(&[])), ErrorCode::FSM_OPEN_CONFIRM);
    assert_eq!(answer(State::Established, &bytes(&Message::Open(peer_open(&config(2))))), ErrorCode::FSM_ESTABLISHED);
}

#[test]
fn a_malformed_attribute_of_a_route_leaves_the_session_up() {
    let mut bench = Bench::at(State::Established, config(1), &config(2));
    let body = [0, 0, 0, 4, 0x40, 1, 1, 9, 8, 10];
    let outputs = bench.step(Input::Received(DIALLED, &frame(2, &body)));
    let [Output::Update(update)] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!((update.withdrawn.len(), update.announced.is_none()), (1, true));
    assert_eq!(bench.session.state(), State::Established);
}

#[test]
fn each_reason_to_cease_has_its_subcode() {
    for (cease, subcode) in [
        (Cease::MaximumPrefixes { family: Family::Ipv6, limit: 7 }, 1),
        (Cease::AdministrativeShutdown(String::new()), 2),
        (Cease::PeerDeconfigured, 3),
        (Cease::AdministrativeReset("new filters".into()), 4),
        (Cease::ConnectionRejected, 5),
        (Cease::OtherConfigurationChange, 6),
        (Cease::OutOfResources, 8),
    ] {
        let mut bench = Bench::at(State::Established, config(1), &config(2));
        let outputs = bench.step(Input::AutomaticStop(cease.clone()));
        let expected = Notification::from(cease);
        assert_eq!((told(&outputs), expected.error.subcode), (Some(expected), subcode));
        assert!(outputs.iter().any(|output| matches!(output, Output::Down { graceful: None, .. })));
    }
    let mut bench = Bench::at(State::Established, graceful(config(1)), &graceful(config(2)));
    let outputs = bench.step(Input::BfdDown);
    assert_eq!(told(&outputs), Some(ErrorCode::BFD_DOWN.into()));
    assert!(outputs.iter().any(|output| matches!(output, Output::Down { graceful: None, .. })));
}

#[test]
fn only_a_lost_connection_keeps_the_routes_of_a_graceful_peer() {
    let lost = |config: Config, peer: Config, input: Input<'_>| {
        let mut bench = Bench::at(State::Established, config, &peer);
        bench.now += Duration::from_secs(20);
        let outputs = bench.step(input);
        outputs.into_iter().find_map(|output| match output {
            Output::Down { graceful, .. } => Some(graceful.is_some()),
            _ => None,
        })
    };
    let both = || (graceful(config(1)), graceful(config(2)));
    let notification = bytes(&Message::Notification(Cease::PeerDeconfigured.into()));
    assert_eq!(lost(both().0, both().1, Input::Failed(DIALLED)), Some(true));
    assert_eq!(lost(both().0, both().1, Input::Received(DIALLED, &notification)), Some(false));
    assert_eq!(lost(config(1), both().1, Input::Failed(DIALLED)), Some(false));
    assert_eq!(lost(both().0, config(2), Input::Failed(DIALLED)), Some(false));
    let mut helper = both().1;
    helper.capabilities.graceful_restart.as_mut().unwrap().families.clear();
    assert_eq!(lost(both().0, helper.clone(), Input::Failed(DIALLED)), Some(false), "it only helps others");
    assert_eq!(lost(both().0, helper, Input::Accepted(ACCEPTED)), None, "nor is a new connection its restart");
    assert_eq!(lost(both().0, both().1, Input::Accepted(ACCEPTED)), Some(true));
}

#[test]
fn what_both_offer_is_agreed_on() {
    use crate::wire::AddPath;
    let mut own = graceful(config(1));
    own.capabilities.add_path[Family::Ipv4] = AddPath { send: true, receive: true };
    own.capabilities.extended_next_hop = true;
    let mut peer = graceful(config(2));
    peer.capabilities.families = Some(vec![Family::Ipv4]);
    peer.capabilities.add_path[Family::Ipv4] = AddPath { send: false, receive: true };
    peer.capabilities.extended_next_hop = true;
    peer.hold_time = 9;
    let bench = Bench::at(State::Established, own.clone(), &peer);
    let agreed = bench.session.negotiated().unwrap();
    assert_eq!(agreed.hold_time, Duration::from_secs(9));
    assert_eq!(agreed.dialect.add_path[Family::Ipv4], AddPath { send: true, receive: false });
    assert_eq!((agreed.dialect.families[Family::Ipv4], agreed.dialect.families[Family::Ipv6]), (true, false));
    assert!(
        agreed.dialect.extended_next_hop
            && agreed.dialect.four_octet
            && agreed.dialect.internal
            && agreed.route_refresh
    );

    let mut bench = Bench::at(State::OpenSent, config(1), &config(2));
    let old = Open { capabilities: Capabilities::default(), ..peer_open(&config(2)) };
    let _keepalive = bench.hear(DIALLED, &Message::Open(old));
    let _up = bench.hear(DIALLED, &Message::Keepalive);
    let agreed = bench.session.negotiated().unwrap();
    assert!(!agreed.dialect.four_octet && !agreed.route_refresh);
    assert_eq!((agreed.dialect.families[Family::Ipv4], agreed.dialect.families[Family::Ipv6]), (true, false));
}
