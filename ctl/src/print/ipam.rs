//! What `twillctl ipam show` prints.

use super::table::{age, list, notes, number, or_dash, parts, pools, problems, table};
use crate::report::ipam::{Cluster, Ipam, Local, LocalBlock, Owned, Pod};

pub(super) fn ipam(ipam: &Ipam) -> String {
    let unknown = super::table::unknown(&ipam.unknown);
    let cluster = ipam.cluster.iter().flat_map(cluster);
    let local = ipam.local.iter().flat_map(local);
    parts(cluster.chain(local).chain([problems(&ipam.problems), notes(&ipam.notes), unknown]))
}

fn cluster(cluster: &Cluster) -> [String; 2] {
    let row = |owned: &Owned| [owned.block.clone(), or_dash(owned.pool.as_ref()), owned.node.to_string()];
    let blocks = match cluster.blocks.as_slice() {
        [] => "no node has a block\n".to_owned(),
        blocks => table(["BLOCK", "POOL", "NODE"], blocks.iter().map(row)),
    };
    [pools(&cluster.pools), blocks]
}

fn local(local: &Local) -> [String; 3] {
    let block = |block: &LocalBlock| {
        [
            block.block.clone(),
            block.pool.as_ref().map_or_else(|| "(stand-alone)".to_owned(), ToString::to_string),
            block.state.to_owned(),
            block.assigned.to_string(),
            block.cooling.to_string(),
            block.total.to_string(),
            or_dash(block.tunnel),
        ]
    };
    let pod = |pod: &Pod| {
        let name = pod.pod.clone().or_else(|| pod.container.clone());
        [
            name.unwrap_or_else(|| "(rebuilt from the kernel)".to_owned()),
            or_dash(pod.network.as_ref()),
            or_dash(pod.interface.as_ref()),
            pod.host_interface.clone(),
            list(&pod.addresses),
            pod.state.to_owned(),
            age(pod.age_seconds),
        ]
    };
    let mut name = local.node.as_ref().map_or_else(|| "this node".to_owned(), |name| format!("this node, {name}"));
    if local.draining {
        name += " (being drained)";
    }
    let blocks = ["BLOCK", "POOL", "STATE", "ASSIGNED", "COOLING", "OF", "TUNNEL"];
    let pods = ["POD", "NETWORK", "INTERFACE", "HOST INTERFACE", "ADDRESSES", "STATE", "AGE"];
    [
        format!("{name}: {}, {}\n", number(local.blocks.len(), "block"), number(local.pods.len(), "pod")),
        table(blocks, local.blocks.iter().map(block)),
        table(pods, local.pods.iter().map(pod)),
    ]
}
