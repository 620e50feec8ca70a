//! The processor that does all that is measured, and how long it waits for what was sent.

use nix::poll::{PollFd, PollTimeout, poll};

use crate::{LabError, Result, process};

/// It alone sends, forwards and receives.
const PROCESSOR: usize = 0;
/// In milliseconds: what takes longer is lost.
pub const PATIENCE: u16 = 1000;

/// Does it on a thread that stays on the processor, so that the caller and what it starts do not.
pub fn on_the_processor<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let pinned = || {
        process::pin(PROCESSOR).map_err(LabError::io(format!("taking processor {PROCESSOR}")))?;
        work()
    };
    std::thread::scope(|scope| match scope.spawn(pinned).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Waits until one of the sockets is ready: where a packet's interrupt was put off, or an acknowledgement. Whether one is.
pub fn wait(sockets: &mut [PollFd<'_>]) -> nix::Result<bool> {
    Ok(poll(sockets, PollTimeout::from(PATIENCE))? > 0)
}
