//! The doorbell: a datagram socket in the run directory, rung by each plugin process as it ends.
//!
//! The plugin neither waits nor cares for errors, so a ring may be lost: everything that hangs on it also happens by a
//! timer, only later.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::metrics::{Plugin, Ring};

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

/// How long rings are gathered before they are passed on: a node may attach hundreds of pods a second, and what hangs on
/// a ring reads the whole store.
const CALM: Duration = Duration::from_millis(50);

/// Passes rings on to all tasks that listen, gathered; one of an ADD that waits for a block at once. While one waits to be
/// heard, further ones add nothing.
pub async fn listen(socket: UnixDatagram, rung: watch::Sender<()>, metrics: &Plugin) -> io::Result<()> {
    let mut message = [0; 256];
    let mut due = None;
    loop {
        let heard = match due {
            Some(at) => timeout_at(at, socket.recv(&mut message)).await,
            None => Ok(socket.recv(&mut message).await),
        };
        if let Ok(length) = heard {
            let datagram = &message[..length?];
            tracing::debug!(ring = %String::from_utf8_lossy(datagram), "doorbell");
            let ring = Ring::read(datagram);
            ring.iter().for_each(|ring| metrics.rung(ring));
            // Also while one ring follows the other, the moment ends.
            let is_urgent = ring.is_some_and(|ring| ring.wants_block());
            if !is_urgent && Instant::now() < *due.get_or_insert_with(|| Instant::now() + CALM) {
                continue;
            }
        }
        due = None;
        if rung.send(()).is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::troubles::Troubles;

    const LATER: u64 = 11;

    /// Rings with these codes, one after the other; how many rings are passed on within twice the calm, and when the first.
    async fn passed(codes: &[u64]) -> (usize, Duration) {
        let rings: Vec<_> =
            codes.iter().map(|code| format!("{{\"verb\":\"ADD\",\"code\":{code},\"micros\":7}}")).collect();
        passed_as_they_are(&rings).await
    }

    async fn passed_as_they_are(datagrams: &[String]) -> (usize, Duration) {
        let (_, handles) = Metrics::new(&Troubles::default());
        let (plugin, ours) = UnixDatagram::pair().unwrap();
        let (rung, mut rings) = watch::channel(());
        let begin = Instant::now();
        let listening = tokio::spawn(async move { listen(ours, rung, &handles.plugin).await });
        for datagram in datagrams {
            plugin.send(datagram.as_bytes()).await.unwrap();
        }
        let (mut count, mut first) = (0, Duration::ZERO);
        while let Ok(Ok(())) = timeout_at(begin + 4 * CALM, rings.changed()).await {
            count += 1;
            if count == 1 {
                first = begin.elapsed();
            }
        }
        listening.abort();
        (count, first)
    }

    #[tokio::test]
    async fn many_rings_are_passed_on_as_one_after_a_moment() {
        let (count, first) = passed(&[0; 20]).await;
        assert_eq!(count, 1);
        assert!(first >= CALM, "{first:?}");
    }

    #[tokio::test]
    async fn an_empty_ring_is_a_ring() {
        assert_eq!(passed_as_they_are(&[String::new()]).await.0, 1);
    }

    #[tokio::test]
    async fn an_add_that_waits_for_a_block_is_told_at_once_and_the_others_with_it() {
        let (count, first) = passed(&[0, 0, LATER]).await;
        assert_eq!(count, 1);
        assert!(first < CALM, "{first:?}");
    }
}
