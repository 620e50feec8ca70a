//! Programs that are started for a short while: they must not outlive whoever has started them, and each is waited for with an end.
#![allow(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How often it is looked whether a program has ended that has nothing more to say.
const LOOK: Duration = Duration::from_millis(1);
/// The same while it may say something, which ends the wait by itself.
const LISTEN: Duration = Duration::from_millis(10);
/// What is read or written at once, in bytes: as much as fits into a pipe.
const CHUNK: usize = 64 << 10;

/// The program is killed when the thread that starts it ends, be it that its process is killed (PR_SET_PDEATHSIG, prctl(2)). So that thread
/// must wait for it.
pub fn dies_with_its_starter(command: &mut Command) -> &mut Command {
    let starter = std::process::id();
    // SAFETY: between fork and exec it makes two system calls and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            // It may have ended before the call.
            if u32::try_from(nix::unistd::getppid().as_raw()) != Ok(starter) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            Ok(())
        })
    }
}

/// Waits for a program, but no longer than that, and only while it is wanted; `None` where it still runs. For one that says nothing
/// by pipes: it waits for whoever reads them.
pub fn wait(child: &mut Child, longest: Duration, goes_on: impl Fn() -> bool) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + longest;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline || !goes_on() {
            return Ok(None);
        }
        thread::sleep(LISTEN);
    }
}

/// Kills it, where it still runs, and takes notice of its end.
pub fn end(child: &mut Child) {
    // It has ended already, or does so now; neither can fail in a way that anybody could do something about.
    child.kill().and_then(|()| child.wait().map(drop)).unwrap_or_default();
}

/// What a program has said, and how it has ended.
#[derive(Debug)]
pub struct Said {
    /// How.
    pub status: ExitStatus,
    /// On standard output.
    pub stdout: Vec<u8>,
    /// On standard error.
    pub stderr: Vec<u8>,
    /// Why it has not taken all of its input, where it has not.
    pub untaken: Option<io::Error>,
}

/// Gives a program its input, and takes what it says by the pipes that it has, until it ends. One that has not ended when `longest` is
/// over is killed: `TimedOut`; and so is one that is wanted no more: `Interrupted`. Of each pipe no more than `most` bytes are kept;
/// all is read, so that nothing makes it wait. What children of its own say later nobody waits for.
pub fn converse(
    mut child: Child,
    input: &[u8],
    longest: Duration,
    most: usize,
    goes_on: impl Fn() -> bool,
) -> io::Result<Said> {
    let talked = talk(&mut child, input, Instant::now() + longest, most, goes_on);
    end(&mut child);
    talked
}

fn talk(
    child: &mut Child,
    mut input: &[u8],
    deadline: Instant,
    most: usize,
    goes_on: impl Fn() -> bool,
) -> io::Result<Said> {
    let (mut stdin, mut untaken) = (child.stdin.take(), None);
    let (mut stdout, mut stderr) = (Ear::of(child.stdout.take(), most)?, Ear::of(child.stderr.take(), most)?);
    if let Some(stdin) = &stdin {
        never_block(stdin.as_fd())?;
    }
    let status = loop {
        let ended = child.try_wait()?;
        if let Some(pipe) = stdin.as_mut()
            && let Some(written) = write(pipe, &mut input).transpose()
        {
            untaken = written.err();
            stdin = None;
        }
        stdout.listen()?;
        stderr.listen()?;
        if let Some(status) = ended {
            break status;
        }
        if Instant::now() >= deadline {
            return Err(io::Error::new(ErrorKind::TimedOut, "it did not end in time, and was killed"));
        }
        if !goes_on() {
            return Err(io::Error::new(ErrorKind::Interrupted, "it was not wanted any more, and was killed"));
        }
        let ears = stdout.pipe.iter().map(AsFd::as_fd).chain(stderr.pipe.iter().map(AsFd::as_fd));
        let ears = ears.map(|ear| PollFd::new(ear, PollFlags::POLLIN));
        let mouth = stdin.iter().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLOUT));
        let mut pipes: Vec<PollFd<'_>> = ears.chain(mouth).collect();
        let longest = if pipes.is_empty() { LOOK } else { LISTEN };
        let longest = longest.min(deadline.saturating_duration_since(Instant::now()));
        match poll(&mut pipes, PollTimeout::try_from(longest).unwrap_or(PollTimeout::ZERO)) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    Ok(Said { status, stdout: stdout.heard, stderr: stderr.heard, untaken })
}

/// Writes as much as there is room for; `None` as long as some is left.
fn write(pipe: &mut impl Write, input: &mut &[u8]) -> io::Result<Option<()>> {
    while !input.is_empty() {
        match pipe.write(&input[..input.len().min(CHUNK)]) {
            Ok(written) => *input = &input[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(()))
}

/// A pipe that is read as it fills, and what has come by it.
struct Ear<P> {
    /// `None` where there is none, or no more.
    pipe: Option<P>,
    heard: Vec<u8>,
    most: usize,
}

impl<P: Read + AsFd> Ear<P> {
    fn of(pipe: Option<P>, most: usize) -> io::Result<Self> {
        if let Some(pipe) = &pipe {
            never_block(pipe.as_fd())?;
        }
        Ok(Self { pipe, heard: Vec::new(), most })
    }

    /// Takes what there is now, without waiting; no more than ten pipes full, so that whoever listens comes to look at the time.
    fn listen(&mut self) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        for _ in 0..10 {
            let Some(pipe) = &mut self.pipe else { break };
            match pipe.read(&mut chunk) {
                Ok(0) => self.pipe = None,
                Ok(read) => {
                    let room = self.most.saturating_sub(self.heard.len());
                    self.heard.extend_from_slice(&chunk[..read.min(room)]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn never_block(pipe: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(pipe, FcntlArg::F_GETFL)?);
    fcntl(pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Stdio;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const MIB: usize = 1 << 20;

    fn spawn(program: &str, args: &[&str]) -> Child {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    #[test]
    fn a_program_ends_with_the_thread_that_has_started_it() {
        let mut sleeper = std::thread::spawn(|| {
            let mut command = Command::new("sleep");
            dies_with_its_starter(command.arg("600").stdin(Stdio::null())).spawn().unwrap()
        })
        .join()
        .unwrap();
        assert!(!sleeper.wait().unwrap().success());
    }

    #[test]
    fn a_program_that_takes_too_long_is_left_and_can_be_ended() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        assert_eq!(wait(&mut child, LISTEN, || true).unwrap(), None);
        assert_eq!(wait(&mut child, PATIENCE, || false).unwrap(), None);
        end(&mut child);
        assert!(child.try_wait().unwrap().is_some());
    }

    #[test]
    fn a_program_that_hangs_or_is_wanted_no_more_is_killed_though_it_reads_nothing() {
        let more_than_a_pipe_holds = "x".repeat(MIB);
        for (longest, wanted, kind) in
            [(Duration::from_millis(50), true, ErrorKind::TimedOut), (PATIENCE, false, ErrorKind::Interrupted)]
        {
            let child = spawn("sleep", &["3600"]);
            let process = format!("/proc/{}", child.id());
            let error = converse(child, more_than_a_pipe_holds.as_bytes(), longest, MIB, || wanted).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(!Path::new(&process).exists(), "nothing is left of it");
        }
    }

    #[test]
    fn more_than_a_pipe_holds_goes_in_and_comes_out_and_no_more_is_kept_than_is_wanted() {
        let text = "x".repeat(MIB);
        let output = converse(spawn("cat", &[]), text.as_bytes(), PATIENCE, 2 * MIB, || true).unwrap();
        assert!(output.status.success() && output.stdout == text.as_bytes());
        let both = "head -c 1000000 /dev/zero >&2; head -c 1000000 /dev/zero; exit 3";
        let output = converse(spawn("sh", &["-c", both]), b"", PATIENCE, 4096, || true).unwrap();
        assert_eq!((output.status.code(), output.stdout.len(), output.stderr.len()), (Some(3), 4096, 4096));
    }

    #[test]
    fn nobody_waits_for_children_that_a_program_leaves_behind() {
        let begun = Instant::now();
        let output = converse(spawn("sh", &["-c", "sleep 60 & echo $!"]), b"", PATIENCE, 4096, || true).unwrap();
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
        let left = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(left), nix::sys::signal::Signal::SIGKILL).unwrap();
    }

    #[test]
    fn that_a_program_does_not_take_its_input_is_told_with_what_it_says() {
        let text = "x".repeat(MIB);
        let program = spawn("sh", &["-c", "echo no >&2; exit 1"]);
        let said = converse(program, text.as_bytes(), PATIENCE, 4096, || true).unwrap();
        assert_eq!((said.status.code(), said.stderr.as_slice()), (Some(1), b"no\n".as_slice()));
        assert_eq!(said.untaken.map(|error| error.kind()), Some(ErrorKind::BrokenPipe));
        let all = converse(spawn("cat", &[]), b"x", PATIENCE, 4096, || true).unwrap();
        assert!(all.untaken.is_none());
    }
}
