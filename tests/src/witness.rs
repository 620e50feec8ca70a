//! Somebody who says who is calling: to see from outside which address a pod's packets come from.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use crate::namespace::Namespace;
use crate::{LabError, Result};

const PATIENCE: Duration = Duration::from_secs(5);

/// A TCP server that writes the caller's address. It ends when it is dropped.
#[derive(Debug)]
pub struct Witness {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    server: Option<JoinHandle<()>>,
}

impl Witness {
    /// Listens at an address in a namespace, on a port that is free.
    pub fn listen(namespace: &Namespace, address: IpAddr) -> Result<Self> {
        let what = format!("listening at {address} in {}", namespace.name());
        let bind = || {
            let listener = TcpListener::bind((address, 0))?;
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        };
        let (address, listener) = namespace.enter(bind)?.map_err(LabError::io(what))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let server = std::thread::spawn(move || serve(&listener, &stopped));
        Ok(Self { address, stop, server: Some(server) })
    }

    /// Calls from a namespace, and yields the address that the witness saw.
    pub fn sees(&self, caller: &Namespace) -> Result<IpAddr> {
        let call = || {
            let mut stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            answer.parse().map_err(|_| std::io::Error::new(ErrorKind::InvalidData, answer))
        };
        let what = format!("calling {} from {}", self.address, caller.name());
        caller.enter(call)?.map_err(LabError::io(what))
    }
}

fn serve(listener: &TcpListener, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((mut stream, caller)) => {
                // A caller that is gone is the caller's matter: it will say that it got no answer.
                stream.write_all(caller.ip().to_string().as_bytes()).unwrap_or_default();
            }
            Err(_) => sleep(Duration::from_millis(2)),
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(server) = self.server.take() {
            // It cannot panic; and if it did, the test has failed already.
            server.join().unwrap_or_default();
        }
    }
}
