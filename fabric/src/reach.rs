//! By which ways this node reaches the pods of the others, counted: for who asks how it is.

use twill_conf::NodeName;

use crate::Reckoning;
use crate::learned::Hop;

/// Other nodes, each by the worst way to any of its blocks. Nodes without blocks are left out: they have no pods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Through the tunnel.
    pub tunnel: usize,
    /// By plain routes that the back end makes.
    pub plain: usize,
    /// By routes that BGP has learned.
    pub learned: usize,
    /// Not at all, by name.
    pub unreached: Vec<NodeName>,
}

/// How it is after the last reckoning. `nodes`: all others that have blocks, those among them of whose records nothing is believed.
pub fn reach<'a>(reckoning: &Reckoning, nodes: impl IntoIterator<Item = &'a NodeName>) -> Reach {
    let mut reach = Reach::default();
    for name in nodes {
        match reckoning.way_to(name) {
            Some(Hop::Tunnel) => reach.tunnel += 1,
            Some(Hop::Learned) => reach.learned += 1,
            Some(Hop::Plain) => reach.plain += 1,
            None => reach.unreached.push(name.clone()),
        }
    }
    reach
}

#[cfg(test)]
mod tests {
    use twill_conf::cluster::{Kind, Vxlan};
    use twill_linux::IfName;
    use twill_linux::state::Target;

    use super::*;
    use crate::tests::sample::{Sample, name};
    use crate::{Learned, Reckoning};

    fn sample() -> Sample {
        Sample::new(&["10.42.0.0/16"])
            .node(1, &["192.168.9.1/24"])
            .node(2, &["192.168.9.2/24"])
            .node(3, &["192.168.77.3/24"])
            .block(1, "10.42.1.0/26")
            .block(2, "10.42.2.0/26")
            .block(3, "10.42.3.0/26")
    }

    fn reached(sample: &Sample, learned: &Learned) -> Reach {
        let mut reckoning = Reckoning::default();
        reckoning.follow(&sample.view, &sample.local(1, &[]), learned);
        reach(&reckoning, &[name(2), name(3)])
    }

    #[test]
    fn each_node_counts_by_the_way_that_its_packets_take() {
        let none = Learned::default();
        assert_eq!(reached(&sample(), &none), Reach { tunnel: 2, ..Reach::default() });
        let direct = Kind::Vxlan(Vxlan { direct: true, ..Vxlan::default() });
        assert_eq!(reached(&sample().backend(direct), &none), Reach { tunnel: 1, plain: 1, ..Reach::default() });
        let apart = reached(&sample().backend(Kind::HostGw).without_tunnels(), &none);
        assert_eq!(apart, Reach { plain: 1, unreached: vec![name(3)], ..Reach::default() });
    }

    #[test]
    fn what_bgp_has_learned_counts_as_that() {
        let device = IfName::new("eth0").unwrap();
        let target = Target::Gateway { gateway: [192, 168, 9, 200].into(), device, onlink: false };
        let mut learned = Learned::default();
        learned.routes.insert("10.42.3.0/26".parse().unwrap(), target);
        let reach = reached(&sample().backend(Kind::Bgp).without_tunnels(), &learned);
        assert_eq!(reach, Reach { plain: 1, learned: 1, ..Reach::default() });
    }
}
