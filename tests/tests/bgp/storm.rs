//! Everything at once: daemons and routers that die, links that are cut, routes and the configuration that change, in an order that
//! looks drawn. When it is over, all have what they would have if nothing had happened.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnetwork::IpNetwork;
use nix::sys::signal::Signal;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::routers::{Announcement, Bird, Host, Neighbour, Router, Settings, bird, with_routers};
use twill_tests::{Lab, Node, Pod, Result};

use super::stage::*;

const TOR: u32 = 65001;
/// What routers announce, some of it at a time.
const PREFIXES: [&str; 6] = [
    "198.51.100.0/24",
    "198.51.100.64/26",
    "198.51.100.128/25",
    "198.51.100.200/32",
    "203.0.113.0/24",
    "203.0.113.128/25",
];
const LET_IN: &str =
    "[[bgp.peer.import]]\nprefixes = [\"198.51.100.0/24 le 32\", \"203.0.113.0/24 le 32\"]\naction = \"accept\"\n";
/// How many things happen before what has become of them is looked at.
const AT_ONCE: usize = 6;

/// Numbers that look drawn: xorshift64.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).expect("below an index")
    }
}

struct Storm<'a> {
    lab: &'a Lab,
    hosts: [Host; 2],
    routers: [Bird; 2],
    numbers: Numbers,
    /// What the configuration says of each router's peer beside its filters.
    keys: [&'static str; 2],
    /// What has happened since the last look.
    told: Vec<String>,
}

impl Storm<'_> {
    fn config(&self) -> String {
        let peers = self.hosts.iter().zip(self.keys).enumerate().map(|(number, (host, keys))| {
            let export = format!("{GIVES_ALL}communities = [\"64512:{}\"]\n", keys.len());
            bare_peer(
                &format!("tor{number}"),
                host.address(false),
                TOR,
                &format!("{keys}connect_retry = 1\n{LET_IN}{export}"),
            )
        });
        self.lab.cluster_config() + &peers.collect::<String>()
    }

    /// Something happens.
    fn act(&mut self) -> Result<()> {
        let (node, router) = (self.numbers.below(self.lab.nodes().len()), self.numbers.below(2));
        let name = self.lab.nodes()[node].name().to_owned();
        let what = self.numbers.below(9);
        self.told.push(format!("{what} of {name}, router {router}"));
        let (lab, bird) = (self.lab, &mut self.routers[router]);
        match what {
            0 => lab.nodes()[node].kill_daemon()?,
            1 => drop(lab.nodes()[node].stop_daemon()?),
            2 => lab.nodes()[node].start_daemon()?,
            3 => bird.kill()?,
            4 => bird.run(false)?,
            5 => lab.wire().set_port(self.hosts[router].name(), false)?,
            6 => lab.wire().set_port(self.hosts[router].name(), true)?,
            7 => {
                let chosen = PREFIXES.iter().filter(|_| self.numbers.below(2) == 0);
                let announced = chosen.map(|prefix| Announcement::new(net(prefix))).collect();
                let settings = Settings { announced, ..bird.settings().clone() };
                // One that does not run has it when it runs again.
                if bird.pid().is_ok() { bird.configure(settings)? } else { bird.set(settings) }
            }
            _ => {
                const KEYS: [&str; 4] = ["", "hold_time = 30\n", "max_prefixes = 100\n", "bfd = true\n"];
                self.keys[router] = KEYS[self.numbers.below(KEYS.len())];
                lab.apply_config(&self.config())?;
            }
        }
        std::thread::sleep(Duration::from_millis(self.numbers.below(400).try_into().expect("less than a second")));
        Ok(())
    }

    /// All run and are connected; and then they have what is right.
    fn calm(&mut self, pods: &[Pod]) -> Result<()> {
        for (host, router) in self.hosts.iter().zip(&mut self.routers) {
            self.lab.wire().set_port(host.name(), true)?;
            router.run(false)?;
            router.signal(Signal::SIGCONT)?;
        }
        self.lab.nodes().iter().try_for_each(Node::start_daemon)?;
        let blocks = self.lab.etcd().blocks()?;
        for router in &self.routers {
            for address in self.lab.nodes().iter().map(|node| node.addresses()[0]) {
                deadline::until_some(&format!("{} stands with {address}", router.name()), 3 * PATIENCE, || {
                    let session = router.session(address)?;
                    Ok(if session.is_established() { Ok(()) } else { Err(session) })
                })?;
            }
            for block in blocks.iter().filter(|block| block.cidr.is_ipv4()) {
                let of = self.lab.nodes().iter().find(|node| node.name() == block.node).expect("a node has it");
                let hop = Some(of.addresses()[0]);
                router.until_routes(block.cidr, "its node's", &|routes| {
                    routes.iter().any(|route| route.best && route.next_hop == hop && route.as_path == [ASN])
                })?;
            }
        }
        for prefix in PREFIXES.map(net) {
            let by = self.hosts.iter().zip(&self.routers).filter(|(_, router)| announces(router, prefix));
            let by: Vec<_> = by.map(|(host, _)| host.address(false)).collect();
            self.lab.nodes().iter().try_for_each(|node| leads_by(node, prefix, &by))?;
        }
        self.lab.converged()?;
        all_reach_all(pods, &[false])?;
        self.told.clear();
        Ok(())
    }
}

fn announces(router: &Bird, prefix: IpNetwork) -> bool {
    router.settings().announced.iter().any(|announced| announced.prefix == prefix)
}

fn storm(rounds: usize, seed: u64) {
    let lab = open_lab_v4().nodes(3);
    with_routers(&bird::PROGRAMS, lab.backend("type = \"bgp\"\n[bgp]\ngraceful_restart = { time = 20 }\n"), |lab| {
        let hosts = [Host::on(lab, "one", 1)?, Host::on(lab, "two", 2)?];
        let start = |number: usize| {
            let id = [10, 0, 0, u8::try_from(number + 1).expect("a small number")].into();
            let settings = Settings { restart: Some(20), ..Settings::new(TOR, id) };
            let watched = |neighbour| Neighbour { ttl_security: true, bfd: number == 0, ..neighbour };
            let announced = PREFIXES.map(|prefix| Announcement::new(net(prefix))).into();
            Bird::start(&hosts[number], Settings { announced, ..facing(lab, settings, watched) })
        };
        let routers = [start(0)?, start(1)?];
        let mut storm =
            Storm { lab, hosts, routers, numbers: Numbers(seed), keys: ["bfd = true\n", ""], told: Vec::new() };
        lab.apply_config(&storm.config())?;
        let pods = pods(lab)?;
        storm.calm(&pods)?;
        for round in 0..rounds {
            let done = (|| {
                (0..AT_ONCE).try_for_each(|_| storm.act())?;
                storm.calm(&pods)
            })();
            done.map_err(|error| {
                let told = storm.told.join("; ");
                twill_tests::LabError::wrong(format!("seed {seed}, round {round}: {told}: {error}"))
            })?;
        }
        let pids: BTreeSet<_> = lab.nodes().iter().filter_map(Node::daemon_pid).collect();
        assert_eq!(pids.len(), 3);
        Ok(())
    });
}

#[test]
fn a_short_storm_leaves_nothing_behind() {
    storm(2, 0x7477_696C);
}

#[test]
#[ignore = "a storm of many rounds takes minutes"]
fn a_long_storm_leaves_nothing_behind() {
    storm(25, 0x6267_7020);
}
