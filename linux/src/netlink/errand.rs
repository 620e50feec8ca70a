//! A request that a child process waits out, for a caller that waits for its effect and not for the kernel's answer.
//!
//! To delete a device takes the kernel 15 to 20 ms, all but the first quarter of a millisecond of which it waits for
//! readers of what nobody can find any more (`netdev_run_todo` and its `rcu_barrier`, net/core/dev.c), and it answers only
//! then. No flag asks for less, and a thread would not help, since a process ends with the last of its threads.
//!
//! The child holds nothing of its parent but the socket and the way back: no lock, no pipe of the runtime, no directory.
//! It ends with the kernel's answer, mostly after its parent; PID 1 reaps it, or whoever has made himself the reaper
//! (`PR_SET_CHILD_SUBREAPER`, as containerd's shim and conmon do), as it does the other orphans of a container runtime. A
//! runtime that is itself PID 1 of a container, and does not reap, keeps a zombie of each: a few hundred bytes and a number of
//! a process, until the container ends. A parent that lives on reaps what has ended whenever it starts another.
//!
//! It makes system calls only, so that it does not matter what other threads of the parent were doing.
#![allow(unsafe_code)]

use std::ffi::c_uint;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Mutex;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::frame::{Frames, NLMSG_ERROR, Verdict};
use super::socket::{Socket, transport_errno};
use super::{Attempt, Error};

/// Room for an acknowledgement: a header, an errno, the request's header and a text; and less than a pipe takes at once.
const ANSWER: usize = 4096;

/// The children that were not reaped yet: as many as end within the 20 ms before the last one began.
static CHILDREN: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Reaps the children that have ended, and waits for none. They are asked for by number: a caller may have others.
fn reap() {
    let runs = |child: &Pid| matches!(waitpid(*child, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive));
    if let Ok(mut children) = CHILDREN.lock() {
        children.retain(runs);
    }
}

/// A request under way.
pub struct Errand {
    answer: OwnedFd,
    attempt: Attempt,
}

impl fmt::Debug for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errand({})", self.attempt)
    }
}

impl Errand {
    /// Sends `bytes`, one request that wants to be acknowledged, over `socket` from a child process.
    pub(super) fn send(bytes: &[u8], socket: Socket, attempt: Attempt) -> Result<Self, Error> {
        reap();
        let (answer, back) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(transport_errno("open a pipe"))?;
        // SAFETY: the child calls nothing but system calls, on memory that stands, and never returns.
        match unsafe { libc::fork() } {
            -1 => {
                let cause = io::Error::last_os_error();
                Err(Error::Transport { what: "start a process that waits for the kernel", cause })
            }
            0 => run(bytes, socket.as_raw_fd(), back.as_raw_fd()),
            child => {
                if let Ok(mut children) = CHILDREN.lock() {
                    children.push(Pid::from_raw(child));
                }
                Ok(Self { answer, attempt })
            }
        }
    }

    /// What the kernel said; `None` where it has said nothing for `patience`. The outer error means that the outcome is
    /// unknown: the child was killed.
    pub fn answer(&self, patience: Duration) -> Result<Option<Result<(), Error>>, Error> {
        let mut fds = [PollFd::new(self.answer.as_fd(), PollFlags::POLLIN)];
        let what = "wait for the answer to a request";
        match ppoll(&mut fds, Some(TimeSpec::from_duration(patience)), None) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(errno) => return Err(transport_errno(what)(errno)),
        }
        let mut bytes = [0; ANSWER];
        let length = nix::unistd::read(&self.answer, &mut bytes).map_err(transport_errno(what))?;
        for frame in Frames::over(&bytes[..length]) {
            let frame = frame?;
            if frame.kind == NLMSG_ERROR {
                return Ok(Some(match frame.verdict()? {
                    Verdict { errno: None, .. } => Ok(()),
                    refused => Err(refused.into_error(self.attempt.to_string())),
                }));
            }
        }
        let cause = io::Error::other("the process that waited for the kernel has ended without an answer");
        Err(Error::Transport { what, cause })
    }
}

/// The child: asks, waits, tells, ends.
fn run(bytes: &[u8], socket: RawFd, back: RawFd) -> ! {
    let mut answer = [0_u8; ANSWER];
    close_all_but(socket.min(back), socket.max(back));
    // SAFETY: buffers and lengths belong together, the path is a string of C; nothing here returns to the caller.
    unsafe {
        libc::chdir(c"/".as_ptr());
        if libc::send(socket, bytes.as_ptr().cast(), bytes.len(), 0) >= 0 {
            let length = libc::recv(socket, answer.as_mut_ptr().cast(), answer.len(), 0);
            if let Ok(length) = usize::try_from(length) {
                libc::write(back, answer.as_ptr().cast(), length);
            }
        }
        libc::_exit(0)
    }
}

/// Closes what a runtime may be waiting for, and locks of the parent that go with the last copy of their descriptor. Linux
/// before 5.9 has no such call: they close then when the child ends.
fn close_all_but(first: RawFd, second: RawFd) {
    let close = |from: RawFd, to: c_uint| {
        // SAFETY: descriptors are numbers; none of those that are closed is used in this process any more.
        unsafe { libc::syscall(libc::SYS_close_range, from.cast_unsigned(), to, 0) };
    };
    if first > 0 {
        close(0, first.cast_unsigned() - 1);
    }
    if second > first + 1 {
        close(first + 1, second.cast_unsigned() - 1);
    }
    close(second + 1, c_uint::MAX);
}
