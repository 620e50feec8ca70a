//! The one error of this crate: which key, what it held, what would be right.

use std::path::PathBuf;

/// A configuration that is refused. Its text is one sentence that an operator can act on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value that its key does not admit.
    #[error("{key}: {value:?} is not valid: {expected}")]
    Value {
        /// The path of the key as its writer sees it, for example `pool "b".cidr`.
        key: String,
        /// What was found, as it was written.
        value: String,
        /// What would be right, for example "an IPv4 or IPv6 prefix without host bits".
        expected: String,
    },
    /// A value of a kind that its key does not admit: a string for a number, say.
    #[error("{key}: {found} is not valid: {expected}")]
    Kind {
        /// The path of the key.
        key: String,
        /// What was found, in words, for example `the string "26"`.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// A key that no version of this program knows.
    #[error("{key}: unknown key; {}nown here are {known}", hint(meant.as_deref()))]
    UnknownKey {
        /// The path of the key.
        key: String,
        /// The keys that may stand in that place, comma-separated.
        known: String,
        /// The known key that looks most like it, if one does.
        meant: Option<String>,
    },
    /// A key that has no meaning beside another one's value.
    #[error("{key}: it has no meaning beside {beside}: take out {all}")]
    NotWith {
        /// The path of the key.
        key: String,
        /// The other key and its value, as they are written.
        beside: String,
        /// All such keys, comma-separated.
        all: String,
    },
    /// A key that must be there and is not.
    #[error("{key}: missing: {expected}")]
    Missing {
        /// The path of the key.
        key: String,
        /// What should stand there.
        expected: String,
    },
    /// A key that the CNI specification knows and this version does not serve, where to ignore it would change what the
    /// configuration means (CNI code 2).
    #[error("{key}: {value} is not supported: {expected}")]
    Unsupported {
        /// The path of the key.
        key: String,
        /// What was found, as JSON, shortened.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// Text that is not TOML or not JSON at all, or not one object.
    #[error("{what} cannot be read: {cause}")]
    Syntax {
        /// Which document.
        what: String,
        /// The parser's own words, with line and column.
        cause: String,
    },
    /// A file that cannot be opened.
    #[error("{}: {cause}", path.display())]
    File {
        /// The path as it was given.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// What is wrong inside a file.
    #[error("{}: {error}", path.display())]
    InFile {
        /// The path as it was given.
        path: PathBuf,
        /// The error.
        error: Box<Error>,
    },
}

impl Error {
    /// A refused value. `expected` completes "is not valid: …".
    pub fn value(key: impl Into<String>, value: impl ToString, expected: impl Into<String>) -> Self {
        Self::Value { key: key.into(), value: value.to_string(), expected: expected.into() }
    }

    /// A missing key. `expected` completes "missing: …".
    pub fn missing(key: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Missing { key: key.into(), expected: expected.into() }
    }
}

/// Up to the first letter of "known here are".
fn hint(meant: Option<&str>) -> String {
    meant.map_or_else(|| "k".into(), |meant| format!("did you mean {meant:?}? K"))
}
