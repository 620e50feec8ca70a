//! How many pods a node attaches and detaches in a second, by so many callers at once.
//!
//! Each caller has a pod's namespace of its own, and calls ADD and DEL in turn, as a runtime does for short-lived pods.
//! The contenders take turns in slices of time, so that whatever disturbs the machine disturbs all of them; what is
//! reported are medians over the slices, and their ratio.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::cni::Contender;
use crate::namespace::Namespace;
use crate::{LabError, Result};

/// How many call at once, in one row of the table each.
pub const CALLERS: [usize; 4] = [1, 4, 16, 64];
/// The goal at [`GOAL_CALLERS`] callers: so many times the reference's pairs.
const GOAL: f64 = 3.0;
const GOAL_CALLERS: usize = 16;

/// Pairs a second in each slice, for each contender.
#[derive(Debug)]
struct Row {
    callers: usize,
    rates: Vec<Vec<f64>>,
}

/// All that was measured.
#[derive(Debug)]
pub struct Report {
    names: Vec<&'static str>,
    slice: Duration,
    slices: usize,
    rows: Vec<Row>,
}

/// Measures so many slices of that length for each contender and each number of callers. Must run on a thread inside the
/// node's namespace, which the plugins inherit; the last contender is the reference. There is a pod for each caller.
pub fn measure(contenders: &[Contender], pods: &[&Namespace], slices: usize, slice: Duration) -> Result<Report> {
    let mut rows = Vec::new();
    // No container's name is used twice, or its address would not have to be chosen.
    let number = AtomicUsize::new(0);
    for callers in CALLERS {
        let pods = pods.get(..callers).ok_or_else(|| LabError::wrong(format!("too few pods for {callers} callers")))?;
        let mut rates = vec![Vec::new(); contenders.len()];
        for _ in 0..slices {
            for (contender, rates) in contenders.iter().zip(&mut rates) {
                rates.push(rate(contender, pods, slice, &number)?);
            }
        }
        rows.push(Row { callers, rates });
    }
    Ok(Report { names: contenders.iter().map(|contender| contender.name).collect(), slice, slices, rows })
}

/// Pairs a second of one contender by a caller for each pod.
fn rate(contender: &Contender, pods: &[&Namespace], slice: Duration, number: &AtomicUsize) -> Result<f64> {
    let begin = Instant::now();
    let pairs = std::thread::scope(|scope| {
        let callers: Vec<_> = pods
            .iter()
            .map(|pod| {
                scope.spawn(move || {
                    let mut pairs = 0_usize;
                    while begin.elapsed() < slice {
                        contender.pair(&format!("pair{}", number.fetch_add(1, Ordering::Relaxed)), pod)?;
                        pairs += 1;
                    }
                    Ok(pairs)
                })
            })
            .collect();
        let done =
            callers.into_iter().map(|caller| caller.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        done.sum::<Result<usize>>()
    })?;
    Ok(pairs as f64 / begin.elapsed().as_secs_f64())
}

impl Report {
    /// The table of `docs/performance.md`, with the goal.
    pub fn markdown(&self) -> String {
        let slice = self.slice.as_secs_f64();
        let mut text =
            format!("ADD+DEL pairs a second: medians of {} alternating slices of {slice} s.\n\n", self.slices);
        text += "| at once | who | pairs/s | × reference | goal | |\n|---|---|---|---|---|---|\n";
        for row in &self.rows {
            let medians: Vec<f64> = row.rates.iter().map(|rates| median(rates)).collect();
            let Some(base) = medians.last() else { continue };
            for (name, rate) in self.names.iter().zip(&medians).rev() {
                let ratio = rate / base;
                let judged = row.callers == GOAL_CALLERS && *name != self.names[self.names.len() - 1];
                let (goal, verdict) = match judged {
                    true => (format!("≥ {GOAL}"), if ratio >= GOAL { "met" } else { "missed" }),
                    false => (String::new(), ""),
                };
                text += &format!("| {} | {name} | {rate:.0} | {ratio:.1} | {goal} | {verdict} |\n", row.callers);
            }
        }
        text
    }
}

fn median(rates: &[f64]) -> f64 {
    let mut sorted = rates.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_goal_stands_at_sixteen_callers_and_is_judged_by_the_medians() {
        let rows =
            [4, 16].map(|callers| Row { callers, rates: vec![vec![300.0, 330.0, 90.0], vec![100.0, 100.0, 1.0]] });
        let report = Report {
            names: vec!["Twill", "reference"],
            slice: Duration::from_secs(2),
            slices: 3,
            rows: rows.into_iter().collect(),
        };
        let text = report.markdown();
        assert!(text.contains("| 4 | Twill | 300 | 3.0 |  |  |"), "{text}");
        assert!(text.contains("| 16 | Twill | 300 | 3.0 | ≥ 3 | met |"), "{text}");
        assert!(text.contains("| 16 | reference | 100 | 1.0 |  |  |"), "{text}");
    }
}
