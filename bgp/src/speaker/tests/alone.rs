//! One speaker, without a network: what it asks of its transport.

use proptest::prelude::*;

use super::*;
use crate::wire::{self, Dialect, Framer, Message};

const NOW: Duration = Duration::from_secs(50);

fn alone() -> (Speaker, Vec<Output>) {
    Speaker::new(NOW, config(0, [internal(1, Kind::Internal)]), Begin::Cold, 7)
}

/// All messages that these bytes are.
fn messages(bytes: &[u8]) -> Vec<Message> {
    let dialect = Dialect {
        families: PerFamily::both(true),
        four_octet: true,
        internal: true,
        extended_next_hop: true,
        ..Dialect::default()
    };
    let mut framer = Framer::default();
    framer.feed(bytes);
    let mut messages = Vec::new();
    while let Some(frame) = framer.next_frame().unwrap() {
        messages.push(wire::decode(&frame, &dialect).unwrap());
    }
    messages
}

fn bytes(messages: &[Message]) -> Vec<u8> {
    let mut out = Vec::new();
    messages.iter().for_each(|message| wire::encode(message, &Dialect::default(), &mut out).unwrap());
    out
}

fn written(speaker: &mut Speaker, connection: Connection) -> Vec<u8> {
    let mut out = Vec::new();
    let _nothing = speaker.write(NOW, connection, &mut out);
    out
}

#[test]
fn a_connection_is_taken_only_from_peers_that_are_configured_and_wanted() {
    let (mut speaker, _dial) = alone();
    let (local, remote) = (address(0), address(1));
    assert_eq!(speaker.accept(NOW, local, address(5)).unwrap_err(), Refused::Stranger(address(5)));
    assert!(speaker.accept(NOW, local, remote).is_ok());
    let mut stopped = internal(1, Kind::Internal);
    stopped.shutdown = Some(String::new());
    let _closed = speaker.configure(NOW, config(0, [stopped]));
    assert_eq!(speaker.accept(NOW, local, remote).unwrap_err(), Refused::Idle(remote));
    let mut bound = internal(1, Kind::Internal);
    bound.endpoint.source = Some(local);
    let _dialled = speaker.configure(NOW, config(0, [bound]));
    let refused = speaker.accept(NOW, address(9), remote).unwrap_err();
    assert_eq!(refused.to_string(), "10.0.0.2 came to 10.0.0.10, and is configured to come to 10.0.0.1");
    assert!(speaker.accept(NOW, local, remote).is_ok());
}

#[test]
fn the_transport_is_called_once_until_it_has_taken_all() {
    let (mut speaker, outputs) = alone();
    let dialled = outputs.iter().find_map(|output| match output {
        Output::Dial(connection, endpoint) if endpoint.address == address(1) => Some(*connection),
        _ => None,
    });
    let connection = dialled.expect("it dials");
    let outputs = speaker.step(NOW, Input::Connected { connection, local: address(0) });
    assert!(outputs.contains(&Output::Write(connection)));
    let Some(Message::Open(mut open)) = messages(&written(&mut speaker, connection)).pop() else { panic!("OPEN") };
    open.identifier = [10, 0, 0, 2].into();
    let outputs = speaker.step(NOW, Input::Received(connection, &bytes(&[Message::Open(open)])));
    assert!(!outputs.contains(&Output::Write(connection)), "it has not yet been asked whether that was all");
    assert_eq!(messages(&written(&mut speaker, connection)), [Message::Keepalive]);
    assert_eq!(written(&mut speaker, connection), []);
    let outputs = speaker.step(NOW, Input::Received(connection, &bytes(&[Message::Keepalive])));
    assert!(outputs.contains(&Output::Write(connection)), "End-of-RIB is to be written");
    assert_eq!(messages(&written(&mut speaker, connection)).len(), 2);
    assert_eq!(written(&mut speaker, connection), []);

    // A hundred thousand routes of a kind each: they come by and by, and each time about as much as a socket takes.
    for n in 0..100_000u32 {
        let prefix = IpNetwork::new(IpAddr::from((0x0A00_0000 | n << 8).to_be_bytes()), 24).unwrap();
        let outputs = speaker.step(NOW, Input::Originate(prefix, Attributes { med: Some(n / 2), ..igp() }));
        assert_eq!(outputs.contains(&Output::Write(connection)), n == 0);
    }
    let mut routes = 0;
    loop {
        let part = written(&mut speaker, connection);
        assert!(part.len() < 64 * 1024 + 512 * 64, "{} bytes at once", part.len());
        if part.is_empty() {
            break;
        }
        routes += messages(&part)
            .iter()
            .map(|message| match message {
                Message::Update(update) => {
                    update.announced.iter().flat_map(|all| &all.reach).map(|reach| reach.routes.len()).sum()
                }
                _ => 0,
            })
            .sum::<usize>();
    }
    assert_eq!(routes, 100_000);

    // What ends a session comes with its end.
    let outputs = speaker.configure(NOW, config(0, []));
    let last = outputs.iter().find_map(|output| match output {
        Output::Close(of, last) if *of == connection => Some(messages(last)),
        _ => None,
    });
    let [Message::Notification(notification)] = &last.unwrap()[..] else { panic!("one NOTIFICATION") };
    assert_eq!(notification.error, ErrorCode::PEER_DECONFIGURED);
}

#[test]
fn what_the_transport_has_taken_is_waited_for_no_longer() {
    let mut timeless = internal(1, Kind::Internal);
    timeless.hold_time = 0;
    let (mut speaker, _dial) = Speaker::new(NOW, config(0, [timeless]), Begin::Cold, 7);
    let (connection, _open) = speaker.accept(NOW, address(0), address(1)).unwrap();
    let Some(Message::Open(mut open)) = messages(&written(&mut speaker, connection)).pop() else { panic!("OPEN") };
    open.identifier = [10, 0, 0, 2].into();
    let _up = speaker.step(NOW, Input::Received(connection, &bytes(&[Message::Open(open), Message::Keepalive])));
    assert_eq!(speaker.deadline(), Some(NOW + Duration::from_mins(8)), "a KEEPALIVE waits for a peer that reads");
    let _taken = written(&mut speaker, connection);
    assert_eq!(speaker.deadline(), None, "without a hold time nothing else does");
}

#[test]
fn an_ipv4_route_goes_with_our_end_of_an_ipv6_connection_where_the_peer_takes_that() {
    let [local, remote]: [IpAddr; 2] = ["fd00::1", "fd00::2"].map(|address| address.parse().unwrap());
    for takes in [true, false] {
        let mut config_of = internal(1, Kind::Internal);
        (config_of.peer.address, config_of.endpoint.address) = (remote, remote);
        config_of.offer.extended_next_hop = true;
        let (mut speaker, _dial) = Speaker::new(NOW, config(0, [config_of]), Begin::Cold, 7);
        let (connection, _open) = speaker.accept(NOW, local, remote).unwrap();
        let Some(Message::Open(mut open)) = messages(&written(&mut speaker, connection)).pop() else { panic!("OPEN") };
        open.identifier = [10, 0, 0, 2].into();
        open.capabilities.extended_next_hop = takes;
        let _up = speaker.step(NOW, Input::Received(connection, &bytes(&[Message::Open(open), Message::Keepalive])));
        let _more = speaker.step(NOW, Input::Originate(net("203.0.113.0/24"), igp()));
        let announced = messages(&written(&mut speaker, connection)).into_iter().find_map(|message| match message {
            Message::Update(update) => update.announced,
            _ => None,
        });
        assert_eq!(announced.map(|all| all.reach[0].next_hop.address), takes.then_some(local));
        let told = speaker.explain(net("203.0.113.0/24")).unwrap().told;
        assert_eq!(told[0].1[0].2.is_ok(), takes);
    }
}

/// A speaker with an established session, on this connection.
fn established() -> (Speaker, Connection) {
    let (mut speaker, _dial) = alone();
    let (connection, _open) = speaker.accept(NOW, address(0), address(1)).unwrap();
    let Some(Message::Open(mut open)) = messages(&written(&mut speaker, connection)).pop() else { panic!("OPEN") };
    open.identifier = [10, 0, 0, 2].into();
    let _up = speaker.step(NOW, Input::Received(connection, &bytes(&[Message::Open(open), Message::Keepalive])));
    assert_eq!(speaker.peers()[0].state, State::Established);
    (speaker, connection)
}

proptest! {
    #[test]
    fn no_update_makes_it_panic_and_what_changes_adds_up(
        updates in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..30), 0..33u8, any::<[u8; 4]>(), any::<bool>()), 1..12),
    ) {
        let (mut speaker, connection) = established();
        let reach = [(net("0.0.0.0/0"), Some(0))].into_iter().collect();
        let _reached = speaker.step(NOW, Input::Reach(reach));
        let mut kernel = BTreeMap::new();
        for (noise, length, prefix, is_good) in updates {
            let good = [0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 3, 4, 10, 0, 0, 9, 0x40, 5, 4, 0, 0, 0, 100];
            let attributes = if is_good { good.to_vec() } else { [&good[..7], &noise].concat() };
            let count = u16::try_from(attributes.len()).unwrap();
            let nlri = [&[length][..], &prefix[..usize::from(length).div_ceil(8)]].concat();
            let body = [&[0, 0][..], &count.to_be_bytes(), &attributes, &nlri].concat();
            let whole = u16::try_from(19 + body.len()).unwrap();
            let message = [&[0xFF; 16][..], &whole.to_be_bytes(), &[2], &body].concat();
            let _outputs = speaker.step(NOW, Input::Received(connection, &message));
            for route in speaker.changes() {
                if route.next_hops.is_empty() {
                    kernel.remove(&route.prefix);
                } else {
                    kernel.insert(route.prefix, route);
                }
            }
            // What cannot be read on has ended the session.
            let stands = speaker.peers()[0].state == State::Established;
            if stands && is_good && (8..=24).contains(&length) && (1..127).contains(&prefix[0]) {
                let announced = IpNetwork::new(IpAddr::from(prefix), length).unwrap();
                prop_assert!(kernel.contains_key(&crate::prefix::masked(announced)), "{announced}");
            }
            prop_assert!(kernel.values().eq(speaker.routes().collect::<Vec<_>>().iter()));
        }
    }
}

#[test]
fn what_is_of_a_connection_that_is_gone_is_ignored() {
    let (mut speaker, outputs) = alone();
    let Some(Output::Dial(connection, _)) = outputs.first().cloned() else { panic!("{outputs:?}") };
    let _removed = speaker.configure(NOW, config(0, []));
    for input in [
        Input::Connected { connection, local: address(0) },
        Input::Failed(connection),
        Input::Received(connection, &[0; 30]),
        Input::Reset(address(1), String::new()),
        Input::Refresh(address(1)),
        Input::Tick,
    ] {
        assert_eq!(speaker.step(NOW, input), []);
    }
    assert_eq!(written(&mut speaker, connection), []);
    assert_eq!((speaker.deadline(), speaker.explain(net("10.0.0.0/8"))), (None, None));
}
