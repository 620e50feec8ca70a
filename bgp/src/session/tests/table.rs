//! Every state with every input: the whole table as a snapshot, and the RFC's own transitions by name.

use std::fmt::Write;

use super::*;
use crate::wire::Update;

const STATES: [State; 6] =
    [State::Idle, State::Connect, State::Active, State::OpenSent, State::OpenConfirm, State::Established];

/// What may happen. The match makes a new input a compile error here.
fn all_inputs(bytes: &[Vec<u8>]) -> Vec<(&'static str, Input<'_>)> {
    let named = |input: &Input<'_>| match input {
        Input::ManualStart => "ManualStart",
        Input::ManualStop(_) => "ManualStop",
        Input::AutomaticStop(_) => "AutomaticStop",
        Input::BfdDown => "BfdDown",
        Input::Connected(_) => "Tcp_CR_Acked",
        Input::Accepted(_) => "TcpConnectionConfirmed",
        Input::Failed(_) => "TcpConnectionFails",
        Input::Sent(_) => "sent",
        Input::Refresh(_) => "routes wanted again",
        Input::Tick => "timers before their time",
        Input::Received(..) => "bytes",
    };
    let mut all: Vec<_> = [
        Input::ManualStart,
        Input::ManualStop(Cease::AdministrativeShutdown("maintenance".into())),
        Input::AutomaticStop(Cease::MaximumPrefixes { family: Family::Ipv4, limit: 100 }),
        Input::BfdDown,
        Input::Connected(DIALLED),
        Input::Accepted(ACCEPTED),
        Input::Failed(DIALLED),
        Input::Sent(DIALLED),
        Input::Refresh(Family::Ipv4),
        Input::Tick,
    ]
    .into_iter()
    .map(|input| (named(&input), input))
    .collect();
    let names = [
        "BGPOpen",
        "KeepAliveMsg",
        "UpdateMsg",
        "NotifMsg",
        "NotifMsgVerErr",
        "ROUTE-REFRESH",
        "BGPHeaderErr",
        "BGPOpenMsgErr",
        "UpdateMsgErr",
    ];
    all.extend(names.into_iter().zip(bytes.iter().map(|bytes| Input::Received(DIALLED, bytes))));
    all
}

fn messages(peer: &Config) -> Vec<Vec<u8>> {
    let mut bad_update = bytes(&Message::Update(Update { end_of_rib: Some(Family::Ipv4), ..Update::default() }));
    bad_update[20] = 9;
    let bad_open = Open { identifier: Ipv4Addr::UNSPECIFIED, ..peer_open(peer) };
    vec![
        bytes(&Message::Open(peer_open(peer))),
        bytes(&Message::Keepalive),
        bytes(&Message::Update(Update { end_of_rib: Some(Family::Ipv4), ..Update::default() })),
        bytes(&Message::Notification(Cease::PeerDeconfigured.into())),
        bytes(&Message::Notification(ErrorCode::UNSUPPORTED_VERSION.into())),
        bytes(&Message::Refresh(Some(Family::Ipv6))),
        vec![0; 19],
        bytes(&Message::Open(bad_open)),
        bad_update,
    ]
}

fn brief(output: &Output) -> String {
    match output {
        Output::Connect(id) => format!("connect {id:?}"),
        Output::Close(id) => format!("close {id:?}"),
        Output::Send(id, Message::Open(_)) => format!("OPEN to {id:?}"),
        Output::Send(id, Message::Notification(notification)) => {
            format!("NOTIFICATION to {id:?}: {}", notification.error)
        }
        Output::Send(id, message) => format!("{message:?} to {id:?}"),
        Output::Up(id, _) => format!("up {id:?}"),
        Output::Down { reason, graceful } => format!("down ({reason}), graceful {}", graceful.is_some()),
        Output::Failed(id, reason) => format!("failed {id:?} ({reason})"),
        Output::Update(update) => format!("update, end of {:?}", update.end_of_rib),
        Output::Refresh(family) => format!("refresh {family}"),
    }
}

/// All timers at their time, one after the other, in each state.
fn timers(state: State) -> String {
    let mut bench = Bench::at(state, config(1), &config(2));
    let Some(_) = bench.session.deadline() else { return "no timer runs".into() };
    let outputs = bench.wait();
    format!("{} | {}", bench.session.state(), outputs.iter().map(brief).collect::<Vec<_>>().join("; "))
}

#[test]
fn every_state_with_every_input() {
    let messages = messages(&config(2));
    let mut table = String::new();
    let mut combinations = 0;
    for state in STATES {
        for (name, input) in all_inputs(&messages) {
            let mut bench = Bench::at(state, config(1), &config(2));
            let outputs = bench.step(input);
            let outputs: Vec<_> = outputs.iter().map(brief).collect();
            let (next, retries) = (bench.session.state(), bench.session.connect_retry_counter());
            writeln!(table, "{state} + {name} -> {next}, counter {retries} | {}", outputs.join("; ")).unwrap();
            combinations += 1;
        }
        writeln!(table, "{state} + the next timer -> {}", timers(state)).unwrap();
    }
    assert_eq!(combinations, 6 * 19);
    insta::assert_snapshot!(table);
}

#[test]
fn a_peer_of_any_other_as_goes_the_ways_of_one_whose_as_is_configured() {
    let peer = Config { local_as: Asn(65001), peer_as: PeerAs::Is(Asn(64512)), ..config(2) };
    let messages = messages(&peer);
    let mut ups = 0;
    for state in STATES {
        for (name, input) in all_inputs(&messages) {
            let [expected, found] = [PeerAs::Is(Asn(65001)), PeerAs::AnyBut(Asn(64512))].map(|peer_as| {
                let mut bench = Bench::at(state, Config { peer_as, ..config(1) }, &peer);
                let outputs = bench.step(input.clone());
                let negotiated = bench.session.negotiated().cloned();
                (outputs, bench.session.state(), bench.session.deadline(), negotiated)
            });
            assert_eq!(found, expected, "{state} + {name}");
            ups += usize::from(found.3.is_some_and(|negotiated| negotiated.dialect.first_as == Some(Asn(65001))));
        }
    }
    assert!(ups > 1, "some of them are up");
}

/// The state that an input leads to, and the first thing sent.
fn leads(from: State, input: Input<'_>) -> (State, Option<Message>) {
    let mut bench = Bench::at(from, config(1), &config(2));
    let outputs = bench.step(input);
    (bench.session.state(), sent(&outputs).into_iter().next().map(|(_, message)| message))
}

#[test]
fn the_way_up_is_that_of_the_rfc() {
    let open = bytes(&Message::Open(peer_open(&config(2))));
    let keepalive = bytes(&Message::Keepalive);
    assert_eq!(leads(State::Idle, Input::ManualStart), (State::Connect, None));
    assert!(matches!(leads(State::Connect, Input::Connected(DIALLED)), (State::OpenSent, Some(Message::Open(_)))));
    assert!(matches!(leads(State::Active, Input::Accepted(ACCEPTED)), (State::OpenSent, Some(Message::Open(_)))));
    let confirmed = (State::OpenConfirm, Some(Message::Keepalive));
    assert_eq!(leads(State::OpenSent, Input::Received(DIALLED, &open)), confirmed);
    assert_eq!(leads(State::OpenConfirm, Input::Received(DIALLED, &keepalive)), (State::Established, None));
}

#[test]
fn the_ways_down_are_those_of_the_rfc() {
    let notification = |error: ErrorCode| Some(Message::Notification(error.into()));
    let keepalive = bytes(&Message::Keepalive);
    let open = bytes(&Message::Open(peer_open(&config(2))));
    let unexpected = |state, input| leads(state, input);
    assert_eq!(leads(State::Connect, Input::Failed(DIALLED)), (State::Active, None));
    assert_eq!(leads(State::OpenSent, Input::Failed(DIALLED)), (State::Active, None));
    assert_eq!(leads(State::OpenConfirm, Input::Failed(DIALLED)), (State::Idle, None));
    assert_eq!(leads(State::Established, Input::Failed(DIALLED)), (State::Idle, None));
    let early = unexpected(State::OpenSent, Input::Received(DIALLED, &keepalive));
    assert_eq!(early, (State::Idle, notification(ErrorCode::FSM_OPEN_SENT)));
    let again = unexpected(State::OpenConfirm, Input::Received(DIALLED, &open));
    assert_eq!(again, (State::Idle, notification(ErrorCode::FSM_OPEN_CONFIRM)));
    let late = unexpected(State::Established, Input::Received(DIALLED, &open));
    assert_eq!(late, (State::Idle, notification(ErrorCode::FSM_ESTABLISHED)));
    for state in [State::OpenSent, State::OpenConfirm, State::Established] {
        let told = bytes(&Message::Notification(Cease::PeerDeconfigured.into()));
        assert_eq!(
            leads(state, Input::Received(DIALLED, &told)),
            (State::Idle, None),
            "nothing answers a NOTIFICATION"
        );
        let stop = Input::ManualStop(Cease::AdministrativeShutdown("x".into()));
        let cease = Notification::from(Cease::AdministrativeShutdown("x".into()));
        assert_eq!(leads(state, stop), (State::Idle, Some(Message::Notification(cease))));
    }
}
