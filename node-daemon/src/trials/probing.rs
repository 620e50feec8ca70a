//! Packets that probe, round by round, from where the calling thread is.

use std::io;
use std::time::Duration;

use twill_cluster::inquiry::trial::{Answer, By, Heard, PORT, Shot};
use twill_linux::echo::{How, Question, answers};

use super::refused;
use crate::probe::fresh_word;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(700);

/// Sends all shots at once, so often one round after the other, and gathers what comes back.
pub(super) fn probe(shots: &[Shot], rounds: u8, goes_on: impl Fn() -> bool) -> Result<Answer, Answer> {
    let question = |shot: &Shot| {
        let how = match shot.by {
            By::Kernel => How::Ping(shot.size),
            By::Pod => How::Word { size: shot.size, port: PORT },
        };
        Question { to: shot.to, how }
    };
    let questions: Vec<Question> = shots.iter().map(question).collect();
    let mut heard = vec![Heard::default(); shots.len()];
    let without_sockets = |error: io::Error| {
        refused(format!("the kernel gives no sockets for pings: {error}"), "let twilld have CAP_NET_RAW")
    };
    for _ in 0..rounds {
        if !goes_on() {
            break;
        }
        let round = answers(&questions, fresh_word(), 1, PATIENCE).map_err(without_sockets)?;
        for (heard, outcome) in heard.iter_mut().zip(round) {
            heard.sent += 1;
            if let Some(answer) = outcome.answer() {
                heard.micros.push(u32::try_from(answer.time.as_micros()).unwrap_or(u32::MAX));
                heard.saw = answer.heard.or(heard.saw);
            }
        }
    }
    Ok(Answer::Heard { shots: heard })
}
