//! An hour on the real node store, by a simulated clock: with pods that come and go a node neither claims nor gives back.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use twill_ipam::store::{BlockState, Reservation, Role};
use twill_ipam::{Key, Store};

use super::*;
use crate::record::Tunnel;

/// So often the daemon looks, and pods come and go.
const TICK: Duration = Duration::from_secs(10);
const HOUR: u32 = 360;
/// Five minutes.
const PERIOD: u32 = 30;

/// A daemon with its store.
struct Daemon {
    keeper: Keeper,
    etcd: SimulatedStore,
    store: Store,
    _dir: tempfile::TempDir,
    now: BootTime,
    claims: usize,
    returns: usize,
    pods: VecDeque<String>,
    count: usize,
}

impl Daemon {
    fn new(etcd: &SimulatedStore) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), Role::Daemon).unwrap();
        let node =
            twill_ipam::store::Node { name: "n1".into(), mtu: 1450, ipv4: true, ipv6: true, ..Default::default() };
        store.set_node(&node).unwrap();
        let identity = Identity { node: "n1".parse().unwrap(), machine_id: "m1".into(), run: "run".into() };
        let mut daemon = Self {
            keeper: Keeper::new(identity),
            etcd: etcd.clone(),
            store,
            _dir: dir,
            now: BootTime(Duration::from_secs(1_000_000)),
            claims: 0,
            returns: 0,
            pods: VecDeque::new(),
            count: 0,
        };
        daemon.work();
        daemon
    }

    /// Looks at the cluster and at the store, and does all that there is to be done.
    fn work(&mut self) {
        for _ in 0..2000 {
            let mut view = View::default();
            view.replace(&self.etcd.look(&Range::watched()));
            let tunnels: Vec<_> =
                [false, true].iter().filter_map(|v6| self.store.tunnel(*v6, self.now).ok()?).collect();
            let mut tunnel = Tunnel::default();
            for ip in tunnels {
                match ip {
                    IpAddr::V4(ip) => tunnel.ipv4 = Some(ip),
                    IpAddr::V6(ip) => tunnel.ipv6 = Some(ip),
                }
            }
            let facts = Facts { tunnel, version: "1".into(), ..Facts::default() };
            let local = self.store.blocks(self.now).unwrap();
            let inputs = [Input::Facts(facts), Input::View(Arc::new(view)), Input::Local(local)];
            let outputs: Vec<_> = inputs.into_iter().flat_map(|input| self.keeper.step(input, self.now)).collect();
            if outputs.is_empty() {
                return;
            }
            outputs.into_iter().for_each(|output| self.perform(output));
        }
        panic!("the daemon does not come to rest");
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Request(request) => {
                self.claims += usize::from(request.claims().is_some());
                let answer = now(request.perform(&self.etcd));
                let outputs = self.keeper.step(Input::Answer(request.id, answer), self.now);
                outputs.into_iter().for_each(|output| self.perform(output));
            }
            Output::Open { block, pool, .. } => self.store.put_block(block, &pool, BlockState::Open).unwrap(),
            Output::Close { block, pool } => self.store.put_block(block, &pool, BlockState::Closing).unwrap(),
            Output::GiveBack { block, .. } => drop(self.store.close_empty_block(block, self.now).unwrap()),
            Output::GaveBack { block } => {
                self.returns += 1;
                self.store.remove_block(block, self.now).unwrap();
            }
            Output::MoveTunnel { .. } | Output::Refuse { .. } => panic!("{output:?}"),
            _ => {}
        }
    }

    fn key(name: &str) -> Key {
        Key { network: "net".parse().unwrap(), container: name.parse().unwrap(), ifname: "eth0".parse().unwrap() }
    }

    /// A pod comes. Where there is no address the daemon is rung, as by a plugin that waits.
    fn add(&mut self) {
        self.count += 1;
        let name = format!("c{}", self.count);
        let (key, netns) = (Self::key(&name), Path::new("/n"));
        let wanted = Reservation { key: &key, netns, pod: None, subnets: &[], pools: &[], requested: &[] };
        let row = match self.store.reserve(&wanted, self.now) {
            Ok(row) => row,
            Err(_) => {
                self.work();
                self.store.reserve(&wanted, self.now).unwrap()
            }
        };
        self.store.confirm(row.id, self.now).unwrap();
        self.pods.push_back(name);
    }

    /// The oldest pod goes.
    fn del(&mut self) {
        let name = self.pods.pop_front().unwrap();
        let row = self.store.mark_deleting(Self::key(&name).hash(), self.now).unwrap().unwrap();
        self.store.release(row.id, self.now).unwrap();
    }

    /// A tick of a node with twenty pods: up to two are replaced, and every five minutes a job of five runs for a minute.
    /// What happens follows from the numbers.
    fn live(&mut self, tick: u32, seed: u32) {
        self.now.0 += TICK;
        let word = twill_conf::digest::digest(&[&tick.to_string(), &seed.to_string()]);
        for _ in 0..word[0] % 3 {
            self.del();
            self.add();
        }
        match tick % PERIOD {
            3 => (0..5).for_each(|_| self.add()),
            9 => (0..5).for_each(|_| self.del()),
            _ => {}
        }
        self.work();
    }

    fn books(&self) -> (usize, usize, usize) {
        (self.claims, self.returns, sound_view(&self.etcd).blocks.len())
    }
}

fn cluster_of_blocks(host_bits: u8) -> SimulatedStore {
    cluster(&[("four", "10.42.0.0/16", 32 - host_bits), ("six", "fd42::/104", 128 - host_bits)])
}

#[test]
fn in_an_hour_of_coming_and_going_no_block_is_claimed_or_given_back_whatever_its_size() {
    for host_bits in 0..=8u8 {
        let mut daemon = Daemon::new(&cluster_of_blocks(host_bits));
        (0..20).for_each(|_| daemon.add());
        (0..3 * PERIOD).for_each(|tick| daemon.live(tick % PERIOD, host_bits.into()));
        let before = daemon.books();
        (0..HOUR).for_each(|tick| daemon.live(tick % PERIOD, host_bits.into()));
        println!("/{} and /{}: claims, returns and blocks {before:?}", 32 - host_bits, 128 - host_bits);
        assert_eq!(daemon.books(), before, "blocks of {} addresses", 1 << host_bits);
        assert!(daemon.keeper.problems().is_empty(), "{:?}", daemon.keeper.problems());
    }
}

/// No two periods are alike here, so that now and then more is needed than ever before. What was needed once stays.
#[test]
fn the_smallest_blocks_do_not_come_and_go_with_the_pods() {
    for host_bits in 0..=2u8 {
        let mut daemon = Daemon::new(&cluster_of_blocks(host_bits));
        (0..20).for_each(|_| daemon.add());
        (0..HOUR).for_each(|tick| daemon.live(tick, host_bits.into()));
        println!("/{} and /{}: claims, returns and blocks {:?}", 32 - host_bits, 128 - host_bits, daemon.books());
        assert_eq!(daemon.returns, 0, "blocks of {} addresses", 1 << host_bits);
    }
}

#[test]
fn what_a_node_does_not_need_any_more_goes_back_at_every_block_size() {
    for host_bits in [0, 1, 2, 6] {
        let mut daemon = Daemon::new(&cluster_of_blocks(host_bits));
        (0..60).for_each(|_| daemon.add());
        daemon.work();
        let (_, _, most) = daemon.books();
        (0..60).for_each(|_| daemon.del());
        let mut wait = |ticks: u32| {
            for _ in 0..ticks {
                daemon.now.0 += TICK;
                daemon.work();
            }
            daemon.books()
        };
        let rested = wait(80);
        assert!(rested.2 < most && rested.2 <= 10, "blocks of {} addresses: {rested:?} of {most}", 1 << host_bits);
        assert_eq!(wait(70), rested, "and then nothing more");
    }
}
