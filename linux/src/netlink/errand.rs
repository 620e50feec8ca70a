//! A request that a child process waits out, for a caller that waits for its effect and not for the kernel's answer.
//!
//! To delete a device takes the kernel 15 to 20 ms, all but the first quarter of a millisecond of which it waits for
//! readers of what nobody can find any more (`netdev_run_todo` and its `rcu_barrier`, net/core/dev.c), and it answers only
//! then. No flag asks for less, and a thread would not help, since a process ends with the last of its threads.
//!
//! The child lives in its parent's memory (`CLONE_VM`, clone(2)): a copy of the page tables, and the faults and the tearing down
//! that follow from one, cost more than all else that it does. So what it touches stays where it is until it has ended; it
//! makes system calls only, by a crate that does not write `errno`, which is its parent's too; and no signal reaches it, whose
//! handler would run in that memory. It does not matter what other threads of the parent are doing.
//!
//! It holds nothing of its parent but the socket and the way back: no lock, no pipe of the runtime, no directory.
//! It ends with the kernel's answer, mostly after its parent; PID 1 reaps it, or whoever has made himself the reaper
//! (`PR_SET_CHILD_SUBREAPER`, as containerd's shim and conmon do), as it does the other orphans of a container runtime. A
//! runtime that is itself PID 1 of a container, and does not reap, keeps a zombie of each: a few hundred bytes and a number of
//! a process, until the container ends. A parent that lives on reaps what has ended whenever it starts another.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_uint, c_void};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::time::TimeSpec;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use syscalls::{Sysno, syscall};

use super::frame::{Frames, NLMSG_ERROR, Verdict};
use super::socket::{Socket, transport_errno};
use super::{Attempt, Error};

/// Room for an acknowledgement: a header, an errno, the request's header and a text; and less than a pipe takes at once.
const ANSWER: usize = 4096;
/// Room for that, and several times what a few calls need, also without optimisation.
const STACK: usize = 32 * 1024;
/// Below the stack: whole pages, of whichever size the machine has.
const GUARD: usize = 64 * 1024;

/// The children that were not reaped yet: as many as end within the 20 ms before the last one began.
static CHILDREN: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// A child, with the memory that is its own until it has ended.
struct Child {
    process: Pid,
    /// Of [`Box::into_raw`]: the child reads it, so nobody here has it in a box that may move.
    order: *mut Order,
    _stack: Stack,
}

// SAFETY: only the child looks inside; whoever reaps it takes its memory away, one thread.
unsafe impl Send for Child {}

/// Where the child's calls are: memory of its own, below which nobody may write. A child that needed more than it has would be
/// killed there, and not spoil what its parent has. That costs two calls of a microsecond, a hundredth of all.
struct Stack(*mut c_void);

impl Stack {
    fn map() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        // SAFETY: a new mapping, wherever there is room.
        let guard = unsafe { libc::mmap(ptr::null_mut(), GUARD + STACK, libc::PROT_NONE, flags, -1, 0) };
        if guard == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self(guard);
        // SAFETY: that part of the mapping, which nobody uses yet.
        match unsafe { libc::mprotect(stack.bottom(), STACK, libc::PROT_READ | libc::PROT_WRITE) } {
            0 => Ok(stack),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn bottom(&self) -> *mut c_void {
        self.0.wrapping_byte_add(GUARD)
    }

    /// Where the first call is. Aligned to a page, and so as both processors want it.
    fn top(&self) -> *mut c_void {
        self.bottom().wrapping_byte_add(STACK)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: it was mapped here, and its child has ended or was never started.
        unsafe { libc::munmap(self.0, GUARD + STACK) };
    }
}

/// What the child is to do. Nobody writes it.
struct Order {
    request: Vec<u8>,
    socket: RawFd,
    back: RawFd,
    /// The descriptors that it closes, first and last: what a runtime may be waiting for, and locks of the parent that go
    /// with the last copy of their descriptor.
    others: [Option<(c_uint, c_uint)>; 3],
}

impl Order {
    fn new(request: &[u8], socket: RawFd, back: RawFd) -> Self {
        let (first, second) = (socket.min(back).cast_unsigned(), socket.max(back).cast_unsigned());
        let others = [(0, first.checked_sub(1)), (first + 1, Some(second - 1)), (second + 1, Some(c_uint::MAX))];
        let others = others.map(|(from, to)| to.filter(|to| from <= *to).map(|to| (from, to)));
        Self { request: request.to_vec(), socket, back, others }
    }
}

/// Reaps the children that have ended, and waits for none. They are asked for by number: a caller may have others.
fn reap(children: &mut Vec<Child>) {
    let lives =
        |child: &Child| matches!(waitpid(child.process, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive));
    for ended in children.extract_if(.., |child| !lives(child)) {
        // SAFETY: it is of `Box::into_raw`, and who read it has ended.
        drop(unsafe { Box::from_raw(ended.order) });
    }
}

/// Starts a child that carries out `order`.
fn start(order: Order) -> Result<(), Error> {
    let what = "start a process that waits for the kernel";
    let mut children = CHILDREN.lock().unwrap_or_else(PoisonError::into_inner);
    reap(&mut children);
    let stack = Stack::map().map_err(|cause| Error::Transport { what, cause })?;
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).map_err(transport_errno(what))?;
    let order = Box::into_raw(Box::new(order));
    // SAFETY: `run` calls nothing but the system, and never returns; order and stack stay until the child was reaped.
    let process = unsafe { libc::clone(run, stack.top(), libc::CLONE_VM | libc::SIGCHLD, order.cast()) };
    let started = if process == -1 {
        let cause = io::Error::last_os_error();
        // SAFETY: it is of `Box::into_raw`, and nobody else has got it.
        drop(unsafe { Box::from_raw(order) });
        Err(Error::Transport { what, cause })
    } else {
        // Before all that may fail: the child's memory must outlive it.
        children.push(Child { process: Pid::from_raw(process), order, _stack: stack });
        Ok(())
    };
    mask.thread_set_mask().map_err(transport_errno(what))?;
    started
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
        let (answer, back) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(transport_errno("open a pipe"))?;
        start(Order::new(bytes, socket.as_raw_fd(), back.as_raw_fd()))?;
        Ok(Self { answer, attempt })
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
extern "C" fn run(order: *mut c_void) -> c_int {
    // SAFETY: it is the order that `start` keeps.
    let order = unsafe { &*order.cast_const().cast::<Order>() };
    let mut answer = [0_u8; ANSWER];
    // SAFETY: buffers and lengths belong together, the path is a string of C, descriptors are numbers, and those that are
    // closed are used in this process no more. Nothing here returns to the caller.
    unsafe {
        for (from, to) in order.others.into_iter().flatten() {
            // Linux before 5.9 has no such call: they close then when the child ends.
            let _unknown = syscall!(Sysno::close_range, from, to, 0);
        }
        let _stays = syscall!(Sysno::chdir, c"/".as_ptr());
        let (socket, request) = (order.socket, &order.request);
        if syscall!(Sysno::sendto, socket, request.as_ptr(), request.len(), 0, 0, 0).is_ok()
            && let Ok(length) = syscall!(Sysno::recvfrom, socket, answer.as_mut_ptr(), answer.len(), 0, 0, 0)
        {
            let _nobody_listens = syscall!(Sysno::write, order.back, answer.as_ptr(), length);
        }
        loop {
            let _never = syscall!(Sysno::exit_group, 0);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn below_the_stack_of_a_child_nobody_may_write() {
        let stack = Stack::map().unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let allowed = |at: usize| {
            let range = |line: &str| {
                let (range, rest) = line.split_once(' ')?;
                let (first, end) = range.split_once('-')?;
                let [first, end] = [first, end].map(|end| usize::from_str_radix(end, 16).unwrap());
                (first..end).contains(&at).then(|| rest[..4].to_owned())
            };
            maps.lines().find_map(range).unwrap()
        };
        assert_eq!(allowed(stack.top().addr() - 1), "rw-p");
        assert_eq!(allowed(stack.bottom().addr()), "rw-p");
        assert_eq!(allowed(stack.bottom().addr() - 1), "---p");
    }
}
