//! What stands in a node's and a pod's namespace, and in the plugin's store, as lines that can be compared.
//!
//! What the kernel does by itself and in its own time is left out: link-local and multicast addresses and routes, and
//! neighbours that are not permanent.

use std::collections::{BTreeMap, BTreeSet};

use crate::Result;
use crate::namespace::Namespace;

/// The kinds of things that are compared, as tables name them.
const KINDS: [&str; 7] = ["link", "address", "neighbour", "route", "policy rule", "nftables line", "row"];

/// All that stands at a moment: lines, each with its place (`node`, `pod`, `store`) and kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot(BTreeSet<(&'static str, &'static str, String)>);

impl Snapshot {
    /// Takes down what stands in a namespace; nothing where it is gone.
    pub fn add_namespace(&mut self, place: &'static str, namespace: &Namespace) -> Result<()> {
        if !namespace.exists() {
            return Ok(());
        }
        let text = namespace.run(&["sh", "-c", SCRIPT])?;
        let mut kind = "";
        for line in text.lines() {
            if let Some(named) = line.strip_prefix("== ") {
                kind = KINDS.into_iter().find(|known| *known == named).expect("the script names known kinds");
            } else if let Some(line) = normal(kind, line) {
                self.0.insert((place, kind, line));
            }
        }
        Ok(())
    }

    /// Takes down the rows of a store.
    pub fn add_rows(&mut self, rows: &str) {
        self.0.extend(rows.lines().filter(|line| !line.is_empty()).map(|line| ("store", "row", line.to_owned())));
    }

    /// How many lines of a kind there are in a place.
    pub fn count(&self, place: &str, kind: &str, is_meant: impl Fn(&str) -> bool) -> usize {
        self.0.iter().filter(|(p, k, line)| *p == place && *k == kind && is_meant(line)).count()
    }

    /// What is here and not in `other`, summed up without names that change from run to run: "1 link and 2 routes in the
    /// pod". `None` where there is nothing.
    pub fn beyond(&self, other: &Self) -> Option<String> {
        let mut counts: BTreeMap<(&str, usize), usize> = BTreeMap::new();
        for (place, kind, _) in self.0.difference(&other.0) {
            let kind = KINDS.iter().position(|known| known == kind).expect("it is of a known kind");
            *counts.entry((*place, kind)).or_default() += 1;
        }
        let parts = counts.into_iter().map(|((place, kind), count)| {
            let plural = if count == 1 {
                ""
            } else if KINDS[kind] == "address" {
                "es"
            } else {
                "s"
            };
            format!("{count} {}{plural} in the {place}", KINDS[kind])
        });
        let parts: Vec<_> = parts.collect();
        if parts.is_empty() { None } else { Some(parts.join(", ")) }
    }

    /// All that differs, for someone who looks for the reason.
    pub fn difference(&self, other: &Self) -> String {
        let sides = [("-", self.0.difference(&other.0)), ("+", other.0.difference(&self.0))];
        let lines = sides.into_iter().flat_map(|(sign, lines)| {
            lines.map(move |(place, kind, line)| format!("{sign} {place} {kind}: {line}")).collect::<Vec<_>>()
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// One process for the shell and a few of `ip`, since every case looks several times.
const SCRIPT: &str = "
echo '== link'; ip -o link show
echo '== address'; ip -o addr show
echo '== neighbour'; ip neigh show nud permanent
echo '== route'; ip -4 route show table all; ip -6 route show table all
echo '== policy rule'; ip -4 rule show; ip -6 rule show
echo '== nftables line'; nft --stateless list ruleset";

/// A line without what the kernel changes by itself; `None` where it is all of that kind.
fn normal(kind: &str, line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match kind {
        "link" => {
            let name = words.get(1)?.trim_end_matches(':').split('@').next()?;
            let after = |key: &str| words.iter().position(|w| *w == key).and_then(|at| words.get(at + 1)).copied();
            let flags = words.get(2)?.trim_matches(['<', '>']);
            let up = if flags.split(',').any(|flag| flag == "UP") { "up" } else { "down" };
            Some(format!("{name} {up} mtu {} {}", after("mtu")?, after("link/ether").unwrap_or("-")))
        }
        "address" => {
            let (name, address) = (words.get(1)?, words.get(3)?);
            (!is_automatic(address)).then(|| format!("{name} {address}"))
        }
        "route" => {
            let destination = words.iter().find(|word| !ROUTE_TYPES.contains(word))?;
            // The route to a gateway is ours, whatever its scope; those that come with a link are not.
            let is_kernels = is_automatic(destination) && words.contains(&"kernel");
            let kept = words.iter().filter(|word| !["linkdown", "dead"].contains(word));
            (!is_kernels).then(|| kept.copied().collect::<Vec<_>>().join(" "))
        }
        "" => None,
        _ => (!words.is_empty()).then(|| words.join(" ")),
    }
}

const ROUTE_TYPES: [&str; 6] = ["local", "anycast", "multicast", "broadcast", "unreachable", "unicast"];

fn is_automatic(address: &str) -> bool {
    ["fe80:", "ff00:", "ff02:"].iter().any(|prefix| address.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_goes_by_itself_is_left_out() {
        let link = "7: eth0@if6: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP \\ link/ether 02:00:00:00:00:01 brd ff";
        assert_eq!(normal("link", link).as_deref(), Some("eth0 up mtu 1500 02:00:00:00:00:01"));
        assert_eq!(normal("address", "7: eth0    inet6 fe80::1/64 scope link"), None);
        assert!(normal("address", "7: eth0    inet 10.0.0.2/32 scope global eth0").is_some());
        for own in
            ["fe80::/64 dev eth0 proto kernel metric 256", "multicast ff00::/8 dev eth0 table local proto kernel"]
        {
            assert_eq!(normal("route", own), None, "{own}");
        }
        assert!(normal("route", "default via fe80::1 dev eth0 metric 1024").is_some());
        assert!(normal("route", "fe80::1 dev eth0 metric 1024").is_some());
    }

    #[test]
    fn what_is_more_is_summed_up_without_names() {
        let mut before = Snapshot::default();
        before.add_rows("a\n");
        let mut after = before.clone();
        after.add_rows("b\nc\n");
        after.0.insert(("node", "link", "veth1234 up".into()));
        assert_eq!(after.beyond(&before).as_deref(), Some("1 link in the node, 2 rows in the store"));
        assert_eq!(before.beyond(&after), None);
    }
}
