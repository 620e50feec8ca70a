//! A run of nft: found, begun, and spoken to.

use std::env;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::Error;
use crate::program::{Said, converse};

/// How long nft may take. Repair waits for it, so one that hangs would end all repair; and an ADD lives no longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What it says where the kernel refuses it, in English by LC_ALL: strerror(3) of EPERM and EACCES.
const DENIED: [&str; 2] = ["Operation not permitted", "Permission denied"];

/// Runs nft, which must succeed.
pub(super) fn run(what: &'static str, args: &[&str], input: &str) -> Result<Output, Error> {
    succeeded(what, start(what, args, input, |_| ())?)
}

pub(super) fn succeeded(what: &'static str, output: Output) -> Result<Output, Error> {
    if output.status.success() { Ok(output) } else { Err(failed(what, &output)) }
}

pub(super) fn failed(what: &'static str, output: &Output) -> Error {
    let complaint = String::from_utf8_lossy(&output.stderr);
    let detail = match complaint.trim() {
        "" => output.status.to_string(),
        complaint => complaint.to_owned(),
    };
    let denied = DENIED.iter().any(|words| detail.contains(words));
    let kind = if denied { ErrorKind::PermissionDenied } else { ErrorKind::Other };
    Error::Nft { what, detail, kind }
}

/// `begun` is told the process before it has read anything.
pub(super) fn start(what: &'static str, args: &[&str], input: &str, begun: impl FnOnce(u32)) -> Result<Output, Error> {
    let attempt = || -> io::Result<Output> {
        let nft = Command::new(program())
            .args(args)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        begun(nft.id());
        let Said { status, stdout, stderr, untaken } = converse(nft, input.as_bytes(), PATIENCE, usize::MAX, || true)?;
        match untaken.filter(|_| status.success()) {
            Some(error) => Err(error),
            // One that ends early says why on stderr.
            None => Ok(Output { status, stdout, stderr }),
        }
    };
    attempt().map_err(|error| {
        let detail = match error.kind() {
            ErrorKind::NotFound => "it is not installed, or not in PATH (package nftables)".to_owned(),
            _ => error.to_string(),
        };
        Error::Nft { what, detail, kind: error.kind() }
    })
}

/// Where nft is. A runtime may start the plugin with any PATH, or with none.
fn program() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"].map(PathBuf::from);
    let places = env::split_paths(&path).filter(|place| place.is_absolute()).chain(usual);
    places.map(|place| place.join("nft")).find(|file| file.is_file()).unwrap_or_else(|| "nft".into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn what_nft_may_not_do_is_told_from_what_it_does_not_understand() {
        let kind = |words: &str| {
            let output = Output { status: ExitStatus::from_raw(256), stdout: Vec::new(), stderr: words.into() };
            failed("list the chains", &output).kind()
        };
        let refused = "netlink: Error: cache initialization failed: Operation not permitted\n";
        assert_eq!(kind(refused), ErrorKind::PermissionDenied);
        assert_eq!(kind("Operation not permitted (you must be root)\n"), ErrorKind::PermissionDenied);
        assert_eq!(kind("Error: syntax error, unexpected junk\n"), ErrorKind::Other);
        assert_eq!(kind(""), ErrorKind::Other);
    }
}
