//! The operator's editor.

use std::io::IsTerminal as _;
use std::path::Path;
use std::process::Command;

use crate::error::Error;

/// Where neither variable names one.
const FALLBACK: &str = "vi";

/// A program with its arguments, to which the file's name is added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Editor {
    words: Vec<String>,
}

impl Editor {
    /// `VISUAL`, else `EDITOR`, split into words as a shell splits them; else `vi`, for which a terminal is needed.
    pub(super) fn find(environment: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        for variable in ["VISUAL", "EDITOR"] {
            let Some(text) = environment(variable).filter(|text| !text.trim().is_empty()) else { continue };
            let words = shlex::split(&text).filter(|words| !words.is_empty());
            let unclear = || Error::NoEditor(format!("{variable} has a quotation that does not end: {text}"));
            return Ok(Self { words: words.ok_or_else(unclear)? });
        }
        if !std::io::stdin().is_terminal() {
            let why = "neither VISUAL nor EDITOR is set, and standard input is no terminal";
            return Err(Error::NoEditor(why.to_owned()));
        }
        Ok(Self { words: vec![FALLBACK.to_owned()] })
    }

    /// Has a file edited, and waits for the end of that.
    ///
    /// An interrupt from the keyboard is the editor's: this program goes on.
    pub(super) async fn edit(&self, file: &Path) -> Result<(), Error> {
        let (words, file) = (self.words.clone(), file.to_owned());
        // Where it cannot be caught, it ends this program as ever.
        let caught = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt());
        let run = move || Command::new(&words[0]).args(&words[1..]).arg(&file).status();
        let status = tokio::task::spawn_blocking(run).await;
        drop(caught);
        let failed = |cause: String| Error::Editor { editor: self.words.join(" "), cause };
        match status.map_err(|cause| failed(cause.to_string()))? {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(failed(status.to_string())),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                Err(Error::NoEditor(format!("'{}' is not there", self.words[0])))
            }
            Err(cause) => Err(failed(cause.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(visual: &str, editor: &str) -> Result<Vec<String>, String> {
        let environment = |name: &str| Some(if name == "VISUAL" { visual } else { editor }.to_owned());
        Editor::find(environment).map(|editor| editor.words).map_err(|error| error.to_string())
    }

    #[test]
    fn visual_comes_before_editor_and_both_are_split_into_words() {
        assert_eq!(found("code --wait", "nano").unwrap(), ["code", "--wait"]);
        assert_eq!(found(" ", "'/opt/my editor' -x").unwrap(), ["/opt/my editor", "-x"]);
        let unclear = found("", "vi 'x").unwrap_err();
        assert!(
            unclear.starts_with("there is no editor: EDITOR has a quotation that does not end: vi 'x;"),
            "{unclear}"
        );
    }
}
