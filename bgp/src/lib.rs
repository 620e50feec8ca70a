//! A BGP speaker without I/O: the wire, the session, the RIB and the policy.
//!
//! The speaker itself comes with the BGP back end. What it will promise:
//!
//! - `path` has the words that all others share: what is said of a route;
//! - `wire` decodes and encodes messages (RFC 4271, 4760, 6793) and turns each malformed attribute into what RFC 7606 asks;
//! - `session` is the finite state machine of RFC 4271, section 8, as a pure function from inputs, time among them, to
//!   outputs, so that every transition, timer and collision can be tested by a table;
//! - `rib` holds what was learned and what is announced, and decides (RFC 4271, section 9);
//! - `policy` filters by prefix and length, and sets communities.
//!
//! The transport, TCP with MD5 and GTSM, lives in `node-daemon`; learned routes become kernel state in `fabric`. This crate
//! depends on nothing of Twill's own.

pub mod path;
pub mod wire;
