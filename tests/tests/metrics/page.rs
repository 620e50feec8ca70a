//! Asks a daemon for a page, as somebody on its node.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use twill_tests::deadline::{self, PATIENCE};
use twill_tests::namespace::Namespace;
use twill_tests::{LabError, Node, Result};

/// Where the daemons of these tests serve their metrics.
pub const PORT: u16 = 9477;

/// An answer.
#[derive(Debug)]
pub struct Page {
    /// HTTP's status.
    pub status: u16,
    /// What came behind the head.
    pub body: String,
}

impl Page {
    /// The sum of the samples of that name that have these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let samples = self.body.lines().filter_map(|line| line.rsplit_once(' '));
        let wanted = samples.filter(|(series, _)| {
            let (found, rest) = series.split_once('{').unwrap_or((series, ""));
            found == name && labels.iter().all(|(label, value)| rest.contains(&format!("{label}=\"{value}\"")))
        });
        wanted.filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
    }
}

/// Asks the daemon of a node, on the node.
pub fn page(node: &Node, path: &str) -> Result<Page> {
    get(node.namespace(), (std::net::Ipv4Addr::LOCALHOST, PORT).into(), path)
}

/// Waits until a node's metrics say so.
pub fn told(node: &Node, what: &str, is_so: impl Fn(&Page) -> bool) -> Result<()> {
    deadline::until_some(&format!("{} tells {what}", node.name()), PATIENCE, || {
        node.expect_daemon()?;
        let page = page(node, "/metrics")?;
        Ok(if is_so(&page) { Ok(()) } else { Err(page.body) })
    })
}

/// Asks an HTTP server from inside a namespace.
pub fn get(namespace: &Namespace, at: SocketAddr, path: &str) -> Result<Page> {
    let asked = namespace.enter(|| {
        let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    })?;
    let answer = asked.map_err(LabError::io(format!("asking {at} for {path}")))?;
    let parts = answer.split_once("\r\n\r\n").and_then(|(head, body)| {
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, head.to_ascii_lowercase().contains("transfer-encoding: chunked"), body))
    });
    let (status, is_chunked, body) = parts.ok_or_else(|| LabError::wrong(format!("{at}: no answer: {answer}")))?;
    let body = if is_chunked { joined(body) } else { body.to_owned() };
    Ok(Page { status, body })
}

/// The chunks of a body together (RFC 9112, 7.1).
fn joined(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).unwrap_or(0);
        let Some(chunk) = rest.get(..length).filter(|chunk| !chunk.is_empty()) else { break };
        whole += chunk;
        body = rest[length..].trim_start_matches("\r\n");
    }
    whole
}
