//! For tests: a node in a namespace of its own, with a store and a block.

use std::path::Path;

use tempfile::TempDir;
use twill_conf::network::{Bandwidth, PortMapping, Protocol, Shape};
use twill_ipam::store::{BlockState, Node, Reservation};
use twill_ipam::{Attachment, BootTime, Extras, Key};
use twill_linux::NetNs;
use twill_testkit::Namespaces;

use crate::store::NodeStore;

/// A node, which goes with the test.
pub struct Fixture {
    namespaces: Namespaces,
    /// The run directory.
    pub run: TempDir,
    /// Its store.
    pub store: NodeStore,
}

impl Fixture {
    /// `None` where it cannot be had, after saying so.
    pub fn new() -> Option<Self> {
        let namespaces = Namespaces::claim()?;
        if !twill_testkit::has_program("nft") {
            return None;
        }
        namespaces.add("node");
        let run = tempfile::tempdir().unwrap();
        let inside = NetNs::open(&namespaces.path("node")).unwrap();
        let store = inside.run(|| NodeStore::open(run.path()).unwrap()).unwrap();
        store.with(|store| {
            store.set_node(&Node { name: "n1".into(), mtu: 1500, ipv4: true, ipv6: false, ..Node::default() }).unwrap();
            store.put_block("10.42.0.0/26".parse().unwrap(), &"default".parse().unwrap(), BlockState::Open).unwrap();
        });
        Some(Self { namespaces, run, store })
    }

    /// Does something in the node's namespace.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        NetNs::open(&self.namespaces.path("node")).unwrap().run(work).unwrap()
    }

    /// What a program prints that runs on the node.
    pub fn run(&self, command: &str) -> String {
        let mut words = command.split_whitespace();
        let program = words.next().unwrap();
        let output = self.inside(|| std::process::Command::new(program).args(words).output().unwrap());
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A row with a published port and a limit for what it sends, attached.
    pub fn attach(&self, container: &str, host_port: u16) -> Attachment {
        let row = self.reserve(container, host_port);
        self.store.with(|store| {
            store.confirm(row.id, BootTime::now()).unwrap();
            store.attachment(row.hash).unwrap().unwrap()
        })
    }

    /// The same, not yet attached.
    pub fn reserve(&self, container: &str, host_port: u16) -> Attachment {
        let key = Key {
            network: "net".parse().unwrap(),
            container: container.parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
        };
        let port = PortMapping { protocol: Protocol::Tcp, host_ip: None, host_port, container_port: 80 };
        let egress = Some(Shape { rate: 8_000_000, burst: None });
        let extras =
            Extras { ports: vec![port], bandwidth: Some(Bandwidth { ingress: None, egress }), unchecked: false };
        let netns = Path::new("/run/netns/none");
        let wanted = Reservation { key: &key, netns, pod: None, subnets: &[], pools: &[], requested: &[] };
        self.store.with(|store| store.reserve_with(&wanted, &extras, BootTime::now()).unwrap())
    }
}
