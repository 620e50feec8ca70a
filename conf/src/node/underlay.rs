//! What an operator says of the underlay: by which interface this node sends to others, in both families or in each.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::IfName;

/// What begins an address that is to be reached; no interface can be called so, since a name has no ':'.
const TO: &str = "to:";

/// Which interface it is, for both families and for each. What is said for one wins there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnderlayConf {
    /// For both families; the interface of the default route where it is absent.
    pub both: Option<UnderlayChoice>,
    /// For IPv4 alone.
    pub ipv4: Option<UnderlayChoice>,
    /// For IPv6 alone.
    pub ipv6: Option<UnderlayChoice>,
}

/// One way to say which interface it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnderlayChoice {
    /// The interface of that name.
    Name(IfName),
    /// The first interface whose name fits, and that has an address.
    Pattern(Pattern),
    /// The interface by which the kernel sends to this address.
    To(IpAddr),
}

/// A pattern of names: `*` stands for any characters, `?` for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

/// A text that is no [`UnderlayChoice`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{expected}")]
pub struct NoChoice {
    /// What would be right.
    pub expected: String,
}

impl Pattern {
    /// A pattern of this text.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether a name fits.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name): (Vec<char>, Vec<char>) = (self.0.chars().collect(), name.chars().collect());
        fits(&pattern, &name)
    }
}

fn fits(pattern: &[char], name: &[char]) -> bool {
    let (mut place, mut next) = (0, 0);
    // The last star, and how much of the name was read before what it stands for ends.
    let mut star = None;
    while next < name.len() {
        match pattern.get(place) {
            Some('*') => {
                star = Some((place, next));
                place += 1;
            }
            Some(wanted) if *wanted == '?' || *wanted == name[next] => {
                place += 1;
                next += 1;
            }
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (place, next) = (at + 1, taken + 1);
            }
        }
    }
    pattern[place..].iter().all(|rest| *rest == '*')
}

impl FromStr for UnderlayChoice {
    type Err = NoChoice;

    fn from_str(text: &str) -> Result<Self, NoChoice> {
        if let Some(address) = text.strip_prefix(TO) {
            let address = address.parse().ok().filter(is_reachable).map(Self::To);
            return address.ok_or_else(|| NoChoice {
                expected: format!("after \"{TO}\" the address of another machine, as in \"{TO}10.0.0.1\""),
            });
        }
        // A pattern is written like a name: the kernel would take its wildcards for letters.
        match text.parse::<IfName>() {
            Ok(_) if text.contains(['*', '?']) => Ok(Self::Pattern(Pattern(text.to_owned()))),
            Ok(name) => Ok(Self::Name(name)),
            Err(cause) => Err(NoChoice {
                expected: format!(
                    "the name of an interface, {}; a pattern of names, as in \"en*\"; or \"{TO}\" and an address that is \
                     reached by it, as in \"{TO}10.0.0.1\"",
                    cause.rule
                ),
            }),
        }
    }
}

/// Whether the kernel's answer about this address says anything of the way to others. What is link-local is behind every
/// interface.
fn is_reachable(address: &IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    !(link_local || address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

impl fmt::Display for UnderlayChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name}"),
            Self::Pattern(Pattern(text)) => write!(f, "{text}"),
            Self::To(address) => write!(f, "{TO}{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_the_whole_name() {
        let fits = |pattern: &str, name: &str| Pattern::new(pattern).matches(name);
        for (pattern, name) in [("en*", "eno1"), ("en*", "en"), ("*", "eth0"), ("e*0", "eth10"), ("eth?", "eth7")] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("en*", "wlen0"), ("eth?", "eth"), ("eth?", "eth10"), ("e*0", "eth01"), ("eth", "eth0")]
        {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_choice_is_written_as_it_was_read() {
        for text in ["eth0", "bond0.100", "en*", "*", "eth?", "to:10.0.0.1", "to:fd00::1"] {
            assert_eq!(text.parse::<UnderlayChoice>().unwrap().to_string(), text);
        }
    }
}
