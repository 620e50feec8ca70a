//! What the demonstration prints: numbered steps, notes, and questions with their answers.

use std::time::Duration;

/// The screen, and the count of what was asked.
#[derive(Debug, Default)]
pub struct Screen {
    steps: u32,
    asked: u32,
    unanswered: Vec<String>,
}

impl Screen {
    /// The next step begins.
    pub fn step(&mut self, what: &str) {
        self.steps += 1;
        println!("\n[{}] {what}", self.steps);
    }

    /// A line below the step.
    pub fn note(&mut self, text: &str) {
        println!("    {text}");
    }

    /// Lines of a program's output, below the step.
    pub fn quote(&mut self, text: &str) {
        for line in text.lines() {
            println!("    {line}");
        }
    }

    /// Counts a question to the cluster and whether it was answered as it should be.
    pub fn ask(&mut self, question: &str, answered: bool) {
        self.asked += 1;
        if !answered {
            println!("    NO: {question}");
            self.unanswered.push(question.to_owned());
        }
    }

    /// The last line: whether everything answered.
    pub fn verdict(&self, took: Duration) -> bool {
        let good = self.unanswered.is_empty() && self.asked > 0;
        let seconds = took.as_secs_f64();
        if good {
            println!("\nVERDICT: all {} questions were answered as they should be, in {seconds:.0} s.", self.asked);
        } else {
            let (no, all) = (self.unanswered.len(), self.asked);
            println!(
                "\nVERDICT: {no} of {all} questions were not answered as they should be: {}.",
                self.unanswered.join("; ")
            );
        }
        good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_unanswered_question_spoils_the_verdict_and_so_does_asking_nothing() {
        assert!(!Screen::default().verdict(Duration::ZERO));
        let mut screen = Screen::default();
        screen.ask("one", true);
        assert!(screen.verdict(Duration::ZERO));
        screen.ask("two", false);
        screen.ask("three", true);
        assert!(!screen.verdict(Duration::ZERO));
    }
}
