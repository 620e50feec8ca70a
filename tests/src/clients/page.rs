//! Asking a container's server for its page, from wherever one is.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::deadline::{self, PATIENCE};
use crate::namespace::Namespace;
use crate::{LabError, Result};

/// A server that is there answers much sooner.
const LONGEST: Duration = Duration::from_secs(2);

/// The page that is served there, seen from a namespace. A server that has just started is waited for.
pub fn expect(from: &Namespace, server: SocketAddr, page: &str) -> Result<()> {
    deadline::until_some(&format!("{server} serves {page:?} to {}", from.name()), PATIENCE, || {
        Ok(match fetch(from, server) {
            Ok(seen) if seen.trim() == page => Ok(()),
            Ok(other) => Err(other),
            Err(error) => Err(error.to_string()),
        })
    })
}

/// That nobody serves there.
pub fn expect_none(from: &Namespace, server: SocketAddr) -> Result<()> {
    match fetch(from, server) {
        Ok(page) => Err(LabError::wrong(format!("{server} serves {page:?} to {}", from.name()))),
        Err(_) => Ok(()),
    }
}

fn fetch(from: &Namespace, server: SocketAddr) -> Result<String> {
    let get = || {
        let mut stream = TcpStream::connect_timeout(&server, LONGEST)?;
        stream.set_read_timeout(Some(LONGEST))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = from.enter(get)?.map_err(LabError::io(format!("asking {server} from {}", from.name())))?;
    // What follows the empty line is the page (RFC 9112, section 2.1).
    Ok(answer.split_once("\r\n\r\n").map_or(answer.clone(), |(_, page)| page.to_owned()))
}
