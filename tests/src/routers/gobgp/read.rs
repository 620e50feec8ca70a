//! The JSON of `gobgp`, read.

use std::net::IpAddr;
use std::str::FromStr;

use serde_json::Value;

use crate::routers::{Route, Session};
use crate::{LabError, Result};

/// By number, as its API has them (`PeerState_SessionState`).
const STATES: [&str; 7] = ["Unknown", "Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established"];

fn unreadable(what: &str, cause: &str, value: &Value) -> LabError {
    LabError::Unreadable { what: what.into(), cause: cause.into(), text: value.to_string() }
}

/// The sessions of `neighbor`.
pub(super) fn sessions(neighbours: &Value) -> Result<Vec<Session>> {
    neighbours.as_array().into_iter().flatten().map(session).collect()
}

fn session(neighbour: &Value) -> Result<Session> {
    let cause = |cause: &str| unreadable("neighbor", cause, neighbour);
    let config = &neighbour["conf"];
    // What is zero is left out.
    let number = |value: &Value| usize::try_from(value.as_u64().unwrap_or_default()).unwrap_or(usize::MAX);
    let state = number(&neighbour["state"]["session_state"]);
    let accepted = neighbour["afi_safis"].as_array().into_iter().flatten().map(|all| number(&all["state"]["accepted"]));
    Ok(Session {
        neighbour: parsed(&config["neighbor_address"]).ok_or_else(|| cause("conf.neighbor_address"))?,
        asn: whole(&config["peer_asn"]).ok_or_else(|| cause("conf.peer_asn"))?,
        state: (*STATES.get(state).ok_or_else(|| cause("state.session_state"))?).to_owned(),
        imported: accepted.sum(),
        exported: None,
        last_error: None,
        bfd: None,
    })
}

fn parsed<T: FromStr>(value: &Value) -> Option<T> {
    value.as_str()?.parse().ok()
}

fn whole(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

/// The routes to a prefix of `global rib PREFIX`.
pub(super) fn routes(table: &Value, prefix: &str) -> Result<Vec<Route>> {
    let all = table[prefix].as_array().into_iter().flatten();
    all.map(|path| route(path).ok_or_else(|| unreadable("global rib", "a path", path))).collect()
}

/// None where it cannot be read.
fn route(path: &Value) -> Option<Route> {
    let from: Option<IpAddr> = parsed(&path["neighbor-ip"]);
    let mut route = Route { from, best: path["best"] == true, ..Route::default() };
    for attribute in path["attrs"].as_array()? {
        match attribute["type"].as_u64()? {
            2 => {
                let segments = attribute["as_paths"].as_array().into_iter().flatten();
                let systems = segments.flat_map(|segment| segment["asns"].as_array().into_iter().flatten());
                route.as_path = systems.map(whole).collect::<Option<_>>()?;
            }
            // Of IPv6 it is in MP_REACH_NLRI.
            3 | 14 => route.next_hop = Some(parsed(&attribute["nexthop"])?),
            4 => route.med = Some(whole(&attribute["metric"])?),
            5 => route.local_pref = Some(whole(&attribute["value"])?),
            8 => {
                let pair = |value: &Value| whole(value).map(|both| ((both >> 16) as u16, (both & 0xFFFF) as u16));
                route.communities = attribute["communities"].as_array()?.iter().map(pair).collect::<Option<_>>()?;
            }
            9 => route.originator = Some(parsed(&attribute["value"])?),
            10 => route.clusters = attribute["value"].as_array()?.iter().map(parsed).collect::<Option<_>>()?,
            32 => {
                let word = |value: &Value, name: &str| whole(&value[name]);
                let triple =
                    |value: &Value| Some([word(value, "ASN")?, word(value, "LocalData1")?, word(value, "LocalData2")?]);
                route.large_communities = attribute["value"].as_array()?.iter().map(triple).collect::<Option<_>>()?;
            }
            _ => {}
        }
    }
    Some(route)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_session_that_is_not_up_is_read_though_zeros_are_left_out() {
        let neighbours = json!([{
            "conf": {"local_asn": 65002, "neighbor_address": "fd00:77::1", "peer_asn": 65001},
            "state": {"session_state": 3},
            "afi_safis": [{"state": {"received": 2, "accepted": 1}}, {"state": {"accepted": 2}}, {"state": {}}],
        }]);
        let sessions = sessions(&neighbours).unwrap();
        let seen =
            (sessions[0].neighbour.to_string(), sessions[0].asn, sessions[0].state.as_str(), sessions[0].imported);
        assert_eq!(seen, ("fd00:77::1".into(), 65001, "Active", 3));
        assert!(super::sessions(&json!([{"conf": {}}])).is_err());
    }

    #[test]
    fn a_route_is_read_with_what_is_said_of_it() {
        let table = json!({"198.51.100.0/24": [{
            "nlri": {"prefix": "198.51.100.0/24"}, "best": true, "stale": false,
            "attrs": [
                {"type": 1, "value": 0},
                {"type": 2, "as_paths": [{"segment_type": 2, "num": 1, "asns": [65001, 7]}]},
                {"type": 3, "nexthop": "192.168.77.1"},
                {"type": 4, "metric": 5},
                {"type": 5, "value": 100},
                {"type": 8, "communities": [4_259_905_543_u32]},
                {"type": 9, "value": "10.0.0.3"},
                {"type": 10, "value": ["10.0.0.1"]},
                {"type": 32, "value": [{"ASN": 65001, "LocalData1": 1, "LocalData2": 2}]},
            ],
            "source-id": "10.0.0.1", "neighbor-ip": "192.168.77.1",
        }]});
        let expected = Route {
            from: Some("192.168.77.1".parse().unwrap()),
            best: true,
            next_hop: Some("192.168.77.1".parse().unwrap()),
            as_path: vec![65001, 7],
            communities: vec![(65001, 7)],
            large_communities: vec![[65001, 1, 2]],
            local_pref: Some(100),
            med: Some(5),
            originator: Some([10, 0, 0, 3].into()),
            clusters: vec![[10, 0, 0, 1].into()],
        };
        assert_eq!(routes(&table, "198.51.100.0/24").unwrap(), [expected]);
        assert_eq!(routes(&table, "198.51.100.0/25").unwrap(), []);
    }
}
