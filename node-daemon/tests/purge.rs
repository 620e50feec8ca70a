//! `twilld uninstall --purge` as an operator sees it, on a node with all that Twill makes and much that others made.

#![allow(clippy::unwrap_used, reason = "these are tests, though not marked so")]

use std::fs::{self, File};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use twill_linux::NetNs;
use twill_linux::ports::{self, Port, Protocol};
use twill_testkit::Namespaces;

mod machine;

use machine::{Machine, failed, succeeded};

/// What Twill makes on a node without pods, as `ip -batch` reads it; and, with another name or protocol, what others made.
const OURS: &str = "
link add vxlan.twill type vxlan id 4242 dev under dstport 4789
link set vxlan.twill up
link add vxlan6.twill type vxlan id 4243 dev under dstport 4790
address add 10.42.0.0/32 dev vxlan.twill
route add 10.42.1.0/26 via 10.42.1.0 dev vxlan.twill onlink proto 116
route add unreachable 10.42.0.0/16 proto 116 metric 4096
route add 10.43.0.0/16 proto 116 nexthop via 192.0.2.2 nexthop via 192.0.2.3
-6 route add unreachable fd42::/48 proto 116
-6 route add fd43::/64 proto 116 nexthop via 2001:db8::2 nexthop via 2001:db8::3
route add 10.42.0.9/32 dev under proto 117
";
const FOREIGN: &str = "
link add under type veth peer name wire
link set wire up
address add 192.0.2.1/24 dev under
address add 2001:db8::1/64 dev under nodad
link set under up
link add vxlan.other type vxlan id 4244 dev under dstport 4791
link add tw000000000000c type veth peer name other
route add 10.44.0.0/16 via 192.0.2.2 proto 115
";
/// What a pod has on its node.
const POD: &str = "
link add tw000000000000a type veth peer name p
link set tw000000000000a alias twill1:000000000000a:10.42.0.1
link set tw000000000000a up
link add bw000000000000a type ifb
link set bw000000000000a alias twill1:000000000000a:10.42.0.1
route add 10.42.0.1/32 dev tw000000000000a proto 117
";

/// A node's namespace, and a machine that Twill is installed on.
struct Scene {
    _namespaces: Namespaces,
    node: NetNs,
    machine: Machine,
}

impl Scene {
    fn new() -> Option<Self> {
        if !twill_testkit::has_program("nft") {
            return None;
        }
        let namespaces = Namespaces::claim()?;
        namespaces.add("node");
        let node = NetNs::open(&namespaces.path("node")).unwrap();
        let scene = Self { _namespaces: namespaces, node, machine: Machine::new() };
        scene.batch(FOREIGN);
        scene.run("nft add table inet others");
        scene.settle();
        Some(scene)
    }

    /// Waits until the kernel has made what it makes by itself: the routes of addresses, and those of links.
    fn settle(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let is_settled = || {
            let local = self.run("ip -N -6 route show table 255");
            local.contains("2001:db8::1 dev under")
                && ["under", "wire"].iter().all(|end| {
                    let mut own = local.lines().filter(|line| line.contains(&format!("dev {end} ")));
                    own.any(|line| line.contains("fe80::") && !line.contains("fe80:: "))
                })
                && self.run("ip -6 address show tentative").is_empty()
        };
        while !is_settled() {
            assert!(Instant::now() < deadline, "{}", self.seen());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn run(&self, command: &str) -> String {
        let mut words = command.split_whitespace();
        let mut program = Command::new(words.next().unwrap());
        succeeded(self.node.run(|| program.args(words).output().unwrap()).unwrap())
    }

    fn batch(&self, lines: &str) {
        for line in lines.lines().filter(|line| !line.is_empty()) {
            self.run(&format!("ip {line}"));
        }
    }

    /// What a daemon that has ended leaves.
    fn furnish(&self) {
        self.batch(OURS);
        self.run("nft add table inet twill");
        self.run("nft add chain inet twill forward { type filter hook forward priority 0 ; }");
        drop(self.machine.serve());
        succeeded(self.machine.install(&["--no-wait"]));
        fs::create_dir_all(self.machine.path("state")).unwrap();
        for file in ["state/view.json", "run/firewall.json", "run/bgp", "run/doorbell", "run/twilld.lock"] {
            fs::write(self.machine.path(file), "").unwrap();
        }
    }

    /// Devices, routes, neighbours, rules and tables, without what changes by itself.
    fn seen(&self) -> String {
        let looks = [
            "ip -br link",
            "ip -N route show table all",
            "ip -N -6 route show table all",
            "ip rule",
            "nft list ruleset",
        ];
        looks.iter().map(|look| self.run(look)).collect()
    }

    fn purge(&self, more: &[&str]) -> Output {
        self.purge_where("PATH", &std::env::var("PATH").unwrap_or_default(), more)
    }

    /// The same with another variable set.
    fn purge_where(&self, variable: &str, value: &str, more: &[&str]) -> Output {
        let mut command = self.machine.command("uninstall", &[&["--purge"], more].concat());
        command.env("TWILLD_STATE_DIR", self.machine.path("state")).env(variable, value);
        self.node.run(|| command.output().unwrap()).unwrap()
    }

    /// The names in a directory; `None` where there is none.
    fn names(&self, directory: &str) -> Option<Vec<String>> {
        let entries = fs::read_dir(self.machine.path(directory)).ok()?;
        Some(entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
    }
}

#[test]
fn a_purge_leaves_what_others_made_and_nothing_else_and_may_be_repeated() {
    let Some(scene) = Scene::new() else { return };
    let before = scene.seen();
    scene.furnish();
    assert!(scene.seen().matches("proto 116").count() >= 5, "{}", scene.seen());
    for _ in 0..2 {
        succeeded(scene.purge(&[]));
        assert_eq!(scene.seen(), before);
        assert_eq!((scene.names("run"), scene.names("state")), (None, None));
        assert!(scene.machine.files().is_empty());
    }
    // Without nft there is nothing to remove that was made by it.
    succeeded(scene.purge_where("PATH", "/none", &[]));
}

#[test]
fn what_open_forward_put_into_chains_of_others_goes_whatever_stands_in_the_plugins_place() {
    let Some(scene) = Scene::new() else { return };
    scene.run("nft add table ip filter");
    scene.run("nft add chain ip filter FORWARD { type filter hook forward priority 0 ; policy drop ; }");
    let before = scene.seen();
    scene.furnish();
    let rule = "nft add rule ip filter FORWARD iifname \"tw*\" accept comment \"twilld: open_forward\"";
    scene.run(rule);
    assert!(scene.seen().contains("open_forward"), "{}", scene.seen());
    fs::write(scene.machine.plugin(), "of somebody else").unwrap();
    let said = succeeded(scene.purge(&[]));
    assert!(said.contains("is not Twill's plugin: it stays"), "{said}");
    assert_eq!(scene.seen(), before);
}

#[test]
fn a_purge_begins_with_nothing_where_the_daemon_runs_or_pods_are_attached() {
    let Some(scene) = Scene::new() else { return };
    let before = scene.seen();
    scene.furnish();
    let furnished = scene.seen();
    let lock = File::open(scene.machine.path("run/twilld.lock")).unwrap();
    let lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno).unwrap();
    let said = failed(scene.purge(&["--force"]));
    assert!(said.contains("nothing was removed") && said.contains("stop the daemon"), "{said}");
    drop(lock);
    scene.batch(POD);
    let (pod, owner) = ("10.42.0.1:80".parse().unwrap(), "000000000000a".to_owned());
    let port = Port { protocol: Protocol::Tcp, host: None, host_port: 8080, pod, owner };
    scene.node.run(|| ports::publish(&[port])).unwrap().unwrap();
    let said = failed(scene.purge(&[]));
    assert!(said.contains("still attached"), "{said}");
    assert!(furnished.lines().filter(|line| line.contains("twill")).all(|line| scene.seen().contains(line)));
    assert_eq!(scene.machine.files().len(), 2);
    // Whoever insists loses the pods' interfaces, and nothing of theirs stays.
    succeeded(scene.purge(&["--force"]));
    assert_eq!(scene.seen(), before);
}

#[test]
fn what_is_not_twills_in_its_directories_stays_and_a_list_that_needs_the_plugin_forbids_it() {
    let Some(scene) = Scene::new() else { return };
    scene.furnish();
    let own = scene.machine.path("net.d/20-own.conflist");
    fs::write(&own, r#"{"plugins":[{"type":"twill","mtu":1400}]}"#).unwrap();
    let said = failed(scene.purge(&[]));
    assert!(said.contains("20-own.conflist needs the plugin"), "{said}");
    assert!(scene.seen().contains("vxlan.twill"));
    fs::remove_file(own).unwrap();
    fs::write(scene.machine.path("state/notes"), "").unwrap();
    let said = succeeded(scene.purge(&[]));
    assert!(said.contains("state stays, since there is more in it"), "{said}");
    assert_eq!((scene.names("run"), scene.names("state")), (None, Some(vec!["notes".to_owned()])));
    assert!(!scene.seen().contains("vxlan.twill"));
}

#[test]
fn where_list_and_daemon_name_two_run_directories_a_purge_waits_for_both_and_takes_both() {
    let Some(scene) = Scene::new() else { return };
    scene.furnish();
    let daemons = scene.machine.path("daemon");
    fs::create_dir(&daemons).unwrap();
    let purge = || {
        let mut command = scene.machine.command_in("", "uninstall", &["--purge"]);
        command.env("TWILLD_STATE_DIR", scene.machine.path("state")).env("TWILLD_RUN_DIR", &daemons);
        scene.node.run(|| command.output().unwrap()).unwrap()
    };
    let lock = File::create(daemons.join("twilld.lock")).unwrap();
    let lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno).unwrap();
    let said = failed(purge());
    assert!(said.contains("stop the daemon") && said.contains(&*daemons.to_string_lossy()), "{said}");
    assert!(scene.seen().contains("vxlan.twill") && scene.machine.files().len() == 2);
    drop(lock);
    succeeded(purge());
    assert_eq!((scene.names("run"), scene.names("daemon"), scene.names("state")), (None, None, None));
    assert!(!scene.seen().contains("vxlan.twill"));
    // By two names it is one directory, which a purge does not take for somebody else's.
    scene.furnish();
    std::os::unix::fs::symlink(scene.machine.path("run"), &daemons).unwrap();
    succeeded(purge());
    assert_eq!(scene.names("run"), None);
}
