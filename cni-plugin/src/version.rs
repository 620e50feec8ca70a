//! The versions of the CNI specification that are spoken, and the answer to VERSION.
//!
//! VERSION opens no store and no socket, and succeeds whatever stands on standard input.

use std::fmt;
use std::io::Read;
use std::os::fd::AsFd;

use serde::Deserialize;

use crate::environment::Verb;
use crate::input::glance;

/// A version of the CNI specification, in the order of their publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    /// 0.1.0, which is also meant where a configuration names none.
    V0_1_0,
    /// 0.2.0.
    V0_2_0,
    /// 0.3.0: results list interfaces.
    V0_3_0,
    /// 0.3.1.
    V0_3_1,
    /// 0.4.0: CHECK.
    V0_4_0,
    /// 1.0.0: addresses carry no version any more.
    V1_0_0,
    /// 1.1.0: GC, STATUS; interfaces carry an MTU.
    V1_1_0,
}

impl Version {
    /// All of them, the oldest first.
    pub(crate) const ALL: [Self; 7] =
        [Self::V0_1_0, Self::V0_2_0, Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// The one in which an error is reported when the configuration could not be read.
    pub(crate) const NEWEST: Self = Self::V1_1_0;

    /// As a configuration spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The version of that name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }

    /// Since when a verb is specified.
    pub(crate) fn of_verb(verb: Verb) -> Self {
        match verb {
            Verb::Add | Verb::Del | Verb::Version => Self::V0_1_0,
            Verb::Check => Self::V0_4_0,
            Verb::Gc | Verb::Status => Self::V1_1_0,
        }
    }

    /// All names, for messages.
    pub(crate) fn list() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The answer to VERSION. `asked` is repeated; without it the newest version stands there.
pub(crate) fn answer(asked: Option<&str>) -> serde_json::Value {
    serde_json::json!({
        "cniVersion": asked.unwrap_or(Version::NEWEST.as_str()),
        "supportedVersions": Version::ALL.map(Version::as_str),
    })
}

/// The version that a VERSION request names on standard input, if it does. Never fails, and never waits long.
pub(crate) fn asked(input: impl Read + AsFd) -> Option<String> {
    let text = glance(input, |text| version_named_in(text).is_some());
    version_named_in(&text).flatten()
}

/// `None` while `text` is no complete document; `Some(None)` where it is one that names no version.
fn version_named_in(text: &[u8]) -> Option<Option<String>> {
    #[derive(Deserialize)]
    struct Asked {
        #[serde(rename = "cniVersion")]
        version: Option<String>,
    }
    let mut documents = serde_json::Deserializer::from_slice(text).into_iter::<serde_json::Value>();
    let document = documents.next()?.ok()?;
    Some(Asked::deserialize(document).ok().and_then(|asked| asked.version).filter(|version| !version.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn asked_through_a_pipe(text: &str) -> Option<String> {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        drop(writer);
        asked(reader)
    }

    #[test]
    fn what_other_programs_tell_of_the_plugin_is_so() {
        assert_eq!(Version::ALL.map(Version::as_str), twill_conf::network::CNI_VERSIONS);
    }

    #[test]
    fn every_version_has_its_name() {
        for version in Version::ALL {
            assert_eq!(Version::parse(version.as_str()), Some(version));
        }
        for unknown in ["", "1.0", "1.2.0", "v1.0.0", "1.1.0 "] {
            assert_eq!(Version::parse(unknown), None);
        }
        assert!(Version::ALL.is_sorted());
    }

    #[test]
    fn the_version_asked_for_is_repeated_even_if_it_is_unknown() {
        assert_eq!(asked_through_a_pipe(r#"{"cniVersion":"0.4.0"}"#).as_deref(), Some("0.4.0"));
        assert_eq!(answer(Some("7.0.0"))["cniVersion"], "7.0.0");
        assert_eq!(answer(None)["cniVersion"], "1.1.0");
        assert_eq!(answer(None)["supportedVersions"].as_array().unwrap().len(), 7);
    }

    #[test]
    fn the_answer_does_not_depend_on_standard_input() {
        for text in ["", "{", "[]", "7", "not JSON", r#"{"cniVersion":5}"#, "{}", "\0\u{1}"] {
            assert_eq!(asked_through_a_pipe(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_document_is_enough_where_standard_input_stays_open() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(br#"{"cniVersion":"1.0.0","name":"n"}"#).unwrap();
        assert_eq!(asked(reader).as_deref(), Some("1.0.0"));
        drop(writer);
    }

    #[test]
    fn a_silent_standard_input_is_not_waited_for_for_ever() {
        let (reader, writer) = std::io::pipe().unwrap();
        assert_eq!(asked(reader), None);
        drop(writer);
    }
}
