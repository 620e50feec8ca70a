//! iperf3 between two namespaces.

use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::deadline::{self, PATIENCE};
use crate::namespace::Namespace;
use crate::process::{self, Process};
use crate::{LabError, Result};

/// A run of iperf3 that is under way.
#[derive(Debug)]
pub struct Iperf {
    client: Child,
    server: Process,
    command: String,
}

/// What iperf3 measured.
#[derive(Debug, Clone)]
pub struct Report {
    /// What the receiver got, in bits a second.
    pub bits_per_second: f64,
    /// The bytes that the receiver got.
    pub bytes: u64,
    /// For how long it received.
    pub time: Duration,
    /// The datagrams that it got; `None` for TCP.
    pub datagrams: Option<u64>,
    /// TCP segments that were sent again.
    pub retransmits: u64,
    /// The bytes of each interval.
    pub intervals: Vec<u64>,
    /// All that iperf3 wrote.
    pub json: Value,
}

impl Report {
    /// Reads what a client with `--json` wrote. The error says what is missing, or what iperf3 complains of.
    pub fn parse(text: &str) -> Result<Self, String> {
        let json: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if let Some(error) = json["error"].as_str() {
            return Err(error.to_owned());
        }
        let (sent, received) = (&json["end"]["sum_sent"], &json["end"]["sum_received"]);
        let field = |name: &str| received[name].as_f64().ok_or_else(|| format!("no end.sum_received.{name}"));
        let time = Duration::try_from_secs_f64(field("seconds")?).map_err(|error| error.to_string())?;
        // Of datagrams the receiver's sum has those that were sent, and how many of them are missing.
        let count = |name: &str| received[name].as_u64();
        let datagrams = count("packets").map(|sent| sent.saturating_sub(count("lost_packets").unwrap_or_default()));
        let intervals = json["intervals"].as_array().into_iter().flatten();
        Ok(Self {
            bits_per_second: field("bits_per_second")?,
            bytes: count("bytes").ok_or("no end.sum_received.bytes")?,
            time,
            datagrams,
            retransmits: sent["retransmits"].as_u64().unwrap_or_default(),
            intervals: intervals.filter_map(|interval| interval["sum"]["bytes"].as_u64()).collect(),
            json,
        })
    }
}

impl Iperf {
    /// Starts a server in `to` and a client in `from` with these further arguments, such as `-t 5`. `log` takes what the
    /// server says.
    pub fn start(from: &Namespace, to: &Namespace, target: IpAddr, arguments: &[&str], log: &Path) -> Result<Self> {
        let target = target.to_string();
        let server = process::command(&["iperf3", "--server", "--one-off", "--forceflush", "--bind", &target]);
        // What an earlier server said must not be taken for this one's word.
        match std::fs::remove_file(log) {
            Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
                return Err(LabError::io(format!("removing {}", log.display()))(cause));
            }
            _ => {}
        }
        let server = to.start_process("iperf3", server, log)?;
        deadline::until("the iperf3 server listens", PATIENCE, || Ok(server.log().contains("listening")))?;
        let mut client = process::command(&["iperf3", "--json", "--client", &target]);
        client.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let command = process::words(&client);
        Ok(Self { client: from.start(&mut client)?, server, command })
    }

    /// Waits for the end and reads the figures.
    pub fn finish(mut self) -> Result<Report> {
        let output = self.client.wait_with_output().map_err(LabError::io(self.command.clone()))?;
        self.server.wait(Duration::from_secs(5))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Report::parse(&text).map_err(|cause| LabError::Unreadable { what: self.command, cause, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_tcp_what_was_received_counts() {
        let text = r#"{
            "intervals": [{ "sum": { "bytes": 100 } }, { "sum": { "bytes": 150 } }],
            "end": {
                "sum_sent": { "seconds": 2.0, "bytes": 260, "bits_per_second": 1040.0, "retransmits": 3 },
                "sum_received": { "seconds": 2.0, "bytes": 250, "bits_per_second": 1000.0 }
            }
        }"#;
        let report = Report::parse(text).unwrap();
        assert_eq!((report.bits_per_second, report.bytes, report.retransmits), (1000.0, 250, 3));
        assert_eq!((report.time, report.datagrams), (Duration::from_secs(2), None));
        assert_eq!(report.intervals, [100, 150]);
    }

    #[test]
    fn datagrams_that_were_lost_were_not_received() {
        let received =
            r#"{ "seconds": 1.5, "bytes": 640, "bits_per_second": 3413.3, "packets": 25, "lost_packets": 15 }"#;
        let report = Report::parse(&format!(r#"{{ "end": {{ "sum_received": {received} }} }}"#)).unwrap();
        assert_eq!(report.datagrams, Some(10));
        assert_eq!(report.time, Duration::from_millis(1500));
    }

    #[test]
    fn what_iperf3_complains_of_is_told() {
        let refused = Report::parse(r#"{ "end": {}, "error": "unable to connect to server" }"#);
        assert_eq!(refused.unwrap_err(), "unable to connect to server");
        assert_eq!(Report::parse("{}").unwrap_err(), "no end.sum_received.seconds");
        assert!(Report::parse("iperf3: not JSON").is_err());
    }
}
