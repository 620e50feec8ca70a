//! Which version of nft there is.

use std::fmt;
use std::io::ErrorKind;

use super::run;
use crate::Error;

/// A release, as in 1.0.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Asks nft itself. It asks the kernel nothing for that.
pub fn version() -> Result<Version, Error> {
    const WHAT: &str = "tell its version";
    let output = run(WHAT, &["--version"], "")?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text).ok_or_else(|| {
        let detail = format!("it says {:?}", text.trim());
        Error::Nft { what: WHAT, detail, kind: ErrorKind::InvalidData }
    })
}

/// As in "nftables v1.0.6 (Lester Gooch #5)".
fn parse(text: &str) -> Option<Version> {
    let release = text.split_whitespace().find_map(|word| word.strip_prefix('v'))?;
    let mut numbers = release.split('.').map(|part| part.parse().ok());
    let first = numbers.next()??;
    let mut further = || numbers.next().map_or(Some(0), |number| number);
    Some(Version(first, further()?, further()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_has_two_numbers_or_three() {
        assert_eq!(parse("nftables v1.0.6 (Lester Gooch #5)\n"), Some(Version(1, 0, 6)));
        assert_eq!(parse("nftables v1.1 (x)"), Some(Version(1, 1, 0)));
        for wrong in ["", "nftables", "nftables vx.y", "nftables v1.0.x"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert!(Version(1, 0, 6) > Version(1, 0, 5) && Version(1, 0, 6) < Version(1, 1, 0));
    }
}
