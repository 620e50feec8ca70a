//! Commands within the sentences of the pages, as in "look with `twillctl status --node n1`": they are not run, but each word of them that
//! a program has to know is held against what its help shows.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use twill_tests::binaries::Binaries;
use twill_tests::needs::workspace;
use twill_tests::process::{command, run_on_host};
use twill_tests::{LabError, Result, links};

/// A command between two backticks, outside of blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inline {
    /// From the root.
    pub(crate) page: String,
    /// What stands between the backticks, with one space between words.
    pub(crate) text: String,
}

/// Those of all pages that name a program of Twill's and something that it is to do.
pub(crate) fn all() -> Vec<Inline> {
    let docs = workspace().join("docs");
    let pages = links::pages(workspace());
    let shows = |page: &&PathBuf| page.starts_with(&docs) || page.ends_with("README.md");
    let mut found = Vec::new();
    for path in pages.iter().filter(shows) {
        let page = path.strip_prefix(workspace()).unwrap_or(path).display().to_string();
        let text = fs::read_to_string(path).expect("a page can be read");
        found.extend(of_page(&text).into_iter().map(|text| Inline { page: page.clone(), text }));
    }
    found
}

fn of_page(text: &str) -> Vec<String> {
    let mut in_block = false;
    let outside: Vec<&str> = text
        .lines()
        .filter(|line| {
            let is_fence = line.trim_start().starts_with("```");
            in_block ^= is_fence;
            !in_block && !is_fence
        })
        .collect();
    // What stands between two backticks may go on in the next line, but in no other paragraph.
    let paragraphs = outside.split(|line| line.trim().is_empty()).map(|lines| lines.join(" "));
    let spans = paragraphs.flat_map(|text| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>());
    let spans = spans.map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "));
    spans.filter(|span| span.split_once(' ').is_some_and(|(program, _)| is_ours(program))).collect()
}

fn is_ours(program: &str) -> bool {
    matches!(program, "twill" | "twillctl" | "twilld" | "twill-lab") || program.starts_with("hack/")
}

/// The helps that were shown already, by the words before `--help`.
#[derive(Default)]
pub(crate) struct Helps(BTreeMap<Vec<String>, String>);

impl Helps {
    /// What no program knows of a command; nothing where all of it is known.
    pub(crate) fn unknown(&mut self, text: &str) -> Result<Option<String>> {
        let words = shlex(text);
        let (program, rest) = words.split_first().expect("it has words");
        if program == "hack/test" {
            let suites = run_on_host(command(&[&workspace().join(program).to_string_lossy(), "--list"]))?;
            let is_known = |word: &&String| {
                word.starts_with("--") || suites.lines().any(|line| line.split(' ').next() == Some(word))
            };
            return Ok(rest.iter().find(|word| !is_known(word)).map(|word| format!("there is no suite {word}")));
        }
        let Some(start) = started(program)? else {
            let script = fs::read_to_string(workspace().join(program));
            let script = script.map_err(LabError::io(format!("reading {program}")))?;
            let is_unknown = |word: &&String| word.starts_with('-') && !script.contains(word.as_str());
            return Ok(rest.iter().find(is_unknown).map(|word| format!("{program} has no {word}")));
        };
        let mut path = vec![start];
        let mut help = self.help(&path)?;
        let mut rest = rest.iter().peekable();
        while let Some(commands) = commands(&help) {
            let Some(word) = rest.next_if(|word| !word.starts_with('-')) else { break };
            if !commands.contains(word) {
                return Ok(Some(format!("{} has no command {word}", path[1..].join(" "))));
            }
            path.push(word.clone());
            help = self.help(&path)?;
        }
        let flags = flags(&help);
        let is_unknown = |word: &&String| word.starts_with('-') && *word != "-" && !flags.contains(word);
        let unknown = rest.map(|word| word.split_once('=').map_or(word.clone(), |(flag, _)| flag.to_owned()));
        Ok(unknown
            .collect::<Vec<_>>()
            .iter()
            .find(is_unknown)
            .map(|word| format!("{} has no {word}", path[1..].join(" "))))
    }

    fn help(&mut self, path: &[String]) -> Result<String> {
        if let Some(help) = self.0.get(path) {
            return Ok(help.clone());
        }
        let words: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        let help = run_on_host(command(&words))?;
        self.0.insert(path.to_vec(), help.clone());
        Ok(help)
    }
}

/// Words as they are meant: without the brackets of what may be left out, and the first of several that are to choose from.
fn shlex(text: &str) -> Vec<String> {
    let bare = text.replace(['[', ']', '…'], "");
    bare.split_whitespace().map(|word| word.split('|').next().unwrap_or_default().to_owned()).collect()
}

/// The program behind a name, where it shows a help.
fn started(program: &str) -> Result<Option<String>> {
    let binaries = Binaries::ready()?;
    Ok(match program {
        "twillctl" => Some(binaries.ctl().display().to_string()),
        "twilld" => Some(binaries.daemon().display().to_string()),
        "hack/lab" | "twill-lab" => Some(env!("CARGO_BIN_EXE_twill-lab").to_owned()),
        "hack/bench" => Some(env!("CARGO_BIN_EXE_twill-bench").to_owned()),
        _ => None,
    })
}

/// The commands that a help lists; `None` where it lists none.
fn commands(help: &str) -> Option<Vec<String>> {
    let (_, listed) = help.split_once("\nCommands:\n")?;
    let lines = listed.lines().take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    Some(names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// The flags that a help explains, each in all its forms.
fn flags(help: &str) -> Vec<String> {
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let words = lines.flat_map(|line| line.split_whitespace().take_while(|word| word.starts_with('-')));
    words.map(|word| word.trim_end_matches(',').to_owned()).collect()
}

#[test]
fn only_commands_of_ours_within_sentences_are_found_also_over_two_lines() {
    let page = "Look with `twillctl status\n--node n1`, not `twillctl` or `ip link`:\n\n```sh\ntwillctl `x y`\n```\n\nor `hack/test probe`\n";
    assert_eq!(of_page(page), ["twillctl status --node n1", "hack/test probe"]);
    assert_eq!(shlex("twillctl why pod|ip ADDR [--node N]…"), ["twillctl", "why", "pod", "ADDR", "--node", "N"]);
}

#[test]
fn a_help_tells_commands_and_flags() {
    let help = "What it is\n\nUsage: x [OPTIONS]\n\nCommands:\n  show   Show\n         more\n  check  Check\n\nOptions:\n  -o, --output <X>  How\n      --node <N>    Which\n";
    assert_eq!(commands(help), Some(vec!["show".to_owned(), "check".to_owned()]));
    assert_eq!(flags(help), ["-o", "--output", "--node"]);
    assert_eq!(commands("Usage: x\n"), None);
}
