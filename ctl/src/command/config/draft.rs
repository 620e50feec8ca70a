//! The file that an operator edits: the configuration, below a few lines of ours.

use std::io::Write as _;
use std::path::Path;

use tempfile::NamedTempFile;
use twill_conf::cluster::ClusterConf;

use crate::error::Error;
use crate::report::config::{Change, Shown};

/// What our lines begin with. They are comments, and are taken away when the file is read.
const MARK: &str = "#| ";

/// The file. It goes when it is dropped, unless it is kept.
#[derive(Debug)]
pub(super) struct Draft {
    file: NamedTempFile,
    /// Our lines, but for what is wrong.
    header: Vec<String>,
}

impl Draft {
    /// A new file that nobody else may read.
    pub(super) fn new(of: &Shown) -> Result<Self, Error> {
        let file = tempfile::Builder::new().prefix("twill-config-").suffix(".toml").tempfile();
        let file = file.map_err(|cause| Error::File { what: "make a file in", path: std::env::temp_dir(), cause })?;
        Ok(Self { file, header: header(of) })
    }

    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Writes the text below our lines, the last of which say what is wrong with it.
    pub(super) fn write(&mut self, text: &str, wrong: Option<&str>) -> Result<(), Error> {
        let whole = self.above(wrong) + text;
        let path = self.path().to_owned();
        // An editor may have put another file in the place of ours.
        let written = std::fs::File::create(&path).and_then(|mut file| file.write_all(whole.as_bytes()));
        written.map_err(|cause| Error::File { what: "write", path, cause })
    }

    /// What stands there, without our lines.
    pub(super) fn read(&self) -> Result<String, Error> {
        let path = self.path().to_owned();
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(body(&text).to_owned()),
            Err(cause) => Err(Error::File { what: "read", path, cause }),
        }
    }

    /// The configuration in a text, or why it is none: its lines are counted as they will stand below our own.
    pub(super) fn parse(&self, text: &str) -> Result<ClusterConf, Error> {
        let above = self.above(Some("")).lines().count();
        let text = "\n".repeat(above) + text;
        let document = self.path().display().to_string();
        ClusterConf::from_toml(&text).map_err(|error| Error::Configuration { document, error })
    }

    /// Leaves the file there, with this text, and above it what is `wrong` with it, be it that or another cause that ended the editing.
    pub(super) fn keep(mut self, text: &str, why: Error, wrong: Option<Error>) -> Error {
        let of_text = wrong.as_ref().or(Some(&why).filter(|why| is_of_text(why)));
        let above = of_text.map(ToString::to_string);
        match self.write(text, above.as_deref()) {
            Ok(()) => self.leave(why, wrong),
            Err(cause) => cause,
        }
    }

    /// Leaves the file there as it is, if the editor has.
    pub(super) fn leave(self, why: Error, wrong: Option<Error>) -> Error {
        let path = self.path().to_owned();
        if !path.exists() {
            return why;
        }
        match self.file.keep() {
            Ok(_) => Error::Kept { cause: Box::new(why), wrong: wrong.map(Box::new), path },
            Err(error) => Error::File { what: "keep", path, cause: error.error },
        }
    }

    fn above(&self, wrong: Option<&str>) -> String {
        let wrong = wrong.map(|why| ["WRONG, and not applied:".to_owned(), one_line(why)]);
        let lines = self.header.iter().cloned().chain(wrong.into_iter().flatten());
        lines.map(|line| format!("{}\n", format!("{MARK}{line}").trim_end())).collect()
    }
}

/// Whether it is the text that is wrong, so that it can be edited once more.
pub(super) fn is_of_text(why: &Error) -> bool {
    matches!(why, Error::Configuration { .. } | Error::Refused(_) | Error::Hazardous(_))
}

fn header(of: &Shown) -> Vec<String> {
    let mut lines = vec![
        format!(
            "The cluster configuration, as it stands at revision {}. Save it to apply it; save it as it is,",
            of.revision
        ),
        "or without a configuration in it, to leave all as it is. Comments are not kept.".to_owned(),
    ];
    let keys: Vec<&str> = of.unknown.iter().map(|change: &Change| change.key.as_str()).collect();
    if !keys.is_empty() {
        let keys = keys.join(", ");
        lines.push(format!(
            "A newer version wrote what this one does not know, and would take away: {}",
            one_line(&keys)
        ));
    }
    lines
}

/// What stands below our lines.
fn body(text: &str) -> &str {
    let mut rest = text;
    while let Some((_, below)) = rest.split_once('\n').filter(|(line, _)| line.starts_with(MARK.trim_end())) {
        rest = below;
    }
    rest
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a text has nothing but comments.
pub(super) fn is_empty(text: &str) -> bool {
    text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
}

#[cfg(test)]
mod tests {
    use twill_cluster::ability::Ability;
    use twill_cluster::reconfigure::{Held, Holding, Loss, Refusal};

    use super::*;

    fn draft() -> Draft {
        let config = ClusterConf::from_toml("[[pool]]\nname='a'\ncidr='10.1.0.0/16'").unwrap();
        let unknown = vec![Change { key: "pool.a.speed".into(), from: Some(7.into()), to: None }];
        Draft::new(&Shown { revision: 12, config, unknown }).unwrap()
    }

    #[test]
    fn what_is_written_is_read_without_our_lines_and_with_the_operators_comments() {
        let mut draft = draft();
        let text = "# mine\n[[pool]]\n#| not at the top\n";
        for wrong in [None, Some("pool \"a\":\nbad")] {
            draft.write(text, wrong).unwrap();
            assert_eq!(draft.read().unwrap(), text);
        }
        let whole = std::fs::read_to_string(draft.path()).unwrap();
        assert!(whole.starts_with("#| The cluster configuration, as it stands at revision 12."), "{whole}");
        assert!(
            whole.contains("would take away: pool.a.speed\n#| WRONG, and not applied:\n#| pool \"a\": bad\n# mine\n")
        );
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named_as_it_will_stand_in_the_file() {
        let mut draft = draft();
        let text = "[[pool]]\nname = a\n";
        let wrong = draft.parse(text).unwrap_err().to_string();
        draft.write(text, Some(&wrong)).unwrap();
        let whole = std::fs::read_to_string(draft.path()).unwrap();
        let line = whole.lines().position(|line| line == "name = a").unwrap() + 1;
        assert!(wrong.contains(&format!("line {line}, column")), "{wrong}");
    }

    #[test]
    fn of_a_text_that_is_wrong_is_not_said_that_it_can_be_applied() {
        let text = "[[pool]]\nname = a\n";
        let broken = |draft: &Draft| draft.parse(text).unwrap_err();
        let editor = || Error::Editor { editor: "vi".into(), cause: "exit status: 1".into() };
        for by_editor in [false, true] {
            let draft = draft();
            let (path, wrong) = (draft.path().to_owned(), broken(&draft));
            let line = wrong.to_string();
            let error = match by_editor {
                false => draft.keep(text, wrong, None),
                true => draft.keep(text, editor(), Some(wrong)),
            };
            let told = error.to_string();
            assert!(told.contains(&format!("kept in {} and not applied", path.display())), "{told}");
            assert!(told.contains(&line) && !told.contains("applies it"), "{told}");
            assert!(
                told.ends_with(&format!("correct it there, then 'twillctl config apply {}'", path.display())),
                "{told}"
            );
            // The line that is told of is the one in the file that is kept, which says the same.
            let whole = std::fs::read_to_string(&path).unwrap();
            let number = whole.lines().position(|line| line == "name = a").unwrap() + 1;
            assert!(
                told.contains(&format!("line {number}, column")) && whole.contains("WRONG, and not applied"),
                "{told}"
            );
            std::fs::remove_file(path).unwrap();
        }
    }

    /// What is said of a text that is kept for this reason, with FILE for its name.
    fn told_of(why: Error) -> String {
        let draft = draft();
        let path = draft.path().to_owned();
        let told = draft.keep("x = 1\n", why, None).to_string();
        std::fs::remove_file(&path).unwrap();
        told.replace(&path.display().to_string(), "FILE")
    }

    fn held() -> Refusal {
        let blocks = vec![Holding { what: "10.1.0.0/26".into(), owner: None }];
        Refusal::Held(vec![Held { pool: "a".parse().unwrap(), loss: Loss::Removed, blocks }])
    }

    #[test]
    fn of_a_text_that_is_refused_for_good_is_said_that_it_would_be_again() {
        for refusals in [vec![Refusal::TooMuch(200)], vec![held(), Refusal::TooLong { length: 2 << 20 }]] {
            let told = told_of(Error::Refused(refusals));
            assert!(told.contains("as it is, 'twillctl config apply FILE' refuses it too; change it"), "{told}");
            assert!(!told.contains("when what is said above"), "{told}");
        }
    }

    #[test]
    fn of_a_text_that_can_be_applied_later_or_by_force_is_said_so() {
        let unable = Refusal::Unable { asked: Ability::Bgp, nodes: Vec::new() };
        for (why, is_forced) in [
            (Error::Refused(vec![held()]), false),
            (Error::Refused(vec![unable, held()]), false),
            (Error::Hazardous(Vec::new()), true),
        ] {
            let told = told_of(why);
            let words = "kept in FILE and not applied: when what is said above is done, apply it by 'twillctl config apply FILE'";
            assert!(told.contains(words) && !told.contains("refuses it too"), "{told}");
            assert_eq!(told.ends_with("or at once with --force"), is_forced, "{told}");
        }
    }

    #[test]
    fn a_file_that_the_editor_has_taken_away_is_not_said_to_be_kept() {
        let draft = draft();
        std::fs::remove_file(draft.path()).unwrap();
        let error = draft.read().unwrap_err();
        let told = draft.leave(error, None).to_string();
        assert!(told.starts_with("cannot read ") && !told.contains("kept"), "{told}");
    }

    #[test]
    fn a_file_that_is_kept_outlives_the_draft_and_others_do_not() {
        let (gone, kept) = (draft(), draft());
        let (gone_path, path) = (gone.path().to_owned(), kept.path().to_owned());
        drop(gone);
        let error = kept.keep("x = 1\n", Error::Busy, None);
        let words = format!("kept in {0}: 'twillctl config diff {0}' compares it", path.display());
        assert!(error.to_string().contains(&words), "{error}");
        assert!(!gone_path.exists());
        assert_eq!(body(&std::fs::read_to_string(&path).unwrap()), "x = 1\n");
        std::fs::remove_file(path).unwrap();
        assert!(is_empty("\n  # x\n") && !is_empty("x = 1"));
    }
}
