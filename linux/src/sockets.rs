//! The TCP connections and UDP sockets of the caller's namespace, as /proc/net/tcp, udp, tcp6 and udp6 show them
//! (Documentation/networking/proc_net_tcp.rst).

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// TCP_TIME_WAIT (include/net/tcp_states.h).
const TIME_WAIT: &str = "06";
/// TCP_LISTEN.
const LISTEN: &str = "0A";

/// Whether a TCP socket listens at that address itself, which one that listens at all addresses does not.
pub fn is_listened(at: SocketAddr) -> io::Result<bool> {
    let file = if at.is_ipv6() { "tcp6" } else { "tcp" };
    let table = BufReader::new(File::open(format!("/proc/thread-self/net/{file}"))?);
    for line in table.lines().skip(1) {
        if own_socket(&line?).is_some_and(|(own, state)| state == LISTEN && own == at) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether any TCP connection has one of these addresses for its own.
pub fn any_from(addresses: &[IpAddr]) -> io::Result<bool> {
    if addresses.is_empty() {
        return Ok(false);
    }
    for file in ["tcp", "tcp6"] {
        let table = match File::open(format!("/proc/thread-self/net/{file}")) {
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            table => BufReader::new(table?),
        };
        for line in table.lines().skip(1) {
            if own_end(&line?).is_some_and(|ip| addresses.contains(&ip)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The inodes of the UDP sockets with this port of their own, the kernel's among them: a VXLAN device that is up has one.
pub fn udp_on(port: u16) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for file in ["udp", "udp6"] {
        let table = match File::open(format!("/proc/thread-self/net/{file}")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            table => BufReader::new(table?),
        };
        for line in table.lines().skip(1) {
            found.extend(inode_on(&line?, port));
        }
    }
    Ok(found)
}

/// The tenth word is the inode.
fn inode_on(line: &str, port: u16) -> Option<u64> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let own = words.get(1)?.rsplit_once(':')?.1;
    let is_it = u16::from_str_radix(own, 16) == Ok(port);
    is_it.then(|| words.get(9)?.parse().ok()).flatten()
}

/// The own address of a connection, unless it is over, or only waited for: nobody loses anything with these.
fn own_end(line: &str) -> Option<IpAddr> {
    let (own, state) = own_socket(line)?;
    (state != TIME_WAIT && state != LISTEN).then(|| own.ip())
}

/// Own address and port, and the state.
fn own_socket(line: &str) -> Option<(SocketAddr, &str)> {
    let mut words = line.split_whitespace().skip(1);
    let (own, _other, state) = (words.next()?, words.next()?, words.next()?);
    let (address, port) = own.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Words of 32 bits, each printed as the host reads it.
    let words: Vec<u32> =
        (0..address.len() / 8).filter_map(|i| address.get(8 * i..8 * i + 8)).map(word).collect::<Option<_>>()?;
    let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
    let v4 = <[u8; 4]>::try_from(bytes.as_slice()).map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
    let v6 = <[u8; 16]>::try_from(bytes.as_slice()).map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical());
    Some((SocketAddr::new(v4.or(v6).ok()?, port), state))
}

fn word(digits: &str) -> Option<u32> {
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_udp_socket_is_found_by_its_port() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let inodes = udp_on(port).unwrap();
        let link = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&socket))).unwrap();
        assert_eq!(link.to_string_lossy(), format!("socket:[{}]", inodes[0]));
        drop(socket);
        assert!(udp_on(port).unwrap().is_empty());
    }

    #[test]
    fn who_listens_is_found_by_address_and_port() {
        for own in ["127.0.0.78", "::1"] {
            let ip: IpAddr = own.parse().unwrap();
            let Ok(listener) = TcpListener::bind((ip, 0)) else { continue };
            let at = listener.local_addr().unwrap();
            assert!(is_listened(at).unwrap(), "{own}");
            let stream = TcpStream::connect(at).unwrap();
            assert!(!is_listened(stream.local_addr().unwrap()).unwrap(), "connected, and does not listen");
            if own != "::1" {
                assert!(!is_listened(SocketAddr::new([127, 0, 0, 79].into(), at.port())).unwrap());
            }
            drop(listener);
            assert!(!is_listened(at).unwrap(), "{own}");
        }
    }

    #[test]
    fn a_connection_counts_by_its_own_end_while_it_lasts_and_a_listener_does_not() {
        for own in ["127.0.0.77", "::1"] {
            let ip: IpAddr = own.parse().unwrap();
            let Ok(listener) = TcpListener::bind((ip, 0)) else { continue };
            if own != "::1" {
                assert!(!any_from(&[ip]).unwrap(), "only listened on");
            }
            let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            assert!(any_from(&[ip]).unwrap(), "{own}");
            drop(stream);
        }
        assert!(!any_from(&["192.0.2.77".parse().unwrap()]).unwrap());
        assert!(!any_from(&[]).unwrap());
    }
}
