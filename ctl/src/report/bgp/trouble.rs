//! Why a session is not up, as far as its one end can know, and what to do about it.
//!
//! The words do not say for how long, so that what several nodes say of one peer is one problem.

use twill_cluster::inquiry::bgp::{EndedBy, LastError, Peer, State};
use twill_cluster::record::Told;

use super::{is_up, title};

/// What is wrong with a session; `None` where it is up.
pub(super) fn of(peer: &Peer) -> Option<Told> {
    if is_up(peer) {
        return None;
    }
    let (why, fix) = likely(peer);
    Some(Told { what: format!("the BGP session with {} is not up: {why}", title(&peer.neighbour)), fix })
}

/// The likely cause, and what to do.
fn likely(peer: &Peer) -> (String, String) {
    if let Some(why) = &peer.shutdown {
        return (format!("it is shut down here ({why})"), "take that back where it was ordered".to_owned());
    }
    if peer.barred_seconds.is_some() {
        return (
            "it announced more prefixes than max_prefixes, and is left alone for five minutes".to_owned(),
            "find out what it announces, or raise max_prefixes in [bgp]".to_owned(),
        );
    }
    match &peer.last_error {
        Some(error) if peer.unreached.is_none() => ended(peer, error),
        _ => unconnected(peer),
    }
}

/// No connection stands, and none was ended.
fn unconnected(peer: &Peer) -> (String, String) {
    let (address, port) = (peer.neighbour.address, peer.port);
    let is_node = peer.neighbour.node.is_some();
    if peer.passive {
        let fix =
            "look whether it is on, speaks BGP and calls this node's address, and whether a firewall stands between";
        return ("it is waited for (passive), and has not called".to_owned(), fix.to_owned());
    }
    if matches!(peer.state, State::OpenSent | State::OpenConfirm) {
        let fix = "wait a few seconds, and look again; if it stays so, look at the peer's log";
        return ("it is just being opened".to_owned(), fix.to_owned());
    }
    let why = match &peer.unreached {
        Some(why) => format!("no connection to {address} port {port}: {why}"),
        None => format!("no connection to {address} port {port} has been made so far"),
    };
    let fix = match is_node {
        true => format!(
            "look whether twilld runs there, and whether a firewall between the nodes lets TCP port {port} through"
        ),
        false => format!(
            "look whether it is on and reached, listens on port {port}, knows this node as a neighbour, and has the same password and, \
             with gtsm, sends with a hop limit of 255 (what differs there looks like silence)"
        ),
    };
    (why, fix)
}

/// By what the last connection ended.
fn ended(peer: &Peer, error: &LastError) -> (String, String) {
    let text = &error.text;
    let by = match error.by {
        EndedBy::Node => format!("this node has ended it: {text}"),
        EndedBy::Peer => format!("the peer has ended it: {text}"),
        EndedBy::Nobody | EndedBy::Unknown => text.clone(),
    };
    let here = error.by == EndedBy::Node;
    // RFC 4271, section 4.5; the subcodes of Cease are RFC 4486's and 9384's.
    let fix = match error.code {
        None => format!(
            "look whether {} knows this node as a neighbour, and at the path between: a router closes connections of strangers at \
             once; also compare passwords and, over several hops, multihop",
            peer.neighbour.address
        ),
        Some((2, 2)) if here => {
            let expected = peer.asn.map_or("not this node's own".to_owned(), |asn| asn.to_string());
            format!("set \"as\" of this peer in [bgp] to what it has, or correct it there: {expected} is expected")
        }
        Some((2, 2)) => "compare this node's AS ([bgp], [[bgp.node]]) with what the peer expects of it".to_owned(),
        Some((2, 3)) => {
            "both ends must have router IDs that differ: set router_id in [[bgp.node]], or the peer's".to_owned()
        }
        Some((2, 6)) => "set hold_time to 0 or at least 3, here and there".to_owned(),
        Some((2, 7)) => "let the peer speak IPv4 or IPv6 unicast".to_owned(),
        Some((4, _) | (8, _) | (6, 10)) => {
            "look at the path to the peer, and whether it is overloaded: packets or answers were missing".to_owned()
        }
        Some((6, 1)) if here => "find out what it announces, or raise max_prefixes in [bgp]".to_owned(),
        Some((6, 1)) => "let the peer take more prefixes, or announce less to it by an export filter".to_owned(),
        Some((6, 2)) => "ask whoever runs the peer: it was shut down there on purpose".to_owned(),
        Some((6, 3 | 5)) => "let the peer know this node as a neighbour".to_owned(),
        Some(_) => "look at the log of twilld, and at the peer's: both tell of it".to_owned(),
    };
    (by, fix)
}
