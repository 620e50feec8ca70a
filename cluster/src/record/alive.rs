//! The value of `alive/<name>`: for display only. Nothing in the data path hangs on it, and no node reads another's.

use serde::{Deserialize, Serialize};

use crate::plain;

/// So many problems of a node are told; of more, their number.
const MOST: usize = 16;
/// So many bytes of a text are told.
const LONGEST: usize = 600;

/// What a daemon tells with its sign of life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AliveRecord {
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// What is wrong with the node, as far as only the node can know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Told>,
}

/// A problem of a node, in words for an operator.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Told {
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub fix: String,
}

impl AliveRecord {
    /// Of a daemon that finds these problems, of which the first ones are told.
    pub fn new(version: &str, problems: impl IntoIterator<Item = Told>) -> Self {
        let mut problems: Vec<Told> = problems.into_iter().collect();
        if let Some(more) = problems.len().checked_sub(MOST).filter(|more| *more > 0) {
            problems.truncate(MOST);
            let what = format!("{more} more problems");
            problems.push(Told { what, fix: "look at the log of its twilld".to_owned() });
        }
        Self { version: version.to_owned(), problems }.within_bounds()
    }

    /// No more than [`Self::new`] makes of any daemon's problems.
    fn within_bounds(mut self) -> Self {
        self.problems.truncate(MOST + 1);
        for text in self.problems.iter_mut().flat_map(|told| [&mut told.what, &mut told.fix]) {
            plain::cut(text, LONGEST);
        }
        self
    }

    /// Reads it, whatever somebody wrote there: what is none of ours tells nothing, and no text moves a terminal.
    pub fn read(value: &[u8]) -> Self {
        let record: Self = serde_json::from_slice(value).unwrap_or_default();
        Self { version: plain::line(&record.version, LONGEST), problems: record.problems }.within_bounds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(what: &str) -> Told {
        Told { what: what.to_owned(), fix: "x".repeat(1000) }
    }

    #[test]
    fn many_problems_are_told_by_their_number_and_long_ones_in_part() {
        let record = AliveRecord::new("1", (0..20).map(|n| told(&n.to_string())));
        assert_eq!(record.problems.len(), MOST + 1);
        assert_eq!(record.problems[MOST].what, "4 more problems");
        assert_eq!(record.problems[0].fix.len(), LONGEST);
        assert_eq!(AliveRecord::read(&serde_json::to_vec(&record).unwrap()), record, "it is read as it was told");
        let hostile = AliveRecord { problems: vec![told("x"); 100], ..AliveRecord::default() };
        assert_eq!(AliveRecord::read(&serde_json::to_vec(&hostile).unwrap()).problems.len(), MOST + 1);
    }

    #[test]
    fn what_others_wrote_tells_nothing_or_tells_it_on_one_line() {
        assert_eq!(AliveRecord::read(b"{"), AliveRecord::default());
        assert_eq!(AliveRecord::read(br#"{"version": "0.1.0"}"#).problems, []);
        let hostile = r#"{"problems": [{"what": "\u001b[2Ja\nb", "fix": "c"}]}"#;
        assert_eq!(AliveRecord::read(hostile.as_bytes()).problems[0].what, " [2Ja b");
    }
}
