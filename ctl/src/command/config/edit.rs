//! `twillctl config edit`: what stands is edited, checked, and put in its place, if nobody else was faster.

use super::draft::{Draft, is_empty, is_of_text};
use super::editor::Editor;
use super::replacement::{How, replace};
use super::standing;
use crate::access;
use crate::error::Error;
use crate::place::Place;
use crate::report::Report;
use crate::report::config::{Applied, Shown};

/// Nobody edits it more often; a program in the place of an editor might.
const MOST_ROUNDS: u32 = 50;

pub(in crate::command) async fn edit(force: bool, place: &Place) -> Result<Report, Error> {
    let editor = Editor::find(|variable| std::env::var(variable).ok())?;
    let shown = standing(&access::connect(place)?, place).await?;
    let how = How { force, expected: Some(shown.revision) };
    let draft = Draft::new(&shown)?;
    let mut text = shown.config.to_toml();
    let mut wrong: Option<Error> = None;
    for _ in 0..MOST_ROUNDS {
        if let Err(error) = draft.write(&text, wrong.as_ref().map(ToString::to_string).as_deref()) {
            // In the first round nothing of the operator's stands there yet.
            return Err(if wrong.is_some() { draft.leave(error, wrong) } else { error });
        }
        if let Err(error) = editor.edit(draft.path()).await {
            return Err(draft.abandoned(&text, error, wrong));
        }
        let edited = match draft.read() {
            Ok(edited) => edited,
            Err(error) => return Err(draft.leave(error, None)),
        };
        match (edited == text, wrong) {
            (true, None) => return Ok(Report::Applied(nothing(&shown))),
            (true, Some(why)) => return Err(draft.leave(why, None)),
            (false, _) if is_empty(&edited) => return Err(Error::Emptied),
            (false, _) => text = edited,
        }
        match apply(&draft, &text, how, place).await {
            Ok(applied) => return Ok(Report::Applied(applied)),
            Err(why) if is_of_text(&why) => wrong = Some(why),
            Err(why) => return Err(draft.keep(&text, why)),
        }
    }
    Err(draft.keep(&text, wrong.unwrap_or(Error::Busy)))
}

/// etcd is connected to anew: an editor may have been open for hours.
async fn apply(draft: &Draft, text: &str, how: How, place: &Place) -> Result<Applied, Error> {
    let conf = draft.parse(text)?;
    replace(&access::connect(place)?, &conf, how).await
}

fn nothing(shown: &Shown) -> Applied {
    let previous = Some(shown.revision);
    Applied { revision: shown.revision, previous, changes: Vec::new(), notes: Vec::new() }
}
