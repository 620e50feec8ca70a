//! The chains of others that drop what this node forwards: told, and where the cluster's configuration has `open_forward`,
//! opened. Looked at on the events of nftables and by the timer: not for each pod, but for such as publish ports, whose rules nftables hold too.

use std::collections::BTreeSet;

use twill_cluster::record::Told;
use twill_linux::Error;
use twill_linux::forward::{self, Barrier, Kept, Passage, Place};
use twill_linux::table::Repair;

use crate::troubles::Troubles;

/// By which the board knows what is found here.
const FINDER: &str = "forward";

/// What was wanted last, and what stands since.
#[derive(Debug)]
pub(super) struct Forward {
    troubles: Troubles,
    passage: Option<Passage>,
    open: BTreeSet<Place>,
}

impl Forward {
    pub(super) fn new(troubles: Troubles) -> Self {
        Self { troubles, passage: None, open: BTreeSet::new() }
    }

    /// Looks where something `changed` in nftables, or another passage is wanted than before. What somebody had closed and is
    /// open again.
    pub(super) fn keep(&mut self, passage: &Passage, changed: bool) -> Vec<Repair> {
        if !changed && self.passage.as_ref() == Some(passage) {
            return Vec::new();
        }
        let kept = forward::keep(passage);
        // What failed is tried again whatever the cause of the next pass.
        self.passage = kept.is_ok().then(|| passage.clone());
        self.troubles.set(FINDER, told(&kept, passage));
        let Ok(Kept { opened, closed, open, barriers, .. }) = kept else { return Vec::new() };
        let is_refused = |place: &Place| barriers.iter().any(|barrier| barrier.entrance.as_ref() == Some(place));
        for place in &closed {
            tracing::info!("{place} has no rules of ours any more: open_forward is off, or it drops nothing now");
        }
        let (again, first): (Vec<_>, Vec<_>) = opened.into_iter().partition(|place| self.open.contains(place));
        for place in first {
            tracing::info!("{place} lets pods through now, as open_forward wants it");
        }
        self.open = open.into_iter().filter(|place| !is_refused(place)).collect();
        let repair =
            |place: Place| Repair { table: "firewall", action: "opened", object: place.to_string(), was: None };
        again.into_iter().map(repair).collect()
    }
}

fn told(kept: &Result<Kept, Error>, passage: &Passage) -> Vec<Told> {
    match kept {
        Ok(kept) => {
            let barriers = kept.barriers.iter().map(|barrier| tell(barrier, passage));
            barriers.chain(kept.stuck.iter().map(|(place, error)| tell_stuck(place, error))).collect()
        }
        Err(error) => {
            let what = format!("what other tables do to forwarded packets cannot be known: {error}");
            vec![Told { what, fix: "look whether nft works on this machine".to_owned() }]
        }
    }
}

fn tell_stuck(place: &Place, error: &str) -> Told {
    Told {
        what: format!("the rules of open_forward in {place} could not be removed: {error}"),
        fix: "it is tried again; look at 'nft -a list ruleset' if this stays".to_owned(),
    }
}

fn tell(Barrier { place, how, closed, entrance, refused }: &Barrier, passage: &Passage) -> Told {
    let interfaces = passage.interfaces;
    let dropped = match closed.as_slice() {
        ["iifname"] => "what pods send",
        ["oifname"] => "what pods get",
        _ => "what pods send and get",
    };
    let conditions: Vec<String> = closed.iter().map(|direction| format!("{direction} \"{interfaces}\"")).collect();
    let what = format!("{place} drops {dropped}: {how}, and no rule of it accepts {}", conditions.join(" or "));
    let by_hand = conditions.iter().map(|condition| format!("'nft insert rule {place} {condition} accept'"));
    let fix = match (entrance, refused) {
        (Some(entrance), None) => format!(
            "set open_forward = true in [firewall] of the cluster configuration, and twilld inserts two rules into {entrance}"
        ),
        (Some(entrance), Some(error)) => {
            format!(
                "open_forward could not open {entrance} ({error}): let the program that made it accept {interfaces}"
            )
        }
        (None, _) => format!("nobody but its author changes it: {}", by_hand.collect::<Vec<_>>().join(" and ")),
    };
    Told { what, fix }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PODS: Passage = Passage { interfaces: "tw*", own: "twill", ipv4: true, ipv6: true, open: false };

    fn place(chain: &str) -> Place {
        Place { family: "ip".to_owned(), table: "filter".to_owned(), chain: chain.to_owned() }
    }

    #[test]
    fn a_barrier_is_told_with_its_name_and_with_what_opens_it() {
        let how = "its policy is drop";
        let closed = vec!["iifname", "oifname"];
        let barrier =
            Barrier { place: place("FORWARD"), how, closed, entrance: Some(place("DOCKER-USER")), refused: None };
        let Told { what, fix } = tell(&barrier, &PODS);
        assert!(what.starts_with("ip filter FORWARD drops") && what.contains(how), "{what}");
        assert!(fix.contains("open_forward = true") && fix.contains("ip filter DOCKER-USER"), "{fix}");
        let refused = tell(&Barrier { refused: Some("EPERM".to_owned()), ..barrier.clone() }, &PODS);
        assert!(refused.fix.contains("EPERM"), "{}", refused.fix);
        let by_hand = tell(&Barrier { entrance: None, ..barrier.clone() }, &PODS);
        assert!(by_hand.fix.contains("nft insert rule ip filter FORWARD iifname \"tw*\" accept"), "{}", by_hand.fix);
        let half = tell(&Barrier { closed: vec!["oifname"], entrance: None, ..barrier }, &PODS);
        assert!(half.what.contains("drops what pods get: ") && !half.fix.contains("iifname"), "{half:?}");
    }
}
