//! The kinds of text that documents hold, as JSON Schema tells them: what looks like what, where a value of its own type says
//! more than a pattern can.
//!
//! A pattern here lets through whatever the parser takes, and not all of what it refuses: an editor is to mark what is surely
//! wrong, `twillctl config validate` says the rest.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::{cluster, node, prefix};

macro_rules! kind {
    ($(#[doc = $doc:literal])+ $type:ident, $title:literal, { $($schema:tt)* }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy)]
        pub struct $type;

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $title.into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "title": $title, "description": concat!($($doc),+).trim(), $($schema)* })
            }
        }
    };
}

kind!(
    /// Lower-case letters, digits and `-`, beginning with a letter or digit, at most 63 characters.
    Name, "name", { "type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,62}$" }
);
kind!(
    /// The name of a node: lower-case letters, digits, `-` and `.`, beginning and ending with a letter or digit, at most 253
    /// characters (a DNS subdomain name, RFC 1123).
    NodeName, "node name", { "type": "string", "maxLength": 253, "pattern": "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$" }
);
kind!(
    /// The name of a network: letters, digits, `_`, `.` and `-`, beginning with a letter or digit.
    NetworkName, "network name", { "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]*$" }
);
kind!(
    /// An address with a prefix length and without host bits, as in `10.42.0.0/16` or `fd42::/48`.
    Prefix, "prefix", { "type": "string", "pattern": prefix::PATTERN }
);
kind!(
    /// An address of IPv4 or IPv6, as in `192.0.2.1` or `2001:db8::1`.
    Address, "address", { "type": "string", "pattern": "^[0-9A-Fa-f.:]+$" }
);
kind!(
    /// An address, with or without a prefix length, which says nothing here: as in `10.42.0.9` or `fd42::9/64`.
    PodAddress, "address or prefix", { "type": "string", "pattern": "^([0-9A-Fa-f.:]+(/[0-9]{1,3})?)?$" }
);
kind!(
    /// Addresses of one family: a prefix without host bits, the first and the last with a `-` between, or a single one, as in
    /// `10.42.0.0/28`, `10.42.9.1-10.42.9.20` or `10.42.0.77`.
    Range, "range of addresses", { "type": "string", "pattern": "^[0-9A-Fa-f.:]+(/[0-9]{1,3}| *- *[0-9A-Fa-f.:]+)?$" }
);
kind!(
    /// An expression over the labels of nodes, as in `zone == 'a' && disk != 'slow'`, at most 1024 bytes
    /// ([the language](../cluster-configuration.md#selectors)).
    Selector, "selector", { "type": "string", "minLength": 1, "maxLength": 1024 }
);
kind!(
    /// The number of an AS, as one number (4227858433, not 64512.1); neither 23456 (RFC 6793) nor 65535 (RFC 7300).
    AsNumber, "AS number", {
        "type": "integer", "minimum": 1, "maximum": 4_294_967_294_u32, "not": { "enum": [23_456, 65_535] }
    }
);
kind!(
    /// An AS number, or `"internal"` for the node's own, or `"external"` for any other.
    PeerAs, "AS of a peer", {
        "anyOf": [
            { "type": "integer", "minimum": 1, "maximum": 4_294_967_294_u32, "not": { "enum": [23_456, 65_535] } },
            { "enum": cluster::PeerAs::WORDS.map(|(word, _)| word) },
        ]
    }
);
kind!(
    /// An identifier that is written as an IPv4 address, and not 0.0.0.0.
    Identifier, "identifier", {
        "type": "string", "pattern": r"^[0-9]{1,3}(\.[0-9]{1,3}){3}$", "not": { "const": "0.0.0.0" }
    }
);
kind!(
    /// Two numbers up to 65535 as in `64512:100` (RFC 1997), three up to 4294967295 as in `64512:1:2` (RFC 8092), or a name that
    /// all know: `graceful-shutdown`, `blackhole`, `no-export`, `no-advertise`, `no-export-subconfed`.
    Community, "community", { "type": "string", "pattern": "^([0-9]+(:[0-9]+){1,2}|[a-z-]+)$" }
);
kind!(
    /// A prefix without host bits, alone or with the lengths of those inside of it: `10.0.0.0/8`, `10.0.0.0/8 le 24`,
    /// `fd00::/8 ge 48 le 64`.
    Prefixes, "prefixes", {
        "type": "string", "pattern": r"^\s*[0-9A-Fa-f.:]+/[0-9]{1,3}(\s+ge\s+[0-9]+)?(\s+le\s+[0-9]+)?\s*$"
    }
);
kind!(
    /// The absolute path of a file or directory.
    AbsolutePath, "absolute path", { "type": "string", "pattern": "^/" }
);
kind!(
    /// The run directory: an absolute path of at most 95 bytes, since the path of a socket in it may have 107.
    RunDir, "run directory", { "type": "string", "maxLength": node::LONGEST_RUN_DIR, "pattern": "^/" }
);
kind!(
    /// Scheme, host and port and nothing else, as in `http://10.0.0.1:2379`.
    Url, "URL", { "type": "string", "pattern": r"^\s*https?://[^/@\s]+:[0-9]+/*\s*$" }
);
kind!(
    /// What all keys in etcd begin with: it begins and ends with `/`.
    KeyPrefix, "prefix of keys", { "type": "string", "pattern": "^/([!-~]*/)?$" }
);
kind!(
    /// An interface: its name (`eth0`), a pattern of names (`en*`), or the address that is reached by it (`to:10.0.0.1`).
    Interface, "interface", { "type": "string", "minLength": 1 }
);
kind!(
    /// `error`, `warn`, `info`, `debug`, `trace`, `off`, or directives such as `info,twilld=debug`.
    LogFilter, "log filter", { "type": "string", "minLength": 1 }
);
kind!(
    /// An address of this machine and a port from 1, as in `127.0.0.1:9477` or `[::1]:9477`; `[::]:9477` for all addresses.
    Listening, "address and port", { "type": "string", "pattern": r"^\s*\[?[0-9A-Fa-f.:%]+\]?:[0-9]+\s*$" }
);
kind!(
    /// A user of etcd, without `:`.
    User, "user", { "type": "string", "pattern": "^[!-9;-~]+$" }
);
kind!(
    /// A MAC address that is neither multicast nor all zero, as in `02:00:5e:10:00:01`; also with `-`, or as `0200.5e10.0001`.
    Mac, "MAC address", { "type": "string", "pattern": "^([0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{4}(\\.[0-9A-Fa-f]{4}){2})?$" }
);
kind!(
    /// A version of CNI, as in `1.0.0`.
    Version, "version", { "type": "string", "pattern": r"^([0-9]+\.[0-9]+\.[0-9]+)?$" }
);
kind!(
    /// A word without white space.
    Word, "word", { "type": "string", "pattern": r"^\S+$" }
);

/// A kind: its title, and what it looks like.
pub(crate) type Kind = (&'static str, fn(&mut SchemaGenerator) -> Schema);

/// All of them, for whoever explains what a title stands for.
pub(crate) const ALL: [Kind; 24] = [
    ("name", Name::json_schema),
    ("node name", NodeName::json_schema),
    ("network name", NetworkName::json_schema),
    ("prefix", Prefix::json_schema),
    ("address", Address::json_schema),
    ("address or prefix", PodAddress::json_schema),
    ("range of addresses", Range::json_schema),
    ("selector", Selector::json_schema),
    ("AS number", AsNumber::json_schema),
    ("AS of a peer", PeerAs::json_schema),
    ("identifier", Identifier::json_schema),
    ("community", Community::json_schema),
    ("prefixes", Prefixes::json_schema),
    ("absolute path", AbsolutePath::json_schema),
    ("run directory", RunDir::json_schema),
    ("URL", Url::json_schema),
    ("prefix of keys", KeyPrefix::json_schema),
    ("interface", Interface::json_schema),
    ("log filter", LogFilter::json_schema),
    ("address and port", Listening::json_schema),
    ("user", User::json_schema),
    ("MAC address", Mac::json_schema),
    ("version", Version::json_schema),
    ("word", Word::json_schema),
];
