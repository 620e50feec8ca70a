//! The commands and files that a document for users has, so that a test runs what an operator will type.

use std::path::Path;

/// The shell commands in `docs/<document>` that stand in the block below the line `<!-- run: <what> -->`.
pub fn commands_of(document: &str, what: &str) -> String {
    block(document, &format!("<!-- run: {what} -->\n```sh\n"))
}

/// The file in `docs/<document>` that stands in the block below the line `<!-- file: <name> -->`.
pub fn file_of(document: &str, name: &str) -> String {
    let text = block(document, &format!("<!-- file: {name} -->\n```"));
    text.split_once('\n').map(|(_language, text)| text.to_owned()).unwrap_or_default()
}

/// What stands between a beginning and the end of the block.
fn block(document: &str, begin: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(document);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
    let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("{} has no {begin:?}", path.display()));
    rest.split_once("```").map_or(rest, |(block, _)| block).to_owned()
}
