//! Standard input: the network configuration, or whatever else the caller left there.

use std::io::Read;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long a call listens that does not depend on what it hears.
const PATIENCE: Duration = Duration::from_millis(100);
/// How much of it, in bytes: a network configuration is a hundredth of that.
const LONGEST: usize = 1 << 20;

/// All of it, to its end.
pub(crate) fn whole() -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    std::io::stdin().lock().read_to_end(&mut text).map(|_| text)
}

/// What comes before the input ends, `enough` has come, a tenth of a second is over, or it is too much: a runtime may leave standard
/// input open, and a person's terminal is. Never fails.
pub(crate) fn glance(mut input: impl Read + AsFd, enough: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let deadline = Instant::now() + PATIENCE;
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::ZERO);
        let ready = poll(&mut [PollFd::new(input.as_fd(), PollFlags::POLLIN)], timeout).is_ok_and(|count| count > 0);
        let read = if ready { input.read(&mut chunk).unwrap_or(0) } else { 0 };
        text.extend_from_slice(&chunk[..read]);
        if read == 0 || left.is_zero() || text.len() >= LONGEST || enough(&text) {
            return text;
        }
    }
}

/// Whether a whole document of JSON has come.
pub(crate) fn has_document(text: &[u8]) -> bool {
    let mut documents = serde_json::Deserializer::from_slice(text).into_iter::<serde::de::IgnoredAny>();
    matches!(documents.next(), Some(Ok(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_glance_takes_what_comes_and_waits_for_nobody() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"{\"a\":1}").unwrap();
        assert_eq!(glance(&reader, has_document), b"{\"a\":1}");
        assert_eq!(glance(&reader, has_document), b"", "the input is open and silent");
        writer.write_all(b"not JSON").unwrap();
        drop(writer);
        assert_eq!(glance(&reader, has_document), b"not JSON");
        assert_eq!(glance(&reader, has_document), b"");
    }

    #[test]
    fn an_input_without_end_is_left() {
        let endless = std::fs::File::open("/dev/zero").unwrap();
        assert!(glance(endless, |_| false).len() <= LONGEST + 4096);
    }
}
