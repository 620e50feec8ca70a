//! Where peers come to: a listener for each family that there are peers of, with a key for each peer that has a password.
//!
//! A peer with a password is never heard unsigned: its key is set before anybody can connect, and while the kernel does not take it
//! the peer is refused, the operator told, and the key tried again. The other peers are heard all the same.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;

use nix::errno::Errno;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use twill_cluster::record::Told;
use twill_linux::Error;
use twill_linux::tcp::{self, Bound, Md5Key};

use super::{AGAIN, LAST, News};

/// The listeners of both families.
#[derive(Debug, Default)]
pub(super) struct Listeners(Vec<Listener>);

/// The keys of peers.
type Keys = BTreeMap<IpAddr, Md5Key>;

#[derive(Debug)]
struct Listener {
    at: SocketAddr,
    wanted: Keys,
    state: Result<Open, Closed>,
}

/// It listens until it is dropped.
#[derive(Debug)]
struct Open {
    socket: TcpListener,
    task: AbortHandle,
    /// Those that the kernel has.
    keys: Keys,
    unset: Option<Unset>,
}

#[derive(Debug)]
struct Closed {
    since: Instant,
    why: String,
}

/// Keys that the kernel has not taken.
#[derive(Debug)]
struct Unset {
    count: usize,
    /// Why it has not taken the first of them.
    why: Error,
}

impl Listeners {
    /// Listens at this port for these peers, at all addresses of their families: a family that nobody uses may be off in the
    /// kernel. What of that cannot be done; it is to be asked again then.
    pub(super) fn keep(
        &mut self,
        port: u16,
        peers: impl Iterator<Item = (IpAddr, Option<Md5Key>)>,
        tell: &mpsc::Sender<News>,
    ) -> Vec<Told> {
        let (ipv4, ipv6): (BTreeMap<_, _>, BTreeMap<_, _>) = peers.partition(|(peer, _)| peer.is_ipv4());
        let families = [(IpAddr::from(Ipv4Addr::UNSPECIFIED), ipv4), (Ipv6Addr::UNSPECIFIED.into(), ipv6)];
        let mut before = std::mem::take(&mut self.0);
        for (address, peers) in families.into_iter().filter(|(_, peers)| !peers.is_empty()) {
            let at = SocketAddr::new(address, port);
            let wanted: Keys = peers.into_iter().filter_map(|(peer, key)| Some((peer, key?))).collect();
            let known = before.iter().position(|listener| listener.at == at);
            self.0.push(match known.map(|place| before.swap_remove(place)) {
                Some(listener) => listener.keep(wanted, tell),
                None => Listener::open(at, wanted, tell),
            });
        }
        self.0.iter().filter_map(Listener::trouble).collect()
    }

    /// Whether a connection of this peer must not be taken: it may be unsigned, and the peer has a password.
    pub(super) fn refuse(&self, peer: IpAddr) -> bool {
        self.0.iter().any(|listener| match (listener.wanted.get(&peer), &listener.state) {
            (Some(key), Ok(open)) => open.keys.get(&peer) != Some(key),
            (wanted, _) => wanted.is_some(),
        })
    }
}

impl Listener {
    fn open(at: SocketAddr, wanted: Keys, tell: &mpsc::Sender<News>) -> Self {
        let begin = || -> Result<Open, Box<dyn std::error::Error>> {
            let (bound, mut keys) = (Bound::at(at)?, Keys::new());
            let unset = set_keys(&bound, &mut keys, &wanted);
            let socket = bound.listen()?;
            let listener = tokio::net::TcpListener::from_std(socket.try_clone()?)?;
            let task = tokio::spawn(accept(listener, tell.clone())).abort_handle();
            Ok(Open { socket, task, keys, unset })
        };
        let state = begin().map_err(|error| Closed { since: Instant::now(), why: error.to_string() });
        Self { at, wanted, state }
    }

    /// With these keys from now on.
    fn keep(mut self, wanted: Keys, tell: &mpsc::Sender<News>) -> Self {
        match &mut self.state {
            Ok(open) => open.unset = set_keys(&open.socket, &mut open.keys, &wanted),
            Err(closed) if closed.since.elapsed() >= AGAIN => return Self::open(self.at, wanted, tell),
            Err(_) => {}
        }
        Self { wanted, ..self }
    }

    /// What an operator is told.
    fn trouble(&self) -> Option<Told> {
        match &self.state {
            Err(Closed { why, .. }) => Some(Told {
                what: format!("peers cannot begin BGP sessions with this node: {why}"),
                fix: "stop the other program that has the port, or set another port in [bgp]".to_owned(),
            }),
            Ok(Open { unset: Some(Unset { count, why }), .. }) => Some(Told {
                what: format!(
                    "{count} of {} BGP peers with passwords cannot begin sessions with this node: {why}",
                    self.wanted.len()
                ),
                fix: match why.errno() {
                    Some(Errno::ENOMEM) => {
                        "raise the sysctl net.core.optmem_max, of which each peer's password takes about 136 bytes, or let \
                         nodes have fewer peers by [bgp.reflectors]"
                    }
                    _ => "look whether the kernel has TCP-MD5 (CONFIG_TCP_MD5SIG) and may use it, which FIPS forbids",
                }
                .to_owned(),
            }),
            Ok(_) => None,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Brings the keys of a socket to what is wanted. `keys`: those that it has, before and after.
fn set_keys(socket: &impl AsFd, keys: &mut Keys, wanted: &Keys) -> Option<Unset> {
    // Those that go make room for those that come.
    keys.retain(|peer, _| {
        let stays = || match tcp::set_key(socket, *peer, None) {
            Ok(()) => false,
            Err(error) => {
                tracing::debug!("BGP: {error}");
                true
            }
        };
        wanted.contains_key(peer) || stays()
    });
    let mut unset: Option<Unset> = None;
    for (peer, key) in wanted {
        if keys.get(peer) == Some(key) {
            continue;
        }
        match tcp::set_key(socket, *peer, Some(key)) {
            Ok(()) => _ = keys.insert(*peer, key.clone()),
            Err(why) => unset.get_or_insert(Unset { count: 0, why }).count += 1,
        }
    }
    unset
}

async fn accept(listener: tokio::net::TcpListener, tell: mpsc::Sender<News>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if tell.send(News::Came(stream)).await.is_err() {
                    return;
                }
            }
            // Of the connection that came, or of descriptors that are all in use.
            Err(error) => {
                tracing::debug!(%error, "BGP: a connection could not be accepted");
                sleep(LAST).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn hosts(count: u32) -> impl DoubleEndedIterator<Item = IpAddr> {
        (0..count).map(|host| Ipv4Addr::from_bits(0x0a00_0000 + host).into())
    }

    fn with_keys(peers: impl Iterator<Item = IpAddr>) -> impl Iterator<Item = (IpAddr, Option<Md5Key>)> {
        peers.map(|peer| (peer, Some(Md5Key::new(b"secret").unwrap())))
    }

    #[tokio::test]
    async fn only_the_families_of_peers_are_listened_in() {
        let (tell, _news) = mpsc::channel(1);
        let mut listeners = Listeners::default();
        for (peers, families) in
            [(&["192.0.2.1", "192.0.2.2"][..], &[true][..]), (&["2001:db8::1"], &[false]), (&[], &[])]
        {
            let troubles = listeners.keep(0, peers.iter().map(|peer| (ip(peer), None)), &tell);
            assert_eq!(troubles, []);
            let are_ipv4: Vec<bool> = listeners.0.iter().map(|listener| listener.at.is_ipv4()).collect();
            assert_eq!(are_ipv4, families);
        }
    }

    #[tokio::test]
    async fn peers_whose_keys_find_no_room_are_refused_and_told_of_until_there_is_some() {
        let limit = std::fs::read_to_string("/proc/sys/net/core/optmem_max").unwrap();
        // More than there is room for.
        let count = limit.trim().parse::<u32>().unwrap() / 64;
        let (tell, _news) = mpsc::channel(1);
        let mut listeners = Listeners::default();
        // At first, and when it is tried again.
        for _ in 0..2 {
            let troubles = listeners.keep(0, with_keys(hosts(count)).chain([(ip("192.0.2.1"), None)]), &tell);
            let refused = hosts(count).filter(|peer| listeners.refuse(*peer)).count();
            assert!(refused > 0 && refused < count as usize, "{refused} of {count}");
            let [Told { what, fix }] = &troubles[..] else { panic!("{troubles:?}") };
            let told = format!("{refused} of {count} BGP peers with passwords cannot begin sessions with this node: ");
            assert!(what.starts_with(&told), "{what}");
            assert!(fix.contains("net.core.optmem_max"), "{fix}");
            assert!(!listeners.refuse(ip("192.0.2.1")), "it has no password");
        }
        // The last have found no room; when others go there is some.
        let last = || hosts(count).rev().take(9);
        assert!(last().all(|peer| listeners.refuse(peer)));
        assert_eq!(listeners.keep(0, with_keys(last()), &tell), []);
        assert!(!last().any(|peer| listeners.refuse(peer)));
    }

    #[tokio::test]
    async fn a_port_that_another_program_has_is_told_and_nobody_with_a_password_is_heard() {
        let (tell, _news) = mpsc::channel(1);
        let other = TcpListener::bind("0.0.0.0:0").unwrap();
        let mut listeners = Listeners::default();
        let troubles = listeners.keep(other.local_addr().unwrap().port(), with_keys(hosts(1)), &tell);
        assert!(matches!(&troubles[..], [told] if told.fix.starts_with("stop the other program")), "{troubles:?}");
        assert!(hosts(1).all(|peer| listeners.refuse(peer)));
    }
}
