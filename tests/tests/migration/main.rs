//! A cluster with Flannel becomes one with Twill, node by node, as `docs/migration.md` has it: old and new pods reach each other
//! throughout, and whoever is not made anew loses no packet.

mod flannel;

use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use twill_tests::clients::machine::REFERENCE;
use twill_tests::lab::VXLAN;
use twill_tests::namespace::Namespace;
use twill_tests::probe::Probe;
use twill_tests::witness::Witness;
use twill_tests::{Lab, LabError, Pod, PoolSpec, Result, Underlay, needs, with_lab};

use flannel::{Flannel, MTU, NETWORK, OldPod, Tunnel};

const INTERVAL: Duration = Duration::from_millis(5);
/// The pool of the lab ([`PoolSpec::v4`]).
const POOL: &str = "10.42.0.0/16";

/// With which source old and new pods see each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sources {
    /// The address of a tunnel of the caller's node: nothing of Flannel is changed.
    Masqueraded,
    /// The caller's own: each side excepts the other's network from its masquerading, and packets may come in by
    /// the other tunnel than they would go out by.
    Own,
}

/// A place where a pod is, whoever attached it.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    name: &'a str,
    namespace: &'a Namespace,
    address: IpAddr,
}

fn old(pod: &OldPod) -> Place<'_> {
    Place { name: pod.namespace.name(), namespace: &pod.namespace, address: pod.address }
}

fn new(pod: &Pod) -> Result<Place<'_>> {
    Ok(Place { name: pod.name(), namespace: pod.namespace(), address: pod.address(false)? })
}

/// Every pod reaches every other, and every node every pod, with small packets and with the largest, neither of them
/// in pieces.
fn all_reach_all(lab: &Lab, places: &[Place<'_>]) -> Result<()> {
    // The headers of IPv4 and ICMP.
    let full = (MTU - 20 - 8).to_string();
    let nodes = lab.nodes().iter().map(|node| (node.name(), node.namespace()));
    let callers = places.iter().map(|place| (place.name, place.namespace)).chain(nodes);
    for (name, caller) in callers {
        for target in places.iter().filter(|target| target.name != name) {
            for payload in ["56", full.as_str()] {
                let to = target.address.to_string();
                caller
                    .run(&["ping", "-n", "-q", "-c1", "-W3", "-M", "do", "-s", payload, &to])
                    .map_err(|error| LabError::wrong(format!("{name} to {}: {error}", target.name)))?;
            }
        }
    }
    Ok(())
}

/// Packets that go to and fro until they are looked after.
#[derive(Default)]
struct Traffic(Vec<(String, Probe)>);

impl Traffic {
    fn add(&mut self, from: Place<'_>, to: Place<'_>) -> Result<()> {
        let probe = Probe::start(from.namespace, to.namespace, to.address, INTERVAL)?;
        probe.until_answered(3)?;
        self.0.push((format!("{} to {}", from.name, to.name), probe));
        Ok(())
    }

    fn flows(&self) -> Result<()> {
        self.0.iter().try_for_each(|(_, probe)| probe.until_answered(20))
    }

    /// Nothing was lost.
    fn end(self, when: &str) -> Result<()> {
        LabError::join(self.0.into_iter().map(|(what, probe)| {
            let report = probe.stop()?;
            println!("{when}: {what}: {} of {} lost", report.lost, report.sent);
            report.expect_no_loss().map_err(|error| LabError::wrong(format!("{when}: {what}: {error}")))
        }))
    }
}

/// Two pods on each node, of which the first are there to the end of Flannel; the others are made anew when it is their
/// node's turn.
struct Old {
    staying: Vec<OldPod>,
    going: Vec<OldPod>,
}

fn old_pods(nodes: &[Flannel<'_>]) -> Result<Old> {
    let pods = |word: &str| {
        let named = nodes.iter().zip(1..);
        named.map(|(flannel, number)| flannel.attach(&format!("{word}{number}"))).collect::<Result<Vec<_>>>()
    };
    Ok(Old { staying: pods("stays")?, going: pods("goes")? })
}

fn migrates(tunnel: Tunnel, sources: Sources) {
    if !std::path::Path::new(REFERENCE).join("bridge").exists() {
        needs::say_skipped(&format!("{REFERENCE}/bridge is missing, hack/setup installs it"));
        return;
    }
    let wanted = Lab::builder().underlay(Underlay::V4).pools([PoolSpec::v4()]).asleep();
    with_lab(wanted, |lab| {
        let lab = &*lab;
        let flannel = (1..=3).map(|number| Flannel::install(lab, number, tunnel)).collect::<Result<Vec<_>>>()?;
        let old_pods = old_pods(&flannel)?;
        let mut among_old = Traffic::default();
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            among_old.add(old(&old_pods.staying[from]), old(&old_pods.staying[to]))?;
        }

        beside(lab, &flannel, sources)?;
        let before = shown(&flannel)?;
        lab.nodes().iter().try_for_each(|node| node.start_daemon())?;
        lab.converged()?;

        let mut among_new = Traffic::default();
        let mut new_pods: Vec<Pod> = Vec::new();
        for (at, flannel) in flannel.iter().enumerate() {
            let number = at + 1;
            if sources == Sources::Masqueraded {
                there_and_back(lab, flannel, &old_pods)?;
            }
            let pod = flannel.replace(&old_pods.going[at], &format!("new{number}"))?;
            among_old.add(new(&pod)?, old(&old_pods.staying[(at + 1) % 3]))?;
            among_old.add(old(&old_pods.staying[at]), new(&pod)?)?;
            among_old.add(old(&old_pods.staying[(at + 2) % 3]), new(&pod)?)?;
            if let Some(last) = new_pods.last() {
                among_new.add(new(last)?, new(&pod)?)?;
            }
            new_pods.push(pod);
            let going = old_pods.going[number..].iter();
            let mut places: Vec<_> = old_pods.staying.iter().chain(going).map(old).collect();
            places.extend(new_pods.iter().map(new).collect::<Result<Vec<_>>>()?);
            all_reach_all(lab, &places)?;
            see_each_other(flannel, &old_pods.staying, &new_pods, sources)?;
        }
        among_old.flows()?;
        among_old.end("while both were there")?;
        assert_eq!(shown(&flannel)?, before, "Twill has changed what is Flannel's");

        for (at, flannel) in flannel.iter().enumerate() {
            new_pods.push(flannel.replace(&old_pods.staying[at], &format!("last{}", at + 1))?);
        }
        let places = || new_pods.iter().map(new).collect::<Result<Vec<_>>>();
        all_reach_all(lab, &places()?)?;
        flannel.iter().try_for_each(Flannel::remove)?;
        configure(lab, "")?;
        among_new.flows()?;
        among_new.end("to the end of Flannel")?;
        all_reach_all(lab, &places()?)
    });
}

/// What is prepared before Twill's daemons start.
fn beside(lab: &Lab, flannel: &[Flannel<'_>], sources: Sources) -> Result<()> {
    if sources == Sources::Masqueraded {
        return configure(lab, "");
    }
    for flannel in flannel {
        flannel.run(&format!(
            "iptables -t nat -I FLANNEL-POSTRTG -s {NETWORK} -d {POOL} -j RETURN
             iptables -t nat -I FLANNEL-POSTRTG -s {POOL} -d {NETWORK} -j RETURN
             echo 2 >/proc/sys/net/ipv4/conf/{}/rp_filter",
            flannel.device()
        ))?;
    }
    configure(lab, &format!("no_masquerade = [\"{NETWORK}\"]\n"))
}

/// The lab's configuration, where pods pass what drops them otherwise, with more about the firewall.
fn configure(lab: &Lab, firewall: &str) -> Result<()> {
    lab.apply_config(&format!("{}\n[firewall]\nopen_forward = true\n{firewall}", lab.cluster_config()))
}

fn shown(flannel: &[Flannel<'_>]) -> Result<Vec<String>> {
    flannel.iter().map(Flannel::shown).collect()
}

/// Pods of this node's go to Twill, and back to Flannel.
fn there_and_back(lab: &Lab, flannel: &Flannel<'_>, old_pods: &Old) -> Result<()> {
    let pod = flannel.attach("tries")?;
    let tried = flannel.replace(&pod, "tried")?;
    all_reach_all(lab, &[new(&tried)?, old(&old_pods.staying[0]), old(&old_pods.staying[1])])?;
    tried.del()?;
    tried.namespace().remove()?;
    let back = flannel.attach("tries-again")?;
    all_reach_all(lab, &[old(&back), old(&old_pods.staying[0]), old(&old_pods.staying[1])])?;
    flannel.detach(&back)
}

/// Which address a pod of the one kind is seen by from one of the other on another node.
fn see_each_other(flannel: &Flannel<'_>, staying: &[OldPod], new_pods: &[Pod], sources: Sources) -> Result<()> {
    let at = new_pods.len() - 1;
    let (here, far) = (&new_pods[at], &staying[(at + 1) % 3]);
    let seen = Witness::listen(&far.namespace, far.address)?.sees(here.namespace())?;
    let expected = if sources == Sources::Own { here.address(false)? } else { flannel.address() };
    assert_eq!(seen, expected, "how an old pod sees a new one");

    let seen = Witness::listen(here.namespace(), here.address(false)?)?.sees(&far.namespace)?;
    if sources == Sources::Own {
        assert_eq!(seen, far.address, "how a new pod sees an old one");
    } else {
        let pool: IpNetwork = POOL.parse().expect("a prefix");
        assert!(pool.contains(seen), "a new pod sees an old one as {seen}, which is no address of a {VXLAN}");
    }
    Ok(())
}

#[test]
fn a_cluster_with_flannel_of_its_own_port_becomes_one_with_twill_and_pods_see_each_other() {
    migrates(Tunnel { vni: 1, port: 8472 }, Sources::Own);
}

#[test]
fn a_cluster_with_flannel_on_the_port_of_twill_becomes_one_with_twill_without_a_change_of_flannel() {
    migrates(Tunnel { vni: 4096, port: 4789 }, Sources::Masqueraded);
}
