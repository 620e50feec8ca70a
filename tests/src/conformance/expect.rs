//! Holding what a call gave, and what it left, against what is expected. Each function gives the first thing that is
//! otherwise, in one line without anything that changes from run to run.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::play::Seen;
use super::room::Answer;
use super::rule::Expect;
use super::shape;
use super::snapshot::Snapshot;
use super::words::{Words, addresses};
use crate::Result;

/// Status and outputs of a call of `verb`, in the version of its configuration.
pub fn answer(verb: &str, expect: &Expect, answer: &Answer, version: &str, is_ours: bool) -> Seen {
    let Some(status) = answer.status else { return Err("it does not end".into()) };
    let Some(status) = status.code() else { return Err("it is ended by a signal".into()) };
    if expect.within_ms.is_some_and(|most| answer.took > Duration::from_millis(most)) {
        return Err("it takes too long".into());
    }
    if expect.failure() || (expect.either && status != 0) {
        return failure(expect, answer, status, is_ours);
    }
    if status != 0 {
        let document: Value = serde_json::from_slice(&answer.stdout).unwrap_or_default();
        return Err(match document["code"].as_u64() {
            Some(code) => format!("it fails with code {code}"),
            None => "it fails without an error document".into(),
        });
    }
    match verb {
        "ADD" => shape::document(&answer.stdout).and_then(|document| shape::result(&document, version)),
        "VERSION" => shape::document(&answer.stdout).and_then(|document| shape::versions(&document)),
        _ if !answer.stdout.is_empty() => Err("it prints something on standard output".into()),
        "none" if answer.stderr.is_empty() => Err("it says nothing on standard error".into()),
        _ => Ok(()),
    }
}

fn failure(expect: &Expect, answer: &Answer, status: i32, is_ours: bool) -> Seen {
    if status == 0 {
        return Err("it succeeds".into());
    }
    let document = shape::document(&answer.stdout)?;
    shape::error(&document)?;
    let wanted = expect.code.or(expect.own.filter(|_| is_ours));
    let code = document["code"].as_u64().unwrap_or_default();
    if let Some(wanted) = wanted.filter(|wanted| *wanted != code) {
        return Err(format!("code {code} instead of {wanted}"));
    }
    Ok(())
}

/// Texts and values of the document on standard output.
pub fn values(expect: &Expect, document: &Value, words: &Words) -> Seen {
    let text = format!(
        "{} {}",
        document["msg"].as_str().unwrap_or_default(),
        document["details"].as_str().unwrap_or_default()
    );
    for wanted in &expect.says {
        if !text.contains(&words.fill(wanted)) {
            return Err(format!("the error does not say {wanted}"));
        }
    }
    for unwanted in &expect.says_not {
        if text.to_lowercase().contains(unwanted) {
            return Err(format!("the error says {unwanted:?}"));
        }
    }
    for (pointer, wanted) in &expect.answer {
        let found = document.pointer(pointer).unwrap_or(&Value::Null);
        let is_so = match wanted {
            Value::String(word) if word == "*" => !found.is_null(),
            Value::String(word) if word == "absent" => found.is_null() || found.as_str() == Some(""),
            wanted => *found == words.fill_value(wanted),
        };
        if !is_so {
            let place = pointer.trim_start_matches('/').replace('/', ".");
            // What was found instead may change from run to run.
            return Err(match (found, wanted) {
                (Value::Null, _) => format!("{place} is absent"),
                (_, Value::String(word)) if word == "absent" => format!("{place} is there"),
                (_, Value::String(word)) => format!("{place} is not {word}"),
                (_, wanted) => format!("{place} is not {wanted}"),
            });
        }
    }
    Ok(())
}

/// A call, with what stood before it and before the ADD of its attachment.
#[derive(Debug)]
pub struct Moment<'a> {
    /// The verb.
    pub verb: &'a str,
    /// Whether it succeeded.
    pub ok: bool,
    /// The pod.
    pub pod: &'a str,
    /// The interface.
    pub ifname: &'a str,
    /// What stood before the call.
    pub before: &'a Snapshot,
    /// What stood before the ADD of the attachment; as `before` where there was none.
    pub first: &'a Snapshot,
    /// The addresses that the call gave.
    pub addresses: Vec<String>,
    /// For how long the kernel may take to finish what it does in its own time, as when a namespace goes.
    pub settling: Duration,
}

/// The addresses that a result adds to those of the result before it.
pub fn addresses_of(result: &Value, previous: Option<&Value>) -> Vec<String> {
    let known = previous.map(addresses).unwrap_or_default();
    addresses(result).into_iter().filter(|address| !known.contains(address)).collect()
}

/// What kernel and store are left with.
pub fn left(
    expect: &Expect,
    moment: &Moment<'_>,
    prefix: &str,
    mut look: impl FnMut() -> Result<Snapshot>,
) -> Result<Seen> {
    let usual = match (moment.ok, moment.verb) {
        (true, "ADD") => "attached",
        (true, "DEL") => "detached",
        (true, "GC") => "any",
        _ => "unchanged",
    };
    let wanted = expect.left.as_deref().unwrap_or(usual);
    let until = Instant::now() + moment.settling;
    loop {
        let now = look()?;
        let seen = match wanted {
            "any" => Ok(()),
            "attached" => attached(moment, &now, prefix),
            "detached" => same(moment.first, &now),
            "unchanged" => same(moment.before, &now),
            other => panic!("a case expects {other:?} to be left, which is no word"),
        };
        if seen.is_ok() || Instant::now() >= until {
            return Ok(seen);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn same(wanted: &Snapshot, now: &Snapshot) -> Seen {
    if let Some(more) = now.beyond(wanted) {
        return Err(format!("left behind: {more}"));
    }
    wanted.beyond(now).map_or(Ok(()), |missing| Err(format!("taken away: {missing}")))
}

fn attached(moment: &Moment<'_>, now: &Snapshot, prefix: &str) -> Seen {
    let host_ends = |snapshot: &Snapshot| snapshot.count("node", "link", |line| line.starts_with(prefix));
    if host_ends(now) != host_ends(moment.before) + 1 {
        return Err("no interface on the node".into());
    }
    let rows = |snapshot: &Snapshot| snapshot.count("store", "row", |_| true);
    if rows(now) <= rows(moment.before) {
        return Err("no reservation".into());
    }
    if moment.pod != "a" {
        return Ok(());
    }
    let is_up = |line: &str| line.starts_with(&format!("{} up ", moment.ifname));
    if now.count("pod", "link", is_up) != 1 {
        return Err("no interface of that name that is up in the pod".into());
    }
    for address in &moment.addresses {
        // iproute2 leaves the length of an address that stands alone away in no family, so the texts are equal.
        if now.count("pod", "address", |line| line == format!("{} {address}", moment.ifname)) != 1 {
            return Err("an address of the result is not on the interface".into());
        }
    }
    Ok(())
}
