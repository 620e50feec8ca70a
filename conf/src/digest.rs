//! One stable digest for all names that Twill derives: host interfaces, MAC addresses, lock bytes.
//!
//! The plugin, the daemon and their other versions must derive the same names, so neither the function nor the framing
//! may ever change.

use sha2::{Digest as _, Sha256};

/// SHA-256 over `words`, each preceded by its length in bytes (64 bits, big endian), so that no two different lists of
/// words have the same text.
pub fn digest(words: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for word in words {
        hash.update((word.len() as u64).to_be_bytes());
        hash.update(word.as_bytes());
    }
    hash.finalize().into()
}
