//! Lines over loopback: what came unsigned brings nothing once it is settled with a password, and what comes is read in order to its end.

use std::io::Read as _;

use tokio::net::TcpListener;
use twill_bgp::speaker::Password;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (stream, listener.accept().await.unwrap().0)
}

#[tokio::test]
async fn what_came_unsigned_brings_nothing_once_it_is_settled_with_a_password() {
    for password in [None, Some(Password::new(b"secret").unwrap())] {
        let (mut stream, accepted) = connection().await;
        let remote = accepted.peer_addr().unwrap();
        let (has_password, source, ttl, least_ttl) = (password.is_some(), None, None, None);
        let endpoint = Endpoint { address: remote.ip(), port: remote.port(), source, ttl, least_ttl, password };
        let accepted = Lines::settle(accepted, &endpoint).unwrap();
        stream.write_all(b"open").await.unwrap();
        if !has_password {
            timeout(PATIENCE, accepted.readable()).await.unwrap().unwrap();
        }
        // By loopback it has come, or has been dropped, when it is written.
        let read = accepted.into_std().unwrap().read(&mut [0; 8]).map_err(|error| error.kind());
        assert_eq!(read, if has_password { Err(io::ErrorKind::WouldBlock) } else { Ok(4) });
    }
}

#[tokio::test]
async fn all_that_comes_is_read_in_order_and_then_the_end() {
    let (stream, mut peer) = connection().await;
    let sent: Vec<u8> = (0..5 * READ).map(|place| (place % 251) as u8).collect();
    let all = sent.clone();
    let writing = tokio::spawn(async move { peer.write_all(&all).await });
    let (reader, _writer) = stream.into_split();
    let mut came = Vec::new();
    loop {
        let bytes = timeout(PATIENCE, next(&reader)).await.unwrap().unwrap();
        assert!(bytes.capacity() <= READ);
        match bytes.is_empty() {
            true => break,
            false => came.extend(bytes),
        }
    }
    writing.await.unwrap().unwrap();
    assert!(came == sent, "{} of {} bytes", came.len(), sent.len());
}
