//! What this node's record says of how it receives and sends, so that a switch of back ends loses nothing.
//!
//! What is promised stands: a VXLAN end is published after its device was made, and withdrawn only when no node has been able
//! to send by it for ten seconds and no connection of the node itself hangs on the addresses of the device; then the device
//! goes. That this node may send is said before it does, and taken back after all its routes are plain. The reading side of
//! the same rules is the choice of a [`Way`](crate::backend::Way). Called by the daemon's block task, which writes the record.

use std::time::{Duration, Instant};

use twill_cluster::record::{NodeRecord, Path, VxlanEnd};
use twill_conf::cluster::ClusterConf;
use twill_linux::MacAddr;

use crate::backend::VxlanUse;

/// How long an end stands that nobody sends by any more: packets may be under way, and a view may be late.
const DRAIN: Duration = Duration::from_secs(10);
/// A greatest MTU that has become less is said after so long, and a tenth of a second more for each node: it may be that of the only
/// pod, which comes and goes every minute, and every node hears of every record.
const LESS: Duration = Duration::from_secs(20);
const LESS_FOR_EACH: Duration = Duration::from_millis(100);

/// What stands in the kernel after a pass, as far as others have to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Of VXLAN.
    pub vxlan: VxlanUse,
    /// All routes are as they shall be: none that stood before is left.
    pub routed: bool,
    /// The greatest MTU of a pod, in bytes; 0 without pods.
    pub pods: u32,
}

/// The ends, as they are published.
#[derive(Debug)]
pub struct Ends {
    mac: MacAddr,
    /// Since when nobody needs the VXLAN end.
    idle: Option<Instant>,
    /// The greatest MTU of a pod as it is said, and since when it is less.
    pods: Option<(u32, Option<Instant>)>,
}

/// What is known of this node when it is to be said.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Its record as it stands in etcd.
    pub own: Option<&'a NodeRecord>,
    /// The cluster's configuration.
    pub config: Option<&'a ClusterConf>,
    /// What the last pass has brought about.
    pub standing: Option<Standing>,
    /// How many nodes there are.
    pub nodes: usize,
    /// The underlay's MTU, in bytes.
    pub mtu: u32,
    /// A connection of the node has one of its tunnel addresses for its own.
    pub connected: bool,
}

impl Ends {
    /// Of a node whose VTEP has this MAC.
    pub fn new(mac: MacAddr) -> Self {
        Self { mac, idle: None, pods: None }
    }

    /// What the record is to say at `now`.
    pub fn say(&mut self, known: Known<'_>, now: Instant) -> (Option<VxlanEnd>, Option<Path>) {
        let Some(standing) = known.standing else { return self.at_first(known) };
        let said = known.own.is_some_and(NodeRecord::tunnels);
        // A node that others know does not begin without a device of its own, or its routes would lead where nothing stands.
        let begins = standing.vxlan.sends && standing.vxlan.receives.is_some();
        let goes_on = said && (standing.vxlan.sends || !standing.routed);
        let tunnels = begins || goes_on;
        let vxlan = standing.vxlan.receives.filter(|_| self.is_kept(standing, known.connected, now));
        let path = Path { tunnels, mtu: known.mtu, pods: self.greatest(standing.pods, known, now) };
        (vxlan.map(|(vni, port)| self.end(vni, port)), Some(path))
    }

    /// Before anything was brought about: what was said goes on. A node that joins says at once what it will have, since
    /// nobody knows it by another way.
    fn at_first(&self, known: Known<'_>) -> (Option<VxlanEnd>, Option<Path>) {
        if let Some(own) = known.own {
            return (own.vxlan.clone(), own.path);
        }
        let vxlan = known.config.and_then(|config| config.backend.kind.vxlan());
        let path = Path { tunnels: vxlan.is_some(), mtu: known.mtu, pods: 0 };
        (vxlan.map(|vxlan| self.end(vxlan.vni, vxlan.port)), Some(path))
    }

    fn greatest(&mut self, pods: u32, known: Known<'_>, now: Instant) -> u32 {
        // What an earlier run said stands for a while too.
        let before = || known.own.and_then(|own| own.path).map_or(0, |path| path.pods);
        let (said, since) = self.pods.get_or_insert_with(|| (before(), None));
        let nodes = u32::try_from(known.nodes).unwrap_or(u32::MAX);
        if pods < *said && now.duration_since(*since.get_or_insert(now)) < LESS + LESS_FOR_EACH * nodes {
            return *said;
        }
        (*said, *since) = (pods, None);
        pods
    }

    fn is_kept(&mut self, standing: Standing, connected: bool, now: Instant) -> bool {
        if standing.vxlan.needed || connected {
            self.idle = None;
            return true;
        }
        now.duration_since(*self.idle.get_or_insert(now)) < DRAIN
    }

    fn end(&self, vni: u32, port: u16) -> VxlanEnd {
        VxlanEnd { mac: self.mac.to_string(), vni: Some(vni), port: Some(port) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VXLAN: (u32, u16) = (7, 4789);

    fn standing(receives: bool, sends: bool, needed: bool) -> Standing {
        Standing { vxlan: VxlanUse { receives: receives.then_some(VXLAN), sends, needed }, routed: true, pods: 1450 }
    }

    /// Whether it says that it receives, and that it sends, by VXLAN.
    fn says(ends: &mut Ends, known: Known<'_>, now: Instant) -> (bool, bool) {
        let (vxlan, path) = ends.say(known, now);
        (vxlan.is_some(), path.is_some_and(|path| path.tunnels))
    }

    fn record(vxlan: Option<VxlanEnd>, tunnels: bool) -> NodeRecord {
        let record = serde_json::json!({ "machine_id": "m", "nonce": "n" });
        let path = Some(Path { tunnels, ..Path::default() });
        NodeRecord { vxlan, path, ..serde_json::from_value(record).unwrap() }
    }

    fn known<'a>(own: Option<&'a NodeRecord>, standing: Option<Standing>) -> Known<'a> {
        Known { own, config: None, standing, nodes: 3, mtu: 1500, connected: false }
    }

    #[test]
    fn an_end_is_withdrawn_when_nobody_has_sent_by_it_for_a_while() {
        let (mut ends, begin) = (Ends::new(MacAddr([2, 0, 0, 0, 0, 1])), Instant::now());
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let own = record(Some(ends.end(7, 4789)), true);
        let with = |standing| known(Some(&own), Some(standing));
        assert_eq!(says(&mut ends, with(standing(true, true, true)), at(0)), (true, true));
        assert_eq!(says(&mut ends, with(standing(true, false, true)), at(1)), (true, false), "others still send");
        assert_eq!(says(&mut ends, with(standing(true, false, false)), at(2)), (true, false));
        assert_eq!(says(&mut ends, with(standing(true, false, true)), at(11)), (true, false), "one sends again");
        assert_eq!(says(&mut ends, with(standing(true, false, false)), at(13)), (true, false), "it begins anew");
        let connected = Known { connected: true, ..with(standing(true, false, false)) };
        assert_eq!(says(&mut ends, connected, at(24)), (true, false), "a connection hangs on it");
        assert_eq!(says(&mut ends, with(standing(true, false, false)), at(25)), (true, false));
        assert_eq!(says(&mut ends, with(standing(true, false, false)), at(35)), (false, false));
        assert_eq!(says(&mut ends, with(standing(true, true, true)), at(36)), (true, true), "switched back");
    }

    #[test]
    fn a_node_whose_device_does_not_stand_does_not_begin_to_send_by_it() {
        let (mut ends, now) = (Ends::new(MacAddr([2, 0, 0, 0, 0, 1])), Instant::now());
        let without = Some(standing(false, true, true));
        let silent = record(None, false);
        assert_eq!(says(&mut ends, known(Some(&silent), without), now), (false, false), "its routes stay as they are");
        assert_eq!(says(&mut ends, known(Some(&silent), Some(standing(true, true, true))), now), (true, true));
        let own = record(Some(ends.end(7, 4789)), true);
        assert_eq!(says(&mut ends, known(Some(&own), without), now), (false, true), "what it has said is kept");
    }

    #[test]
    fn that_it_sends_is_taken_back_only_when_no_route_can_be_left_in_the_tunnel() {
        let (mut ends, now) = (Ends::new(MacAddr([2, 0, 0, 0, 0, 1])), Instant::now());
        let own = record(Some(ends.end(7, 4789)), true);
        let refused = Standing { routed: false, ..standing(true, false, true) };
        assert_eq!(says(&mut ends, known(Some(&own), Some(refused)), now), (true, true));
        assert_eq!(says(&mut ends, known(Some(&own), Some(standing(true, false, true))), now), (true, false));
        let silent = record(None, false);
        assert_eq!(says(&mut ends, known(Some(&silent), Some(refused)), now), (true, false), "it never did");
    }

    #[test]
    fn the_greatest_mtu_of_pods_rises_at_once_and_falls_when_it_has_been_less_for_a_while() {
        let (mut ends, begin) = (Ends::new(MacAddr([2, 0, 0, 0, 0, 1])), Instant::now());
        let mut said = |pods, millis: u64, nodes| {
            let standing = Some(Standing { pods, ..standing(true, true, true) });
            let (_, path) = ends.say(Known { nodes, ..known(None, standing) }, begin + Duration::from_millis(millis));
            path.unwrap().pods
        };
        assert_eq!([said(0, 0, 10), said(1450, 1, 10), said(0, 100, 10), said(1450, 200, 10)], [0, 1450, 1450, 1450]);
        assert_eq!([said(0, 1_000, 10), said(0, 21_900, 10), said(0, 22_000, 10)], [1450, 1450, 0], "since it is less");
        assert_eq!([said(1500, 23_000, 10), said(1450, 24_000, 10), said(0, 45_000, 10)], [1500, 1500, 0]);
        assert_eq!([said(1450, 50_000, 5000), said(0, 60_000, 5000), said(0, 500_000, 5000)], [1450, 1450, 1450]);
    }

    #[test]
    fn before_the_first_pass_a_node_says_what_it_said_and_one_that_joins_what_it_will_have() {
        let (mut ends, now) = (Ends::new(MacAddr([2, 0, 0, 0, 0, 1])), Instant::now());
        for (end, tunnels) in [(None, false), (Some(ends.end(7, 1)), true)] {
            let own = record(end.clone(), tunnels);
            assert_eq!(ends.say(known(Some(&own), None), now), (end, own.path));
        }
        let conf = |backend: &str| {
            ClusterConf::from_toml(&format!("[[pool]]\nname='a'\ncidr='10.42.0.0/16'\n[backend]\n{backend}")).unwrap()
        };
        for (backend, tunnels) in [("type='vxlan'", true), ("type='host-gw'", false)] {
            let conf = conf(backend);
            let joining = Known { config: Some(&conf), ..known(None, None) };
            assert_eq!(says(&mut ends, joining, now), (tunnels, tunnels), "{backend}");
        }
    }
}
