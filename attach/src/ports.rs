//! Published ports: what shall stand of them for the pods of a node.
//!
//! They depend on the node's own store alone, so they are kept also where there is no cluster to be seen. The plugin makes
//! them, to the letter, and the daemon wants the same ones: it repairs them where they are lost. Pure.

use std::collections::BTreeMap;

use twill_conf::network;
use twill_ipam::extras::Published;
use twill_ipam::{Attachment, KeyHash, State};
use twill_linux::ports::{Port, Protocol};

/// The words of configuration and kernel for the same protocol.
const PROTOCOLS: [(network::Protocol, Protocol); 3] = [
    (network::Protocol::Tcp, Protocol::Tcp),
    (network::Protocol::Udp, Protocol::Udp),
    (network::Protocol::Sctp, Protocol::Sctp),
];

/// The ports of all attached pods that have some, by their owners. What an ADD or a DEL is working on is nobody else's.
pub fn attached(rows: &[Attachment]) -> BTreeMap<KeyHash, Vec<Port>> {
    let attached = rows.iter().filter(|row| row.state == State::Attached && !row.extras.ports.is_empty());
    attached.map(|row| (row.hash, of(row))).collect()
}

/// The ports of one pod.
pub fn of(row: &Attachment) -> Vec<Port> {
    let addresses: Vec<_> = row.addresses.iter().map(|(ip, _)| *ip).collect();
    let owner = row.hash.to_string();
    let port = |Published { protocol, host, host_port, pod }: Published| {
        let known = PROTOCOLS.iter().find(|(asked, _)| *asked == protocol);
        let (_, protocol) = *known.expect("the table has every protocol");
        Port { protocol, host, host_port, pod, owner: owner.clone() }
    };
    row.extras.published(&addresses).into_iter().map(port).collect()
}

/// A port that stands, in the words of the store.
pub(crate) fn published(port: &Port) -> Published {
    let Port { protocol, host, host_port, pod, .. } = *port;
    let known = PROTOCOLS.iter().find(|(_, standing)| *standing == protocol);
    let (protocol, _) = *known.expect("the table has every protocol");
    Published { protocol, host, host_port, pod }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twill_conf::network::PortMapping;
    use twill_ipam::{AttachmentId, Block, BootTime, Extras};

    #[test]
    fn every_protocol_has_its_word_on_both_sides() {
        for protocol in Protocol::ALL {
            let port =
                Port { protocol, host: None, host_port: 80, pod: "10.42.0.5:80".parse().unwrap(), owner: "a".into() };
            let asked = published(&port).protocol;
            assert_eq!(format!("{asked:?}"), format!("{protocol:?}"));
        }
    }

    fn row(hash: u64, state: State, ports: &[u16]) -> Attachment {
        let mapping = |port: &u16| PortMapping {
            protocol: network::Protocol::Tcp,
            host_ip: None,
            host_port: *port,
            container_port: 80,
        };
        let ip = "10.42.0.5".parse().unwrap();
        Attachment {
            id: AttachmentId(1),
            hash: KeyHash(hash),
            key: None,
            netns: None,
            pod: None,
            state,
            created: BootTime::default(),
            changed: BootTime::default(),
            addresses: vec![(ip, Block::host(ip))],
            extras: Extras { ports: ports.iter().map(mapping).collect(), ..Extras::default() },
        }
    }

    #[test]
    fn attached_pods_have_the_ports_of_their_rows_and_others_are_left_to_whoever_works_on_them() {
        let rows = [
            row(1, State::Attached, &[8080, 8081]),
            row(2, State::Reserved, &[8082]),
            row(3, State::Deleting, &[8083]),
            row(4, State::Attached, &[]),
        ];
        let published = attached(&rows);
        assert_eq!(published.keys().collect::<Vec<_>>(), [&KeyHash(1)]);
        let texts: Vec<_> = published[&KeyHash(1)].iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["tcp 0.0.0.0:8080 to 10.42.0.5:80", "tcp 0.0.0.0:8081 to 10.42.0.5:80"]);
        assert_eq!(published[&KeyHash(1)][0].owner, "0000000000001");
    }
}
