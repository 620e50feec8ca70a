//! A run of nft: found, begun, spoken to, and killed where it does not end.

use std::env;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Error;

/// How long nft may take. Repair waits for it, so one that hangs would end all repair; and an ADD lives no longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether nft has ended.
const LOOK: Duration = Duration::from_millis(1);

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
    Error::Nft { what, detail }
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
        converse(nft, input, PATIENCE)
    };
    attempt().map_err(|error| {
        let detail = match error.kind() {
            io::ErrorKind::NotFound => "it is not installed, or not in PATH (package nftables)".to_owned(),
            _ => error.to_string(),
        };
        Error::Nft { what, detail }
    })
}

/// Where nft is. A runtime may start the plugin with any PATH, or with none.
fn program() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"].map(PathBuf::from);
    let places = env::split_paths(&path).filter(|place| place.is_absolute()).chain(usual);
    places.map(|place| place.join("nft")).find(|file| file.is_file()).unwrap_or_else(|| "nft".into())
}

/// Gives a child its input and takes its output. One that has not ended when `patience` is over is killed.
fn converse(mut child: Child, input: &str, patience: Duration) -> io::Result<Output> {
    let deadline = Instant::now() + patience;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    // The threads end with the child: it has the other ends of the pipes, and no children of its own.
    thread::scope(|scope| {
        let threads = (|| {
            let write = move || stdin.map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
            let writer = thread::Builder::new().spawn_scoped(scope, write)?;
            let stdout = thread::Builder::new().spawn_scoped(scope, || read(stdout))?;
            Ok((writer, stdout, thread::Builder::new().spawn_scoped(scope, || read(stderr))?))
        })();
        let (writer, stdout, stderr) = match threads {
            Ok(threads) => threads,
            // Too many processes. Without all of its input, nft changes nothing; but it may have had it.
            Err(error) => {
                child.kill()?;
                child.wait()?;
                return Err(error);
            }
        };
        let status = end_of(&mut child, deadline)?;
        let what = "neither reading nor writing a pipe panics";
        let output = Output { status, stdout: stdout.join().expect(what)?, stderr: stderr.join().expect(what)? };
        match writer.join().expect(what) {
            Err(error) if status.success() => Err(error),
            // One that ends early says why on stderr.
            _ => Ok(output),
        }
    })
}

fn read(pipe: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    pipe.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut bytes))?;
    Ok(bytes)
}

fn end_of(child: &mut Child, deadline: Instant) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not end in time, and was killed"));
        }
        thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn spawn(program: &str, args: &[&str]) -> Child {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    #[test]
    fn a_child_that_hangs_is_killed_though_it_reads_nothing() {
        let child = spawn("sleep", &["3600"]);
        let process = format!("/proc/{}", child.id());
        let more_than_a_pipe_holds = "x".repeat(1 << 20);
        let error = converse(child, &more_than_a_pipe_holds, Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(!Path::new(&process).exists(), "nothing is left of it");
    }

    #[test]
    fn more_than_a_pipe_holds_goes_in_and_comes_out() {
        let text = "x".repeat(1 << 20);
        let output = converse(spawn("cat", &[]), &text, PATIENCE).unwrap();
        assert!(output.status.success() && output.stdout == text.as_bytes());
    }
}
