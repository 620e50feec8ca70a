//! `spoofCheck` of a network: a router among the pods sends by the addresses of those behind it, and nobody else does.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::{Value, json};
use twill_tests::cni::Verb;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::pod::IFNAME;
use twill_tests::{Lab, LabError, Pod, Result, with_lab};

/// Addresses that no pod and no pool has.
const FOREIGN: [&str; 2] = ["198.51.100.7", "2001:db8:77::7"];
/// How long a packet that is to come is waited for.
const WAIT: Duration = Duration::from_secs(2);

fn foreign() -> Result<[IpAddr; 2]> {
    let parse = |text: &str| text.parse().map_err(|_| LabError::wrong(text));
    Ok([parse(FOREIGN[0])?, parse(FOREIGN[1])?])
}

/// A pod that has the foreign addresses too, with these keys in its configuration.
fn with_foreign_addresses(lab: &Lab, name: &str, keys: &Value) -> Result<Pod> {
    let pod = lab.node(1).create_pod(name)?;
    pod.add_with_keys(keys)?.expect_success()?;
    for address in foreign()? {
        let length = if address.is_ipv6() { "128" } else { "32" };
        pod.namespace().ip_batch(&format!("address add {address}/{length} dev {IFNAME}\n"))?;
    }
    Ok(pod)
}

fn no_check() -> Value {
    json!({ "spoofCheck": false })
}

fn socket(pod: &Pod, address: IpAddr) -> Result<UdpSocket> {
    let what = format!("a socket at {address} in {}", pod.name());
    let open = || {
        let socket = UdpSocket::bind((address, 0))?;
        socket.set_read_timeout(Some(WAIT))?;
        Ok(socket)
    };
    pod.namespace().enter(open)?.map_err(LabError::io(what))
}

/// Sends one word from each of these addresses of a pod, in their order, and yields where the first that arrives is from.
fn first_to_arrive(from: &Pod, sources: &[IpAddr], target: &UdpSocket) -> Result<Option<IpAddr>> {
    let to: SocketAddr = target.local_addr().map_err(LabError::io("asking for a socket's address"))?;
    for source in sources {
        socket(from, *source)?.send_to(b"word", to).map_err(LabError::io(format!("sending from {source}")))?;
    }
    let first = target.recv_from(&mut [0; 16]).ok().map(|(_, from)| from.ip());
    // What comes later belongs to nobody's next question.
    target.set_nonblocking(true).map_err(LabError::io("emptying a socket"))?;
    while target.recv_from(&mut [0; 16]).is_ok() {}
    target.set_nonblocking(false).map_err(LabError::io("emptying a socket"))?;
    Ok(first)
}

#[test]
fn a_pod_of_a_network_without_spoof_check_sends_by_other_addresses_and_no_other_pod_does() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let (router, guarded) =
            (with_foreign_addresses(lab, "router", &no_check())?, with_foreign_addresses(lab, "guarded", &json!({}))?);
        let target = lab.node(2).add_pod("target")?;
        let holds = |when: &str| {
            for foreign in foreign()? {
                let own = guarded.address(foreign.is_ipv6())?;
                let server = socket(&target, target.address(foreign.is_ipv6())?)?;
                deadline::until(&format!("{when} the router's {foreign} arrives"), PATIENCE, || {
                    Ok(first_to_arrive(&router, &[foreign], &server)? == Some(foreign))
                })?;
                let first = first_to_arrive(&guarded, &[foreign, own], &server)?;
                assert_eq!(first, Some(own), "{when} the guarded pod's own address");
            }
            [&router, &guarded].into_iter().try_for_each(|pod| pod.call(Verb::Check)?.expect_success().map(drop))
        };
        holds("after the ADD")?;
        let node = lab.node(1);
        node.kill_daemon()?;
        node.start_daemon()?;
        holds("after a restart")?;
        // The table is made anew by what a lost store learned from the kernel.
        node.kill_daemon()?;
        for name in ["node.db", "node.db-wal", "node.db-shm", "firewall.json"] {
            std::fs::remove_file(node.run_dir().join(name)).unwrap_or_default();
        }
        node.run(&["nft", "delete", "table", "inet", "twill"])?;
        node.start_daemon()?;
        deadline::until("the table is there again", PATIENCE, || {
            Ok(node.run(&["nft", "list", "table", "inet", "twill"]).is_ok())
        })?;
        holds("after the store was lost")
    });
}

#[test]
fn the_table_knows_a_pod_without_spoof_check_as_long_as_it_is_there() {
    with_lab(Lab::builder().nodes(2), |lab| {
        let node = lab.node(1);
        let unchecked = |host: &str| {
            let set = node.run(&["nft", "list", "set", "inet", "twill", "unchecked"]);
            Ok(set.is_ok_and(|set| set.contains(host)))
        };
        let router = with_foreign_addresses(lab, "router", &no_check())?;
        let host = router.host_interface()?;
        deadline::until("the router is in the set", PATIENCE, || unchecked(&host))?;
        router.del()?;
        deadline::until("the set is gone with it", PATIENCE, || {
            Ok(!node.run(&["nft", "list", "table", "inet", "twill"])?.contains("unchecked"))
        })
    });
}

/// Whether a rule looks at the sources of what pods of the node send.
fn has_rule(lab: &Lab) -> Result<bool> {
    Ok(lab.node(1).run(&["nft", "list", "table", "inet", "twill"])?.contains("fib saddr . iif"))
}

#[test]
fn filters_at_all_host_ends_take_the_place_of_the_rule() {
    with_lab(Lab::builder().nodes(2), |lab| {
        deadline::until("the rule stands", PATIENCE, || has_rule(lab))?;
        let target = lab.node(2).add_pod("target")?;
        let guarded = |pod: &Pod, why: &str| {
            for foreign in foreign()? {
                let own = pod.address(foreign.is_ipv6())?;
                let server = socket(&target, target.address(foreign.is_ipv6())?)?;
                assert_eq!(first_to_arrive(pod, &[foreign, own], &server)?, Some(own), "{why}");
            }
            pod.call(Verb::Check)?.expect_success().map(drop)
        };
        let with_filter = json!({ "hostEndFilter": true });
        let filtered = with_foreign_addresses(lab, "filtered", &with_filter)?;
        let stays = with_foreign_addresses(lab, "stays", &with_filter)?;
        deadline::until("the rule goes", PATIENCE, || Ok(!has_rule(lab)?))?;
        guarded(&filtered, "by its filter")?;
        let plain = with_foreign_addresses(lab, "plain", &json!({}))?;
        deadline::until("the rule stands again", PATIENCE, || has_rule(lab))?;
        guarded(&plain, "by the rule")?;
        plain.del()?;
        deadline::until("the rule goes with the pod", PATIENCE, || Ok(!has_rule(lab)?))?;
        // Somebody takes away what it stands at, and with it the filter.
        lab.node(1).run(&["tc", "qdisc", "del", "dev", &filtered.host_interface()?, "clsact"])?;
        deadline::until("the rule takes its place", PATIENCE, || has_rule(lab))?;
        let missed = filtered.call(Verb::Check)?;
        assert!(missed.output.to_string().contains("no filter of what the pod sends"), "{:?}", missed.output);
        filtered.del()?;
        deadline::until("the rule goes with the last one", PATIENCE, || Ok(!has_rule(lab)?))?;
        guarded(&stays, "by its filter")
    });
}
