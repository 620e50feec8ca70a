//! UDP packets from one namespace to another, all on one processor: one thread sends some and then takes them, so that whatever is between
//! them is done in its time, and no other thread is woken.

use std::io::{IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg};

use super::processor::{PATIENCE, on_the_processor, wait};
use crate::bench::data::Ends;
use crate::bench::data::round::SMALL;
use crate::bench::usage::Stopwatch;
use crate::{LabError, Result};

/// How many packets are sent before they are taken: few enough for the receiver's queue.
const BATCH: usize = 64;

/// A sender and its receiver.
#[derive(Debug)]
pub struct Stream {
    from: UdpSocket,
    to: UdpSocket,
}

impl Stream {
    /// Between these ends; the packets have this source.
    pub fn open(ends: Ends<'_>, source: Ipv4Addr) -> Result<Self> {
        let what = format!("UDP from {source} in {} to {} in {}", ends.from.name(), ends.target, ends.to.name());
        let to = ends.to.enter(|| UdpSocket::bind((ends.target, 0)))?.map_err(LabError::io(what.clone()))?;
        let at = to.local_addr().map_err(LabError::io(what.clone()))?;
        let connect = || {
            let from = UdpSocket::bind((source, 0))?;
            from.connect(at)?;
            to.set_nonblocking(true)?;
            Ok(from)
        };
        let from = ends.from.enter(connect)?.map_err(LabError::io(what))?;
        Ok(Self { from, to })
    }

    /// Sends so many packets and takes all of them: the processor time of that. A packet that is lost is an error.
    pub fn send(&self, packets: usize) -> Result<Duration> {
        on_the_processor(|| {
            let watch = Stopwatch::start()?;
            let mut left = packets;
            while left > 0 {
                let batch = left.min(BATCH);
                self.send_batch(batch).map_err(LabError::errno("sending packets"))?;
                self.take_batch(batch)?;
                left -= batch;
            }
            watch.stop()
        })
    }

    /// Whether a packet of this stream arrives. One of another stream goes the same way after it, and does: what is not there
    /// before it comes no more.
    pub fn passes_before(&self, other: &Self) -> Result<bool> {
        on_the_processor(|| {
            self.send_batch(1).map_err(LabError::errno("sending a packet"))?;
            other.send_batch(1).map_err(LabError::errno("sending a packet"))?;
            other.take_batch(1)?;
            match self.take(1) {
                Ok(_) => Ok(true),
                Err(Errno::EAGAIN) => Ok(false),
                Err(errno) => Err(LabError::errno("taking a packet")(errno)),
            }
        })
    }

    fn send_batch(&self, packets: usize) -> nix::Result<()> {
        let content = [7; SMALL];
        let slices = vec![[IoSlice::new(&content)]; packets];
        let mut sent = 0;
        while sent < packets {
            let mut headers = MultiHeaders::<()>::preallocate(packets - sent, None);
            let (rest, nowhere) = (&slices[sent..], [None; BATCH]);
            sent += sendmmsg(self.from.as_raw_fd(), &mut headers, rest, nowhere, [], MsgFlags::empty())?.count();
        }
        Ok(())
    }

    fn take_batch(&self, packets: usize) -> Result<()> {
        let mut taken = 0;
        while taken < packets {
            match self.take(packets - taken) {
                Ok(some) => taken += some,
                Err(Errno::EAGAIN) if self.wait().map_err(LabError::errno("waiting for packets"))? => {}
                Err(Errno::EAGAIN) => {
                    let lost = format!("of {packets} packets {} did not arrive in {PATIENCE} ms", packets - taken);
                    return Err(LabError::wrong(lost));
                }
                Err(errno) => return Err(LabError::errno("taking packets")(errno)),
            }
        }
        Ok(())
    }

    /// Takes what is there, up to so many.
    fn take(&self, most: usize) -> nix::Result<usize> {
        let mut room = [[0; SMALL]; BATCH];
        let mut slices: Vec<_> = room.iter_mut().take(most).map(|room| [IoSliceMut::new(room)]).collect();
        let mut headers = MultiHeaders::<()>::preallocate(slices.len(), None);
        Ok(recvmmsg(self.to.as_raw_fd(), &mut headers, &mut slices, MsgFlags::MSG_DONTWAIT, None)?.count())
    }

    /// Waits until something is there. Whether something is.
    fn wait(&self) -> nix::Result<bool> {
        wait(&mut [PollFd::new(self.to.as_fd(), PollFlags::POLLIN)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream on the loopback.
    fn stream() -> Stream {
        let to = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let from = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        from.connect(to.local_addr().unwrap()).unwrap();
        to.set_nonblocking(true).unwrap();
        Stream { from, to }
    }

    #[test]
    fn every_packet_is_sent_and_taken_once() {
        let stream = stream();
        assert!(stream.send(3 * BATCH + 1).unwrap() > Duration::ZERO);
        assert_eq!(stream.take(1), Err(Errno::EAGAIN));
    }

    #[test]
    fn a_packet_that_is_lost_is_told() {
        let stream = stream();
        stream.send_batch(2).unwrap();
        let error = stream.take_batch(3).unwrap_err();
        assert!(error.to_string().contains("of 3 packets 1 did not arrive"), "{error}");
    }

    #[test]
    fn a_stream_that_reaches_nobody_does_not_pass() {
        let (good, astray) = (stream(), stream());
        assert!(astray.passes_before(&good).unwrap());
        let elsewhere = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        astray.from.connect(elsewhere.local_addr().unwrap()).unwrap();
        assert!(!astray.passes_before(&good).unwrap());
    }
}
