//! What an ADD, a DEL and a VERSION cost, as a runtime pays for them: the whole process, from its start to its end.
//!
//! The reference is the `ptp` plugin with `host-local` of the Debian package `containernetworking-plugins`, without
//! `ipMasq`, one address family. Each round takes every contender once, in turn, in the same namespace, so that whatever
//! disturbs the machine disturbs all of them; what is reported are medians over the rounds, and their ratio.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::measure::{Samples, milliseconds, run};
use crate::namespace::Namespace;
use crate::{LabError, Result};

/// Where Debian puts the reference plugins.
const REFERENCE_DIRECTORY: &str = "/usr/lib/cni";

/// A plugin with its configuration, and what it took.
#[derive(Debug)]
pub struct Contender {
    /// What the table calls it.
    pub name: &'static str,
    binary: PathBuf,
    configuration: Value,
    add: Samples,
    del: Samples,
    check: Samples,
}

impl Contender {
    /// Twill, stand-alone: neither daemon nor etcd.
    pub fn stand_alone(binary: &Path, run_dir: &Path) -> Self {
        let configuration = json!({
            "cniVersion": "1.0.0", "name": "bench-alone", "type": "twill",
            "runDir": run_dir, "subnets": ["10.98.0.0/16"],
        });
        Self::new("Twill, stand-alone", binary.to_owned(), configuration)
    }

    /// Twill beside a running daemon, which gives it blocks.
    pub fn with_daemon(binary: &Path, run_dir: &Path) -> Self {
        let configuration = json!({ "cniVersion": "1.0.0", "name": "bench-node", "type": "twill", "runDir": run_dir });
        Self::new("Twill, with its daemon", binary.to_owned(), configuration)
    }

    /// `ptp` with `host-local`; it keeps its addresses as files in `state`.
    pub fn reference(state: &Path) -> Self {
        let configuration = json!({
            "cniVersion": "1.0.0", "name": "bench-reference", "type": "ptp",
            "ipam": { "type": "host-local", "dataDir": state, "ranges": [[{ "subnet": "10.99.0.0/16" }]] },
        });
        Self::new("reference: ptp, host-local", Path::new(REFERENCE_DIRECTORY).join("ptp"), configuration)
    }

    fn new(name: &'static str, binary: PathBuf, configuration: Value) -> Self {
        let [add, del, check] = std::array::from_fn(|_| Samples::default());
        Self { name, binary, configuration, add, del, check }
    }

    /// One round: ADD, CHECK with the result of the ADD, a ping from the node, DEL; times are taken of all but the ping.
    fn round(&mut self, number: usize, pod: &Namespace) -> Result<()> {
        let container = format!("bench{number}");
        let (result, time) = self.verb("ADD", &container, pod, &self.configuration)?;
        self.add.add(time);
        let result: Value = serde_json::from_slice(&result).map_err(|error| LabError::Unreadable {
            what: format!("the result of {}", self.name),
            cause: error.to_string(),
            text: String::from_utf8_lossy(&result).into_owned(),
        })?;
        ping_first_address(&result)?;
        let mut with_result = self.configuration.clone();
        with_result["prevResult"] = result;
        self.check.add(self.verb("CHECK", &container, pod, &with_result)?.1);
        self.del.add(self.verb("DEL", &container, pod, &with_result)?.1);
        Ok(())
    }

    /// An ADD and its DEL, without taking their times.
    pub(super) fn pair(&self, container: &str, pod: &Namespace) -> Result<()> {
        let (result, _) = self.verb("ADD", container, pod, &self.configuration)?;
        let mut with_result = self.configuration.clone();
        with_result["prevResult"] = serde_json::from_slice(&result).unwrap_or_default();
        self.verb("DEL", container, pod, &with_result).map(drop)
    }

    fn verb(&self, verb: &str, container: &str, pod: &Namespace, stdin: &Value) -> Result<(Vec<u8>, Duration)> {
        let mut command = Command::new(&self.binary);
        command
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", container)
            .env("CNI_NETNS", pod.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", REFERENCE_DIRECTORY);
        let (output, time) = run(&mut command, stdin.to_string().as_bytes())
            .map_err(LabError::io(format!("{verb} by {}", self.binary.display())))?;
        if !output.status.success() {
            return Err(LabError::Command {
                command: format!("{verb} by {}", self.name),
                place: pod.name().into(),
                status: output.status,
                output: String::from_utf8_lossy(&output.stdout).into_owned(),
            });
        }
        Ok((output.stdout, time))
    }
}

fn ping_first_address(result: &Value) -> Result<()> {
    let address = result["ips"][0]["address"].as_str().unwrap_or_default();
    let ip = address.split('/').next().unwrap_or_default();
    crate::process::run_on_host(crate::process::command(&["ping", "-c1", "-W1", "-q", ip])).map(drop)
}

/// All that was measured.
#[derive(Debug)]
pub struct Report<'a> {
    rounds: usize,
    contenders: &'a [Contender],
    version: Samples,
    empty: Samples,
}

/// Measures for so many rounds. Must run on a thread inside the node's namespace, which the plugins inherit; the last
/// contender is the reference. `empty` is a static program that does nothing.
pub fn measure<'a>(
    contenders: &'a mut [Contender],
    pod: &Namespace,
    rounds: usize,
    empty: &Path,
) -> Result<Report<'a>> {
    let (mut version, mut nothing) = (Samples::default(), Samples::default());
    let plugin = contenders.first().map(|first| first.binary.clone()).unwrap_or_default();
    for number in 0..rounds {
        for contender in contenders.iter_mut() {
            contender.round(number, pod)?;
        }
        let asked = json!({ "cniVersion": "1.0.0" }).to_string();
        let mut command = Command::new(&plugin);
        command.env_clear().env("CNI_COMMAND", "VERSION");
        version.add(run(&mut command, asked.as_bytes()).map_err(LabError::io("VERSION"))?.1);
        nothing.add(run(&mut Command::new(empty), asked.as_bytes()).map_err(LabError::io("an empty program"))?.1);
    }
    Ok(Report { rounds, contenders, version, empty: nothing })
}

impl Report<'_> {
    /// The table of `docs/performance.md`, with the goals of each row.
    pub fn markdown(&self) -> String {
        let mut text = format!("Medians of {} alternating rounds (in brackets the 90th percentile).\n\n", self.rounds);
        text += "| what | who | median (p90) | × reference | goal | |\n|---|---|---|---|---|---|\n";
        let Some((reference, ours)) = self.contenders.split_last() else { return text };
        for (verb, goal, times) in [
            ("ADD", Some(0.35), (|c: &Contender| &c.add) as fn(&Contender) -> &Samples),
            ("DEL", Some(0.7), |c| &c.del),
            ("CHECK", None, |c| &c.check),
        ] {
            let base = times(reference).median();
            text += &row(verb, reference.name, times(reference), "1", "", "");
            for contender in ours {
                let ratio = times(contender).median().as_secs_f64() / base.as_secs_f64();
                let (goal, verdict) = match goal {
                    Some(goal) => (format!("≤ {goal}"), if ratio <= goal { "met" } else { "missed" }),
                    None => (String::new(), ""),
                };
                text += &row(verb, contender.name, times(contender), &format!("{ratio:.2}"), &goal, verdict);
            }
        }
        let more = self.version.median().saturating_sub(self.empty.median());
        let verdict = if more <= Duration::from_micros(600) { "met" } else { "missed" };
        text += &row("VERSION", "an empty static program", &self.empty, "", "", "");
        let difference = format!("+ {}", milliseconds(more));
        text + &row("VERSION", "Twill", &self.version, &difference, "≤ + 0.60 ms", verdict)
    }
}

fn row(verb: &str, who: &str, times: &Samples, ratio: &str, goal: &str, verdict: &str) -> String {
    let (median, late) = (milliseconds(times.median()), milliseconds(times.quantile(0.9)));
    format!("| {verb} | {who} | {median} ({late}) | {ratio} | {goal} | {verdict} |\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contender(name: &'static str, add: u64, del: u64) -> Contender {
        let mut contender = Contender::new(name, PathBuf::new(), json!({}));
        contender.add.add(Duration::from_millis(add));
        contender.del.add(Duration::from_millis(del));
        contender.check.add(Duration::from_millis(1));
        contender
    }

    #[test]
    fn a_goal_is_met_by_the_ratio_to_the_reference_and_missed_otherwise() {
        let contenders = &[contender("Twill", 2, 30), contender("reference", 8, 36)];
        let report = Report { rounds: 1, contenders, version: Samples::default(), empty: Samples::default() };
        let text = report.markdown();
        assert!(text.contains("| ADD | Twill | 2.00 ms (2.00 ms) | 0.25 | ≤ 0.35 | met |"), "{text}");
        assert!(text.contains("| DEL | Twill | 30.00 ms (30.00 ms) | 0.83 | ≤ 0.7 | missed |"), "{text}");
    }
}
