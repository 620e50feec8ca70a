//! The blocks of shell commands in the pages, and the tests that run some of them by name.

use std::fs;
use std::path::{Path, PathBuf};

use twill_tests::links;
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

/// All blocks of the README and of all pages below `docs`.
pub(crate) fn all() -> Vec<Block> {
    let docs = workspace().join("docs");
    let shows = |page: &PathBuf| page.starts_with(&docs) || page.ends_with("README.md");
    links::pages(workspace()).iter().filter(|page| shows(page)).flat_map(|page| of_page(page)).collect()
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

/// The sources of tests and of what they share, as [`code`], with their crates.
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
                    sources.push((name.clone(), code(&fs::read_to_string(&path).expect("a source can be read"))));
                }
            }
        }
    }
    sources
}

/// A source as it is searched: without space, and without lines that are comments.
pub(crate) fn code(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    lines.flat_map(str::chars).filter(|character| !character.is_whitespace()).collect()
}

/// Whether a test takes the block by its page and its name: by `commands_of(PAGE, WHAT)`, whose page may be the file's `DOCUMENT`, or by a
/// `run_document(…, WHAT, …)` where the crate has one for that page.
pub(crate) fn is_run_by_name(sources: &[(String, String)], block: &Block, what: &str) -> bool {
    let page = format!("{:?}", block.page.rsplit('/').next().unwrap_or_default());
    let what = code(&format!("{what:?}"));
    let named = format!("constDOCUMENT:&str={page};");
    let helper = format!("commands_of({page},what)");
    let helps = |of: &str| {
        sources.iter().any(|(name, text)| name == of && text.contains("fnrun_document(") && text.contains(&helper))
    };
    sources.iter().any(|(name, text)| {
        text.contains(&format!("commands_of({page},{what})"))
            || (text.contains(&named) && text.contains(&format!("commands_of(DOCUMENT,{what})")))
            || (arguments(text, "run_document(").any(|words| words.contains(&what)) && helps(name))
    })
}

/// What stands behind each call, up to the end of its statement.
fn arguments<'a>(text: &'a str, call: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(call).skip(1).filter_map(|rest| rest.split([';', '{']).next())
}
