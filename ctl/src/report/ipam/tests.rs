//! What is made of the two halves.

use std::time::Duration;

use twill_ipam::attachment::{AttachmentId, Key, KeyHash, Pod as PodName};
use twill_ipam::store::Node;

use super::*;
use crate::arguments::Output;
use crate::print;
use crate::report::{Report, Verdict};

const CLUSTER: [(&str, &str); 3] = [
    ("config", r#"{"pool":[{"name":"default","cidr":"10.42.0.0/16","block":26}]}"#),
    ("nodes/n1", r#"{"machine_id":"m1","nonce":"x"}"#),
    ("blocks/4/0a2a0000-26", r#"{"node":"n1","machine_id":"m1","epoch":2,"nonce":"x"}"#),
];

fn block(cidr: &str, origin: Origin) -> BlockUse {
    let cluster = origin == Origin::Cluster;
    BlockUse {
        block: cidr.parse().unwrap(),
        pool: cluster.then(|| "default".parse().unwrap()),
        state: BlockState::Open,
        origin,
        tunnel: cluster.then(|| "10.42.0.1".parse().unwrap()),
        total: 64,
        assigned: 2,
        cooling: 1,
        reserved: 0,
    }
}

fn attachment(id: i64, key: Option<Key>, pod: Option<PodName>, state: State) -> Attachment {
    let address = (format!("10.42.0.{}", id + 1).parse().unwrap(), "10.42.0.0/26".parse().unwrap());
    let at = BootTime(Duration::from_secs(100));
    let hash = key.as_ref().map_or(KeyHash(7), Key::hash);
    let (id, addresses) = (AttachmentId(id), vec![address]);
    Attachment {
        id,
        hash,
        key,
        netns: None,
        pod,
        state,
        created: at,
        changed: at,
        addresses,
        extras: Default::default(),
    }
}

fn local(blocks: Vec<BlockUse>) -> LocalState {
    let key = |container: &str| Key {
        network: "twill".parse().unwrap(),
        container: container.parse().unwrap(),
        ifname: "eth0".parse().unwrap(),
    };
    let pod = PodName { namespace: "shop".into(), name: "cart".into() };
    LocalState {
        now: BootTime(Duration::from_secs(160)),
        inventory: Inventory {
            node: Some(Node { name: "n1".into(), mtu: 1450, ipv4: true, ipv6: false, ..Node::default() }),
            blocks,
            attachments: vec![
                attachment(1, None, None, State::Attached),
                attachment(2, Some(key("c2")), Some(pod), State::Attached),
                attachment(3, Some(key("c1")), None, State::Deleting),
            ],
            ..Inventory::default()
        },
    }
}

#[test]
fn both_halves_are_shown_side_by_side() {
    let picture = Picture::of(&CLUSTER);
    let report =
        Report::Ipam(Ipam::new(Some(&picture), Some(local(vec![block("10.42.0.0/26", Origin::Cluster)])), vec![]));
    assert_eq!(report.verdict(), Verdict::Good);
    let text = print::render(&report, Output::Text);
    let hosts: Vec<_> = text.split_whitespace().filter(|word| word.starts_with("tw") && word.len() == 15).collect();
    assert_eq!(hosts.len(), 3, "{text}");
    let wanted = "\
POOL     CIDR          BLOCK  BLOCKS     NODES  MASQUERADE  REMARKS
default  10.42.0.0/16  /26    1 of 1024  1      yes

BLOCK         POOL     NODE
10.42.0.0/26  default  n1

this node, n1: 1 block, 3 pods

BLOCK         POOL     STATE  ASSIGNED  COOLING  OF  TUNNEL
10.42.0.0/26  default  open   2         1        64  10.42.0.1

POD                        NETWORK  INTERFACE  HOST INTERFACE   ADDRESSES  STATE     AGE
(rebuilt from the kernel)  -        -          H0 10.42.0.2  attached  60s
c1                         twill    eth0       H1 10.42.0.4  deleting  60s
shop/cart                  twill    eth0       H2 10.42.0.3  attached  60s
";
    let wanted = (0..3).fold(wanted.to_owned(), |text, i| text.replace(&format!("H{i}"), &format!("{} ", hosts[i])));
    assert_eq!(text, wanted);
    let json: serde_json::Value = serde_json::from_str(&print::render(&report, Output::Json)).unwrap();
    assert_eq!(json["local"]["pods"][2]["pod"], "shop/cart");
    assert_eq!(json["local"]["pods"][2]["age_seconds"], 60);
    assert_eq!(json["cluster"]["blocks"][0]["node"], "n1");
}

#[test]
fn a_node_that_stands_alone_is_shown_alone() {
    let report = Report::Ipam(Ipam::new(None, Some(local(vec![block("10.42.0.0/26", Origin::Configuration)])), vec![]));
    assert_eq!(report.verdict(), Verdict::Good);
    let text = print::render(&report, Output::Text);
    assert!(text.starts_with("this node, n1: 1 block, 3 pods\n"), "{text}");
    assert!(text.contains("10.42.0.0/26  (stand-alone)  open"), "{text}");
}

#[test]
fn a_block_that_etcd_gives_to_another_or_to_nobody_is_a_problem() {
    let mut entries = CLUSTER;
    entries[2].1 = r#"{"node":"n2","machine_id":"m1","epoch":2,"nonce":"x"}"#;
    let blocks = || vec![block("10.42.0.0/26", Origin::Cluster), block("10.42.0.64/26", Origin::Cluster)];
    let ipam = Ipam::new(Some(&Picture::of(&entries)), Some(local(blocks())), vec![]);
    let found: Vec<_> = ipam.problems.iter().map(|problem| format!("{}: {}", problem.subject, problem.what)).collect();
    assert!(
        found.contains(
            &"block 10.42.0.0/26: this node (n1) assigns addresses from it, but etcd gives it to n2".to_owned()
        )
    );
    assert!(found.contains(
        &"block 10.42.0.64/26: this node (n1) assigns addresses from it, but etcd gives it to nobody".to_owned()
    ));
    assert_eq!(Report::Ipam(ipam).verdict(), Verdict::Problems);
}

#[test]
fn what_could_not_be_looked_at_is_said_and_decides_the_verdict() {
    let report =
        Report::Ipam(Ipam::new(None, Some(local(vec![])), vec![Untold::new("etcd at http://a:1: refused", "mend it")]));
    assert_eq!(report.verdict(), Verdict::Unknown);
    let text = print::render(&report, Output::Text);
    assert!(text.ends_with("\nCOULD NOT TELL: etcd at http://a:1: refused\n    fix: mend it\n"), "{text}");
}
