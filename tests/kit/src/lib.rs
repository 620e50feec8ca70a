//! What the tests of several crates share: saying that a test is skipped, network namespaces that do not stay, certificates,
//! the commands of our documents, programs that a test runs, and the playing of histories.
//!
//! It uses none of our crates, so that each of them may use it in its tests. A test is skipped only where something is
//! missing that is named; whatever fails beyond that fails the test.

pub mod certificates;
mod document;
pub mod histories;
mod namespaces;
mod program;
mod skip;

pub use document::{commands_of, file_of};
pub use namespaces::{Namespaces, exclusively};
pub use program::write_program;
pub use skip::{finds, has_program, is_root, say_skipped};
