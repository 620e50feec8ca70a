//! The blocks of shell commands in the pages, and the tests that run some of them by name.

use std::fs;
use std::path::{Path, PathBuf};

use twill_tests::needs::workspace;

/// A block between "```sh" and "```".
#[derive(Debug, Clone)]
pub(crate) struct Block {
    /// From the root, as in `docs/etcd.md`.
    pub(crate) page: String,
    /// Of its first command.
    pub(crate) line: usize,
    /// What stands in `<!-- run: … -->` above it.
    pub(crate) marker: Option<String>,
    /// The commands.
    pub(crate) text: String,
}

impl Block {
    /// What it begins with: its first line that is no comment.
    pub(crate) fn first_command(&self) -> &str {
        let command = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        let line = self.text.lines().find(command).unwrap_or_default();
        line.split("  #").next().unwrap_or_default().trim()
    }
}

/// The pages: the README, and all below `docs`.
pub(crate) fn pages() -> Vec<PathBuf> {
    let mut pages = vec![workspace().join("README.md")];
    let mut folders = vec![workspace().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder can be read") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

/// All blocks of all pages.
pub(crate) fn all() -> Vec<Block> {
    pages().iter().flat_map(|page| of_page(page)).collect()
}

fn of_page(path: &Path) -> Vec<Block> {
    let page = path.strip_prefix(workspace()).unwrap_or(path).display().to_string();
    let text = fs::read_to_string(path).expect("a page can be read");
    let (mut blocks, mut open, mut before): (Vec<Block>, Option<Block>, &str) = (Vec::new(), None, "");
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.trim()) {
            (Some(_), "```") => blocks.extend(open.take()),
            (Some(block), _) => block.text += &format!("{line}\n"),
            (None, "```sh") => {
                let marker = before.trim().strip_prefix("<!-- run: ").and_then(|rest| rest.strip_suffix(" -->"));
                let marker = marker.map(str::to_owned);
                open = Some(Block { page: page.clone(), line: number + 2, marker, text: String::new() });
            }
            (None, _) => {}
        }
        before = line;
    }
    assert!(open.is_none(), "a block of {page} does not end");
    blocks
}

/// The sources of tests and of what they share, with their crates.
pub(crate) fn test_sources() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    let crates = fs::read_dir(workspace()).expect("the root can be read").map(|entry| entry.expect("readable").path());
    for folder in crates.filter(|path| path.join("Cargo.toml").exists()) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut folders = vec![folder.join("tests"), folder.join("src")];
        while let Some(folder) = folders.pop() {
            for path in
                fs::read_dir(&folder).into_iter().flatten().filter_map(|entry| entry.ok().map(|entry| entry.path()))
            {
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|ending| ending == "rs") {
                    sources.push((name.clone(), fs::read_to_string(&path).expect("a source can be read")));
                }
            }
        }
    }
    sources
}

/// Whether tests of some crate take the block by its page and its name.
pub(crate) fn is_run_by_name(sources: &[(String, String)], block: &Block, what: &str) -> bool {
    let (page, what) = (format!("{:?}", block.page.rsplit('/').next().unwrap_or_default()), format!("{what:?}"));
    let has = |name: &str, word: &str| sources.iter().any(|(of, text)| of == name && text.contains(word));
    sources.iter().any(|(name, text)| text.contains("commands_of") && has(name, &page) && has(name, &what))
}
