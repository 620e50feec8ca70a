//! Names, parsed at the edge. A value of one of these types is known to follow its rule.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A name that breaks its rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a valid {what}: {rule}")]
pub struct InvalidName {
    /// What kind of name was wanted.
    pub what: &'static str,
    /// What was found.
    pub value: String,
    /// The rule, in words.
    pub rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        ///
        /// A copy costs no memory.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;
            fn from_str(value: &str) -> Result<Self, InvalidName> {
                let check: fn(&str) -> bool = $check;
                if check(value) {
                    Ok(Self(value.into()))
                } else {
                    Err(InvalidName { what: $what, value: value.to_owned(), rule: $rule })
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(value: String) -> Result<Self, InvalidName> {
                value.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of a node, unique in its cluster: a DNS subdomain name (RFC 1123), as Kubernetes has them.
    NodeName, "node name",
    "lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit, at most 253 characters",
    |s| s.len() <= 253 && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
        && s.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && s.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric())
);
name!(
    /// The name of a pool of addresses.
    PoolName, "pool name", "lower-case letters, digits and '-', beginning with a letter or digit, at most 63 characters",
    is_short_word
);
name!(
    /// The name of a BGP peer.
    PeerName, "peer name", "lower-case letters, digits and '-', beginning with a letter or digit, at most 63 characters",
    is_short_word
);
name!(
    /// CNI_CONTAINERID (CNI specification 1.1.0, "Parameters").
    ContainerId, "container ID", "it must match ^[A-Za-z0-9][A-Za-z0-9_.-]*$", is_cni_word
);
name!(
    /// The name of a CNI network, under the same rule as a container ID.
    NetworkName, "network name", "it must match ^[A-Za-z0-9][A-Za-z0-9_.-]*$", is_cni_word
);
name!(
    /// The name of an interface as a runtime may ask for it (CNI_IFNAME; `dev_valid_name` in net/core/dev.c, and no
    /// '%', since the kernel expands it).
    IfName, "interface name", "1 to 15 bytes, not '.' or '..', without '/', ':', '%' and white space",
    |s| !s.is_empty() && s.len() <= 15 && s != "." && s != ".."
        && !s.chars().any(|c| matches!(c, '/' | ':' | '%') || c.is_whitespace())
);

fn is_short_word(s: &str) -> bool {
    s.len() <= 63
        && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && s.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}

fn is_cni_word(s: &str) -> bool {
    s.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}
