//! What the daemon sends to the kernel, read by strace for a short while.
//!
//! strace decodes netlink, so it tells requests from dumps and sees each message of a batch. It slows the daemon down; no
//! times are taken meanwhile.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::deadline::{self, PATIENCE};
use crate::node::Node;
use crate::process::Process;
use crate::{LabError, Result};

/// What was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Messages that ask for a dump.
    pub dumps: usize,
    /// Messages that change something, or ask for one object.
    pub requests: usize,
    /// System calls by which they were sent.
    pub calls: usize,
}

/// An strace that is attached to a process.
#[derive(Debug)]
pub struct Trace {
    strace: Option<Process>,
    file: PathBuf,
}

impl Trace {
    /// Begins; returns when all of the process's threads are traced.
    pub fn attach(node: &Node, pid: u32, file: &Path) -> Result<Self> {
        let mut command = Command::new("strace");
        // Structures and batches are printed whole, and what data they carry is not.
        command.args([
            "-f",
            "-e",
            "trace=sendto,sendmsg",
            "-e",
            "abbrev=none",
            "-s",
            "0",
            "-p",
            &pid.to_string(),
            "-o",
        ]);
        command.arg(file);
        // It says something of each process that comes, at any time: a pipe would have to be read for as long.
        let log = file.with_extension("log");
        // In the node's namespace, where it can ask which sockets are netlink's.
        let strace = node.namespace().start_process("strace", command, &log)?;
        let mut trace = Self { strace: Some(strace), file: file.to_owned() };
        deadline::until_some("strace is attached", PATIENCE, || {
            let strace = trace.strace.as_mut().expect("it is there until the end");
            let said = strace.log();
            Ok(if said.contains("attached") { Ok(()) } else { Err(said) })
        })?;
        Ok(trace)
    }

    /// Ends it. What was sent meanwhile.
    pub fn end(mut self) -> Result<Sent> {
        self.interrupt()?;
        let text = std::fs::read_to_string(&self.file);
        text.map(|text| Sent::read(&text)).map_err(LabError::io("reading what strace wrote"))
    }

    fn interrupt(&mut self) -> Result<()> {
        self.strace.take().map_or(Ok(()), |mut strace| strace.end(Signal::SIGINT).map(drop))
    }
}

impl Drop for Trace {
    /// A measurement that failed leaves nobody traced.
    fn drop(&mut self) {
        self.interrupt().ok();
    }
}

impl Sent {
    fn read(text: &str) -> Self {
        let mut sent = Self::default();
        for call in text.lines().filter(|line| line.contains("nlmsg_type=RTM_")) {
            sent.calls += 1;
            for message in call.split("nlmsg_type=RTM_").skip(1) {
                let header = message.split('}').next().unwrap_or_default();
                if header.contains("NLM_F_DUMP") {
                    sent.dumps += 1;
                } else {
                    sent.requests += 1;
                }
            }
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dumps_are_told_from_requests_and_batches_are_counted_by_message() {
        let text = "12 sendto(9, [{nlmsg_len=20, nlmsg_type=RTM_GETLINK, nlmsg_flags=NLM_F_REQUEST|NLM_F_DUMP, nlmsg_seq=7}, \
                    {ifi_family=AF_UNSPEC}], 20, 0, NULL, 0) = 20\n\
                    12 sendto(9, [[{nlmsg_len=52, nlmsg_type=RTM_NEWROUTE, nlmsg_flags=NLM_F_REQUEST|NLM_F_ACK}, {}], \
                    [{nlmsg_len=52, nlmsg_type=RTM_DELROUTE, nlmsg_flags=NLM_F_REQUEST|NLM_F_ACK}, {}]], 104, 0, NULL, 0) = 104\n\
                    13 sendto(4, \"\", 30, MSG_NOSIGNAL, NULL, 0) = 30\n";
        assert_eq!(Sent::read(text), Sent { dumps: 1, requests: 2, calls: 2 });
    }
}
