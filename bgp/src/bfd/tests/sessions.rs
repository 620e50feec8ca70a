//! Which session a packet is for, and how they come and go.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::*;

const NOW: Duration = Duration::from_secs(5);

fn address(n: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, n])
}

fn with(peers: &[u8]) -> BTreeMap<IpAddr, Timing> {
    peers.iter().map(|n| (address(*n), Timing::default())).collect()
}

fn first(sessions: &mut Sessions, n: u8) -> Packet {
    let outputs = sessions.tick(NOW);
    let mine = outputs.into_iter().find_map(|(peer, output)| match output {
        Output::Send(packet) if peer == address(n) => Some(packet),
        _ => None,
    });
    mine.expect("the first packet goes at once")
}

#[test]
fn a_packet_finds_its_session_by_discriminator_and_before_that_by_address() {
    let mut sessions = Sessions::new(1);
    assert_eq!(sessions.configure(NOW, &with(&[1, 2])), []);
    let mine = first(&mut sessions, 1).mine;
    let down = Packet { yours: None, ..packet(State::Down) };
    assert_eq!(sessions.receive(NOW, address(9), &down.encode()), Err(Refused::Stranger));
    let outputs = sessions.receive(NOW, address(1), &down.encode()).unwrap();
    assert!(outputs.iter().all(|(peer, _)| *peer == address(1)));
    // It may come from another address of the peer.
    let up = Packet { yours: Some(mine), ..packet(State::Up) };
    sessions.receive(NOW, address(9), &up.encode()).unwrap();
    let states: Vec<_> = sessions.iter().map(|(_, session)| session.state()).collect();
    assert_eq!(states, [State::Up, State::Down]);
    let unknown = Packet { yours: NonZeroU32::new(mine.get() ^ 1), ..packet(State::Up) };
    assert!(matches!(sessions.receive(NOW, address(1), &unknown.encode()), Err(Refused::NoSession(_))));
    assert!(matches!(sessions.receive(NOW, address(1), &[]), Err(Refused::Short { there: 0 })));
}

#[test]
fn a_session_that_goes_says_so_until_its_peer_knows_it() {
    for knows in [true, false] {
        let mut sessions = Sessions::new(1);
        let _nothing = sessions.configure(NOW, &with(&[1]));
        let mine = first(&mut sessions, 1).mine;
        for state in [State::Down, State::Up] {
            let heard = Packet { yours: Some(mine), ..packet(state) };
            sessions.receive(NOW, address(1), &heard.encode()).unwrap();
        }
        let outputs = sessions.configure(NOW, &with(&[]));
        assert!(matches!(outputs[..], [_, (_, Output::Send(Packet { state: State::AdminDown, .. }))]), "{outputs:?}");
        assert_eq!(sessions.iter().count(), 1);
        if knows {
            let down = Packet { yours: Some(mine), ..packet(State::Down) };
            assert_eq!(sessions.receive(NOW, address(1), &down.encode()), Ok(vec![]));
        } else {
            let _last = sessions.tick(NOW + millis(901));
        }
        assert_eq!((sessions.iter().count(), sessions.deadline()), (0, None));
    }
}

#[test]
fn one_that_is_wanted_again_before_it_is_gone_goes_on() {
    let mut sessions = Sessions::new(1);
    let _nothing = sessions.configure(NOW, &with(&[1]));
    let mine = first(&mut sessions, 1).mine;
    let _init = sessions.receive(NOW, address(1), &Packet { yours: None, ..packet(State::Down) }.encode());
    let _up = sessions.receive(NOW, address(1), &Packet { yours: Some(mine), ..packet(State::Up) }.encode());
    let _told = sessions.configure(NOW, &with(&[]));
    let _told = sessions.configure(NOW, &with(&[1]));
    let states: Vec<_> = sessions.iter().map(|(_, session)| session.state()).collect();
    assert_eq!(states, [State::Down]);
    let _told = sessions.disable(NOW);
    assert_eq!(sessions.iter().map(|(_, session)| session.state()).collect::<Vec<_>>(), [State::AdminDown]);
}
