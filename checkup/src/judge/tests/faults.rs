//! Each fault of a machine that serves, and what is said of it.

use super::*;

/// A fault: what is changed, and check, state, words of what is said and of what to do.
type Fault = (fn(&mut Observations), Check, State, &'static str, &'static str);

const SERVING: [Fault; 48] = [
    (|o| o.kernel = Ok("5.4.0".to_owned()), Check::Kernel, NOTE, "older than 6.1", "newer kernel"),
    (
        |o| o.features.as_mut().unwrap()[1].1 = Err("no".to_owned()),
        Check::Kernel,
        PROBLEM,
        "the kernel cannot: no; the back end vxlan",
        "CONFIG_VXLAN",
    ),
    (
        |o| o.features.as_mut().unwrap()[4].1 = Err("no".to_owned()),
        Check::Kernel,
        PROBLEM,
        "pods reach nothing outside",
        "nft_nat",
    ),
    (|o| o.features = Err(denied()), Check::Kernel, State::Unknown, "by root only: EPERM", "as root"),
    (
        |o| o.features = Err(hung()),
        Check::Kernel,
        State::Unknown,
        "could not be tried out: nft hangs",
        "a process there",
    ),
    (|o| o.nft = Ok(Version(1, 0, 5)), Check::Nft, PROBLEM, "nft 1.0.5 is older than 1.0.6", "install nftables"),
    (|o| o.nft = Err("not installed".to_owned()), Check::Nft, PROBLEM, "there is no firewall", "package nftables"),
    (
        |o| o.sysctls.interfaces.get_mut("eth0").unwrap().forwarding = false,
        Check::Sysctl,
        PROBLEM,
        "IPv4 is off on eth0",
        "net.ipv4.conf.eth0.forwarding=1, and look for who sets it back",
    ),
    (
        |o| o.sysctls.ipv6_forwarding = Some(false),
        Check::Sysctl,
        PROBLEM,
        "IPv6 is off",
        "net.ipv6.conf.all.forwarding=1",
    ),
    (|o| o.sysctls.ipv6_forwarding = None, Check::Sysctl, PROBLEM, "no IPv6", "ipv6.disable=1"),
    (
        |o| o.sysctls.interfaces.get_mut("vxlan.twill").unwrap().rp_filter = 1,
        Check::Sysctl,
        PROBLEM,
        "strict (1) on vxlan.twill",
        "net.ipv4.conf.vxlan.twill.rp_filter=2",
    ),
    (
        |o| {
            o.sysctls.bridge_calls = Some(true);
            links(o).underlay[0].kind = Some("bridge".to_owned());
        },
        Check::Sysctl,
        NOTE,
        "eth0 is a bridge",
        "bridge-nf-call-iptables=0",
    ),
    (|o| o.conntrack = Some(Table { count: 96, max: 100 }), Check::Conntrack, PROBLEM, "96 of 100", "to 200"),
    (|o| o.conntrack = Some(Table { count: 80, max: 100 }), Check::Conntrack, NOTE, "80 of 100", "nf_conntrack_max"),
    (|o| o.barriers = Ok(vec![barrier(true)]), Check::Firewall, PROBLEM, "its policy is drop", "open_forward = true"),
    (
        |o| o.barriers = Ok(vec![barrier(false)]),
        Check::Firewall,
        PROBLEM,
        "its policy is drop",
        "insert rule ip filter FORWARD oifname \"tw*\" accept",
    ),
    (
        |o| o.inbound = inbound(&[shut()]),
        Check::Firewall,
        PROBLEM,
        "it drops what other nodes send by the tunnel, to UDP port 4789: its policy is drop",
        "nft insert rule ip filter INPUT udp dport 4789 accept",
    ),
    (|o| o.inbound = Some(Err(Unseen::garbage("no JSON"))), Check::Firewall, State::Unknown, "no JSON", "by hand"),
    (
        |o| o.inbound = Some(Ok(Inbound::default())),
        Check::Firewall,
        State::Unknown,
        "no interface to other nodes has a global address",
        "set underlay",
    ),
    (
        |o| {
            // The same cause is said once.
            o.barriers = Err(hung());
            o.inbound = Some(Err(hung()));
        },
        Check::Firewall,
        State::Unknown,
        "nft hangs",
        "a process there that hangs",
    ),
    (|o| o.barriers = Err(denied()), Check::Firewall, State::Unknown, "EPERM", "as root"),
    (|o| o.suspects = vec![(&SUSPECTS[0], false)], Check::Managers, NOTE, "it runs here", "ManageForeignRoutes=no"),
    (|o| links(o).underlay.clear(), Check::Mtu, PROBLEM, "no interface to other nodes", "set underlay"),
    (|o| links(o).underlay[0].mtu = 1300, Check::Mtu, PROBLEM, "fragments below 1350", "1350 bytes"),
    (|o| links(o).pods[0].mtu = 1450, Check::Mtu, PROBLEM, "greater MTU than 1430", "restart those pods"),
    (
        |o| links(o).tunnels.insert(0, tunnel("other", 7777, 4789)),
        Check::Tunnel,
        PROBLEM,
        "VNI 7777 on UDP port 4789",
        "ip link delete other",
    ),
    (
        |o| links(o).tunnels.push(tunnel("flannel.1", 1, 8472)),
        Check::Tunnel,
        NOTE,
        "another overlay: VNI 1 on UDP port 8472",
        "remove it",
    ),
    (
        |o| o.holders.as_mut().unwrap().as_mut().unwrap().processes = vec!["named (process 8)".to_owned()],
        Check::Tunnel,
        PROBLEM,
        "named (process 8) has it",
        "another port",
    ),
    (|o| links(o).tunnels[0].up = false, Check::Tunnel, PROBLEM, "cannot be seen", "another port"),
    (
        |o| {
            links(o).tunnels.clear();
            o.holders = Some(Ok(Holders::default()));
        },
        Check::Tunnel,
        PROBLEM,
        "it does not stand",
        "log of twilld",
    ),
    (
        |o| links(o).own.push(own("10.42.9.1/24", "docker0")),
        Check::Overlap,
        PROBLEM,
        "docker0 has 10.42.9.1/24, which lies in the pool v4",
        "another range",
    ),
    (|o| links(o).own.push(own("10.1.0.1/8", "eth1")), Check::Overlap, PROBLEM, "eth1 has 10.1.0.1/8", "another range"),
    (
        |o| {
            links(o).routes.push(Route { destination: "10.42.3.0/24".parse().unwrap(), device: Some("wg0".to_owned()) })
        },
        Check::Overlap,
        PROBLEM,
        "into the pool v4 (10.42.0.0/16) by wg0",
        "remove it",
    ),
    (|o| o.clock_kept = Ok(false), Check::Clock, NOTE, "nothing keeps it in step", "systemd-timesyncd"),
    (|o| o.clock_kept = Err(hung()), Check::Clock, NOTE, "cannot be seen: nft hangs", "a process there"),
    (
        |o| o.certificates = vec![certificate(-100, -3)],
        Check::Certificates,
        PROBLEM,
        "has expired 3 days ago",
        "new one",
    ),
    (
        |o| o.certificates = vec![certificate(5, 9)],
        Check::Certificates,
        PROBLEM,
        "not valid for another 5 days",
        "clock",
    ),
    (|o| o.certificates = vec![certificate(-100, 9)], Check::Certificates, NOTE, "expires in 9 days", "new one"),
    (|o| o.plugin = Ok(Plugin::Missing), Check::Cni, PROBLEM, "the plugin is not there", "twilld install"),
    (
        |o| o.plugin = Ok(Plugin::Ours { version: Ok("0.0.9".to_owned()) }),
        Check::Cni,
        NOTE,
        "version 0.0.9",
        "one version",
    ),
    (|o| o.networks.as_mut().unwrap().reverse(), Check::Cni, PROBLEM, "the first by name", "--conflist-name"),
    (|o| o.networks = Ok(Vec::new()), Check::Cni, PROBLEM, "no network of Twill's", "twilld install"),
    (
        |o| {
            let network = &mut o.networks.as_mut().unwrap()[0];
            (network.run_dir, network.meets) = (Some("/run/x".into()), false);
        },
        Check::Cni,
        PROBLEM,
        "names the run directory /run/x, and the daemon's is /run/twill: plugin and daemon do not meet",
        "--run-dir",
    ),
    (
        |o| {
            let network = &mut o.networks.as_mut().unwrap()[0];
            (network.run_dir, network.meets) = (None, false);
        },
        Check::Cni,
        PROBLEM,
        "names no run directory, which means /run/twill",
        "--run-dir",
    ),
    (|o| o.capabilities = Ok(!(1 << 13)), Check::Permissions, PROBLEM, "cannot be probed", "as root"),
    (
        |o| {
            o.run_dir =
                Ok(Directory::There { mode: 0o777, tmpfs: true, read_only: false, writable: true, free: 1 << 30 })
        },
        Check::Directories,
        PROBLEM,
        "mode 777",
        "chmod 700 /run/twill",
    ),
    (
        |o| o.machine_id = Err("is empty".to_owned()),
        Check::Identity,
        PROBLEM,
        "no machine ID",
        "systemd-machine-id-setup",
    ),
    (|o| o.host_name = Ok("_".to_owned()), Check::Identity, PROBLEM, "cannot be the node's name", "node_name"),
];

#[test]
fn each_fault_is_said_once_with_its_cause_and_what_to_do() {
    for (number, (change, check, state, what, fix)) in SERVING.into_iter().enumerate() {
        let mut seen = good();
        change(&mut seen);
        let found = faults(Stage::Serving, &seen);
        let [one] = found.as_slice() else { panic!("fault {number} ({what}): {}", printed(&found)) };
        assert_eq!((one.check, one.state), (check, state), "{}", printed(&found));
        assert!(one.what.contains(what) && one.fix.contains(fix), "{number}: {}", printed(&found));
    }
}
