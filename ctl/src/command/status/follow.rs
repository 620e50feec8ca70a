//! `--wait` and `--watch`: looks again and again, the more rarely the longer a look takes.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Looker, alone};
use crate::arguments::Output;
use crate::error::Error;
use crate::place::Place;
use crate::print;
use crate::report::status::{Local, Status};
use crate::report::{Report, Verdict};

/// Between two looks at least, of those who wait: first, and at last. Each look is a request to every node, which etcd writes down.
const WAITING: Duration = Duration::from_millis(250);
const WAITING_LONG: Duration = Duration::from_secs(4);
/// Of those who watch.
const WATCHING: Duration = Duration::from_secs(2);
/// So many times as long as a look took is rested: a cluster of thousands of nodes has better things to do.
const SHARE: u32 = 3;
/// What clears a terminal and puts the cursor to its beginning (ECMA-48).
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Until nothing is wrong, or the time is over: then what is wrong still. Nothing that etcd says ends the waiting.
pub(super) async fn wait(looker: &mut Looker, patience: Duration) -> Result<Status, Error> {
    let deadline = Instant::now() + patience;
    let mut least = WAITING;
    loop {
        let begin = Instant::now();
        let looked = looker.look().await;
        let is_final = matches!(&looked, Err(error) if !matches!(error, Error::Etcd(_)));
        let is_good = matches!(&looked, Ok(status) if is_good(status));
        let pause = least.max(begin.elapsed() * SHARE);
        least = (least * 3 / 2).min(WAITING_LONG);
        if is_good || is_final || Instant::now() >= deadline {
            return looked;
        }
        sleep(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
    }
}

fn is_good(status: &Status) -> bool {
    status.problems.is_empty() && status.unknown.is_empty()
}

/// Until somebody interrupts it. What it says then is what it saw last.
pub(super) async fn watch(looker: &mut Looker, output: Output, place: &Place) -> Result<Report, Error> {
    let clears = std::io::stdout().is_terminal() && output == Output::Text;
    let mut shown = None;
    let mut verdict = Verdict::Unknown;
    loop {
        let begin = Instant::now();
        let looked = tokio::select! {
            looked = looker.look() => looked,
            _ = tokio::signal::ctrl_c() => return Ok(Report::Watched(verdict)),
        };
        let (text, lasting) = match looked {
            Ok(status) => {
                let lasting = status.lasting().to_string();
                let report = Report::Status(status);
                verdict = report.verdict();
                (print::render(&report, output), lasting)
            }
            Err(error @ Error::Etcd(_)) => {
                verdict = error.verdict();
                match alone(place, error, output) {
                    Ok(alone) => {
                        let known = known_alone(alone.local.as_ref());
                        (print::render(&Report::LocalStatus(alone), output), known)
                    }
                    Err(error) => (print::error(&error, output), known_alone(None)),
                }
            }
            Err(error) => return Err(error),
        };
        let text = print::coloured(text, output, &std::io::stdout());
        if (clears || shown.as_ref() != Some(&lasting)) && !show(&text, clears, shown.is_some()) {
            // Nobody is left to tell.
            return Ok(Report::Watched(verdict));
        }
        shown = Some(lasting);
        tokio::select! {
            () = sleep(WATCHING.max(begin.elapsed() * SHARE)) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Report::Watched(verdict)),
        }
    }
}

/// What of a report without etcd is a change if it is another: which endpoint fails how may differ from try to try.
fn known_alone(local: Option<&Local>) -> String {
    format!("etcd is away: {}", serde_json::json!(local))
}

/// Whether it could be shown.
fn show(text: &str, clears: bool, again: bool) -> bool {
    let before = if clears {
        CLEAR
    } else if again {
        "\n"
    } else {
        ""
    };
    let mut out = std::io::stdout().lock();
    out.write_all(before.as_bytes()).and_then(|()| out.write_all(text.as_bytes())).and_then(|()| out.flush()).is_ok()
}
