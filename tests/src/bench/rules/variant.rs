//! Which rules packets meet: parts of Twill's own table, as its daemon made it, and what stands beside them for comparison.

use clap::ValueEnum;

use crate::bench::backends::Backend;
use crate::bench::data::by_hand::masquerading;
use crate::{LabError, Result};

/// Twill's table, of the family inet.
pub const TABLE: &str = "twill";

/// The chain by which pods' packets meet the rules about their addresses.
const PREROUTING: &str = "prerouting";
/// The chain that stands only where there is a tunnel, and whose rules are about what pods send.
const FORWARD: &str = "forward";
/// What the names of all host ends match.
const HOST_ENDS: &str = "tw*";
/// The chain that masquerades.
const POSTROUTING: &str = "postrouting";

/// How packets go from node to node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// By plain routes.
    Plain,
    /// Through the VXLAN tunnel.
    Tunnel,
}

impl Way {
    /// By whose routes.
    pub fn backend(self) -> Backend {
        match self {
            Self::Plain => Backend::HostGw,
            Self::Tunnel => Backend::Vxlan,
        }
    }

    /// In words, after "from node to node".
    pub fn words(self) -> &'static str {
        match self {
            Self::Plain => "by plain routes",
            Self::Tunnel => "through a VXLAN tunnel",
        }
    }
}

/// What the rules are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// No rules at all.
    Nothing,
    /// One rule that masquerades.
    OneRule,
    /// Twill's table on a node without a tunnel, less some of it.
    Plain(&'static [Less]),
    /// Twill's table on a node with a tunnel, less some of it.
    Tunnel(&'static [Less]),
}

/// What a table lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Less {
    /// The rules of this chain that stand for packets of pods alone.
    RulesForPods(&'static str),
    /// The rules of this chain; the chain itself stands at its hook.
    Rules(&'static str),
    /// This chain.
    Chain(&'static str),
}

impl Less {
    /// A chain's rules go first: nft deletes no chain that has any.
    fn script(self) -> String {
        match self {
            Self::RulesForPods(_) => String::new(),
            Self::Rules(chain) => format!("flush chain inet {TABLE} {chain}\n"),
            Self::Chain(chain) => Self::Rules(chain).script() + &format!("delete chain inet {TABLE} {chain}\n"),
        }
    }

    /// The table, as nft lists it, without what nft is not told to take away.
    fn cut(self, table: String) -> String {
        let Self::RulesForPods(chain) = self else { return table };
        let mut inside = false;
        let keep = |line: &&str| {
            let words = line.trim();
            inside = if words.starts_with("chain ") { words == begin(chain) } else { inside };
            !(inside && words.contains(&format!("iifname \"{HOST_ENDS}\"")))
        };
        table.lines().filter(keep).map(|line| format!("{line}\n")).collect()
    }

    /// Whichever it is, the rules of this chain that are for packets of pods are gone.
    fn chain(self) -> &'static str {
        match self {
            Self::RulesForPods(chain) | Self::Rules(chain) | Self::Chain(chain) => chain,
        }
    }
}

/// Rules on both nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// What people call it.
    pub name: &'static str,
    /// The rules of nftables.
    pub base: Base,
    /// What is at the pods' host ends.
    pub at_host_ends: AtHostEnds,
}

/// What looks at the source of a pod's packet before any rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtHostEnds {
    /// Nothing.
    Nothing,
    /// `rp_filter` at 1.
    ReversePath,
    /// The filter that the plugin makes where the network asks for it (`hostEndFilter`).
    Filter,
}

/// All that there are, the references first, in the order of reports.
pub const VARIANTS: [Variant; 13] = [
    rules("none", Base::Nothing),
    rules("none, a second time", Base::Nothing),
    rules("one rule that masquerades, and so connection tracking", Base::OneRule),
    rules("none; `rp_filter` at 1 on the host ends", Base::Nothing).with(AtHostEnds::ReversePath),
    rules("none; filters at the host ends", Base::Nothing).with(AtHostEnds::Filter),
    rules("`prerouting` without a rule", Base::Plain(&[Less::Rules(PREROUTING), Less::Chain(POSTROUTING)])),
    rules("`prerouting`: by whose addresses pods send", Base::Plain(&[Less::Chain(POSTROUTING)])),
    rules(
        "`prerouting` and `forward`: the port of a tunnel",
        Base::Tunnel(&[Less::RulesForPods(PREROUTING), Less::Chain(POSTROUTING)]),
    ),
    rules("Twill without a tunnel, masquerading", Base::Plain(&[])),
    rules("Twill with a tunnel's rules, masquerading", Base::Tunnel(&[])),
    rules(
        "Twill without a tunnel, masquerading, `rp_filter` at 1 in place of `prerouting`",
        Base::Plain(&[Less::Chain(PREROUTING)]),
    )
    .with(AtHostEnds::ReversePath),
    rules(
        "Twill without a tunnel, masquerading, with filters at the host ends",
        Base::Plain(&[Less::Chain(PREROUTING)]),
    )
    .with(AtHostEnds::Filter),
    rules(
        "Twill with a tunnel's rules, masquerading, with filters at the host ends",
        Base::Tunnel(&[Less::RulesForPods(PREROUTING)]),
    )
    .with(AtHostEnds::Filter),
];

const fn rules(name: &'static str, base: Base) -> Variant {
    Variant { name, base, at_host_ends: AtHostEnds::Nothing }
}

/// Those that are measured where packets go this way.
pub fn variants(way: Way) -> impl Iterator<Item = &'static Variant> {
    VARIANTS.iter().filter(move |variant| variant.stands(way))
}

/// What a node's variants are made of.
#[derive(Debug, Clone)]
pub struct Tables {
    /// Twill's table without a tunnel, as nft lists it; `None` where packets go through one.
    pub plain: Option<String>,
    /// The same with one.
    pub tunnel: String,
    /// The addresses of pods.
    pub range: String,
}

impl Variant {
    /// The same rules, with something at the host ends.
    const fn with(self, at_host_ends: AtHostEnds) -> Self {
        Self { at_host_ends, ..self }
    }

    /// Whether it tells anything where packets go this way. Through a tunnel nobody has Twill's table without one, and reverse paths are
    /// filtered by plain routes alone, in place of a chain.
    fn stands(&self, way: Way) -> bool {
        match way {
            Way::Plain => true,
            Way::Tunnel => self.at_host_ends != AtHostEnds::ReversePath && !matches!(self.base, Base::Plain(_)),
        }
    }

    /// What nft is to do on a node, whatever is there. An error where the table that it is made of is not at hand.
    pub fn script(&self, tables: &Tables) -> Result<String> {
        let missing = || LabError::wrong(format!("there is no table without a tunnel to make of: {}", self.name));
        let (table, less) = match self.base {
            Base::Nothing => (String::new(), [].as_slice()),
            Base::OneRule => (masquerading(&tables.range), [].as_slice()),
            Base::Plain(less) => (tables.plain.clone().ok_or_else(missing)?, less),
            Base::Tunnel(less) => (tables.tunnel.clone(), less),
        };
        let table = less.iter().fold(table, |table, less| less.cut(table));
        let mut script = format!("flush ruleset\n{table}\n");
        script.extend(less.iter().map(|less| less.script()));
        Ok(script)
    }

    /// Whether a pod cannot send by the address of another.
    pub fn refuses_forged(&self) -> bool {
        self.at_host_ends != AtHostEnds::Nothing || self.has(PREROUTING)
    }

    /// Whether its nodes give pods' packets to the outside their own address, and so track connections.
    pub fn masquerades(&self) -> bool {
        self.base == Base::OneRule || self.has(POSTROUTING)
    }

    /// Whether the rules of one of Twill's chains are there.
    fn has(&self, chain: &str) -> bool {
        match self.base {
            Base::Nothing | Base::OneRule => false,
            Base::Plain(less) | Base::Tunnel(less) => less.iter().all(|less| less.chain() != chain),
        }
    }
}

/// Whether Twill's table, as nft lists it, is that of a node with a tunnel.
pub fn has_a_tunnel(table: &str) -> bool {
    table.lines().any(|line| line.trim() == begin(FORWARD))
}

/// The line by which a chain begins.
fn begin(chain: &str) -> String {
    format!("chain {chain} {{")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> Tables {
        let table = |chain: &str| format!("table inet twill {{\n\tchain {chain} {{\n\t}}\n}}");
        Tables { plain: Some(table("prerouting")), tunnel: table("forward"), range: "10.42.0.0/16".into() }
    }

    #[test]
    fn the_tables_are_told_apart_by_a_chain() {
        let Tables { plain, tunnel, .. } = tables();
        let plain = plain.unwrap();
        assert!(has_a_tunnel(&tunnel) && !has_a_tunnel(&plain));
        assert!(!has_a_tunnel(""));
    }

    #[test]
    fn whatever_was_there_goes_first() {
        for variant in VARIANTS {
            assert!(variant.script(&tables()).unwrap().starts_with("flush ruleset\n"), "{}", variant.name);
        }
        assert_eq!(VARIANTS[0].script(&tables()).unwrap().trim(), "flush ruleset");
    }

    #[test]
    fn a_variant_has_the_rules_of_its_base_less_some_chains() {
        let Tables { plain, tunnel, .. } = tables();
        let plain = plain.unwrap();
        assert_eq!(rules("", Base::Plain(&[])).script(&tables()).unwrap(), format!("flush ruleset\n{plain}\n"));
        let script = rules("", Base::Tunnel(&[Less::Chain(POSTROUTING)])).script(&tables()).unwrap();
        let less = "flush chain inet twill postrouting\ndelete chain inet twill postrouting\n";
        assert_eq!(script, format!("flush ruleset\n{tunnel}\n{less}"));
        let script = rules("", Base::Plain(&[Less::Rules(PREROUTING)])).script(&tables()).unwrap();
        assert_eq!(script, format!("flush ruleset\n{plain}\nflush chain inet twill prerouting\n"));
        assert!(rules("", Base::OneRule).script(&tables()).unwrap().contains("ip saddr 10.42.0.0/16"));
    }

    #[test]
    fn of_one_chain_the_rules_for_pods_can_be_left_out() {
        let chain = |name: &str, rules: &str| format!("\tchain {name} {{\n{rules}\t}}\n");
        let (guard, pods) = ("\t\tudp dport 4789 jump vxlan-in\n", "\t\tiifname \"tw*\" drop\n");
        let table = |prerouting: &str| {
            format!("table inet twill {{\n{}{}}}\n", chain(PREROUTING, prerouting), chain(FORWARD, pods))
        };
        let tunnel = table(&format!("{guard}{pods}"));
        let script = rules("", Base::Tunnel(&[Less::RulesForPods(PREROUTING)])).script(&Tables { tunnel, ..tables() });
        assert_eq!(script.unwrap(), format!("flush ruleset\n{}\n", table(guard)));
    }

    #[test]
    fn what_a_variant_does_follows_from_its_chains() {
        let does = |variant: Variant| (variant.refuses_forged(), variant.masquerades());
        assert_eq!(does(rules("", Base::Nothing)), (false, false));
        assert_eq!(does(rules("", Base::OneRule)), (false, true));
        assert_eq!(does(rules("", Base::Tunnel(&[Less::Chain(POSTROUTING)]))), (true, false));
        assert_eq!(does(rules("", Base::Plain(&[Less::Chain(PREROUTING)]))), (false, true));
        assert_eq!(does(rules("", Base::Plain(&[Less::Rules(PREROUTING)]))), (false, true));
        for guard in [AtHostEnds::ReversePath, AtHostEnds::Filter] {
            assert_eq!(does(rules("", Base::Plain(&[Less::Chain(PREROUTING)])).with(guard)), (true, true));
        }
        assert_eq!(does(rules("", Base::Tunnel(&[Less::RulesForPods(PREROUTING)]))), (false, true));
    }

    #[test]
    fn through_a_tunnel_all_is_made_of_what_is_there() {
        let there = Tables { plain: None, ..tables() };
        let named = |way| variants(way).map(|variant| variant.name).collect::<Vec<_>>();
        assert!(variants(Way::Tunnel).all(|variant| variant.script(&there).is_ok()));
        assert_eq!(named(Way::Plain), VARIANTS.map(|variant| variant.name));
        // The references are, and of each way what is Twill's own and whole.
        assert_eq!(named(Way::Tunnel)[..3], named(Way::Plain)[..3]);
        assert_eq!(named(Way::Tunnel).last(), named(Way::Plain).last());
        let error = rules("all", Base::Plain(&[])).script(&there).unwrap_err();
        assert!(error.to_string().contains("no table without a tunnel"), "{error}");
    }

    #[test]
    fn no_two_variants_have_one_name() {
        let names: std::collections::BTreeSet<_> = VARIANTS.iter().map(|variant| variant.name).collect();
        assert_eq!(names.len(), VARIANTS.len());
    }
}
