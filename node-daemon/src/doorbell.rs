//! The doorbell: a datagram socket in the run directory, rung by each plugin process as it ends.
//!
//! The plugin neither waits nor cares for errors, so a ring may be lost: everything that hangs on it also happens by a
//! timer, only later.

use std::io;
use std::path::Path;

use tokio::net::UnixDatagram;
use tokio::sync::mpsc;

/// The socket's name in the run directory.
pub const NAME: &str = "doorbell";

/// Makes the socket anew (a left-over of a daemon that was killed is removed; `twilld.lock` excludes a living one).
pub fn open(run_dir: &Path) -> io::Result<UnixDatagram> {
    let path = run_dir.join(NAME);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixDatagram::bind(&path)
}

/// Passes each ring on. While one waits to be heard, further ones add nothing and are dropped.
pub async fn listen(socket: UnixDatagram, rung: mpsc::Sender<()>) -> io::Result<()> {
    let mut message = [0; 256];
    loop {
        let length = socket.recv(&mut message).await?;
        tracing::debug!(ring = %String::from_utf8_lossy(&message[..length]), "doorbell");
        if let Err(mpsc::error::TrySendError::Closed(())) = rung.try_send(()) {
            return Ok(());
        }
    }
}
