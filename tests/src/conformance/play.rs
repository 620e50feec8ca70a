//! Playing a case: what goes before, the call, what comes after; and what was seen where it did not go as expected.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::expect::{self, Moment};
use super::room::{Input, Room, merge};
use super::rule::{Call, Case, Expect, Look, Rule, Step};
use super::snapshot::Snapshot;
use super::words::Words;
use super::{Candidate, Verdict};
use crate::{LabError, Result};

/// Set to have the details of every deviation on standard error.
const DETAILS: &str = "TWILL_CONFORMANCE_DETAILS";

/// For how long the kernel may take to finish what it does in its own time.
const SETTLING: Duration = Duration::from_secs(2);

/// What a deviation looks like: a line without anything that changes from run to run, for the table; or nothing.
pub type Seen = std::result::Result<(), String>;

/// Plays all cases of a rule for one verb. `None` without root.
pub fn verdict(candidate: &Candidate, rule: &Rule, verb: &str) -> Option<Result<Verdict>> {
    let subject = &candidate.subject;
    if rule.ours && !subject.is_ours {
        return Some(Ok(Verdict::Beside("Twill's own promise".into())));
    }
    if let Some(feature) = rule.needs.as_ref().filter(|feature| !subject.offers.contains(feature)) {
        let who = subject.elsewhere.get(feature).map_or("others", String::as_str);
        return Some(Ok(Verdict::Beside(format!("left to {who}"))));
    }
    let mut played = false;
    for case in rule.case.iter().filter(|case| case.is_about(verb)) {
        let usual = [if matches!(verb, "GC" | "STATUS") { "1.1.0" } else { "1.0.0" }.to_owned()];
        let versions = case.versions.as_deref().unwrap_or(&usual);
        for version in versions.iter().filter(|version| candidate.speaks(version)) {
            played = true;
            match play(candidate, case, verb, version)? {
                Ok(Ok(())) => {}
                Ok(Err(seen)) if versions.len() > 1 => {
                    return Some(Ok(Verdict::Fail(format!("{version}: {seen}"))));
                }
                Ok(Err(seen)) => return Some(Ok(Verdict::Fail(seen))),
                Err(error) => {
                    return Some(Err(LabError::wrong(format!(
                        "rule {} for {verb} of {}: {error}",
                        rule.id, subject.name
                    ))));
                }
            }
        }
    }
    let newest = candidate.versions.last().map_or("", String::as_str);
    Some(Ok(if played { Verdict::Pass } else { Verdict::Beside(format!("speaks versions up to {newest}")) }))
}

/// One case in one version, in a room of its own.
fn play(candidate: &Candidate, case: &Case, verb: &str, version: &str) -> Option<Result<Seen>> {
    let room = match Room::make(candidate)? {
        Ok(room) => room,
        Err(error) => return Some(Err(error)),
    };
    Some((|| {
        let mut play = Play {
            words: room.words()?,
            room,
            program: &candidate.program,
            version: version.to_owned(),
            results: BTreeMap::new(),
            before: BTreeMap::new(),
        };
        for step in &case.given {
            if let Err(seen) = play.step(step)? {
                return Ok(Err(format!("beforehand, {seen}")));
            }
        }
        play.program = candidate.in_its_place.as_deref().unwrap_or(&candidate.program);
        let called = play.call(verb, &case.call, &case.expect)?;
        play.program = &candidate.program;
        if let Err(seen) = called {
            return Ok(Err(seen));
        }
        for step in &case.then {
            if let Err(seen) = play.step(step)? {
                return Ok(Err(format!("afterwards, {seen}")));
            }
        }
        Ok(Ok(()))
    })())
}

/// Which attachment: pod and interface.
type Attachment = (String, String);

struct Play<'a> {
    room: Room<'a>,
    words: Words,
    program: &'a Path,
    version: String,
    /// The result of each ADD.
    results: BTreeMap<Attachment, Value>,
    /// What stood before it.
    before: BTreeMap<Attachment, Snapshot>,
}

impl Play<'_> {
    fn step(&mut self, step: &Step) -> Result<Seen> {
        if let Some(verb) = &step.verb {
            return Ok(self.call(verb, &step.call, &step.expect)?.map_err(|seen| format!("{verb}: {seen}")));
        }
        if let Some(pod) = &step.remove {
            self.room.remove(pod)?;
        } else if let Some(line) = &step.run {
            self.room.run(step.place.as_deref().unwrap_or("a"), &self.words.fill(line))?;
        } else if step.forget {
            self.room.run("node", &self.words.fill(&self.room.candidate().subject.forget))?;
        }
        Ok(Ok(()))
    }

    fn call(&mut self, verb: &str, call: &Call, expect: &Expect) -> Result<Seen> {
        let pod = call.pod.clone().unwrap_or_else(|| "a".into());
        let ifname = call.ifname.clone().unwrap_or_else(|| "eth0".into());
        let attachment = (pod.clone(), ifname.clone());
        self.words.set("verb_lower", verb.to_lowercase());
        self.words.set("version", &self.version);
        let (document, previous) = self.configuration(verb, call, &attachment);
        self.room.place(&pod)?;
        let input = Input {
            environment: self.environment(verb, call, &attachment)?,
            stdin: match &call.stdin {
                Some(text) => self.words.fill(text).into_bytes(),
                None => document.to_string().into_bytes(),
            },
            stays_open: call.stdin_stays_open,
        };
        let before = self.room.snapshot(&self.words)?;
        let answer = self.room.call(self.program, &input)?;
        let is_ours = self.room.candidate().subject.is_ours;
        let version = document["cniVersion"].as_str().unwrap_or("0.1.0").to_owned();
        let mut seen = expect::answer(verb, expect, &answer, &version, is_ours);
        let result: Value = serde_json::from_slice(&answer.stdout).unwrap_or_default();
        if verb == "ADD" && seen.is_ok() && answer.is_success() {
            self.words.learn(&pod, &result);
            self.results.insert(attachment.clone(), result.clone());
            self.before.entry(attachment.clone()).or_insert_with(|| before.clone());
        }
        seen = seen.and_then(|()| expect::values(expect, &result, &self.words));
        // An impostor is found out at once.
        let is_impostor = self.program != self.room.candidate().program;
        let settling = if is_impostor { Duration::ZERO } else { SETTLING };
        if seen.is_ok() {
            let first = self.before.get(&attachment).unwrap_or(&before);
            let new = expect::addresses_of(&result, previous.as_ref());
            let moment = Moment {
                verb,
                ok: answer.is_success(),
                pod: &pod,
                ifname: &ifname,
                before: &before,
                first,
                addresses: new,
                settling,
            };
            seen = expect::left(expect, &moment, &self.room.candidate().subject.prefix, || {
                self.room.snapshot(&self.words)
            })?;
        }
        if seen.is_ok() {
            seen = self.seen_then(expect, settling)?;
        }
        if let (Err(seen), true) = (&seen, std::env::var_os(DETAILS).is_some()) {
            let now = self.room.snapshot(&self.words)?;
            let stdout = String::from_utf8_lossy(&answer.stdout);
            eprintln!("--- {verb}: {seen}\n{stdout}{}{document}\n{}", answer.stderr, before.difference(&now));
        }
        Ok(seen)
    }

    /// What is expected to be seen after the call, once the kernel has finished what it does in its own time.
    fn seen_then(&self, expect: &Expect, settling: Duration) -> Result<Seen> {
        let until = Instant::now() + settling;
        loop {
            let seen = self.frees(&expect.frees)?.and(self.holds(&expect.holds)?);
            if seen.is_ok() || Instant::now() >= until {
                return Ok(seen);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn frees(&self, addresses: &[String]) -> Result<Seen> {
        let rows = || self.room.run("node", &self.words.fill(&self.room.candidate().subject.rows));
        let rows = if addresses.is_empty() { String::new() } else { rows()? };
        let taken = addresses.iter().any(|address| rows.lines().any(|row| row == self.words.fill(address)));
        Ok(if taken { Err("the address is still taken".into()) } else { Ok(()) })
    }

    fn holds(&self, looks: &[Look]) -> Result<Seen> {
        for look in looks {
            // What it prints when it fails is nothing.
            let text = self.room.run(&look.place, &format!("{} || true", self.words.fill(&look.run)))?;
            let shows = look.shows.as_ref().is_none_or(|wanted| text.contains(&self.words.fill(wanted)));
            let lacks = look.lacks.as_ref().is_none_or(|unwanted| !text.contains(&self.words.fill(unwanted)));
            if !shows || !lacks {
                return Ok(Err(look.or.clone()));
            }
        }
        Ok(Ok(()))
    }

    /// The network configuration of a call, and the result that it carries.
    fn configuration(&self, verb: &str, call: &Call, attachment: &Attachment) -> (Value, Option<Value>) {
        let subject = &self.room.candidate().subject;
        let mut conf = json!({"cniVersion": call.version.as_ref().unwrap_or(&self.version), "name": "conformance"});
        let patches = [
            (true, &subject.conf),
            (call.small, &subject.small),
            (call.other, &subject.other),
            (call.further, &subject.further),
        ];
        for patch in patches.into_iter().filter_map(|(is_wanted, patch)| is_wanted.then_some(patch)) {
            merge(&mut conf, &self.words.fill_value(&Value::Object(patch.clone())));
        }
        merge(&mut conf, &self.words.fill_value(&Value::Object(call.conf.clone())));
        let known = || self.results.get(attachment).cloned();
        // libcni hands the result over to DEL since 0.4.0.
        let gets_it =
            verb == "CHECK" || (verb == "DEL" && !self.version.starts_with("0.1") && self.version.as_str() > "0.3.9");
        let mut previous = match &call.prev {
            Some(Value::String(word)) if word == "none" => None,
            Some(Value::String(_)) => known(),
            Some(document) => Some(self.words.fill_value(document)),
            None if gets_it => known(),
            None => None,
        };
        if let Some(previous) = &mut previous {
            for (pointer, value) in &call.prev_set {
                if let Some(place) = previous.pointer_mut(pointer) {
                    *place = self.words.fill_value(value);
                }
            }
            conf["prevResult"] = previous.clone();
        }
        if let Some(fields) = conf.as_object_mut() {
            fields.extend(call.null.iter().map(|key| (key.clone(), Value::Null)));
            call.without.iter().for_each(|key| drop(fields.remove(key)));
        }
        (conf, previous.filter(|_| verb == "ADD"))
    }

    /// What libcni sets for the verb, and what the call changes of it.
    fn environment(&self, verb: &str, call: &Call, (pod, ifname): &Attachment) -> Result<BTreeMap<String, String>> {
        let mut environment = BTreeMap::new();
        let mut set = |key: &str, value: &str| environment.insert(key.to_owned(), value.to_owned());
        set("PATH", &std::env::var("PATH").unwrap_or_default());
        set("CNI_PATH", &self.room.candidate().directory().to_string_lossy());
        if verb != "none" {
            set("CNI_COMMAND", verb);
        }
        if matches!(verb, "ADD" | "DEL" | "CHECK") {
            set("CNI_CONTAINERID", &format!("pod-{pod}"));
            set("CNI_IFNAME", ifname);
            set("CNI_NETNS", &self.room.place(pod)?.path().to_string_lossy());
            set("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=till-0");
        }
        for (key, value) in &call.env {
            match value {
                Value::String(text) => {
                    environment.insert(key.clone(), self.words.fill(text));
                }
                _ => {
                    environment.remove(key);
                }
            }
        }
        Ok(environment)
    }
}
