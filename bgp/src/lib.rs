//! A BGP speaker without I/O: the wire, the session, the RIB and the policy.
//!
//! What it promises:
//!
//! - [`path`] has the words that all others share: what is said of a route;
//! - [`prefix`] has maps of prefixes;
//! - [`wire`] decodes and encodes messages (RFC 4271, 4760, 6793) and turns each malformed attribute into what RFC 7606 asks;
//! - [`session`] is the finite state machine of RFC 4271, section 8, as a pure function from inputs, time among them, to outputs,
//!   so that every transition, timer and collision can be tested by a table;
//! - [`bfd`] tells within a second that a peer is no longer reached (RFC 5880 and 5881);
//! - [`rib`] holds what was learned and what is announced, and decides (RFC 4271, section 9); every decision can be asked for its
//!   reason;
//! - [`speaker`] holds the sessions, the RIB and the policy of a node together, and is all that a transport needs;
//! - [`policy`] filters by prefix and length, sets communities, and keeps what no peer may announce;
//! - `simulation` is a network of speakers in memory, for tests and benchmarks;
//! - `fuzzing` is what the fuzz targets in `fuzz` do with their bytes, and the tests with those of the committed corpora.
//!
//! The transport, TCP with MD5 and GTSM, lives in `node-daemon`; learned routes become kernel state in `fabric`. This crate
//! depends on nothing of Twill's own.

pub mod bfd;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod path;
pub mod policy;
pub mod prefix;
mod random;
pub mod rib;
pub mod session;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
pub mod speaker;
pub mod wire;
