//! Waiting: for the node to serve, and to be told to stop. In a container this may be process 1, which the kernel ends
//! by no signal that it does not ask for.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::{InstallError, ready};

/// A daemon that starts claims its first block within a fraction of a second.
const LOOK: Duration = Duration::from_millis(100);

/// Returns when an ADD would find addresses.
pub fn until_served(run_dir: &Path, patience: Duration) -> Result<(), InstallError> {
    let Some(mut why) = ready::lacks(run_dir) else { return Ok(()) };
    run(async {
        let end = Instant::now() + patience;
        let mut stop = std::pin::pin!(told_to_stop()?);
        // Who reads this may rely on signals being heard.
        eprintln!("twilld: waiting for the node to serve: {why}");
        while Instant::now() < end {
            tokio::select! {
                () = &mut stop => return Err(InstallError::Stopped { why }),
                () = sleep(LOOK) => {}
            }
            match ready::lacks(run_dir) {
                None => return Ok(()),
                Some(other) => why = other,
            }
        }
        Err(InstallError::NotServed { waited: patience, why })
    })
}

/// Returns at SIGTERM or SIGINT.
pub fn until_stopped() -> Result<(), InstallError> {
    run(async {
        told_to_stop()?.await;
        Ok(())
    })
}

fn told_to_stop() -> Result<impl Future<Output = ()>, InstallError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn signals(cause: io::Error) -> InstallError {
    InstallError::io("handling signals of", Path::new("twilld"))(cause)
}

fn run(waiting: impl Future<Output = Result<(), InstallError>>) -> Result<(), InstallError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(signals)?.block_on(waiting)
}
