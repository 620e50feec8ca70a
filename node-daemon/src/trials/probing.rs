//! Packets that probe, round by round, from where the calling thread is.

use std::io;
use std::time::Duration;

use twill_cluster::inquiry::trial::{Answer, By, Heard, PORT, Shot};
use twill_linux::echo::{How, Outcome, Question, answers};

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
        heard.iter_mut().zip(round).for_each(|(heard, outcome)| add(heard, outcome));
    }
    Ok(Answer::Heard { shots: heard })
}

/// Adds what became of a shot in one more round.
fn add(heard: &mut Heard, outcome: Outcome) {
    // What has left once may be lost; what never has is not the network's.
    let is_first = heard.sent == 0;
    heard.no_way = outcome.no_way().filter(|_| is_first || heard.no_way.is_some());
    heard.unsent = outcome.unsent().filter(|_| is_first || heard.unsent.is_some());
    heard.sent += 1;
    if let Some(answer) = outcome.answer() {
        heard.micros.push(u32::try_from(answer.time.as_micros()).unwrap_or(u32::MAX));
        heard.saw = answer.heard.or(heard.saw);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(outcomes: &[Outcome]) -> Heard {
        let mut heard = Heard::default();
        outcomes.iter().for_each(|outcome| add(&mut heard, *outcome));
        heard
    }

    #[test]
    fn only_what_never_left_is_told_not_to_have_been_sent() {
        let (no_way, unsent) = (Outcome::NoWay(22), Outcome::Unsent(1));
        assert_eq!(heard(&[no_way; 3]), Heard { sent: 3, no_way: Some(22), ..Heard::default() });
        assert_eq!(heard(&[unsent; 3]), Heard { sent: 3, unsent: Some(1), ..Heard::default() });
        for other in
            [[no_way, Outcome::Silence], [Outcome::Silence, no_way], [unsent, no_way], [Outcome::Silence, unsent]]
        {
            assert_eq!(heard(&other), Heard { sent: 2, ..Heard::default() }, "{other:?}");
        }
        let answered = Outcome::Answered(twill_linux::echo::Answer { time: Duration::from_micros(7), heard: None });
        assert_eq!(heard(&[no_way, answered]), Heard { sent: 2, micros: vec![7], ..Heard::default() });
    }
}
