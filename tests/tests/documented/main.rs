//! Every command that the documentation shows is run: the text of the pages is what the tests do, so that neither changes without the
//! other. `registry.toml` says of each block of commands in which scene it is run; blocks with a `<!-- run: … -->` above them are run
//! by the tests that name them. Commands within sentences are held against the programs' help. And every link between the pages leads
//! somewhere.

mod blocks;
mod inline;
mod registry;
mod scenes;

use std::collections::BTreeSet;

use twill_tests::needs::workspace;
use twill_tests::{Result, links, needs};

use blocks::Block;
use registry::{How, Registry};

/// What whoever wrote a new block has to do.
fn advice(block: &Block) -> String {
    format!(
        "{}:{}: no test runs these commands:\n\n{}\nAdd to tests/tests/documented/registry.toml:\n\n    [[block]]\n    page = {:?}\n    begins = {:?}\n    \
         scene = \"cluster\"    # or another one of scenes.rs; or, in its place: not_run = \"why not\"\n\nor put a line `<!-- run: WHAT -->` above the block, \
         and have a test run `commands_of({:?}, \"WHAT\")`.\n\n",
        block.page,
        block.line,
        block.text,
        block.page,
        block.first_command(),
        block.page.rsplit('/').next().unwrap_or_default(),
    )
}

#[test]
fn every_block_of_commands_is_run_by_a_test_or_says_why_not() {
    let registry = Registry::read();
    let (blocks, tests) = (blocks::all(), blocks::test_sources());
    let mut complaints = String::new();
    let mut used = BTreeSet::new();
    for block in &blocks {
        if let Some(what) = &block.marker {
            if !blocks::is_run_by_name(&tests, block, what) {
                complaints += &format!(
                    "{}:{}: no test runs commands_of({:?}, {what:?})\n\n",
                    block.page,
                    block.line,
                    block.page.rsplit('/').next().unwrap_or_default()
                );
            }
            continue;
        }
        match registry.of(block) {
            Ok((place, _)) => drop(used.insert(place)),
            Err(0) => complaints += &advice(block),
            Err(several) => {
                complaints +=
                    &format!("{}:{}: {several} entries of the registry are about it\n\n", block.page, block.line);
            }
        }
    }
    for (place, entry) in registry.entries.iter().enumerate().filter(|(place, _)| !used.contains(place)) {
        complaints += &format!(
            "the registry's entry {place}, {:?} of {}, is about no block: remove it\n\n",
            entry.begins, entry.page
        );
    }
    for entry in &registry.entries {
        complaints += &entry.contradictions();
    }
    assert!(complaints.is_empty(), "\n{complaints}");
    assert!(blocks.len() > 20, "the pages were not found: {}", blocks.len());
}

#[test]
fn every_command_within_a_sentence_is_one_that_its_program_knows() {
    let registry = Registry::read();
    if let Some(why) = needs::unmet() {
        return needs::say_skipped(&why);
    }
    let mut helps = inline::Helps::default();
    let (commands, mut complaints, mut used) = (inline::all(), String::new(), BTreeSet::new());
    for command in &commands {
        if let Some(place) = registry.place_of(&command.text) {
            used.insert(place);
            continue;
        }
        match helps.unknown(&command.text) {
            Ok(None) => {}
            Ok(Some(why)) => complaints += &format!("{}: `{}`: {why}\n", command.page, command.text),
            Err(error) => complaints += &format!("{}: `{}`: {error}\n", command.page, command.text),
        }
    }
    for (place, entry) in registry.inline.iter().enumerate() {
        if !used.contains(&place) || entry.why.len() <= 10 {
            complaints += &format!("the registry's entry about `{}` is about nothing, or says not why\n", entry.text);
        }
    }
    assert!(complaints.is_empty(), "\n{complaints}");
    assert!(commands.len() > 50, "the commands were not found: {}", commands.len());
    for (wrong, why) in [
        ("twillctl stat", "has no command stat"),
        ("twillctl status --nodes n1", "has no --nodes"),
        ("twillctl config dif FILE", "config has no command dif"),
        ("twilld --etc URL", "has no --etc"),
        ("hack/test nothing", "there is no suite nothing"),
        ("hack/package --nothing", "has no --nothing"),
    ] {
        let told = helps.unknown(wrong).unwrap_or_else(|error| panic!("{wrong}: {error}"));
        assert!(told.as_ref().is_some_and(|told| told.ends_with(why)), "{wrong}: {told:?}");
    }
}

#[test]
fn only_a_call_with_page_and_name_runs_a_block_by_name() {
    let source = |of: &str, text: &str| (of.to_owned(), blocks::code(text));
    let sources = [
        source("a", "one.run_script(\n    &commands_of(\"bgp.md\", \"look\"),\n    &[]);"),
        source("a", "// commands_of(\"etcd.md\", \"look\")\nlet page = \"etcd.md\";"),
        source("b", "const DOCUMENT: &str = \"status.md\";\nlet shown = commands_of(DOCUMENT, \"show\");"),
        source("c", "fn run_document(&self, what: &str) { commands_of(\"etcd.md\", what) }"),
        source("c", "etcd.run_document(\"a node\", &[]);\nsay(\"later\");"),
        source("d", "etcd.run_document(\"of another\", &[]);"),
    ];
    let runs = |page: &str, what: &str| {
        let block = Block { page: format!("docs/{page}"), line: 1, marker: None, text: String::new() };
        blocks::is_run_by_name(&sources, &block, what)
    };
    for (page, what) in [("bgp.md", "look"), ("status.md", "show"), ("etcd.md", "a node")] {
        assert!(runs(page, what), "{page}: {what}");
    }
    for (page, what) in [
        ("etcd.md", "look"),
        ("bgp.md", "show"),
        ("bgp.md", "a node"),
        ("status.md", "look"),
        ("etcd.md", "later"),
        ("etcd.md", "of another"),
    ] {
        assert!(!runs(page, what), "{page}: {what}");
    }
}

/// Runs all blocks of a scene, and tells of all that fail.
fn run_all(
    scene: &str,
    run: impl FnOnce(&mut dyn FnMut(scenes::Stage<'_>) -> Result<()>, &[(Block, registry::Entry)]),
) {
    let registry = Registry::read();
    let of_scene: Vec<_> = blocks::all()
        .into_iter()
        .filter(|block| block.marker.is_none())
        .filter_map(|block| registry.of(&block).ok().map(|(_, entry)| (block, entry.clone())))
        .filter(|(_, entry)| matches!(entry.how(), How::Scene(name) if name == scene))
        .collect();
    if let Some(why) = needs::unmet() {
        return needs::say_skipped(&why);
    }
    let mut complaints = String::new();
    let mut one = |stage: scenes::Stage<'_>| {
        let (block, entry) = stage.block;
        let outcome = stage.run();
        if let Err(error) = outcome {
            complaints += &format!("{}:{}: {error}\nthe block:\n{}\n", block.page, block.line, entry.script(block));
        }
        Ok(())
    };
    run(&mut one, &of_scene);
    assert!(complaints.is_empty(), "\n{complaints}");
    println!("{scene}: {} blocks", of_scene.len());
}

#[test]
fn commands_for_a_cluster_do_what_their_page_says() {
    run_all("cluster", |one, blocks| scenes::cluster(blocks, one));
}

#[test]
fn commands_for_a_new_node_do_what_their_page_says() {
    run_all("new-node", |one, blocks| scenes::new_node(blocks, one));
}

#[test]
fn commands_for_a_machine_without_daemon_do_what_their_page_says() {
    run_all("standalone", |one, blocks| scenes::standalone(blocks, one));
}

#[test]
fn commands_for_the_machine_of_a_developer_do_what_their_page_says() {
    run_all("host", |one, blocks| scenes::host(blocks, one));
}

#[test]
fn every_link_between_the_pages_leads_somewhere() {
    let complaints = links::dead(workspace());
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}
