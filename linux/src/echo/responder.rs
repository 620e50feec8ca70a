//! Who answers words: by the word itself and the address from which it came, in a packet that is small whatever came. So a large
//! packet that arrives tells of the one direction alone, and whoever asks learns whether somebody has put another address in place of his.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::{LONGEST, header, never_fragment};

/// A word, and an address as IPv6 has it (IPv4's mapped).
const ANSWER: usize = 8 + 16;
/// The header of UDP, in bytes.
const UDP: usize = 8;
/// How long [`Responder::answer`] waits.
const TURN: Duration = Duration::from_millis(50);

/// A socket in the namespace of the thread that opens it.
#[derive(Debug)]
pub struct Responder {
    socket: UdpSocket,
}

impl Responder {
    /// Listens at an address.
    pub fn open(address: IpAddr, port: u16) -> io::Result<Self> {
        let socket = UdpSocket::bind(SocketAddr::new(address, port))?;
        never_fragment(&socket, address.is_ipv6())?;
        socket.set_read_timeout(Some(TURN))?;
        Ok(Self { socket })
    }

    /// Answers what comes, for as long as `goes_on` says so, which is asked every few milliseconds.
    pub fn answer(&self, goes_on: impl Fn() -> bool) {
        let mut buffer = vec![0; LONGEST];
        while goes_on() {
            // An error is that of an answer that did not arrive, or of the time.
            let Ok((length, from)) = self.socket.recv_from(&mut buffer) else { continue };
            // No answer is longer than its question, so that nobody's packets are multiplied.
            if length >= ANSWER {
                self.socket.send_to(&answer(&buffer, from.ip()), from).unwrap_or_default();
            }
        }
    }
}

fn answer(question: &[u8], from: IpAddr) -> [u8; ANSWER] {
    let from = match from {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let mut answer = [0; ANSWER];
    answer[..8].copy_from_slice(&question[..8]);
    answer[8..].copy_from_slice(&from.octets());
    answer
}

/// A question in a packet of that size, as near as there is room for an answer.
pub(super) fn request(ipv6: bool, size: u32, word: [u8; 8]) -> Vec<u8> {
    let size = usize::try_from(size).unwrap_or(LONGEST).min(LONGEST);
    let mut message = vec![0; size.saturating_sub(header(ipv6) + UDP).max(ANSWER)];
    message[..8].copy_from_slice(&word);
    message
}

/// Whom the responder heard, if this is its answer to the word.
pub(super) fn heard(packet: &[u8], word: [u8; 8]) -> Option<IpAddr> {
    let address = packet.strip_prefix(&word)?;
    let octets: [u8; 16] = address.try_into().ok()?;
    Some(Ipv6Addr::from(octets).to_canonical())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::echo::{How, Question, answers};

    #[test]
    fn a_question_has_the_size_that_is_asked_for() {
        assert_eq!(request(false, 1450, [1; 8]).len(), 1450 - 28);
        assert_eq!(request(true, 1450, [1; 8]).len(), 1450 - 48);
        assert_eq!(request(true, 1, [1; 8]).len(), ANSWER);
    }

    #[test]
    fn an_answer_bears_the_word_and_an_address_of_either_family() {
        let word = *b"whatever";
        for address in ["10.42.0.7", "fd42::7"].map(|text| text.parse::<IpAddr>().unwrap()) {
            let answer = answer(&request(false, 100, word), address);
            assert_eq!(heard(&answer, word), Some(address));
            assert_eq!(heard(&answer, *b"anothers"), None);
            assert_eq!(heard(&answer[..23], word), None, "a part of it");
        }
    }

    #[test]
    fn who_asks_learns_by_which_address_he_was_heard() {
        let local: IpAddr = [127, 0, 0, 1].into();
        let responder = Responder::open(local, 0).unwrap();
        let port = responder.socket.local_addr().unwrap().port();
        let over = AtomicBool::new(false);
        let asked = std::thread::scope(|scope| {
            scope.spawn(|| responder.answer(|| !over.load(Ordering::Relaxed)));
            let question = Question { to: local, how: How::Word { size: 1000, port } };
            let asked = answers(&[question], *b"whatever", 3, Duration::from_secs(1));
            over.store(true, Ordering::Relaxed);
            asked
        });
        let answer = asked.unwrap()[0].answer().unwrap();
        assert_eq!(answer.heard, Some(local));
        assert!(answer.time > Duration::ZERO);
    }
}
