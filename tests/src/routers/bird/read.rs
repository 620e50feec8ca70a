//! What `birdc` prints, read.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use crate::routers::{Route, Session};
use crate::{LabError, Result};

fn unreadable(what: &str, cause: &str, text: &str) -> LabError {
    LabError::Unreadable { what: what.into(), cause: cause.into(), text: text.into() }
}

/// The sessions of `show protocols all`.
pub(super) fn sessions(text: &str) -> Result<Vec<Session>> {
    let mut sessions = Vec::new();
    // A protocol is a paragraph.
    for paragraph in text.split("\n\n").filter(|paragraph| paragraph.contains("\n  BGP state:")) {
        let field = |name: &str| {
            let line = paragraph.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim)
        };
        let wanted = |name: &str| field(name).ok_or_else(|| unreadable("show protocols all", name, paragraph));
        let counts = |word: &str| {
            let lines = paragraph.lines().filter_map(|line| line.trim_start().strip_prefix("Routes:"));
            lines.map(|line| number_before(line, word).unwrap_or_default()).sum::<usize>()
        };
        let no_number = |_| unreadable("show protocols all", "Neighbor AS is no number", paragraph);
        let neighbour = wanted("Neighbor address")?;
        // A link-local address is followed by its link.
        let address = neighbour.split('%').next().unwrap_or(neighbour);
        sessions.push(Session {
            neighbour: address.parse().map_err(|_| unreadable("show protocols all", "Neighbor address", paragraph))?,
            asn: wanted("Neighbor AS")?.parse().map_err(no_number)?,
            state: wanted("BGP state")?.to_owned(),
            imported: counts("imported"),
            exported: Some(counts("exported")),
            last_error: field("Last error").map(str::to_owned),
            bfd: None,
        });
    }
    Ok(sessions)
}

/// The number before a word, as in `2 imported, 1 exported`.
fn number_before(line: &str, word: &str) -> Option<usize> {
    let part = line.split(',').find_map(|part| part.trim().strip_suffix(word))?;
    part.trim().parse().ok()
}

/// The states by neighbour of `show bfd sessions`.
pub(super) fn bfd(text: &str) -> BTreeMap<IpAddr, String> {
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next()?.parse().ok()?;
        Some((address, words.nth(1)?.to_owned()))
    };
    text.lines().filter_map(row).collect()
}

/// How many routes `show route … count` has.
pub(super) fn count(text: &str) -> Result<usize> {
    let of_table = |line: &str| {
        let (routes, rest) = line.split_once(" of ")?;
        let networks = rest.split_once(" routes for ")?.1.split_once(' ')?.0;
        routes.parse::<usize>().ok().zip(networks.parse::<usize>().ok())
    };
    let counted = text.lines().find_map(of_table).ok_or_else(|| unreadable("show route count", "no count", text))?;
    Ok(counted.0)
}

/// The routes of `show route PREFIX all`; `neighbour` knows whose a protocol is.
pub(super) fn routes(text: &str, neighbour: impl Fn(&str) -> Option<IpAddr>) -> Result<Vec<Route>> {
    let mut routes: Vec<Route> = Vec::new();
    for line in text.lines() {
        if let Some(said) = line.strip_prefix('\t') {
            if let Some(route) = routes.last_mut()
                && let Some((name, value)) = said.split_once(": ")
            {
                let cause = || unreadable("show route all", name, line);
                attribute(route, name, value.trim()).ok_or_else(cause)?;
            }
        } else if let Some((_, after)) = line.split_once('[') {
            let protocol = after.split([' ', ']']).next().unwrap_or_default();
            let best = after.split_once(']').is_some_and(|(_, rest)| rest.trim_start().starts_with('*'));
            routes.push(Route { from: neighbour(protocol), best, ..Route::default() });
        }
    }
    Ok(routes)
}

/// None where it cannot be read.
fn attribute(route: &mut Route, name: &str, value: &str) -> Option<()> {
    match name {
        // The second of two is a link-local one.
        "BGP.next_hop" => route.next_hop = Some(value.split(' ').next()?.parse().ok()?),
        "BGP.as_path" => route.as_path = numbers(value)?,
        "BGP.local_pref" => route.local_pref = Some(value.parse().ok()?),
        "BGP.med" => route.med = Some(value.parse().ok()?),
        "BGP.originator_id" => route.originator = Some(value.parse().ok()?),
        "BGP.cluster_list" => route.clusters = value.split(' ').map(|word| word.parse().ok()).collect::<Option<_>>()?,
        "BGP.community" => {
            let pair = |numbers: Vec<u16>| <[u16; 2]>::try_from(numbers).ok().map(|[system, value]| (system, value));
            route.communities = tuples(value)?.into_iter().map(pair).collect::<Option<_>>()?;
        }
        "BGP.large_community" => {
            let triple = |numbers: Vec<u32>| <[u32; 3]>::try_from(numbers).ok();
            route.large_communities = tuples(value)?.into_iter().map(triple).collect::<Option<_>>()?;
        }
        _ => {}
    }
    Some(())
}

/// The numbers of a text, whatever stands between them.
fn numbers<N: FromStr>(text: &str) -> Option<Vec<N>> {
    let words = text.split(|letter: char| !letter.is_ascii_digit()).filter(|word| !word.is_empty());
    words.map(|word| word.parse().ok()).collect()
}

/// As in `(65001,7) (65001, 1, 2)`.
fn tuples<N: FromStr>(text: &str) -> Option<Vec<Vec<N>>> {
    text.split(')').filter(|part| !part.trim().is_empty()).map(numbers).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOCOLS: &str = "\
Name       Proto      Table      State  Since         Info
device1    Device     ---        up     13:15:09.273  

peer_a     BGP        ---        up     13:15:10.258  Established   
  BGP state:          Established
    Neighbor address: 192.168.77.2
    Neighbor AS:      65002
    Neighbor capabilities
      Graceful restart
  Channel ipv4
    State:          UP
    Routes:         2 imported, 1 exported, 2 preferred
  Channel ipv6
    State:          UP
    Routes:         3 imported, 4 exported, 2 preferred

peer_b     BGP        ---        start  13:15:09.273  Connect       Socket: Connection refused
  BGP state:          Connect
    Neighbor address: fe80::3%eth0
    Neighbor AS:      4200000000
    Last error:       Socket: Connection refused
  Channel ipv4
    State:          DOWN
";

    #[test]
    fn sessions_are_read_with_the_sums_of_their_channels() {
        let sessions = sessions(PROTOCOLS).unwrap();
        let expected = Session {
            neighbour: "192.168.77.2".parse().unwrap(),
            asn: 65002,
            state: "Established".into(),
            imported: 5,
            exported: Some(5),
            last_error: None,
            bfd: None,
        };
        assert_eq!((sessions.len(), &sessions[0]), (2, &expected));
        assert_eq!(sessions[1].neighbour.to_string(), "fe80::3");
        assert_eq!(sessions[1].last_error.as_deref(), Some("Socket: Connection refused"));
    }

    #[test]
    fn routes_are_read_with_what_is_said_of_them() {
        let text = "\
Table master4:
203.0.113.0/24       unicast [peer_a 13:15:11.296 from 192.168.77.9] * (100/0) [AS65002?]
\tvia 192.168.77.2 on eth0
\tType: BGP univ
\tBGP.origin: Incomplete
\tBGP.as_path: 65002 4200000000 {1 2}
\tBGP.next_hop: 192.168.77.2
\tBGP.med: 7
\tBGP.local_pref: 100
\tBGP.community: (65002,9) (1,2)
\tBGP.large_community: (65002, 3, 4)
\tBGP.originator_id: 10.0.0.3
\tBGP.cluster_list: 10.0.0.1 10.0.0.2
                     unicast [static_ipv4 13:15:11.290] (100) [i]
\tvia 192.168.77.3 on eth0
";
        let routes = routes(text, |name| (name == "peer_a").then(|| "192.168.77.2".parse().unwrap())).unwrap();
        let expected = Route {
            from: Some("192.168.77.2".parse().unwrap()),
            best: true,
            next_hop: Some("192.168.77.2".parse().unwrap()),
            as_path: vec![65002, 4_200_000_000, 1, 2],
            communities: vec![(65002, 9), (1, 2)],
            large_communities: vec![[65002, 3, 4]],
            local_pref: Some(100),
            med: Some(7),
            originator: Some([10, 0, 0, 3].into()),
            clusters: vec![[10, 0, 0, 1].into(), [10, 0, 0, 2].into()],
        };
        assert_eq!(routes, [expected, Route::default()]);
    }

    #[test]
    fn the_first_number_of_a_count_is_that_of_the_routes_asked_for() {
        assert_eq!(count("12 of 15 routes for 15 networks in table master4\n").unwrap(), 12);
        assert!(count("syntax error").is_err());
    }

    #[test]
    fn states_of_bfd_are_read_by_neighbour() {
        let text = "bfd1:\nIP address                Interface  State      Since         Interval  Timeout\n\
                    192.168.77.11             eth0       Up         13:15:11.296    0.300    0.900\n";
        assert_eq!(bfd(text).into_iter().collect::<Vec<_>>(), [("192.168.77.11".parse().unwrap(), "Up".to_owned())]);
    }
}
