//! What is to be said of etcd, by what each member says of itself and by one read of what Twill keeps there. Pure; for whoever
//! asked the members: a node with its own credentials, or `twillctl`.

use std::time::Duration;

use super::{Finding, State};
use crate::etcd::health::{Member, Silence, Status};

/// What the check is called.
pub const CHECK: &str = "etcd";
/// A member that takes longer is worth a word; one that takes much longer keeps nodes from claiming blocks in time.
const SLOW: Duration = Duration::from_millis(100);
const TOO_SLOW: Duration = Duration::from_secs(1);

/// Judges. `read`: how long a read of the configuration took, or why there was none.
pub fn judge(members: &[Member], read: &Result<Duration, String>) -> Vec<Finding> {
    let mut found: Vec<Finding> = members.iter().flat_map(member).collect();
    let answers = || members.iter().filter_map(|member| member.status.as_ref().ok());
    if let Err(why) = read {
        // Where none can be reached, each has said why. One that refuses to say how it is may still be read, or not.
        if !members.iter().all(|member| matches!(member.status, Err(Silence::Away(_)))) {
            let what = format!("what Twill keeps there cannot be read: {why}");
            let fix =
                "look at the role of this user in etcd (docs/etcd.md), and whether a majority of the members runs";
            found.push(finding(State::Problem, "", what, fix));
        }
    }
    let mut versions: Vec<&str> = answers().map(|status| status.version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    if versions.len() > 1 {
        let what = format!("the members have different versions: {}", versions.join(", "));
        found.push(finding(State::Note, "", what, "end the upgrade that was begun"));
    }
    if found.is_empty() {
        let slowest = answers().map(|status| status.latency).max().unwrap_or_default();
        let what = format!(
            "{} of {} answer, version {}, {} at most",
            answers().count(),
            members.len(),
            versions.join(", "),
            millis(slowest)
        );
        found.push(finding(State::Ok, "", what, ""));
    }
    found
}

fn member(Member { url, status }: &Member) -> Vec<Finding> {
    let Status { latency, has_leader, size, complaints, .. } = match status {
        Ok(status) => status,
        Err(Silence::Denied(why)) => {
            let what = format!("this member answers, and does not say how it is to this user: {why}");
            return vec![finding(
                State::Note,
                url,
                what,
                "nothing is to be done; a user with more rights would see more",
            )];
        }
        Err(Silence::Away(why)) => {
            let what = format!("this member does not answer: {why}");
            let fix = "look whether etcd runs there, and whether a firewall lets its port pass; without a majority of the members \
                       nothing can be claimed or changed, and running pods go on";
            return vec![finding(State::Problem, url, what, fix)];
        }
    };
    let mut found = Vec::new();
    if !has_leader {
        let what = "this member knows no leader: there is no quorum, and nothing can be claimed or changed";
        let fix = "start the members that are missing: a majority of them is needed";
        found.push(finding(State::Problem, url, what.to_owned(), fix));
    }
    for complaint in complaints.iter().filter(|_| *has_leader) {
        let (what, fix) = match complaint {
            full if full.contains("NOSPACE") => (
                format!("its database is full, with {} MiB (alarm NOSPACE): nothing can be written", size >> 20),
                "compact and defragment it, then 'etcdctl alarm disarm'; raise --quota-backend-bytes if it has to hold that much",
            ),
            corrupt if corrupt.contains("CORRUPT") => (
                "its data differ from the other members' (alarm CORRUPT)".to_owned(),
                "take the member out and add it anew, as etcd's documentation of data corruption says",
            ),
            other => (format!("it complains: {other}"), "look at its log"),
        };
        found.push(finding(State::Problem, url, what, fix));
    }
    let fix = "look at the disk of that machine (etcd wants a fast one), and at the network to it";
    match *latency {
        slow if slow >= TOO_SLOW => {
            let what = format!("it takes {} to answer: claims and changes come late or fail", millis(slow));
            found.push(finding(State::Problem, url, what, fix));
        }
        slow if slow >= SLOW => {
            found.push(finding(State::Note, url, format!("it takes {} to answer", millis(slow)), fix))
        }
        _ => {}
    }
    found
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

fn finding(state: State, subject: &str, what: String, fix: &str) -> Finding {
    Finding { check: CHECK.to_owned(), state, subject: subject.to_owned(), what, fix: fix.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(url: &str, change: impl FnOnce(&mut Status)) -> Member {
        let mut status = Status {
            version: "3.5.17".to_owned(),
            latency: Duration::from_micros(700),
            has_leader: true,
            size: 5 << 20,
            complaints: Vec::new(),
        };
        change(&mut status);
        Member { url: url.to_owned(), status: Ok(status) }
    }

    fn dead(url: &str) -> Member {
        Member { url: url.to_owned(), status: Err(Silence::Away("connection refused".to_owned())) }
    }

    fn told(members: &[Member], read: Result<Duration, String>) -> Vec<(State, String, bool)> {
        judge(members, &read)
            .into_iter()
            .map(|one| (one.state, format!("{}|{}", one.subject, one.what), !one.fix.is_empty()))
            .collect()
    }

    #[test]
    fn a_good_etcd_is_one_line_and_each_fault_is_told_with_what_to_do() {
        let read = || Ok(Duration::from_millis(1));
        let good = [member("a", |_| ()), member("b", |_| ())];
        assert_eq!(
            told(&good, read()),
            [(State::Ok, "|2 of 2 answer, version 3.5.17, 0.7 ms at most".to_owned(), false)]
        );
        let denied = Silence::Denied("permission denied".to_owned());
        let cases: [(Member, State, &str); 7] = [
            (Member { url: "b".to_owned(), status: Err(denied) }, State::Note, "b|this member answers"),
            (dead("b"), State::Problem, "b|this member does not answer: connection refused"),
            (member("b", |s| s.has_leader = false), State::Problem, "b|this member knows no leader"),
            (
                member("b", |s| s.complaints = vec!["memberID:1 alarm:NOSPACE ".to_owned()]),
                State::Problem,
                "b|its database is full, with 5 MiB",
            ),
            (member("b", |s| s.latency = SLOW), State::Note, "b|it takes 100.0 ms"),
            (member("b", |s| s.latency = TOO_SLOW), State::Problem, "b|it takes 1000.0 ms to answer: claims"),
            (
                member("b", |s| s.version = "3.4.1".to_owned()),
                State::Note,
                "|the members have different versions: 3.4.1, 3.5.17",
            ),
        ];
        for (bad, state, words) in cases {
            let found = told(&[member("a", |_| ()), bad], read());
            let [(is, what, fix)] = found.as_slice() else { panic!("{found:?}") };
            assert!(*is == state && what.starts_with(words) && *fix, "{found:?}");
        }
    }

    #[test]
    fn a_read_that_is_refused_is_told_where_a_member_answers_at_all() {
        let refused = || Err("permission denied".to_owned());
        let found = told(&[member("a", |_| ())], refused());
        assert_eq!(found.len(), 1);
        assert!(found[0].0 == State::Problem && found[0].1.ends_with("cannot be read: permission denied"), "{found:?}");
        assert_eq!(told(&[dead("a"), dead("b")], refused()).len(), 2, "each member has said why");
        let denied = || Member { url: "b".to_owned(), status: Err(Silence::Denied("permission denied".to_owned())) };
        let found = told(&[dead("a"), denied()], refused());
        let problems =
            found.iter().filter(|one| one.0 == State::Problem && one.1.contains("cannot be read: permission"));
        assert_eq!(problems.count(), 1, "a member answers, and this is all that is told: {found:?}");
    }
}
