//! What the labels of nodes may look like: the rule for who sets them ([`crate::node`]) and for who selects by them
//! ([`crate::cluster::Selector`]).

/// The rule for a label's name, in words.
pub(crate) const NAME: &str =
    "letters, digits, '-', '_', '.' and '/', beginning and ending with a letter or digit, at most 128 characters";
/// The rule for a label's value, in words.
pub(crate) const VALUE: &str = "at most 256 printable ASCII characters";

/// Whether a byte may stand in a label's name.
pub(crate) fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/')
}

/// Whether this may be a label's name.
pub(crate) fn is_name(name: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    name.len() <= 128 && name.bytes().all(is_of_name) && ends(name.bytes().next()) && ends(name.bytes().last())
}

/// Whether this may be a label's value.
pub(crate) fn is_value(value: &str) -> bool {
    value.len() <= 256 && value.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}
