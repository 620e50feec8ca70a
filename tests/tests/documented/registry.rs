//! How each block is run: `registry.toml`, whose head explains it.

use std::collections::BTreeMap;

use serde::Deserialize;
use twill_tests::needs::workspace;

use crate::blocks::Block;
use crate::scenes;

/// The registry.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Registry {
    #[serde(rename = "block", default)]
    pub(crate) entries: Vec<Entry>,
    #[serde(default)]
    pub(crate) inline: Vec<Words>,
}

/// Words within a sentence that look like a command and are none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Words {
    pub(crate) text: String,
    pub(crate) why: String,
}

/// How a block is run.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// From the root.
    pub(crate) page: String,
    /// What the first command of the block begins with.
    pub(crate) begins: String,
    scene: Option<String>,
    not_run: Option<String>,
    /// Texts of the block, and what stands in their place: for what is an example in the page. A variable of the scene may.
    #[serde(default)]
    replace: BTreeMap<String, String>,
    /// Beginnings of commands, and the exit status that they have here; several, where it depends on the machine.
    #[serde(default)]
    status: BTreeMap<String, String>,
    /// Beginnings of commands that are not run, and why not.
    #[serde(default)]
    without: BTreeMap<String, String>,
    /// What is done before, so that there is what the page speaks of.
    #[serde(default)]
    before: String,
    /// What is true afterwards.
    #[serde(default)]
    after: String,
    /// The block is one program that goes on until it is stopped.
    #[serde(default)]
    pub(crate) forever: bool,
}

/// Whether and where a block is run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum How<'a> {
    Scene(&'a str),
    Not,
}

impl Registry {
    pub(crate) fn read() -> Self {
        let path = workspace().join("tests/tests/documented/registry.toml");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Where the entry stands about words within a sentence.
    pub(crate) fn place_of(&self, text: &str) -> Option<usize> {
        self.inline.iter().position(|entry| entry.text == text)
    }

    /// The entry about a block, with its place; or how many there are in place of one.
    pub(crate) fn of(&self, block: &Block) -> Result<(usize, &Entry), usize> {
        let about =
            |(_, entry): &(usize, &Entry)| entry.page == block.page && block.first_command().starts_with(&entry.begins);
        let mut found: Vec<_> = self.entries.iter().enumerate().filter(about).collect();
        // Of two the one that says more.
        let longest = found.iter().map(|(_, entry)| entry.begins.len()).max();
        found.retain(|(_, entry)| Some(entry.begins.len()) == longest);
        match found[..] {
            [one] => Ok(one),
            _ => Err(found.len()),
        }
    }
}

impl Entry {
    pub(crate) fn how(&self) -> How<'_> {
        self.scene.as_deref().map_or(How::Not, How::Scene)
    }

    /// What is wrong with the entry itself, for its writer.
    pub(crate) fn contradictions(&self) -> String {
        let wrong = match (&self.scene, &self.not_run) {
            (Some(scene), None) if scenes::NAMES.contains(&scene.as_str()) => return String::new(),
            (Some(scene), None) => format!("there is no scene {scene:?}: {}", scenes::NAMES.join(", ")),
            (None, Some(why)) if why.len() > 10 => return String::new(),
            (None, Some(_)) => "not_run is no reason".to_owned(),
            _ => "it has either a scene or not_run".to_owned(),
        };
        format!("the registry's entry {:?} of {}: {wrong}\n\n", self.begins, self.page)
    }

    /// The commands as they are run: those of the page, but for what the entry says.
    pub(crate) fn script(&self, block: &Block) -> String {
        let mut text = block.text.clone();
        for (from, to) in &self.replace {
            assert!(text.contains(from), "{}:{}: there is no {from:?} to be replaced", block.page, block.line);
            text = text.replace(from, to);
        }
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for begin in self.without.keys() {
            let left_out = |line: &&mut String| line.trim_start().starts_with(begin.as_str());
            let line = lines.iter_mut().find(left_out);
            *line.unwrap_or_else(|| panic!("{}:{}: nothing begins with {begin:?}", block.page, block.line)) =
                String::new();
        }
        for (begin, status) in &self.status {
            let mut found = lines.iter_mut().filter(|line| line.trim_start().starts_with(begin.as_str())).peekable();
            assert!(found.peek().is_some(), "{}:{}: nothing begins with {begin:?}", block.page, block.line);
            for line in found {
                let command = line.split("  #").next().unwrap_or_default().trim_end();
                *line = format!(
                    "{{ status=0; {command} || status=$?; case \" {status} \" in *\" $status \"*) ;; *) exit 99 ;; esac; }}"
                );
            }
        }
        format!("{}\n{}\n{}\n", self.before, lines.join("\n"), self.after)
    }
}
