//! The list of plugins that a node's runtime reads from its directory of configurations (`05-twill.conflist`): written
//! by `twilld install`, and told from what others wrote.

use std::io;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::NetworkConf;
use crate::{Error, NetworkName};

/// A network as a runtime gets to see it, with Twill as its only plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkList {
    /// The network's name.
    pub name: NetworkName,
    /// The run directory.
    pub run_dir: PathBuf,
    /// The prefixes of a stand-alone node, as they were written; none where a daemon runs.
    pub subnets: Vec<String>,
}

/// What runtimes may ask of the plugin for a single pod, by the names that the CNI conventions give it. A runtime hands
/// over only what is declared here.
const CAPABILITIES: [&str; 5] = ["portMappings", "bandwidth", "ips", "mac", "dns"];
/// The version that all runtimes in use read: podman 4.3 and containerd 1.6 refuse a file of 1.1.0.
const VERSION: &str = "1.0.0";
/// The versions that newer runtimes choose from.
const VERSIONS: [&str; 3] = ["0.4.0", "1.0.0", "1.1.0"];

impl NetworkList {
    /// The file of a node whose daemon has all defaults: what is shipped as `05-twill.conflist`.
    pub const SAMPLE: &str = include_str!("../../samples/05-twill.conflist");

    /// The file's text. Refused where the plugin would refuse it.
    pub fn to_json(&self) -> Result<String, Error> {
        let word = |text: &str| Value::from(text).to_string();
        let words = |all: &[&str]| all.iter().map(|text| word(text)).collect::<Vec<_>>().join(", ");
        let capabilities = CAPABILITIES.map(|name| format!("{}: true", word(name))).join(", ");
        let run_dir = self.run_dir.to_str();
        let run_dir = run_dir.ok_or_else(|| Error::value("runDir", self.run_dir.display(), "a path in UTF-8"))?;
        let mut plugin = vec![format!("\"type\": {}", word(PLUGIN)), format!("\"runDir\": {}", word(run_dir))];
        if !self.subnets.is_empty() {
            let subnets: Vec<_> = self.subnets.iter().map(String::as_str).collect();
            plugin.push(format!("\"subnets\": [{}]", words(&subnets)));
        }
        plugin.push(format!("\"capabilities\": {{ {capabilities} }}"));
        let text = format!(
            "{{\n  \"cniVersion\": {},\n  \"cniVersions\": [{}],\n  \"name\": {},\n  \"plugins\": [\n    {{\n      {}\n    }}\n  ]\n}}\n",
            word(VERSION),
            words(&VERSIONS),
            word(self.name.as_str()),
            plugin.join(",\n      "),
        );
        NetworkConf::from_json(handed_over(&text).to_string().as_bytes())?;
        Ok(text)
    }
}

/// Twill's `type`, and the name of its file in a directory of plugins.
pub const PLUGIN: &str = "twill";
/// What the plugin says of itself when it is called by hand. It stands in the program's bytes, of all versions, and tells
/// it from anybody else's program of that name.
pub const INTRODUCTION: &str = "a CNI plugin; a container runtime calls it with CNI_COMMAND set. CNI versions: ";

/// So much of a program is looked at at once, in bytes.
const PIECE: usize = 64 << 10;

/// Whether these are the bytes of Twill's plugin.
pub fn is_plugin(program: &[u8]) -> bool {
    program.windows(INTRODUCTION.len()).any(|bytes| bytes == INTRODUCTION.as_bytes())
}

/// Whether what is read to its end is Twill's plugin. However long it is, it takes 64 KiB of memory.
pub fn is_plugin_in(mut program: impl io::Read) -> io::Result<bool> {
    let mut piece = vec![0; PIECE];
    let mut filled = 0;
    loop {
        match program.read(&mut piece[filled..]) {
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) => return Ok(false),
            read => filled += read?,
        }
        if is_plugin(&piece[..filled]) {
            return Ok(true);
        }
        // The words may begin in one piece and go on in the next.
        let rest = filled.saturating_sub(INTRODUCTION.len() - 1);
        piece.copy_within(rest..filled, 0);
        filled -= rest;
    }
}

/// What libcni makes of the list's only plugin.
fn handed_over(list: &str) -> Value {
    let mut list: Value = serde_json::from_str(list).expect("it was just written as JSON");
    let mut plugin = list["plugins"][0].take();
    plugin["name"] = list["name"].take();
    plugin["cniVersion"] = list["cniVersion"].take();
    plugin
}

/// Whose a file in a runtime's directory of configurations is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Author {
    /// It holds nothing but what [`NetworkList::to_json`] of some version writes.
    Install,
    /// It has Twill among its plugins, and more than was ever written for it.
    Edited {
        /// What there is more of, in words.
        more: String,
    },
    /// Twill has no part in it.
    Other,
}

/// The network and the run directory that a list gives Twill; `None` of what it does not say.
pub fn network(text: &[u8]) -> (Option<String>, Option<PathBuf>) {
    let Ok(list) = serde_json::from_slice::<Value>(text) else { return (None, None) };
    let plugins = list["plugins"].as_array().map_or(std::slice::from_ref(&list), Vec::as_slice);
    let run_dir = plugins.iter().find(|plugin| plugin["type"] == PLUGIN).and_then(|plugin| plugin["runDir"].as_str());
    (list["name"].as_str().map(str::to_owned), run_dir.map(PathBuf::from))
}

/// Judges a file by its text. What cannot be read is somebody else's.
pub fn author(text: &[u8]) -> Author {
    let Ok(Value::Object(list)) = serde_json::from_slice(text) else { return Author::Other };
    // A file that ends in .conf is a plugin's object itself, without a list around it.
    let plugins: Vec<&Map<String, Value>> = match list.get("plugins") {
        Some(Value::Array(plugins)) => plugins.iter().filter_map(Value::as_object).collect(),
        _ => vec![&list],
    };
    if !plugins.iter().any(|plugin| plugin.get("type").is_some_and(|name| name == PLUGIN)) {
        return Author::Other;
    }
    let more =
        |keys: &Map<String, Value>, known: &[&str]| keys.keys().find(|key| !known.contains(&key.as_str())).cloned();
    if let Some(key) = more(&list, &["cniVersion", "cniVersions", "name", "plugins"]) {
        return Author::Edited { more: format!("the key {key:?}") };
    }
    if plugins.len() > 1 {
        return Author::Edited { more: "further plugins".into() };
    }
    match more(plugins[0], &["type", "runDir", "subnets", "capabilities"]) {
        Some(key) => Author::Edited { more: format!("the key {key:?} of the plugin") },
        None => Author::Install,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(subnets: &[&str]) -> NetworkList {
        let subnets = subnets.iter().map(ToString::to_string).collect();
        NetworkList { name: "twill".parse().unwrap(), run_dir: "/run/twill".into(), subnets }
    }

    #[test]
    fn the_list_of_a_node_with_all_defaults_is_the_sample() {
        assert_eq!(list(&[]).to_json().unwrap(), NetworkList::SAMPLE);
    }

    #[test]
    fn subnets_stand_in_the_list_and_are_judged_as_the_plugin_judges_them() {
        let text = list(&["10.42.0.0/24", "fd42::/64"]).to_json().unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["plugins"][0]["subnets"], serde_json::json!(["10.42.0.0/24", "fd42::/64"]));
        for wrong in [&["10.42.0.0/33"][..], &["10.42.0.1/24"], &["10.42.0.0/24", "10.42.0.128/25"], &["x\"]"]] {
            let error = list(wrong).to_json().unwrap_err().to_string();
            assert!(error.contains("subnets["), "{error}");
        }
    }

    #[test]
    fn what_is_written_is_known_again_and_what_was_added_is_named() {
        let text = list(&["10.42.0.0/24"]).to_json().unwrap();
        assert_eq!(author(text.as_bytes()), Author::Install);
        let mut value: Value = serde_json::from_str(&text).unwrap();
        value["plugins"][0]["mtu"] = 1400.into();
        assert_eq!(
            author(value.to_string().as_bytes()),
            Author::Edited { more: "the key \"mtu\" of the plugin".into() }
        );
        let mut value: Value = serde_json::from_str(&text).unwrap();
        value["plugins"].as_array_mut().unwrap().push(serde_json::json!({ "type": "portmap" }));
        assert_eq!(author(value.to_string().as_bytes()), Author::Edited { more: "further plugins".into() });
        let mut value: Value = serde_json::from_str(&text).unwrap();
        value["disableCheck"] = true.into();
        assert_eq!(author(value.to_string().as_bytes()), Author::Edited { more: "the key \"disableCheck\"".into() });
    }

    /// Reads a few bytes at a time, of a program with the words at a place, or without any.
    struct Dripping {
        left: usize,
        words: Option<usize>,
        step: usize,
        at: usize,
    }

    impl io::Read for Dripping {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            assert!(buffer.len() <= PIECE, "more than a piece is held");
            let count = self.step.min(buffer.len()).min(self.left);
            for byte in &mut buffer[..count] {
                let word = self.words.and_then(|begin| INTRODUCTION.as_bytes().get(self.at.checked_sub(begin)?));
                *byte = word.copied().unwrap_or(b'a');
                self.at += 1;
            }
            self.left -= count;
            Ok(count)
        }
    }

    #[test]
    fn a_plugin_is_known_piece_by_piece_wherever_its_words_stand() {
        let length = 3 * PIECE;
        let looked =
            |words: Option<usize>, step: usize| is_plugin_in(Dripping { left: length, words, step, at: 0 }).unwrap();
        let last = length - INTRODUCTION.len();
        for step in [7_000, PIECE, usize::MAX] {
            for begin in [0, 1, PIECE - INTRODUCTION.len(), PIECE - 40, PIECE - 1, PIECE, 2 * PIECE - 40, last] {
                assert!(looked(Some(begin), step), "{begin} {step}");
            }
            assert!(!looked(None, step) && !looked(Some(last + 1), step));
        }
        assert!(!is_plugin_in(&b""[..]).unwrap() && is_plugin_in(INTRODUCTION.as_bytes()).unwrap());
    }

    #[test]
    fn what_names_no_twill_or_is_no_json_is_somebody_elses() {
        for text in ["", "{", "[]", "{}", r#"{"plugins":7}"#, r#"{"plugins":[{"type":"bridge"}]}"#, r#"{"type":"ptp"}"#]
        {
            assert_eq!(author(text.as_bytes()), Author::Other, "{text}");
        }
        assert!(matches!(author(br#"{"type":"twill","name":"n"}"#), Author::Edited { .. }));
    }
}
