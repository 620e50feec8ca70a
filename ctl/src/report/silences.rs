//! Nodes that did not answer: which, why, and what helps. Pure; one judgement for whatever they were asked.

use std::collections::BTreeMap;

use twill_cluster::inquiry::client::{Answers, Silence};

use super::problems::{Problem, shortened};
use super::untold::{ETCD, Untold};

/// What is said of them.
#[derive(Debug, Default)]
pub(crate) struct Silences {
    /// Those of an older version, which are not to blame: they answer as soon as they are updated.
    pub(crate) notes: Vec<Problem>,
    /// All others.
    pub(crate) unknown: Vec<Untold>,
}

impl Silences {
    /// Of these answers. One that is dead is left to the caller: it is a problem, whatever was asked. `lacks`: what an older version
    /// does not do, as in "say how it is"; `about`: what could not be told of the nodes that are named so.
    pub(crate) fn of<T>(answers: &Answers<T>, lacks: &str, about: impl Fn(&str, bool) -> String) -> Self {
        let mut by_reason: BTreeMap<String, (&Silence, Vec<String>)> = BTreeMap::new();
        let mut old = Vec::new();
        for (name, answer) in answers {
            match answer {
                Ok(_) | Err(Silence::Dead) => {}
                Err(Silence::Unsupported { .. }) => old.push(name.to_string()),
                Err(why) => by_reason.entry(why.to_string()).or_insert((why, Vec::new())).1.push(name.to_string()),
            }
        }
        let note = |old: &[String]| {
            let what = format!("twilld there is of a version that does not {lacks}");
            Problem::new(nodes(old), what, format!("update twilld on {}", shortened(old)))
        };
        let told = |(why, (silence, names)): (String, (&Silence, Vec<String>))| {
            let remedy = remedy(&shortened(&names), silence);
            Untold::new(format!("{}: {why}", about(&nodes(&names), names.len() > 1)), remedy)
        };
        Self {
            notes: (!old.is_empty()).then(|| note(&old)).into_iter().collect(),
            unknown: by_reason.into_iter().map(told).collect(),
        }
    }
}

fn nodes(names: &[String]) -> String {
    format!("{} {}", if names.len() == 1 { "node" } else { "nodes" }, shortened(names))
}

/// What to do about nodes, by their names, that have not told what they were asked.
pub(crate) fn remedy(nodes: &str, silence: &Silence) -> String {
    match silence {
        Silence::Unsupported { .. } => format!("update twilld on {nodes}"),
        Silence::Unasked(_) => ETCD.to_owned(),
        Silence::Dead => format!("look at twilld on {nodes}: is it running, and does it reach etcd?"),
        // No patience helps there.
        Silence::Failed(_) => format!("try again; if it stays so, look at the log of twilld on {nodes}"),
        _ => format!(
            "try again, with a longer --timeout; if it never answers, look at twilld on {nodes}, and at etcd's roles (docs/etcd.md)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_told_once_with_what_helps_and_an_older_version_is_a_note() {
        let older = || Err(Silence::Unsupported { version: "0.0.9".into(), cause: "c".into() });
        let failed = || Err(Silence::Failed("it is busy".into()));
        let answers = [("n1", Ok(())), ("n2", Err(Silence::Dead)), ("n3", older()), ("n4", failed()), ("n5", failed())];
        let answers: Answers<()> = answers.into_iter().map(|(name, answer)| (name.parse().unwrap(), answer)).collect();
        let silences = Silences::of(&answers, "look", |nodes, several| format!("{nodes} {several}"));
        let [note] = silences.notes.as_slice() else { panic!("{silences:?}") };
        assert_eq!((note.subject.as_str(), note.fix.as_str()), ("node n3", "update twilld on n3"));
        let [told] = silences.unknown.as_slice() else { panic!("{silences:?}") };
        assert_eq!(told.what, "nodes n4, n5 true: it could not: it is busy");
        assert!(told.fix.starts_with("try again"), "{told}");
    }
}
