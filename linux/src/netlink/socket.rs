//! The socket below the transport and the monitor: options, sending, receiving, and errors that say what happened.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use netlink_sys::SocketAddr;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use crate::Error;

/// The kernel answers while it takes the request; five seconds of silence mean that something is broken.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of the receive buffer; the kernel doubles it (sock_setsockopt in net/core/sock.c).
const RECEIVE_BUFFER: usize = 1024 * 1024;

/// A blocking netlink socket for requests.
#[derive(Debug)]
pub(crate) struct Socket {
    inner: netlink_sys::Socket,
    port: u32,
}

impl Socket {
    /// In the calling thread's namespace.
    pub(super) fn open() -> Result<Self, Error> {
        Self::of(NETLINK_ROUTE)
    }

    /// Of another family of netlink.
    pub(crate) fn of(protocol: isize) -> Result<Self, Error> {
        let mut inner = netlink_sys::Socket::new(protocol).map_err(transport("open a socket"))?;
        inner.set_netlink_get_strict_chk(true).map_err(transport("turn on strict checking"))?;
        inner.set_ext_ack(true).map_err(transport("turn on extended acknowledgements"))?;
        inner.set_cap_ack(true).map_err(transport("turn on short acknowledgements"))?;
        enlarge(inner.as_fd())?;
        let patience = TimeVal::new(PATIENCE.as_secs().cast_signed(), 0);
        setsockopt(&inner, sockopt::ReceiveTimeout, &patience).map_err(transport_errno("set a time limit"))?;
        let address = inner.bind_auto().map_err(transport("bind a socket"))?;
        Ok(Self { inner, port: address.port_number() })
    }

    /// The port that the kernel answers to.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// Its descriptor.
    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }

    /// Sends to the kernel, which handles all of it before this returns.
    pub(crate) fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        let what = "send requests";
        loop {
            match self.inner.send_to(bytes, &SocketAddr::new(0, 0), 0) {
                Ok(sent) if sent == bytes.len() => return Ok(()),
                Ok(sent) => {
                    let cause = io::Error::other(format!("{sent} of {} bytes were taken", bytes.len()));
                    return Err(Error::Transport { what, cause });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(Error::Transport { what, cause }),
            }
        }
    }

    /// Receives what the kernel says next into `buffer`, whose capacity bounds it. True if it did not fit: the buffer is
    /// larger then for the next time.
    pub(crate) fn receive(&self, buffer: &mut Vec<u8>, what: &'static str) -> Result<bool, Error> {
        loop {
            buffer.clear();
            match self.inner.recv_from(buffer, libc::MSG_TRUNC) {
                // Only the kernel is listened to: any process with CAP_NET_ADMIN can send to our port.
                Ok((_, sender)) if sender.port_number() != 0 => {}
                Ok((length, _)) if length > buffer.len() => {
                    buffer.reserve(length.next_multiple_of(4096) - buffer.len());
                    return Ok(true);
                }
                Ok(_) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Transport { what, cause: explained(error) }),
            }
        }
    }
}

/// Makes the receive buffer of a netlink socket large: beyond net.core.rmem_max where we may (CAP_NET_ADMIN), else as
/// large as that allows.
pub(crate) fn enlarge(socket: BorrowedFd<'_>) -> Result<(), Error> {
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)
        .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER))
        .map_err(transport_errno("enlarge the receive buffer"))
}

/// Wraps the system's error.
pub(crate) fn transport(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |cause| Error::Transport { what, cause }
}

/// Wraps an errno.
pub(crate) fn transport_errno(what: &'static str) -> impl FnOnce(nix::errno::Errno) -> Error {
    move |errno| Error::Transport { what, cause: errno.into() }
}

/// Says what the two errnos mean that have a special meaning here.
fn explained(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENOBUFS) => io::Error::other("the receive buffer overran, answers are lost (ENOBUFS)"),
        Some(libc::EAGAIN) => io::Error::new(io::ErrorKind::TimedOut, "the kernel did not answer within 5 s"),
        _ => error,
    }
}
