//! The network configuration as a document: the list that a runtime reads, and the keys of the plugin `twill` in it, for the
//! reference and for editors.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use crate::kind::{Address, Mac, Name, NetworkName, PodAddress, Prefix, RunDir, Version, Word};
use crate::node::RUN_DIR;

/// A list of plugins as a runtime reads it from `/etc/cni/net.d`. What it has beside these keys is for the runtime to judge.
#[derive(Debug, JsonSchema)]
#[schemars(title = "Twill: a network configuration")]
#[allow(non_snake_case, reason = "the specification's names")]
pub struct List {
    /// The version of CNI in which the runtime speaks with the plugins.
    #[schemars(extend("examples" = ["1.0.0"]))]
    pub cniVersion: Version,
    /// The versions that newer runtimes choose from.
    #[schemars(extend("examples" = [["0.4.0", "1.0.0", "1.1.0"]]))]
    pub cniVersions: Option<Vec<Version>>,
    /// The name of the network.
    #[schemars(extend("examples" = ["twill"]))]
    pub name: NetworkName,
    /// Whether the runtime leaves out CHECK.
    #[schemars(default)]
    pub disableCheck: bool,
    /// Whether the runtime leaves out GC.
    #[schemars(default)]
    pub disableGC: bool,
    /// Whether the runtime takes plugins of this list alone.
    #[schemars(default)]
    pub loadOnlyInlinedPlugins: bool,
    /// The plugins, in the order in which they attach a pod. What follows is about those of `type` `"twill"`.
    #[schemars(length(min = 1))]
    pub plugins: Vec<Plugin>,
}

/// One plugin of the list.
#[derive(Debug)]
pub struct Plugin;

impl JsonSchema for Plugin {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "plugin".into()
    }

    /// Other plugins have keys of their own.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let twill = Twill::json_schema(generator);
        schemars::json_schema!({
            "type": "object",
            "required": ["type"],
            "if": { "properties": { "type": { "const": super::list::PLUGIN } } },
            "then": twill,
        })
    }
}

/// The keys of the plugin `twill`. `null` counts as absent.
#[derive(Debug, JsonSchema)]
#[schemars(
    deny_unknown_fields,
    extend("patternProperties" = { "^cni\\.dev/": {}, "^[Rr][Uu][Nn][Tt][Ii][Mm][Ee][Cc][Oo][Nn][Ff][Ii][Gg]$": { "type": "object" } },
        "not" = {
            "required": ["subnets", "pools"],
            "properties": { "subnets": { "minItems": 1 }, "pools": { "minItems": 1 } }
        })
)]
#[allow(non_snake_case, reason = "the specification's names")]
pub struct Twill {
    /// The plugin.
    #[schemars(extend("examples" = ["twill"]))]
    pub r#type: Word,
    /// The network's name. In a list it stands there, and the runtime hands it over.
    #[schemars(extend("x-default" = "that of the list"), extend("examples" = ["twill"]))]
    pub name: Option<NetworkName>,
    /// The version of CNI. In a list it stands there, and the runtime hands it over.
    #[schemars(extend("x-default" = "that of the list"), extend("examples" = ["1.0.0"]))]
    pub cniVersion: Option<Version>,
    /// Where node store and locks are: the `run_dir` of `twilld`.
    #[schemars(extend("x-default" = format!("`{RUN_DIR:?}`")), extend("examples" = ["/run/twill"]))]
    pub runDir: Option<RunDir>,
    /// Stand-alone: the ranges to give addresses from, with neither daemon nor etcd.
    #[schemars(length(min = 1), extend("examples" = [["10.42.0.0/24", "fd42:0:0:1::/64"]]))]
    pub subnets: Option<Vec<Prefix>>,
    /// The cluster's pools to give addresses from, of the families that they have; not together with `subnets`.
    #[schemars(extend("x-default" = "those that are for the node"), extend("examples" = [["default"]]))]
    pub pools: Option<Vec<Name>>,
    /// The MTU of both ends of the veth, in bytes; at least 1280 where the pod gets an IPv6 address.
    #[schemars(range(min = 68, max = 65_535), extend("x-default" = "the node's, or 1500"), extend("examples" = [1400]))]
    pub mtu: Option<u32>,
    /// Whether a pod sends by its own addresses only.
    #[schemars(default = "yes")]
    pub spoofCheck: bool,
    /// Whether that is asked by a filter at the node's end of the pod's veth, which does not hold pods that have CAP_NET_ADMIN.
    #[schemars(default)]
    pub hostEndFilter: bool,
    /// What the pod reaches by this interface beside what it reaches anyway.
    pub routes: Option<Vec<Route>>,
    /// What goes into the result, for the runtime to write it into the pod.
    pub dns: Option<Dns>,
    /// The greatest rate at which a pod receives, in bits a second: at least 8, or 0 for no limit.
    #[schemars(extend("x-default" = "no limit"), extend("examples" = [100_000_000]))]
    pub ingressRate: Option<u64>,
    /// How much it may receive at once, in bits.
    #[schemars(extend("x-default" = "a tenth of a second's worth, at least 64 KiB"), extend("examples" = [8_000_000]))]
    pub ingressBurst: Option<u64>,
    /// The greatest rate at which a pod sends, in bits a second: at least 8, or 0 for no limit.
    #[schemars(extend("x-default" = "no limit"), extend("examples" = [100_000_000]))]
    pub egressRate: Option<u64>,
    /// How much it may send at once, in bits.
    #[schemars(extend("x-default" = "a tenth of a second's worth, at least 64 KiB"), extend("examples" = [8_000_000]))]
    pub egressBurst: Option<u64>,
    /// What the runtime is to pass on in `runtimeConfig`: `portMappings`, `bandwidth`, `ips`, `mac`, `dns`.
    #[schemars(extend("examples" = [{ "portMappings": true, "bandwidth": true }]))]
    pub capabilities: Option<BTreeMap<String, Value>>,
    /// What the runtime asks for one pod. The runtime writes it; its keys count without regard to case.
    pub runtimeConfig: Option<RuntimeConfig>,
    /// What somebody asks for one pod: `args.cni.ips` and `args.cni.mac`. The runtime writes it.
    pub args: Option<BTreeMap<String, Value>>,
    /// The result of the plugin before. The runtime writes it.
    pub prevResult: Option<BTreeMap<String, Value>>,
    /// `true` is refused: masquerading is the pools' affair.
    #[schemars(default, extend("const" = false))]
    pub ipMasq: bool,
    /// Anything in it is refused: ranges stand in `subnets`, routes in `routes`, name servers in `dns`.
    pub ipam: Option<Value>,
    /// The runtime's.
    #[schemars(extend("examples" = [["0.4.0", "1.0.0", "1.1.0"]]))]
    pub cniVersions: Option<Vec<Version>>,
    /// The runtime's.
    #[schemars(default)]
    pub disableCheck: bool,
    /// The runtime's.
    #[schemars(default)]
    pub disableGC: bool,
    /// The runtime's.
    #[schemars(default)]
    pub loadOnlyInlinedPlugins: bool,
}

/// What the pod reaches by the interface.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Route {
    /// The destination.
    #[schemars(extend("examples" = ["198.51.100.0/24"]))]
    pub dst: Prefix,
    /// The gateway: the pod's own, or absent, since the node is the only one on the pod's link.
    #[schemars(extend("x-default" = "169.254.1.1, or fe80::1"), extend("examples" = ["169.254.1.1"]))]
    pub gw: Option<Address>,
    /// The MTU of the way, in bytes.
    #[schemars(extend("examples" = [1300]))]
    pub mtu: Option<u32>,
    /// The greatest TCP segment to be advertised, in bytes.
    #[schemars(extend("examples" = [1260]))]
    pub advmss: Option<u32>,
    /// The metric; the smaller one wins.
    #[schemars(extend("examples" = [100]))]
    pub priority: Option<u32>,
    /// The routing table; not 255, which is the kernel's.
    #[schemars(extend("x-default" = 254, "not" = { "const": 255 }), extend("examples" = [100]))]
    pub table: Option<u32>,
    /// The scope.
    #[schemars(range(max = 252), extend("x-default" = 0), extend("examples" = [0]))]
    pub scope: Option<u8>,
}

/// Name servers, and what resolvers ask for. `servers` and `searches` are other spellings of `nameservers` and `search`.
#[derive(Debug, JsonSchema)]
pub struct Dns {
    /// The addresses of name servers.
    #[schemars(extend("examples" = [["10.96.0.10"]]))]
    pub nameservers: Option<Vec<Word>>,
    /// The own domain.
    #[schemars(extend("examples" = ["cluster.local"]))]
    pub domain: Option<String>,
    /// The domains in which names are looked for.
    #[schemars(extend("examples" = [["svc.cluster.local"]]))]
    pub search: Option<Vec<Word>>,
    /// Options of `resolv.conf`.
    #[schemars(extend("examples" = [["ndots:5"]]))]
    pub options: Option<Vec<Word>>,
}

/// What a runtime asks for one pod; it passes what `capabilities` names. What is not known here is another plugin's.
#[derive(Debug, JsonSchema)]
#[allow(non_snake_case, reason = "the specification's names")]
pub struct RuntimeConfig {
    /// The pod's addresses, one of a family.
    #[schemars(extend("examples" = [["10.42.0.9"]]))]
    pub ips: Option<Vec<PodAddress>>,
    /// The MAC of the pod's interface.
    #[schemars(extend("examples" = ["02:00:5e:10:00:09"]))]
    pub mac: Option<Mac>,
    /// Ports of the node that lead to the pod: `hostPort`, `containerPort`, `protocol` (tcp, udp or sctp), `hostIP`.
    #[schemars(extend("examples" = [[{ "hostPort": 8080, "containerPort": 80 }]]))]
    pub portMappings: Option<Vec<BTreeMap<String, Value>>>,
    /// Limits: `ingressRate`, `ingressBurst`, `egressRate`, `egressBurst`, as above.
    #[schemars(extend("examples" = [{ "ingressRate": 10_000_000 }]))]
    pub bandwidth: Option<BTreeMap<String, Value>>,
    /// As `dns` above.
    #[schemars(extend("examples" = [{ "servers": ["10.96.0.10"] }]))]
    pub dns: Option<BTreeMap<String, Value>>,
}

fn yes() -> bool {
    true
}
