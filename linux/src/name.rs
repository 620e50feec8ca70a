//! Names of interfaces and MAC addresses, as the kernel holds them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of an interface: at most 15 bytes (IFNAMSIZ less its zero, include/uapi/linux/if.h), held inline so that
/// tables of ten thousand routes need no allocations for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfName {
    bytes: [u8; 15],
    len: u8,
}

impl IfName {
    /// `None` where `name` is empty, too long, or has a slash, a colon or white space (`dev_valid_name` in
    /// net/core/dev.c), or a percent sign, which the kernel would expand (`dev_alloc_name`).
    pub fn new(name: &str) -> Option<Self> {
        let valid = (1..=15).contains(&name.len()) && name != "." && name != ".." && !name.bytes().any(is_refused);
        valid.then(|| {
            let mut bytes = [0; 15];
            bytes[..name.len()].copy_from_slice(name.as_bytes());
            Self { bytes, len: name.len() as u8 }
        })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("made from a &str")
    }

    /// As `struct ifreq` has it (netdevice(7)): filled up with zeroes.
    pub(crate) fn to_ifr_name(self) -> [libc::c_char; libc::IFNAMSIZ] {
        let mut name = [0; libc::IFNAMSIZ];
        for (to, from) in name.iter_mut().zip(self.as_str().bytes()) {
            // Signed on x86-64, and not on 64-bit ARM.
            *to = libc::c_char::from_ne_bytes([from]);
        }
        name
    }
}

/// The kernel's white space is that of Latin-1 (lib/ctype.c): it has the vertical tab, and 0xa0 even inside of UTF-8.
fn is_refused(byte: u8) -> bool {
    byte.is_ascii_whitespace() || matches!(byte, 0 | 0x0b | 0xa0 | b'/' | b':' | b'%')
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// A 48-bit MAC address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// A locally administered unicast address (IEEE 802, bit 1 set and bit 0 clear of the first byte) from a digest.
    pub fn local(digest: &[u8; 32]) -> Self {
        let mut mac = [0; 6];
        mac.copy_from_slice(&digest[..6]);
        mac[0] = (mac[0] & 0xfc) | 0x02;
        Self(mac)
    }

    /// The link-local address that this MAC makes (RFC 4291, appendix A: modified EUI-64).
    pub fn link_local(self) -> std::net::Ipv6Addr {
        let [a, b, c, d, e, f] = self.0;
        std::net::Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 0x02, b, c, 0xff, 0xfe, d, e, f])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not a MAC address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address: six hexadecimal bytes, as in 02:00:5e:10:00:01")]
pub struct InvalidMac(pub String);

impl FromStr for MacAddr {
    type Err = InvalidMac;
    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let invalid = || InvalidMac(text.to_owned());
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut mac {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(invalid)?;
            // `from_str_radix` would take "+2".
            if !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(invalid());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        if parts.next().is_some() { Err(invalid()) } else { Ok(Self(mac)) }
    }
}

impl TryFrom<String> for MacAddr {
    type Error = InvalidMac;
    fn try_from(text: String) -> Result<Self, InvalidMac> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> String {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_that_the_kernel_would_refuse_or_expand_is_none() {
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "a:b",
            "a b",
            "a\tb",
            "a\nb",
            "a\u{b}b",
            "\u{e0}",
            "a\0b",
            "sixteen-letters-",
            "tw%d",
        ] {
            assert_eq!(IfName::new(name), None, "{name:?}");
        }
        for name in ["a", "fifteen-letters", "vxlan.twill", "eth0", "...", "ünïc"] {
            assert_eq!(IfName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn the_link_local_address_of_a_mac_is_the_modified_eui64_of_rfc_4291() {
        let mac: MacAddr = "34:56:78:9a:bc:de".parse().unwrap();
        assert_eq!(mac.link_local().to_string(), "fe80::3656:78ff:fe9a:bcde");
    }

    #[test]
    fn text_of_another_shape_is_no_mac() {
        for text in [
            "",
            "02",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "2:0:0:0:0:1",
            "02-00-00-00-00-01",
            "+2:00:00:00:00:01",
        ] {
            assert_eq!(text.parse::<MacAddr>(), Err(InvalidMac(text.to_owned())), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_mac_survives_text_and_json(bytes: [u8; 6]) {
            let mac = MacAddr(bytes);
            prop_assert_eq!(mac.to_string().parse(), Ok(mac));
            prop_assert_eq!(mac.to_string().to_uppercase().parse(), Ok(mac));
            let json = serde_json::to_string(&mac).unwrap();
            prop_assert_eq!(serde_json::from_str::<MacAddr>(&json).unwrap(), mac);
        }

        #[test]
        fn parsing_any_text_never_panics(text: String) {
            if let Ok(mac) = text.parse::<MacAddr>() {
                prop_assert_eq!(mac.to_string(), text.to_lowercase());
            }
            if let Some(name) = IfName::new(&text) {
                prop_assert_eq!(name.as_str(), text.as_str());
                prop_assert!((1..=15).contains(&text.len()));
            }
        }

        #[test]
        fn a_derived_mac_is_local_and_unicast(digest: [u8; 32]) {
            prop_assert_eq!(MacAddr::local(&digest).0[0] & 0x03, 0x02);
        }

        #[test]
        fn names_sort_as_their_text(a in "[a-z0-9.]{3,15}", b in "[a-z0-9.]{3,15}") {
            let (Some(one), Some(two)) = (IfName::new(&a), IfName::new(&b)) else { return Ok(()) };
            prop_assert_eq!(one.cmp(&two), a.cmp(&b));
        }
    }
}
