//! The commands that a document for users has, so that a test runs what an operator will type.

use std::path::Path;

/// The shell commands in `docs/<document>` that stand in the block below the line `<!-- run: <what> -->`.
pub fn commands_of(document: &str, what: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(document);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
    let (_, rest) = text
        .split_once(&format!("<!-- run: {what} -->\n```sh\n"))
        .unwrap_or_else(|| panic!("{} has no commands for {what:?}", path.display()));
    rest.split_once("```").map_or(rest, |(commands, _)| commands).to_owned()
}
