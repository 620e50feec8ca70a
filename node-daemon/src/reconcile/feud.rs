//! What is repaired again and again: somebody else has another opinion of it, and neither gives in.
//!
//! Repairs are counted by kind. An object that was repaired [`OFTEN`] times within [`SPELL`] is contested: that is told once, with
//! who may be doing it, instead of a line for each repair; and passes then rest a while, so that two daemons do not keep each other
//! busy. When an object was left in peace for [`SPELL`], that is told too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use twill_checkup::suspects::{SUSPECTS, running};
use twill_linux::table::Repair;

/// So many repairs of one object within [`SPELL`] are no accident.
const OFTEN: usize = 5;
/// How long a repair is remembered.
const SPELL: Duration = Duration::from_secs(60);
/// Passes that repair something contested follow each other no closer: within a second of the event, but not at once.
pub(super) const RESPITE: Duration = Duration::from_millis(800);
/// No more objects are watched: what fights about more of them than this fights about all.
const MOST: usize = 4096;

/// The repairs of the last minute, and how many there were since the start.
#[derive(Debug, Default)]
pub(super) struct Feuds {
    counts: BTreeMap<&'static str, u64>,
    recent: BTreeMap<Object, Vec<Instant>>,
    contested: BTreeSet<Object>,
}

/// A repaired object, whatever it was found as.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Object {
    table: &'static str,
    name: String,
}

/// What became of the peace by one pass.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Objects that are contested from now on.
    pub(super) begun: Vec<Object>,
    /// Objects that are not any more.
    pub(super) over: Vec<Object>,
    /// Something contested was repaired.
    pub(super) goes_on: bool,
}

impl Feuds {
    /// Takes the repairs of a pass.
    pub(super) fn note(&mut self, repairs: &[Repair], now: Instant) -> News {
        let mut news = News::default();
        for repair in repairs {
            *self.counts.entry(repair.table).or_default() += 1;
            let object = Object::of(repair);
            if self.recent.len() < MOST || self.recent.contains_key(&object) {
                self.recent.entry(object).or_default().push(now);
            }
        }
        self.recent.retain(|_, times| {
            times.retain(|time| now.duration_since(*time) < SPELL);
            !times.is_empty()
        });
        for (object, times) in &self.recent {
            if times.len() >= OFTEN && self.contested.insert(object.clone()) {
                news.begun.push(object.clone());
            }
        }
        news.goes_on = repairs.iter().any(|repair| self.is_contested(repair));
        news.over = self.contested.iter().filter(|object| !self.recent.contains_key(object)).cloned().collect();
        for object in &news.over {
            self.contested.remove(object);
        }
        news
    }

    /// Whether repairs of this object are told together.
    pub(super) fn is_contested(&self, repair: &Repair) -> bool {
        self.contested.contains(&Object::of(repair))
    }

    /// How many objects are contested.
    pub(super) fn contested(&self) -> usize {
        self.contested.len()
    }

    /// How many objects of a kind were repaired since the start.
    pub(super) fn count(&self, table: &str) -> u64 {
        self.counts.get(table).copied().unwrap_or(0)
    }
}

impl Object {
    fn of(repair: &Repair) -> Self {
        Self { table: repair.table, name: repair.object.clone() }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.table, self.name)
    }
}

impl Object {
    /// Who may be doing it, and what to do about that, by the processes that run.
    pub(super) fn suspects(&self) -> String {
        self.suspects_among(&running(Path::new("/proc")))
    }

    fn suspects_among(&self, running: &BTreeSet<String>) -> String {
        let of_firewall = self.table == "firewall";
        let about =
            SUSPECTS.iter().filter(|suspect| suspect.firewall == of_firewall && running.contains(suspect.command));
        let told: Vec<String> =
            about.map(|suspect| format!("{} runs here: {}", suspect.name, suspect.remedy)).collect();
        match told.is_empty() {
            false => told.join("; "),
            true if of_firewall => {
                "look for who flushes or reloads the ruleset: nft monitor shows it as it happens".to_owned()
            }
            true => "look for who manages this machine's network: ip monitor shows it as it happens".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repair(table: &'static str, object: &str) -> Repair {
        Repair { table, action: "added", object: object.to_owned(), was: None }
    }

    fn names(objects: &[Object]) -> Vec<String> {
        objects.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_repaired_again_and_again_is_told_when_it_begins_and_when_it_is_over() {
        let (mut feuds, begin) = (Feuds::default(), Instant::now());
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let (one, other) = (repair("route", "10.42.1.0/26 via x"), repair("link", "vxlan.twill"));
        for second in 0..4 {
            assert_eq!(feuds.note(std::slice::from_ref(&one), at(second)), News::default(), "{second}");
        }
        let news = feuds.note(&[one.clone(), other.clone()], at(4));
        assert_eq!((names(&news.begun), news.goes_on), (vec!["route 10.42.1.0/26 via x".to_owned()], true));
        assert!(feuds.is_contested(&one) && !feuds.is_contested(&other));
        let news = feuds.note(std::slice::from_ref(&one), at(50));
        assert_eq!((news.begun.len(), news.over.len(), news.goes_on), (0, 0, true), "it is told once");
        assert_eq!(feuds.note(&[], at(109)), News::default(), "not yet a minute");
        assert_eq!(names(&feuds.note(&[], at(110)).over), ["route 10.42.1.0/26 via x"]);
        assert!(!feuds.is_contested(&one));
        assert_eq!((feuds.count("route"), feuds.count("link"), feuds.count("fdb")), (6, 1, 0));
    }

    #[test]
    fn repairs_far_apart_are_no_feud_and_a_sysctl_is_one_object_whatever_it_was() {
        let (mut feuds, begin) = (Feuds::default(), Instant::now());
        for minute in 0..20 {
            let news = feuds.note(&[repair("route", "a")], begin + 15 * minute * Duration::from_secs(1));
            assert!(news.begun.is_empty(), "four a minute");
        }
        let mut feuds = Feuds::default();
        let told: Vec<News> = (0..5)
            .map(|was| feuds.note(&[Repair { was: Some(was.to_string()), ..repair("sysctl", "net/x = 1") }], begin))
            .collect();
        assert_eq!(names(&told[4].begun), ["sysctl net/x = 1"]);
    }

    #[test]
    fn suspects_are_those_that_run_and_have_to_do_with_it() {
        let running = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let route = Object::of(&repair("route", "a"));
        let firewall = Object::of(&repair("firewall", "table inet twill"));
        let both = running(&["systemd-network", "firewalld", "bash"]);
        assert!(route.suspects_among(&both).starts_with("systemd-networkd runs here: set ManageForeignRoutes=no"));
        assert!(!route.suspects_among(&both).contains("firewalld"));
        assert!(firewall.suspects_among(&both).starts_with("firewalld runs here"));
        assert!(route.suspects_among(&running(&[])).contains("ip monitor"));
        assert!(firewall.suspects_among(&running(&["NetworkManager"])).contains("nft monitor"));
    }
}
