//! Runs processes and takes their time, and sums up many times; and how figures are written.

use std::io::{self, Write as _};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Runs a process with `stdin` and gives its output with the time from its start to its end, as a runtime sees it.
pub fn run(command: &mut Command, stdin: &[u8]) -> io::Result<(Output, Duration)> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn()?;
    let mut input = child.stdin.take().expect("stdin is piped");
    match input.write_all(stdin) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
        _ => drop(input),
    }
    let output = child.wait_with_output()?;
    Ok((output, start.elapsed()))
}

/// Times of the same thing, gathered over rounds.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<Duration>);

impl FromIterator<Duration> for Samples {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        Self(times.into_iter().collect())
    }
}

impl Samples {
    /// Adds one.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value below which the given part (0 to 1) of the samples lies; zero without samples.
    pub fn quantile(&self, part: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let place = (part * (sorted.len().saturating_sub(1)) as f64).round() as usize;
        sorted.get(place).copied().unwrap_or_default()
    }

    /// The median.
    pub fn median(&self) -> Duration {
        self.quantile(0.5)
    }
}

/// Milliseconds with two digits, as in `2.31 ms`.
pub fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

/// Bytes, in MiB.
pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// A row of a table.
pub fn row<S: AsRef<str>>(cells: &[S]) -> String {
    format!("| {} |\n", cells.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_taken_of_the_sorted_samples() {
        let mut samples = Samples::default();
        assert_eq!(samples.median(), Duration::ZERO);
        for millis in [9, 1, 5, 3, 7] {
            samples.add(Duration::from_millis(millis));
        }
        assert_eq!(samples.median(), Duration::from_millis(5));
        assert_eq!(samples.quantile(1.0), Duration::from_millis(9));
        assert_eq!(milliseconds(Duration::from_micros(2310)), "2.31 ms");
    }

    #[test]
    fn a_process_that_reads_no_input_is_still_measured() {
        let (output, time) = run(&mut Command::new("true"), &[b'x'; 1 << 20]).unwrap();
        assert!(output.status.success() && time > Duration::ZERO);
    }
}
