//! What of records and settings goes into a bundle. Every field is named here, taken or not: who adds one to a record decides.
//!
//! What newer versions, or people, wrote beside the known fields is not taken: it might be anything.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use serde::Serialize;
use twill_cluster::ability::Can;
use twill_cluster::record::{BlockRecord, Content, Holder, MirrorRecord, NodeRecord, Path, Tunnel, Underlay, VxlanEnd};
use twill_cluster::{Versioned, View};
use twill_conf::NodeName;
use twill_conf::node::NodeLayer;
use twill_ipam::Block;

/// Of the record of a node.
#[derive(Debug, Serialize)]
pub(crate) struct NodeExcerpt {
    name: NodeName,
    created: i64,
    modified: i64,
    /// Eight digits that follow from the machine's identity, which is confidential (machine-id(5)): they tell machines apart.
    machine: String,
    underlay: Underlay,
    tunnel: Tunnel,
    vxlan: Option<VxlanEnd>,
    path: Option<Path>,
    labels: BTreeMap<String, String>,
    version: String,
    can: Option<Can>,
    disputes: Vec<IpNetwork>,
    draining: bool,
}

/// Of the record of a block.
#[derive(Debug, Serialize)]
pub(crate) struct BlockExcerpt {
    block: String,
    created: i64,
    modified: i64,
    node: NodeName,
    machine: String,
    epoch: i64,
}

/// Of a mirror.
#[derive(Debug, Serialize)]
pub(crate) struct MirrorExcerpt {
    block: String,
    created: i64,
    modified: i64,
    epoch: i64,
    addresses: BTreeMap<IpAddr, Holder>,
    left_out: u64,
    cools_until: Option<u64>,
    draining: bool,
}

/// Of the daemon's file.
#[derive(Debug, Serialize)]
pub(crate) struct DaemonExcerpt {
    node_name: Option<NodeName>,
    etcd: Option<Vec<String>>,
    /// Whether TLS, a client's certificate and a user are set; not which.
    etcd_ca: bool,
    etcd_cert: bool,
    etcd_user: bool,
    prefix: Option<String>,
    underlay: Option<String>,
    underlay_ipv4: Option<String>,
    underlay_ipv6: Option<String>,
    run_dir: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    log: Option<String>,
    metrics: Option<SocketAddr>,
    cni_bin_dir: Option<PathBuf>,
    cni_conf_dir: Option<PathBuf>,
    labels: Option<BTreeMap<String, String>>,
}

impl NodeExcerpt {
    pub(crate) fn new(name: &NodeName, record: &Versioned<NodeRecord>) -> Self {
        let NodeRecord {
            machine_id,
            nonce: _,
            underlay,
            tunnel,
            vxlan,
            path,
            labels,
            version,
            can,
            disputes,
            drain,
            other: _,
        } = record.value.clone();
        Self {
            name: name.clone(),
            created: record.created,
            modified: record.modified,
            machine: disguised(&machine_id),
            underlay,
            tunnel,
            vxlan,
            path,
            labels,
            version,
            can,
            disputes,
            draining: drain.is_some(),
        }
    }
}

impl BlockExcerpt {
    pub(crate) fn new(block: Block, record: &Versioned<BlockRecord>) -> Self {
        let BlockRecord { node, machine_id, epoch, nonce: _, other: _ } = record.value.clone();
        let (created, modified) = (record.created, record.modified);
        Self { block: block.to_string(), created, modified, node, machine: disguised(&machine_id), epoch }
    }
}

impl MirrorExcerpt {
    pub(crate) fn new(block: Block, record: &Versioned<MirrorRecord>) -> Self {
        let MirrorRecord { epoch, nonce: _, content, other: _ } = record.value.clone();
        let Content { addresses, left_out, cools_until, drain } = content;
        let (created, modified, block) = (record.created, record.modified, block.to_string());
        Self { block, created, modified, epoch, addresses, left_out, cools_until, draining: drain.is_some() }
    }
}

impl DaemonExcerpt {
    pub(crate) fn new(layer: NodeLayer) -> Self {
        let NodeLayer {
            node_name,
            etcd,
            etcd_ca,
            etcd_cert,
            etcd_key: _,
            etcd_user,
            etcd_password_file: _,
            prefix,
            underlay,
            underlay_ipv4,
            underlay_ipv6,
            run_dir,
            state_dir,
            machine_id_file: _,
            log,
            metrics,
            cni_bin_dir,
            cni_conf_dir,
            labels,
        } = layer;
        Self {
            node_name,
            etcd,
            etcd_ca: etcd_ca.is_some(),
            etcd_cert: etcd_cert.is_some(),
            etcd_user: etcd_user.is_some(),
            prefix,
            underlay: underlay.map(|choice| choice.to_string()),
            underlay_ipv4: underlay_ipv4.map(|choice| choice.to_string()),
            underlay_ipv6: underlay_ipv6.map(|choice| choice.to_string()),
            run_dir,
            state_dir,
            log,
            metrics,
            cni_bin_dir,
            cni_conf_dir,
            labels,
        }
    }
}

/// What is said instead of what a parser says.
pub(crate) const QUIET: &str = "it is not what it should be (left out here)";

/// The same view, in which it is not repeated what stands in records that cannot be read: a parser quotes what it stumbles over.
pub(crate) fn without_quotes(view: View) -> View {
    let mut view = view;
    quiet(&mut view.faults);
    view
}

/// The same for causes by keys.
pub(crate) fn quiet(faults: &mut BTreeMap<String, String>) {
    faults.values_mut().for_each(|cause| QUIET.clone_into(cause));
}

/// Of a machine's identity: it tells machines apart, and does not tell which they are.
pub(crate) fn disguised(machine_id: &str) -> String {
    let digest = twill_conf::digest::digest(&["bundle", machine_id]);
    digest[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}
