//! The doorbell: one datagram to the daemon of the node, sent and forgotten.
//!
//! The daemon wakes, claims blocks ahead and counts. Nothing depends on it: a full socket, or none at all, is no error.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::environment::Verb;

/// Whether anybody heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ring {
    /// A daemon has the socket open (its queue may be full: then it has other rings to wake from).
    Heard,
    /// There is no socket, or nobody behind it: no daemon runs.
    Refused,
}

/// What is told of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// It has ended with this code: 0 for success.
    Ended(u32),
    /// It waits for a block, and ends later. Told with the code of a call that is to be tried again, by which daemons of before
    /// the word `waiting` know it.
    Waits,
}

/// Tells the daemon of `run_dir` what became of a call of `verb`, after `took`. Never waits.
pub(crate) fn ring(run_dir: &Path, verb: Verb, news: News, took: Duration) -> Ring {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let message = match news {
        News::Ended(code) => json!({"verb": verb.as_str(), "code": code, "micros": micros}),
        News::Waits => json!({"verb": verb.as_str(), "code": 11, "micros": micros, "waiting": true}),
    };
    let message = message.to_string();
    let sent = UnixDatagram::unbound().and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.send_to(message.as_bytes(), run_dir.join("doorbell"))
    });
    match sent {
        Ok(_) => Ring::Heard,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ring::Heard,
        Err(_) => Ring::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_reads_verb_code_and_duration() {
        let dir = tempfile::tempdir().unwrap();
        let daemon = UnixDatagram::bind(dir.path().join("doorbell")).unwrap();
        assert_eq!(ring(dir.path(), Verb::Add, News::Ended(0), Duration::from_micros(1234)), Ring::Heard);
        let mut buffer = [0; 256];
        let length = daemon.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], br#"{"code":0,"micros":1234,"verb":"ADD"}"#);
        assert_eq!(ring(dir.path(), Verb::Add, News::Waits, Duration::from_micros(7)), Ring::Heard);
        let length = daemon.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], br#"{"code":11,"micros":7,"verb":"ADD","waiting":true}"#);
    }

    #[test]
    fn a_daemon_that_does_not_read_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let daemon = UnixDatagram::bind(dir.path().join("doorbell")).unwrap();
        for _ in 0..10_000 {
            assert_eq!(ring(dir.path(), Verb::Del, News::Ended(0), Duration::ZERO), Ring::Heard);
        }
        drop(daemon);
    }

    #[test]
    fn without_a_daemon_the_ring_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ring(dir.path(), Verb::Add, News::Ended(0), Duration::ZERO), Ring::Refused);
        drop(UnixDatagram::bind(dir.path().join("doorbell")).unwrap());
        assert_eq!(
            ring(dir.path(), Verb::Add, News::Ended(0), Duration::ZERO),
            Ring::Refused,
            "a socket that a dead daemon left"
        );
    }
}
