//! TCP in bulk from one namespace to another, all on one processor: one thread writes what the connection takes and reads what has come,
//! so that segments and their acknowledgements travel in its time, and no other thread is woken.

use std::ffi::OsString;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{setsockopt, sockopt::TcpCongestion};

use super::processor::{PATIENCE, on_the_processor, wait};
use crate::bench::data::Ends;
use crate::bench::usage::Stopwatch;
use crate::{LabError, Result, deadline};

/// How much is written at once, and how much of it is read at once. It becomes four packets of nearly 64 KiB and one with the rest, and two
/// acknowledgements; with half as much, a stream changes now and then from one acknowledgement to two, which costs as much as rules do.
const WRITTEN: usize = 256 << 10;
const READ: usize = 128 << 10;
/// Every kernel has it, and it paces nothing: a timer that lets packets go would make the thread wait.
const CONGESTION_CONTROL: &str = "reno";

/// Both ends of a connection.
#[derive(Debug)]
pub struct Bulk {
    from: TcpStream,
    to: TcpStream,
}

impl Bulk {
    /// Connects these ends.
    pub fn open(ends: Ends<'_>) -> Result<Self> {
        let what = format!("TCP from {} to {} in {}", ends.from.name(), ends.target, ends.to.name());
        let listener = ends.to.enter(|| TcpListener::bind((ends.target, 0)))?.map_err(LabError::io(what.clone()))?;
        let at = listener.local_addr().map_err(LabError::io(what.clone()))?;
        let from = ends.from.enter(|| TcpStream::connect_timeout(&at, deadline::PATIENCE))?;
        let connect = || {
            let from = from?;
            let (to, _) = listener.accept()?;
            Self::between(from, to)
        };
        connect().map_err(LabError::io(what))
    }

    fn between(from: TcpStream, to: TcpStream) -> std::io::Result<Self> {
        setsockopt(&from, TcpCongestion, &OsString::from(CONGESTION_CONTROL))?;
        // What is left of a chunk goes at once, and so each chunk goes in the same packets.
        from.set_nodelay(true)?;
        from.set_nonblocking(true)?;
        to.set_nonblocking(true)?;
        Ok(Self { from, to })
    }

    /// Sends so many bytes and takes all of them: the processor time of that. An error where they do not all arrive.
    pub fn send(&self, bytes: u64) -> Result<Duration> {
        on_the_processor(|| {
            let (content, mut room) = (vec![7; WRITTEN], vec![0; READ]);
            let watch = Stopwatch::start()?;
            self.carry(bytes, &content, &mut room)?;
            watch.stop()
        })
    }

    fn carry(&self, bytes: u64, content: &[u8], room: &mut [u8]) -> Result<()> {
        let (mut to_write, mut to_read) = (bytes, bytes);
        let mut still = None;
        while to_read > 0 {
            let written = self.write(content, to_write)?;
            let read = self.read(room, to_read)?;
            (to_write, to_read) = (to_write - written, to_read - read);
            if written + read > 0 {
                still = None;
                continue;
            }
            // To be woken for nothing, again and again, is no progress either.
            let late = still.get_or_insert_with(Instant::now).elapsed() > Duration::from_millis(PATIENCE.into());
            if late || !self.wait(to_write > 0).map_err(LabError::errno("waiting for a TCP connection"))? {
                let lost = format!("of {bytes} bytes {to_read} did not arrive: nothing moved in {PATIENCE} ms");
                return Err(LabError::wrong(lost));
            }
        }
        Ok(())
    }

    /// Writes once, at most so many bytes: how many there was room for.
    fn write(&self, content: &[u8], most: u64) -> Result<u64> {
        if most == 0 {
            return Ok(0);
        }
        match (&self.from).write(&content[..at_most(content.len(), most)]) {
            Ok(some) => Ok(some as u64),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) => {
                Err(LabError::io(format!("writing to a TCP connection, {most} bytes yet to be written"))(error))
            }
        }
    }

    /// Reads all that is there, up to so many bytes: how many there were.
    fn read(&self, room: &mut [u8], most: u64) -> Result<u64> {
        let mut taken = 0;
        while taken < most {
            let left = most - taken;
            let next = at_most(room.len(), left);
            match (&self.to).read(&mut room[..next]) {
                Ok(0) => return Err(LabError::wrong(format!("a TCP connection ended {left} bytes early"))),
                Ok(some) => taken += some as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    return Err(LabError::io(format!("reading from a TCP connection, {left} bytes yet to come"))(
                        error,
                    ));
                }
            }
        }
        Ok(taken)
    }

    /// Waits until there is something to read, or room to write where that is wanted: all may be read, and an acknowledgement be missing.
    fn wait(&self, for_room: bool) -> nix::Result<bool> {
        let reader = PollFd::new(self.to.as_fd(), PollFlags::POLLIN);
        let writer = PollFd::new(self.from.as_fd(), PollFlags::POLLOUT);
        if for_room { wait(&mut [reader, writer]) } else { wait(&mut [reader]) }
    }
}

/// The lesser of both.
fn at_most(length: usize, most: u64) -> usize {
    usize::try_from(most).map_or(length, |most| most.min(length))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// Both ends of a connection on the loopback.
    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let from = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (from, listener.accept().unwrap().0)
    }

    #[test]
    fn every_byte_is_sent_and_taken_once() {
        let (from, to) = connection();
        let bulk = Bulk::between(from, to).unwrap();
        for bytes in [1, 30 * WRITTEN as u64 + 1] {
            assert!(bulk.send(bytes).unwrap() > Duration::ZERO);
        }
        drop(bulk.from);
        assert_eq!((&bulk.to).read(&mut [0]).unwrap(), 0, "nothing was left over");
    }

    #[test]
    fn nothing_paces_it() {
        let (from, to) = connection();
        let bulk = Bulk::between(from, to).unwrap();
        assert_eq!(nix::sys::socket::getsockopt(&bulk.from, TcpCongestion).unwrap(), CONGESTION_CONTROL);
    }

    /// What is written goes to one connection, and what is read comes by another.
    fn astray() -> (Bulk, TcpStream, TcpStream) {
        let ((from, written), (other, to)) = (connection(), connection());
        (Bulk::between(from, to).unwrap(), written, other)
    }

    #[test]
    fn a_connection_that_ends_early_is_told() {
        let (bulk, _written, other) = astray();
        (&other).write_all(&[7; 5]).unwrap();
        drop(other);
        let error = bulk.send(9).unwrap_err();
        assert!(error.to_string().contains("ended 4 bytes early"), "{error}");
    }

    #[test]
    fn a_reader_that_is_gone_is_told() {
        let (bulk, written, _other) = astray();
        drop(written);
        let error = bulk.send(100 * WRITTEN as u64).unwrap_err();
        assert!(error.to_string().contains("writing to a TCP connection"), "{error}");
    }

    #[test]
    fn what_does_not_arrive_is_told() {
        let (bulk, _written, other) = astray();
        (&other).write_all(&[7; 5]).unwrap();
        for bytes in [9, 1000 * WRITTEN as u64] {
            let error = bulk.send(bytes).unwrap_err().to_string();
            assert!(error.contains(&format!("of {bytes} bytes")) && error.contains("did not arrive"), "{error}");
        }
    }
}
