//! twillctl against a real etcd and a real node store.

mod common;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::{Etcd, PREFIX, Ran};
use serde_json::json;
use twill_ipam::attachment::Pod;
use twill_ipam::store::{Attempt, BlockState, Node, Reservation, Role};
use twill_ipam::{BootTime, Key, Store};

const ONE_POOL: &str = "[[pool]]\nname = 'default'\ncidr = '10.42.0.0/16'\n";

fn node(number: u8) -> String {
    json!({"machine_id": format!("m{number}"), "nonce": "x", "underlay": {"ipv4": format!("192.0.2.{number}/24")},
           "vxlan": {"mac": format!("02:00:00:00:00:0{number}")}, "version": "0.1.0"})
    .to_string()
}

fn block(node: &str, epoch: i64) -> String {
    json!({"node": node, "machine_id": "m", "epoch": epoch, "nonce": "x"}).to_string()
}

/// Nodes n1 and n2, alive, each with a block of the pool `default`.
fn populate(etcd: &Etcd) {
    etcd.apply(&etcd.file("cluster.toml", ONE_POOL)).ends_with(0);
    let first = etcd.put(&[("nodes/n1", &node(1))]);
    let second = etcd.put(&[("nodes/n2", &node(2))]);
    etcd.put(&[
        ("blocks/4/0a2a0000-26", &block("n1", first)),
        ("blocks/4/0a2a0040-26", &block("n2", second)),
        ("alive/n1", "{}"),
        ("alive/n2", "{}"),
    ]);
}

#[test]
fn a_configuration_is_made_applied_and_shown() {
    let Some(etcd) = Etcd::start() else { return };
    let missing = etcd.run(&["config", "show"]).ends_with(1);
    assert!(missing.stderr.contains(&format!("there is no cluster configuration at {PREFIX}config")), "{missing:?}");

    let file = etcd.dir.path().join("new.toml");
    let name = file.to_str().unwrap();
    etcd.run(&["config", "init", name]).ends_with(0);
    etcd.run(&["config", "init", name]).ends_with(2);
    let applied = etcd.apply(&file).ends_with(0);
    let (stored, revision) = etcd.config().unwrap();
    assert!(applied.stdout.starts_with(&format!("applied as revision {revision} (the first):\n")), "{applied:?}");
    assert!(applied.stdout.contains("  + pool.default.cidr: \"10.42.0.0/16\"\n"), "{applied:?}");

    let shown = etcd.run(&["config", "show"]).ends_with(0);
    assert!(shown.stdout.starts_with(&format!("# revision {revision}\n[[pool]]\n")), "{shown:?}");
    let again = etcd.feed(&["config", "apply", "-", "-o", "json"], &shown.stdout).ends_with(0).json();
    assert_eq!(
        again,
        json!({"revision": revision, "previous": revision, "changes": [], "notes": []}),
        "what is shown is what stands"
    );
    let shown = etcd.run(&["config", "show", "-o", "json"]).ends_with(0).json();
    assert_eq!(shown["config"], serde_json::from_str::<serde_json::Value>(&stored).unwrap());

    let changed =
        etcd.feed(&["config", "apply", "-", "-o", "json"], "[[pool]]\nname='more'\ncidr='10.43.0.0/16'").ends_with(0);
    assert_eq!(changed.json()["previous"], revision);
    assert_eq!(changed.json()["revision"], etcd.config().unwrap().1);
}

#[test]
fn a_wrong_configuration_changes_nothing() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.apply(&etcd.file("good.toml", ONE_POOL)).ends_with(0);
    let before = etcd.config();
    let refused = etcd.apply(&etcd.file("bad.toml", "[[pool]]\nname = 'a'\ncidr = '10.42.3.7/16'")).ends_with(1);
    assert!(refused.stderr.ends_with("a prefix has no host bits: 10.42.0.0/16\n"), "{refused:?}");
    assert_eq!(etcd.config(), before);
}

#[test]
fn a_pool_with_blocks_keeps_its_range_and_their_owners_are_named() {
    let Some(etcd) = Etcd::start() else { return };
    populate(&etcd);
    let before = etcd.config();
    for (toml, words) in [
        ("[[pool]]\nname='other'\ncidr='10.43.0.0/16'", "pool \"default\" cannot be removed"),
        (
            "[[pool]]\nname='default'\ncidr='10.42.128.0/17'",
            "the range of pool \"default\" cannot become 10.42.128.0/17",
        ),
        ("[[pool]]\nname='default'\ncidr='10.42.0.0/16'\nblock=27", "the blocks of pool \"default\" cannot become /27"),
    ] {
        let refused = etcd.feed(&["config", "apply", "-"], toml).ends_with(1);
        let owners = "while nodes have blocks there: n1 has 10.42.0.0/26; n2 has 10.42.0.64/26";
        let told = format!("twillctl: refused, nothing was changed: {words} {owners}; to drain a pool, apply it with");
        assert!(refused.stderr.starts_with(&told), "{refused:?}");
        assert_eq!(etcd.config(), before);
    }
    let near = "[[pool]]\nname='default'\ncidr='10.42.0.0/16'\n[[pool]]\nname='b'\ncidr='192.0.2.0/24'";
    let refused = etcd.feed(&["config", "apply", "-"], near).ends_with(1);
    assert!(refused.stderr.contains("node n1 has the underlay address 192.0.2.1 in it"), "{refused:?}");
    assert_eq!(etcd.config(), before);

    let narrower = "[[pool]]\nname='default'\ncidr='10.42.0.0/17'\nmasquerade=false";
    let applied = etcd.feed(&["config", "apply", "-"], narrower).ends_with(0);
    assert!(applied.stdout.contains("  ~ pool.default.cidr: \"10.42.0.0/16\" -> \"10.42.0.0/17\"\n"), "{applied:?}");
    assert!(applied.stdout.contains("  ~ pool.default.masquerade: true -> false\n"), "{applied:?}");
}

#[test]
fn what_a_configuration_may_not_mean_is_told_beside_the_report_and_is_no_failure() {
    let Some(etcd) = Etcd::start() else { return };
    populate(&etcd);
    let toml = format!("{ONE_POOL}[[pool]]\nname='gpu'\ncidr='10.43.0.0/16'\nnodes='has(gpu)'\n");
    let applied = etcd.feed(&["config", "apply", "-"], &toml).ends_with(0);
    assert!(applied.stderr.starts_with("NOTE pool gpu: no node has labels with has(gpu): "), "{applied:?}");
    assert!(applied.stdout.starts_with("applied as revision") && !applied.stdout.contains("NOTE"), "{applied:?}");
    let again = etcd.feed(&["config", "apply", "-", "-o", "json"], &toml).ends_with(0);
    assert_eq!((again.stderr.as_str(), &again.json()["notes"][0]["subject"]), ("", &json!("pool gpu")));
    let status = etcd.run(&["status", "--timeout", "1"]).ends_with(2).stdout;
    assert!(status.contains("\nno problems, as far as could be told\n\nNOTE pool gpu: "), "{status}");
}

#[test]
fn of_those_who_apply_at_once_each_is_told_whether_it_was_first() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.apply(&etcd.file("first.toml", ONE_POOL)).ends_with(0);
    let start = |i: u32| {
        let file = etcd.file(&format!("{i}.toml"), &format!("{ONE_POOL}[backend]\nvni = {}", 100 + i));
        let mut command = etcd.command(&["config", "apply", "-o", "json", file.to_str().unwrap()]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..12).map(start).collect();
    let ran: Vec<_> = children.into_iter().map(|child| Ran::of(child.wait_with_output().unwrap())).collect();

    let mut done: Vec<(i64, i64, usize)> = Vec::new();
    for (i, ran) in ran.iter().enumerate() {
        match ran.status {
            0 => done.push((ran.json()["revision"].as_i64().unwrap(), ran.json()["previous"].as_i64().unwrap(), i)),
            1 => assert!(ran.stderr.contains("somebody else changed the configuration at the same time"), "{ran:?}"),
            _ => panic!("{ran:?}"),
        }
    }
    done.sort_unstable();
    assert!(!done.is_empty());
    for pair in done.windows(2) {
        assert_eq!(pair[0].0, pair[1].1, "each builds on the one before: {done:?}");
    }
    let (last, _, winner) = done[done.len() - 1];
    let (stored, revision) = etcd.config().unwrap();
    assert_eq!(revision, last);
    assert!(stored.contains(&format!("\"vni\":{}", 100 + winner)), "{stored}");
}

#[test]
fn the_status_shows_nodes_pools_and_problems() {
    let Some(etcd) = Etcd::start() else { return };
    let empty = etcd.run(&["status"]).ends_with(1);
    assert!(empty.stdout.contains("PROBLEM configuration: there is none"), "{empty:?}");

    populate(&etcd);
    // They look alive, and no daemon is there that could answer.
    let good = etcd.run(&["status", "--timeout", "1"]).ends_with(2);
    assert!(
        good.stdout.contains("\nn1    yes    no        192.0.2.1  -       02:00:00:00:00:01  1       0.1.0\n"),
        "{good:?}"
    );
    assert!(good.stdout.contains("\ndefault  10.42.0.0/16  /26    2 of 1024  2      yes\n"), "{good:?}");
    let silent =
        "COULD NOT TELL: how nodes n1, n2 are: no answer within 1 s\n    fix: try again, with a longer --timeout";
    assert!(good.stdout.contains(&format!("\nno problems, as far as could be told\n\n{silent}")), "{good:?}");
    let stranger = etcd.run(&["status", "--node", "n9"]).ends_with(1);
    assert!(stranger.stderr.contains("there is no node n9"), "{stranger:?}");

    etcd.put(&[("nodes/n3", &node(3)), ("nodes/n4", "rubbish"), ("blocks/4/rubbish", "{}")]);
    let bad = etcd.run(&["status", "-o", "json", "--timeout", "1"]).ends_with(1).json();
    let nodes: Vec<_> = bad["nodes"].as_array().unwrap().iter().map(|n| (&n["name"], &n["alive"])).collect();
    assert_eq!(nodes, [(&json!("n1"), &json!(true)), (&json!("n2"), &json!(true)), (&json!("n3"), &json!(false))]);
    let subjects: Vec<_> = bad["problems"].as_array().unwrap().iter().map(|p| p["subject"].as_str().unwrap()).collect();
    assert_eq!(subjects, ["blocks/4/rubbish", "node n4", "node n3", "node n3"]);
}

/// A node store as the daemon of n1 and two ADDs would leave it.
fn node_store(run_dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all(run_dir)?;
    let mut store = Store::open(run_dir, Role::Daemon)?;
    store.set_node(&Node { name: "n1".into(), mtu: 1450, ipv4: true, ipv6: false, ..Node::default() })?;
    store.put_block("10.42.0.0/26".parse()?, &"default".parse()?, BlockState::Open)?;
    let now = BootTime::now();
    for (container, pod) in [("c1", None), ("c2", Some(Pod { namespace: "shop".into(), name: "cart".into() }))] {
        let (network, container) = ("twill".parse()?, container.parse()?);
        let key = Key { network, container, ifname: "eth0".parse()? };
        let netns = Path::new("/run/netns/test");
        let wanted = Reservation { key: &key, netns, pod: pod.as_ref(), subnets: &[], pools: &[], requested: &[] };
        let row = store.reserve(&wanted, now)?;
        store.confirm(row.id, now)?;
    }
    Ok(())
}

#[test]
fn a_hostile_key_or_value_moves_no_cursor() {
    let Some(etcd) = Etcd::start() else { return };
    populate(&etcd);
    let escape = "\u{1b}]0;owned\u{7}";
    etcd.put(&[(&format!("blocks/4/{escape}"), "{}"), ("nodes/n2", &node(2).replace("0.1.0", "\\u001b[2J"))]);
    let status = |more: &[&str]| etcd.run(&[&["status", "--timeout", "1"], more].concat());
    for run in [status(&[]), status(&["-o", "json"]), etcd.feed(&["config", "apply", "-"], "")] {
        let told = format!("{}{}", run.stdout, run.stderr);
        assert!(!told.chars().any(|c| c.is_control() && c != '\n'), "{told:?}");
    }
    let status = status(&[]).ends_with(1).stdout;
    assert!(
        status.contains("\\u001b]0;owned")
            && status.contains("PROBLEM node n2: its record, the key nodes/n2, cannot be read: version"),
        "{status}"
    );
}

#[test]
fn ipam_show_joins_the_cluster_with_this_nodes_pods() {
    let Some(mut etcd) = Etcd::start() else { return };
    populate(&etcd);
    let cluster = etcd.run(&["ipam", "show"]).ends_with(0);
    assert!(cluster.stdout.contains("\n10.42.0.64/26  default  n2\n"), "{cluster:?}");
    assert!(!cluster.stdout.contains("this node"), "{cluster:?}");

    node_store(&etcd.run_dir()).unwrap();
    let both = etcd.run(&["ipam", "show"]).ends_with(0);
    assert!(both.stdout.contains("\nthis node, n1: 1 block, 2 pods\n"), "{both:?}");
    assert!(both.stdout.contains("\nshop/cart  twill    eth0       tw"), "{both:?}");
    let json = etcd.run(&["ipam", "show", "-o", "json"]).ends_with(0).json();
    assert_eq!(json["local"]["pods"][0]["container"], "c1");
    assert_eq!(json["local"]["pods"][0]["state"], "attached");
    assert_eq!(
        (&json["local"]["blocks"][0]["assigned"], &json["local"]["blocks"][0]["total"]),
        (&json!(2), &json!(64))
    );
    assert_eq!(json["cluster"]["blocks"].as_array().unwrap().len(), 2);

    etcd.put(&[("blocks/4/0a2a0000-26", &block("n2", 1))]);
    let disputed = etcd.run(&["ipam", "show"]).ends_with(1);
    let words = "PROBLEM block 10.42.0.0/26: this node (n1) assigns addresses from it, but etcd gives it to n2\n";
    assert!(disputed.stdout.contains(words), "{disputed:?}");

    etcd.kill();
    let half = etcd.run(&["ipam", "show"]).ends_with(2);
    assert!(half.stdout.contains("\nshop/cart"), "{half:?}");
    assert!(half.stdout.contains(&format!("\nCOULD NOT TELL: etcd at {}", etcd.url)), "{half:?}");
}

#[test]
fn addresses_are_told_by_the_mirror_and_a_node_that_does_not_answer_is_told() {
    let Some(etcd) = Etcd::start() else { return };
    populate(&etcd);
    let epoch = |name: &str| etcd.run(&["node", "show", name, "-o", "json"]).ends_with(0).json()["revision"].clone();
    assert!(epoch("n1").is_i64());
    let all = etcd.run(&["ipam", "check", "--timeout", "1"]).ends_with(1).stdout;
    assert!(all.contains("PROBLEM addresses/n1/4/0a2a0000-26: the mirror of 10.42.0.0/26 is missing\n"), "{all}");
    assert!(all.contains("COULD NOT TELL: what node n2 has in use: no answer within 1 s\n"), "{all}");

    let owner = etcd.run(&["ipam", "show", "--ip", "10.42.0.1"]).ends_with(2).stdout;
    assert!(
        owner.contains("COULD NOT TELL: who has 10.42.0.1: n1 has not told\n    fix: 'twillctl ipam check' asks"),
        "{owner}"
    );
    let first = etcd.put(&[("nodes/n1", &node(1))]);
    let pod = json!({"state": "attached", "since": 1, "pod": "shop/cart", "network": "twill\u{1b}[2J"});
    etcd.put(&[("blocks/4/0a2a0000-26", &block("n1", first))]);
    let mirror = json!({"epoch": first, "nonce": "x", "addresses": {"10.42.0.1": pod}}).to_string();
    etcd.put(&[("addresses/n1/4/0a2a0000-26", &mirror)]);
    let row = etcd.run(&["ipam", "show", "--ip", "10.42.0.1"]).ends_with(0).stdout;
    assert!(row.contains("10.42.0.1  attached  ") && row.contains("  shop/cart  ") && !row.contains('\u{1b}'), "{row}");
    let blocks = etcd.run(&["ipam", "show", "--blocks"]).ends_with(2).stdout;
    let silent =
        "\nCOULD NOT TELL: what is in use of 10.42.0.64/26: n2 has not told\n    fix: 'twillctl ipam check' asks";
    assert!(blocks.contains(silent), "{blocks}");
    assert!(blocks.contains("\n10.42.0.0/26   default  n1    1     0        63    64  -\n"), "{blocks}");
    assert!(blocks.contains("\n10.42.0.64/26  default  n2    ?     ?        ?     64  -\n"), "{blocks}");

    let unknown = etcd.run(&["node", "show", "n9"]).ends_with(1).stderr;
    assert!(unknown.contains("there is no node n9: 'twillctl node list' shows"), "{unknown}");
    etcd.run(&["node", "drain", "n9"]).ends_with(1);
    etcd.put(&[("nodes/n8", "rubbish")]);
    let unreadable = etcd.run(&["node", "show", "n8"]).ends_with(1).stderr;
    assert!(
        unreadable.contains(&format!("{PREFIX}nodes/n8 cannot be read: it is not JSON (expected value")),
        "{unreadable}"
    );
    let json = etcd.run(&["node", "show", "n9", "-o", "json"]).ends_with(1);
    let error: serde_json::Value = serde_json::from_str(&json.stderr).unwrap();
    assert_eq!((error["error"].as_str(), json.stdout.as_str()), (unknown.trim_end().strip_prefix("twillctl: "), ""));
    etcd.put(&[("nodes/n3", &node(3))]);
    let dead = etcd.run(&["node", "drain", "n3", "--timeout", "600"]).ends_with(2).stderr;
    assert!(
        dead.contains("its daemon has not been heard of for a minute; it was not asked, and nothing was"),
        "{dead}"
    );
    let silent = etcd.run(&["node", "drain", "n1", "--timeout", "1"]).ends_with(2).stderr;
    assert!(silent.contains("node n1: no answer within 1 s; it may be draining already: look at"), "{silent}");
    let silent = etcd.run(&["node", "drain", "n1", "--undo", "--timeout", "1"]).ends_with(2).stderr;
    assert!(
        silent.contains("it may serve new pods already: look at 'twillctl node show n1', or try again"),
        "{silent}"
    );
}

#[test]
fn the_last_failures_of_a_node_are_shown_without_etcd() {
    let dir = tempfile::tempdir().unwrap();
    let run_dir = dir.path().join("twill");
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_twillctl"));
        command.args(arguments).arg("--run-dir").arg(&run_dir).env_remove("TWILL_ETCD");
        Ran::of(command.output().unwrap())
    };
    assert!(run(&["ipam", "attempts"]).ends_with(0).stdout.starts_with("no node store here"));
    assert!(!run_dir.exists());
    node_store(&run_dir).unwrap();
    assert!(run(&["ipam", "attempts"]).ends_with(0).stdout.starts_with("0 failures"));
    let mut store = Store::open(&run_dir, Role::Guest).unwrap();
    for number in 1..=257 {
        let attempt = Attempt {
            at: BootTime::now(),
            verb: "ADD".into(),
            key: None,
            pod: Some(Pod { namespace: "shop".into(), name: format!("cart-{number}") }),
            step: "reserving an address".into(),
            cause: "no free IPv4 address\u{1b}[2J".into(),
            code: 100,
            took: Duration::from_micros(1234),
        };
        store.record_attempt(&attempt).unwrap();
    }
    drop(store);
    let shown = run(&["ipam", "attempts"]).ends_with(0).stdout;
    assert!(shown.starts_with("256 failures kept on this node, newest first\n"), "{shown}");
    assert!(shown.contains("shop/cart-257 ") && shown.contains("shop/cart-2 ") && !shown.contains("shop/cart-1 "));
    assert!(shown.contains("1.2 ms") && shown.contains("no free IPv4 address\\u001b[2J"), "{shown}");
    let json = run(&["ipam", "attempts", "-o", "json"]).ends_with(0).json();
    let newest = &json["attempts"][0];
    assert_eq!(
        (&newest["pod"], &newest["code"], &newest["milliseconds"]),
        (&json!("shop/cart-257"), &json!(100), &json!(1.23))
    );
}

#[test]
fn without_etcd_nothing_can_be_told() {
    let Some(mut etcd) = Etcd::start() else { return };
    etcd.kill();
    let file = etcd.file("cluster.toml", ONE_POOL);
    let file = file.to_str().unwrap();
    for arguments in [
        &["status"][..],
        &["status", "--node", "n1"],
        &["status", "--wait", "1s"],
        &["why", "pod", "shop/till"],
        &["why", "ip", "10.42.0.1"],
        &["why", "node", "n1"],
        &["config", "show"],
        &["config", "apply", file],
        &["ipam", "show"],
        &["ipam", "check"],
        &["node", "list"],
        &["bgp", "peers"],
        &["bgp", "routes", "--node", "n1"],
        &["bgp", "explain", "10.42.0.1", "--node", "n1"],
    ] {
        let ran = etcd.run(arguments).ends_with(2);
        assert!(ran.stderr.starts_with(&format!("twillctl: etcd at {}", etcd.url)), "{ran:?}");
        assert!(ran.stderr.contains("\n    fix: look whether etcd runs there"), "{ran:?}");
        assert_eq!(ran.stdout, "");
    }
}

#[test]
fn without_etcd_a_node_still_says_what_it_knows_by_itself() {
    let Some(mut etcd) = Etcd::start() else { return };
    etcd.kill();
    node_store(&etcd.run_dir()).unwrap();
    let told = etcd.run(&["status"]).ends_with(2).stdout;
    assert!(told.starts_with(&format!("COULD NOT TELL: etcd at {}", etcd.url)), "{told}");
    let knows =
        "what this node, n1, knows by itself: 2 pod interfaces attached, 0 failures kept ('twillctl ipam attempts')\n";
    assert!(told.contains(knows), "{told}");
    assert!(
        told.ends_with("\nBLOCK         POOL     STATE  USED  FREE\n10.42.0.0/26  default  open   2     62\n"),
        "{told}"
    );
    let json = etcd.run(&["status", "-o", "json"]).ends_with(2).json();
    let local = &json["local"];
    assert_eq!(
        (&local["node"], &local["attached"], &local["blocks"][0]["free"]),
        (&json!("n1"), &json!(2), &json!(62))
    );
    for untold in ["revision", "config", "nodes", "pools"] {
        assert_eq!(json.get(untold), Some(&json!(null)), "{untold}: {json}");
    }
    assert!(json["unknown"][0].as_str().is_some_and(|why| why.starts_with("etcd at ")), "{json}");
    let by_store = etcd.run(&["why", "ip", "10.42.0.63"]).ends_with(2).stdout;
    assert!(by_store.starts_with("10.42.0.63 is free: n1 may give it to a pod\n"), "{by_store}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let Some(etcd) = Etcd::start() else { return };
    let mut child = etcd.command(&["config", "init"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
}
