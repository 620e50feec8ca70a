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
    /// TCP segments that were sent again.
    pub retransmits: u64,
    /// The bytes of each interval.
    pub intervals: Vec<u64>,
    /// All that iperf3 wrote.
    pub json: Value,
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
        let unreadable = |cause: String| LabError::Unreadable { what: self.command.clone(), cause, text: text.clone() };
        let json: Value = serde_json::from_str(&text).map_err(|e| unreadable(e.to_string()))?;
        if let Some(error) = json["error"].as_str() {
            return Err(unreadable(error.to_owned()));
        }
        let end = &json["end"];
        let bits_per_second = end["sum_received"]["bits_per_second"].as_f64();
        let intervals = json["intervals"].as_array().into_iter().flatten();
        Ok(Report {
            bits_per_second: bits_per_second.ok_or_else(|| unreadable("no end.sum_received".into()))?,
            retransmits: end["sum_sent"]["retransmits"].as_u64().unwrap_or_default(),
            intervals: intervals.filter_map(|i| i["sum"]["bytes"].as_u64()).collect(),
            json,
        })
    }
}
