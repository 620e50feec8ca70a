//! What daemons can do that those of older versions cannot, and what a configuration asks of them.
//!
//! A node says in its record what it can. `twillctl config apply` refuses a configuration that asks for more than some node can
//! ([`crate::reconfigure`]), and a daemon takes a configuration that it could not act by for one that it cannot read
//! ([`crate::View`]): then everything stays as it is.
//!
//! What is not named here every version can, from 0.1.0 on. A new key of the configuration that an older daemon would leave out needs an
//! ability, unless to leave it out harms nobody: a test has the list of keys, and fails for whoever adds one.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use twill_conf::cluster::{ClusterConf, Kind};

/// Something that not every version can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ability {
    /// To speak BGP.
    Bgp,
}

impl Ability {
    /// All that `twilld` of this version can of it. Where this says nothing, no version up to this one can.
    pub const OF_THIS_VERSION: &[Self] = &[Self::Bgp];

    /// Its word in records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bgp => "bgp",
        }
    }

    /// What `new` asks of all nodes that `old` has not asked of them.
    pub fn newly_asked(old: Option<&ClusterConf>, new: &ClusterConf) -> Option<Self> {
        let routes = |conf: &ClusterConf| conf.backend.kind == Kind::Bgp;
        let speaks = |conf: &ClusterConf| conf.bgp.is_some();
        let newly = |has: &dyn Fn(&ClusterConf) -> bool| has(new) && !old.is_some_and(has);
        (newly(&routes) || newly(&speaks)).then_some(Self::Bgp)
    }

    /// What a node must be able to so that its pods are reached under `conf`. (A speaker beside another back end that does not speak
    /// harms nobody.)
    pub fn relied_on(conf: &ClusterConf) -> Option<Self> {
        (conf.backend.kind == Kind::Bgp).then_some(Self::Bgp)
    }
}

/// What a daemon said that it can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Can {
    /// The version that said so. An older one leaves what it does not know as it found it: where another version has written the record
    /// since, this says nothing of that one.
    pub version: String,
    /// Words of [`Ability`], and those of later versions.
    pub what: BTreeSet<String>,
}

impl Can {
    /// What a daemon of this version says, where it has something to say.
    pub fn of(version: &str, abilities: &[Ability]) -> Option<Self> {
        let what: BTreeSet<_> = abilities.iter().map(|ability| ability.word().to_owned()).collect();
        (!what.is_empty()).then(|| Self { version: version.to_owned(), what })
    }

    /// Whether it holds of a record that was written by `version`.
    pub fn holds(&self, version: &str, ability: Ability) -> bool {
        self.version == version && self.what.contains(ability.word())
    }
}

impl fmt::Display for Ability {
    /// Completes "to …".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bgp => f.write_str("speak BGP"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(rest: &str) -> ClusterConf {
        ClusterConf::from_toml(&format!("[[pool]]\nname='a'\ncidr='10.42.0.0/16'\n{rest}")).unwrap()
    }

    /// The keys that a table may have, by what is said to one that it may not.
    fn keys(table: &str) -> Vec<String> {
        let error = ClusterConf::from_toml(&format!("{table}\nno_such_key=1")).unwrap_err().to_string();
        let known = error.split("nown here are ").nth(1).unwrap_or_else(|| panic!("{error}"));
        known.split(", ").map(str::to_owned).collect()
    }

    /// Who adds a key says here that daemons of 0.1.0 can it, or gives it an ability above. All below `[bgp]` is [`Ability::Bgp`]'s.
    #[test]
    fn each_key_is_of_the_first_version_or_has_an_ability() {
        let pool = "[[pool]]\nname='a'\ncidr='10.42.0.0/16'\n";
        assert_eq!(keys(""), ["pool", "backend", "firewall", "bgp"]);
        assert_eq!(
            keys("[[pool]]\nname='a'\ncidr='10.42.0.0/16'"),
            ["name", "cidr", "block", "masquerade", "nodes", "disabled", "announce", "reserved"]
        );
        let backends = ClusterConf::from_toml(&format!("{pool}[backend]\ntype='?'")).unwrap_err().to_string();
        assert!(backends.ends_with("this version knows \"vxlan\" or \"host-gw\" or \"bgp\""), "{backends}");
        let of = |table: &str| keys(&format!("{pool}{table}"));
        assert_eq!(of("[backend]"), ["type", "mtu", "vni", "port", "direct", "checksum_offload"]);
        assert_eq!(of("[firewall]"), ["no_masquerade", "clamp_mss", "open_forward"]);
        assert_eq!(
            of("[bgp]")[..8],
            ["as", "mesh", "port", "graceful_restart", "reflectors", "node", "peer", "announce"]
        );
    }

    #[test]
    fn what_an_older_version_left_standing_says_nothing_of_it() {
        let can = Can::of("0.2.0", &[Ability::Bgp]).unwrap();
        assert!(can.holds("0.2.0", Ability::Bgp));
        assert!(!can.holds("0.1.0", Ability::Bgp));
        assert!(!Can { what: ["later".to_owned()].into(), ..can }.holds("0.2.0", Ability::Bgp));
        assert_eq!(Can::of("0.1.0", &[]), None);
    }

    #[test]
    fn only_what_was_not_asked_before_is_asked() {
        let (none, beside, only) = (conf(""), conf("[bgp]"), conf("[backend]\ntype='bgp'"));
        let newly = |old, new| Ability::newly_asked(old, new).is_some();
        assert!(!newly(None, &none) && newly(None, &beside) && newly(None, &only));
        assert!(newly(Some(&none), &beside) && newly(Some(&none), &only) && newly(Some(&beside), &only));
        assert!(!newly(Some(&beside), &beside) && !newly(Some(&only), &beside) && !newly(Some(&only), &none));
        assert_eq!([&none, &beside, &only].map(Ability::relied_on), [None, None, Some(Ability::Bgp)]);
    }
}
