//! Whose turn it is: all nodes one after the other, and in every second turn one of those that seem to be in trouble.

use twill_conf::NodeName;

/// Where the rounds stand.
#[derive(Debug)]
pub(super) struct Schedule {
    /// The node that had its turn last; each node begins with those that come after itself, so that not all ask the same.
    last: NodeName,
    last_suspect: NodeName,
    odd: bool,
}

impl Schedule {
    pub(super) fn new(me: NodeName) -> Self {
        Self { last: me.clone(), last_suspect: me, odd: false }
    }

    /// Lets the next turn be a suspect's: where one of them answers again, the others may.
    pub(super) fn hurry(&mut self) {
        self.odd = false;
    }

    /// The place of the next one in `nodes`, which are in order.
    pub(super) fn next(&mut self, nodes: &[&NodeName], is_suspect: impl Fn(&NodeName) -> bool) -> Option<usize> {
        self.odd = !self.odd;
        let suspects = || nodes.iter().enumerate().filter(|(_, name)| is_suspect(name));
        if self.odd {
            let behind = suspects().find(|(_, name)| ***name > self.last_suspect).or_else(|| suspects().next());
            if let Some((place, name)) = behind {
                self.last_suspect = (*name).clone();
                return Some(place);
            }
        }
        let place = nodes.iter().position(|name| **name > self.last).unwrap_or(0);
        self.last = (*nodes.get(place)?).clone();
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<NodeName> {
        (0..count).map(|number| format!("n{number:04}").parse().unwrap()).collect()
    }

    /// The places in so many turns.
    fn turns(schedule: &mut Schedule, nodes: &[NodeName], suspects: &[usize], count: usize) -> Vec<usize> {
        let nodes: Vec<&NodeName> = nodes.iter().collect();
        let is_suspect = |name: &NodeName| suspects.iter().any(|place| nodes[*place] == name);
        (0..count).filter_map(|_| schedule.next(&nodes, is_suspect)).collect()
    }

    #[test]
    fn every_node_has_its_turn_in_a_round_that_begins_behind_oneself() {
        let nodes = names(6);
        let mut schedule = Schedule::new("n0003a".parse().unwrap());
        assert_eq!(turns(&mut schedule, &nodes, &[], 6), [4, 5, 0, 1, 2, 3]);
        assert_eq!(turns(&mut schedule, &nodes[..0], &[], 3), [0; 0]);
    }

    #[test]
    fn suspects_have_every_second_turn_and_hold_up_nobody_else() {
        let nodes = names(6);
        let mut schedule = Schedule::new("a".parse().unwrap());
        assert_eq!(turns(&mut schedule, &nodes, &[2, 5], 12), [2, 0, 5, 1, 2, 2, 5, 3, 2, 4, 5, 5]);
    }

    #[test]
    fn one_suspect_may_follow_the_other() {
        let nodes = names(6);
        let mut schedule = Schedule::new("a".parse().unwrap());
        assert_eq!(turns(&mut schedule, &nodes, &[2, 5], 1), [2]);
        schedule.hurry();
        assert_eq!(turns(&mut schedule, &nodes, &[2, 5], 2), [5, 0]);
    }

    #[test]
    fn nodes_that_come_and_go_disturb_nothing() {
        let nodes = names(4);
        let mut schedule = Schedule::new("a".parse().unwrap());
        assert_eq!(turns(&mut schedule, &nodes, &[], 2), [0, 1]);
        assert_eq!(turns(&mut schedule, &nodes[2..], &[], 3), [0, 1, 0]);
    }
}
