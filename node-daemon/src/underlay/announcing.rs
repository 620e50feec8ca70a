//! When others are told by which MAC the node's IPv6 underlay address is reached: when that is another one, as after the interface was
//! made anew or a card was exchanged. They would send to the old one for up to half a minute.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use twill_fabric::Underlay;
use twill_linux::ndisc::{self, Place};
use twill_linux::table::SeenLink;

use super::sysctl;

/// So often, since a network may carry nothing yet when its interface comes up; and no closer together (MAX_NEIGHBOR_ADVERTISEMENT and
/// RETRANS_TIMER of RFC 4861, section 10).
const TIMES: u8 = 3;
const APART: Duration = Duration::from_secs(1);

/// What was said.
#[derive(Debug, Default)]
pub struct Announcer {
    seen: Option<Seen>,
    left: u8,
    last: Option<Instant>,
}

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    place: Place,
    /// The interface takes packets; some tell of that, and before it drop what is sent without a word.
    running: bool,
}

impl Announcer {
    /// Says what is to be said, in the caller's namespace. To be called at each look at the links.
    pub fn follow(&mut self, links: &[SeenLink], underlay: &Underlay) {
        let Some(place) = self.due(see(links, underlay), Instant::now()) else { return };
        if let Err(error) = ndisc::advertise(place) {
            tracing::warn!("others are not told that {} is at {} now: {error}", place.address, place.mac);
        }
    }

    fn due(&mut self, now: Option<Seen>, at: Instant) -> Option<Place> {
        if now != self.seen {
            (self.seen, self.left, self.last) = (now, TIMES, None);
        }
        let is_time = self.last.is_none_or(|last| at.duration_since(last) >= APART);
        let seen = self.seen.filter(|_| self.left > 0 && is_time)?;
        (self.left, self.last) = (self.left - 1, Some(at));
        Some(seen.place)
    }
}

fn see(links: &[SeenLink], underlay: &Underlay) -> Option<Seen> {
    let side = underlay.ipv6.as_ref()?;
    let link = links.iter().find(|link| link.index == side.index && link.carrier)?;
    let IpAddr::V6(address) = side.cidr.ip() else { return None };
    let router = sysctl(&format!("net/ipv6/conf/{}/forwarding", link.name)) > 0;
    Some(Seen { place: Place { address, mac: link.mac?, index: link.index, router }, running: link.running })
}

#[cfg(test)]
mod tests {
    use twill_linux::MacAddr;

    use super::*;

    #[test]
    fn a_place_is_told_three_times_and_another_one_at_once() {
        let (mut announcer, begin) = (Announcer::default(), Instant::now());
        let place = |last| Place {
            address: "fd09::1".parse().unwrap(),
            mac: MacAddr([2, 0, 0, 0, 0, last]),
            index: 2,
            router: true,
        };
        let mut due = |millis, last| {
            let seen = Seen { place: place(last), running: millis > 0 };
            let told = announcer.due(Some(seen), begin + Duration::from_millis(millis));
            assert!(told.is_none_or(|told| told == place(last)));
            told.is_some()
        };
        assert_eq!([due(0, 1), due(1, 1)], [true, true], "when it takes packets");
        assert_eq!([due(900, 1), due(1001, 1), due(9000, 1), due(20_000, 1)], [false, true, true, false]);
        assert_eq!([due(20_100, 2), due(20_200, 1), due(20_300, 1)], [true, true, false]);
        assert_eq!(announcer.due(None, begin), None);
    }
}
