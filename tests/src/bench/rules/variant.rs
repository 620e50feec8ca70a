//! Which rules packets meet: parts of Twill's own table, as its daemon made it, and what stands beside them for comparison.

use crate::bench::data::by_hand::masquerading;

/// Twill's table, of the family inet.
pub const TABLE: &str = "twill";

/// The chain by which pods' packets meet the rules about their addresses.
const PREROUTING: &str = "prerouting";
/// The chain that stands only where there is a tunnel, and whose rules are about what pods send.
const FORWARD: &str = "forward";
/// The chain that masquerades.
const POSTROUTING: &str = "postrouting";

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
    /// The rules of this chain; the chain itself stands at its hook.
    Rules(&'static str),
    /// This chain.
    Chain(&'static str),
}

impl Less {
    /// A chain's rules go first: nft deletes no chain that has any.
    fn script(self) -> String {
        match self {
            Self::Rules(chain) => format!("flush chain inet {TABLE} {chain}\n"),
            Self::Chain(chain) => Self::Rules(chain).script() + &format!("delete chain inet {TABLE} {chain}\n"),
        }
    }

    /// Either way the rules of the chain are gone.
    fn chain(self) -> &'static str {
        match self {
            Self::Rules(chain) | Self::Chain(chain) => chain,
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
    /// Whether the pods' host ends have `rp_filter` at 1.
    pub reverse_path: bool,
}

/// All that are measured, the references first, in the order of reports.
pub const VARIANTS: [Variant; 10] = [
    rules("none", Base::Nothing),
    rules("none, a second time", Base::Nothing),
    rules("one rule that masquerades, and so connection tracking", Base::OneRule),
    filtered("none; `rp_filter` at 1 on the host ends", Base::Nothing),
    rules("`prerouting` without a rule", Base::Plain(&[Less::Rules(PREROUTING), Less::Chain(POSTROUTING)])),
    rules("`prerouting`: by whose addresses pods send", Base::Plain(&[Less::Chain(POSTROUTING)])),
    rules("the same, with `forward` and the port of a tunnel", Base::Tunnel(&[Less::Chain(POSTROUTING)])),
    filtered(
        "Twill without a tunnel, masquerading, `rp_filter` at 1 in place of `prerouting`",
        Base::Plain(&[Less::Chain(PREROUTING)]),
    ),
    rules("Twill without a tunnel, masquerading", Base::Plain(&[])),
    rules("Twill with a tunnel's rules, masquerading", Base::Tunnel(&[])),
];

const fn rules(name: &'static str, base: Base) -> Variant {
    Variant { name, base, reverse_path: false }
}

const fn filtered(name: &'static str, base: Base) -> Variant {
    Variant { name, base, reverse_path: true }
}

/// What a node's variants are made of.
#[derive(Debug, Clone)]
pub struct Tables {
    /// Twill's table without a tunnel, as nft lists it.
    pub plain: String,
    /// The same with one.
    pub tunnel: String,
    /// The addresses of pods.
    pub range: String,
}

impl Variant {
    /// What nft is to do on a node, whatever is there.
    pub fn script(&self, tables: &Tables) -> String {
        let (table, less) = match self.base {
            Base::Nothing => (String::new(), [].as_slice()),
            Base::OneRule => (masquerading(&tables.range), [].as_slice()),
            Base::Plain(less) => (tables.plain.clone(), less),
            Base::Tunnel(less) => (tables.tunnel.clone(), less),
        };
        let mut script = format!("flush ruleset\n{table}\n");
        script.extend(less.iter().map(|less| less.script()));
        script
    }

    /// Whether a pod cannot send by the address of another.
    pub fn refuses_forged(&self) -> bool {
        self.reverse_path || self.has(PREROUTING)
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
    let begin = format!("chain {FORWARD} {{");
    table.lines().any(|line| line.trim() == begin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> Tables {
        let table = |chain: &str| format!("table inet twill {{\n\tchain {chain} {{\n\t}}\n}}");
        Tables { plain: table("prerouting"), tunnel: table("forward"), range: "10.42.0.0/16".into() }
    }

    #[test]
    fn the_tables_are_told_apart_by_a_chain() {
        let Tables { plain, tunnel, .. } = tables();
        assert!(has_a_tunnel(&tunnel) && !has_a_tunnel(&plain));
        assert!(!has_a_tunnel(""));
    }

    #[test]
    fn whatever_was_there_goes_first() {
        for variant in VARIANTS {
            assert!(variant.script(&tables()).starts_with("flush ruleset\n"), "{}", variant.name);
        }
        assert_eq!(VARIANTS[0].script(&tables()).trim(), "flush ruleset");
    }

    #[test]
    fn a_variant_has_the_rules_of_its_base_less_some_chains() {
        let Tables { plain, tunnel, .. } = tables();
        assert_eq!(rules("", Base::Plain(&[])).script(&tables()), format!("flush ruleset\n{plain}\n"));
        let script = rules("", Base::Tunnel(&[Less::Chain(POSTROUTING)])).script(&tables());
        let less = "flush chain inet twill postrouting\ndelete chain inet twill postrouting\n";
        assert_eq!(script, format!("flush ruleset\n{tunnel}\n{less}"));
        let script = rules("", Base::Plain(&[Less::Rules(PREROUTING)])).script(&tables());
        assert_eq!(script, format!("flush ruleset\n{plain}\nflush chain inet twill prerouting\n"));
        assert!(rules("", Base::OneRule).script(&tables()).contains("ip saddr 10.42.0.0/16"));
    }

    #[test]
    fn what_a_variant_does_follows_from_its_chains() {
        let does = |variant: Variant| (variant.refuses_forged(), variant.masquerades());
        assert_eq!(does(rules("", Base::Nothing)), (false, false));
        assert_eq!(does(rules("", Base::OneRule)), (false, true));
        assert_eq!(does(rules("", Base::Tunnel(&[Less::Chain(POSTROUTING)]))), (true, false));
        assert_eq!(does(rules("", Base::Plain(&[Less::Chain(PREROUTING)]))), (false, true));
        assert_eq!(does(rules("", Base::Plain(&[Less::Rules(PREROUTING)]))), (false, true));
        assert_eq!(does(filtered("", Base::Plain(&[Less::Chain(PREROUTING)]))), (true, true));
    }

    #[test]
    fn no_two_variants_have_one_name() {
        let names: std::collections::BTreeSet<_> = VARIANTS.iter().map(|variant| variant.name).collect();
        assert_eq!(names.len(), VARIANTS.len());
    }
}
