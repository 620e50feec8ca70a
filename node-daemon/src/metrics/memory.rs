//! What the numbers of the reconciler's passes do not tell: what stands in the way, and what was repaired last.

use std::time::Instant;

use twill_linux::table::Outcome;

use super::kernel::Pass;

/// So many obstacles are remembered.
const MOST: usize = 16;

/// The last passes, in words.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// How the last one ended.
    pub last: Option<Pass>,
    /// When the last one ended after which all stood that shall.
    pub settled: Option<Instant>,
    /// The configuration that it was about, by its revision.
    pub applied: Option<i64>,
    /// What stood in the way of the last one; nothing where all stood.
    pub obstacles: Vec<String>,
    /// The last repair, and when it was.
    pub repair: Option<(Instant, String)>,
    /// The configuration that the pass is about which is being made.
    config: Option<i64>,
}

impl Memory {
    pub(super) fn about(&mut self, config: Option<i64>) {
        self.config = config;
    }

    pub(super) fn made(&mut self, pass: Pass) {
        self.last = Some(pass);
        match pass {
            Pass::Settled => {
                (self.settled, self.applied) = (Some(Instant::now()), self.config);
                self.obstacles.clear();
            }
            // The cluster has no configuration, or nothing is known of it yet.
            Pass::Idle => self.obstacles.clear(),
            Pass::Incomplete | Pass::Obstructed => {}
        }
    }

    pub(super) fn did(&mut self, outcome: &Outcome, drifted: bool) {
        let refused = outcome.errors.iter().map(|error| format!("refused: {error}"));
        let lacking = outcome.lacking.iter().map(|device| format!("the device {device} does not stand as it shall"));
        self.obstacles = refused.chain(lacking).take(MOST).collect();
        if let Some(repair) = outcome.repairs.last().filter(|_| drifted) {
            let more = match outcome.repairs.len() - 1 {
                0 => String::new(),
                more => format!(", and {more} more in the same pass"),
            };
            self.repaired(format!("{repair}{more}"));
        }
    }

    pub(super) fn repaired(&mut self, what: String) {
        self.repair = Some((Instant::now(), what));
    }
}

#[cfg(test)]
mod tests {
    use twill_linux::table::Repair;

    use super::*;

    #[test]
    fn a_configuration_is_applied_when_all_stands_and_not_before() {
        let mut memory = Memory::default();
        memory.about(Some(7));
        memory.obstacles = vec!["no underlay".to_owned()];
        memory.made(Pass::Obstructed);
        assert_eq!((memory.applied, memory.settled.is_some(), memory.obstacles.len()), (None, false, 1));
        memory.did(
            &Outcome { lacking: vec![twill_linux::IfName::new("vxlan.twill").unwrap()], ..Outcome::default() },
            false,
        );
        memory.made(Pass::Incomplete);
        assert_eq!(memory.obstacles, ["the device vxlan.twill does not stand as it shall"]);
        memory.did(&Outcome::default(), false);
        memory.made(Pass::Settled);
        memory.about(Some(8));
        assert_eq!((memory.applied, memory.settled.is_some(), memory.obstacles.len()), (Some(7), true, 0));
    }

    #[test]
    fn the_last_repair_is_told_as_it_was_found_and_a_change_is_none() {
        let repair = |object: &str, was: Option<&str>| Repair {
            table: "sysctl",
            action: "changed",
            object: object.to_owned(),
            was: was.map(str::to_owned),
        };
        let outcome = |repairs| Outcome { repairs, ..Outcome::default() };
        let mut memory = Memory::default();
        memory.did(&outcome(vec![repair("a", None)]), false);
        assert!(memory.repair.is_none());
        memory.did(&outcome(vec![repair("a", None), repair("ip_forward", Some("0"))]), true);
        let told = memory.repair.unwrap().1;
        assert_eq!(told, "sysctl: changed ip_forward (was 0), and 1 more in the same pass");
    }
}
