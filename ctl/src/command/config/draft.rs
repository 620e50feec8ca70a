//! The file that an operator edits: the configuration, below a few lines of ours.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};
use twill_conf::cluster::ClusterConf;

use crate::error::Error;
use crate::report::config::{Change, Shown};

/// What our lines begin with. They are comments, and are taken away when the file is read.
const MARK: &str = "#| ";

/// The file. It goes when it is dropped, unless it is kept.
///
/// What the editor has saved there is replaced as a whole or not at all, and only where it was read before.
#[derive(Debug)]
pub(super) struct Draft {
    path: TempPath,
    /// Our lines, but for what is wrong.
    header: Vec<String>,
}

impl Draft {
    /// A new file that nobody else may read.
    pub(super) fn new(of: &Shown) -> Result<Self, Error> {
        let path = new_file(&std::env::temp_dir())?.into_temp_path();
        Ok(Self { path, header: header(of) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the text below our lines, the last of which say what is wrong with it. Where that fails the file is as it was.
    ///
    /// It is a new file that nobody else may read: an editor may have put another one, or a link, in the place of ours.
    pub(super) fn write(&self, text: &str, wrong: Option<&str>) -> Result<(), Error> {
        let whole = self.above(wrong) + text;
        let mut file = new_file(self.path().parent().unwrap_or(Path::new("/")))?;
        let failed = |cause| Error::File { what: "write", path: self.path().to_owned(), cause };
        file.write_all(whole.as_bytes()).map_err(failed)?;
        file.persist(self.path()).map_err(|error| failed(error.error)).map(drop)
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
        self.parse_below(self.above(Some("")).lines().count(), text)
    }

    /// Why what stands in the file is no configuration, if it is none.
    fn wrong(&self) -> Option<Error> {
        let whole = std::fs::read_to_string(self.path()).ok()?;
        let text = body(&whole);
        self.parse_below(whole.lines().count().saturating_sub(text.lines().count()), text).err()
    }

    /// The same below so many lines.
    fn parse_below(&self, above: usize, text: &str) -> Result<ClusterConf, Error> {
        let text = "\n".repeat(above) + text;
        let document = self.path().display().to_string();
        ClusterConf::from_toml(&text).map_err(|error| Error::Configuration { document, error })
    }

    /// Leaves the file there with this text, which is what stands in it, and above it what is wrong with that, if it is.
    pub(super) fn keep(self, text: &str, why: Error) -> Error {
        let above = Some(&why).filter(|why| is_of_text(why)).map(ToString::to_string);
        // What an editor saves that has not ended is nobody's to replace. What is above tells of the text, and is no part of it.
        if self.read().is_ok_and(|standing| standing == text) {
            self.write(text, above.as_deref()).unwrap_or_default();
        }
        self.leave(why, None)
    }

    /// Leaves the file there as it is, if the editor has.
    pub(super) fn leave(self, why: Error, wrong: Option<Error>) -> Error {
        let path: PathBuf = self.path().to_owned();
        // A link that leads nowhere is there too, and is no text.
        if !path.exists() {
            return why;
        }
        match self.path.keep() {
            Ok(_) => Error::Kept { cause: Box::new(why), wrong: wrong.map(Box::new), path },
            Err(error) => Error::File { what: "keep", path, cause: error.error },
        }
    }

    /// The end where the editor has failed: the file is left there as it is, unless nothing was written in it. `offered`: what stood
    /// there when the editor began; `wrong`: why it was not right, where that is known.
    pub(super) fn abandoned(self, offered: &str, why: Error, wrong: Option<Error>) -> Error {
        let is_as_offered = self.read().is_ok_and(|standing| standing == offered);
        match (is_as_offered, wrong) {
            // The cluster has it.
            (true, None) => why,
            (true, wrong) => self.leave(why, wrong),
            // What was wrong before says nothing of what is written now.
            (false, _) => {
                let wrong = self.wrong();
                self.leave(why, wrong)
            }
        }
    }

    fn above(&self, wrong: Option<&str>) -> String {
        let wrong = wrong.map(|why| ["WRONG, and not applied:".to_owned(), one_line(why)]);
        let lines = self.header.iter().cloned().chain(wrong.into_iter().flatten());
        lines.map(|line| format!("{}\n", format!("{MARK}{line}").trim_end())).collect()
    }
}

/// A new file in a directory, that nobody else may read.
fn new_file(directory: &Path) -> Result<NamedTempFile, Error> {
    let file = tempfile::Builder::new().prefix("twill-config-").suffix(".toml").tempfile_in(directory);
    file.map_err(|cause| Error::File { what: "make a file in", path: directory.to_owned(), cause })
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
        let draft = draft();
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
        let draft = draft();
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
            draft.write(text, by_editor.then_some(line.as_str())).unwrap();
            let error = match by_editor {
                false => draft.keep(text, wrong),
                true => draft.abandoned(text, editor(), Some(wrong)),
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
        draft.write("x = 1\n", None).unwrap();
        let told = draft.keep("x = 1\n", why).to_string();
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
    fn what_cannot_be_written_or_is_not_ours_to_write_leaves_what_stands_there_and_the_first_reason() {
        let whole_of = |path: &Path| std::fs::read_to_string(path).unwrap();
        // An editor goes on saving, though its program seems to have ended.
        let later = draft();
        let path = later.path().to_owned();
        std::fs::write(&path, "saved later").unwrap();
        let told = later.keep("x = 1\n", Error::Busy).to_string();
        assert!(told.starts_with(&Error::Busy.to_string()) && whole_of(&path) == "saved later", "{told}");
        std::fs::remove_file(path).unwrap();
        // A directory in which nothing can be made any more: here, since it is none.
        let Draft { path, header } = draft();
        let directory = tempfile::tempdir().unwrap();
        let full = directory.path().join("full.toml");
        std::fs::write(&full, "x = 1\n").unwrap();
        drop(path);
        let lost = Draft { path: TempPath::try_from_path(full.join("none.toml")).unwrap(), header };
        assert!(lost.write("x = 2\n", None).is_err() && whole_of(&full) == "x = 1\n");
        let told = lost.keep("x = 2\n", Error::Busy).to_string();
        assert_eq!(told, Error::Busy.to_string(), "the first reason, and nothing is said to be kept");
    }

    #[test]
    fn a_line_that_is_wrong_in_what_an_editor_has_left_is_named_as_it_stands_there() {
        for above in [None, Some("an earlier fault")] {
            let draft = draft();
            draft.write("[[pool]]\nname = a\n", above).unwrap();
            let path = draft.path().to_owned();
            let told = draft.abandoned("another text", Error::Busy, None).to_string();
            let whole = std::fs::read_to_string(&path).unwrap();
            let line = whole.lines().position(|line| line == "name = a").unwrap() + 1;
            assert!(told.contains(&format!("line {line}, column")), "{told}\n{whole}");
            std::fs::remove_file(path).unwrap();
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
        kept.write("x = 1\n", Some("an earlier fault")).unwrap();
        let error = kept.keep("x = 1\n", Error::Busy);
        let words = format!("kept in {0}: 'twillctl config diff {0}' compares it", path.display());
        assert!(error.to_string().contains(&words), "{error}");
        assert!(!gone_path.exists());
        let whole = std::fs::read_to_string(&path).unwrap();
        assert!(body(&whole) == "x = 1\n" && !whole.contains("an earlier fault"), "{whole}");
        std::fs::remove_file(path).unwrap();
        assert!(is_empty("\n  # x\n") && !is_empty("x = 1"));
    }
}
