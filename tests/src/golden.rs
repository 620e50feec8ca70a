//! Output as it is fixed by a file, with a word in the place of what differs from run to run: addresses, times, revisions,
//! identities, and what the C library that the programs are built with calls an error. Runs of spaces become two, since columns are as
//! wide as what is in them.
//!
//! The file is `tests/<suite>/golden/<name>.txt`; `TWILL_GOLDEN=overwrite` in the environment of a suite writes its files. Each
//! problem in a text, and each thing that could not be told, must have what to do about it on its next line.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use ipnetwork::IpNetwork;

use crate::cleanup::ROOT;

/// What stands before the number of the system's error (`std::io::Error`).
const NUMBER_OF_ERROR: &str = " (os error ";
/// Where a problem begins.
const PROBLEM: &str = "PROBLEM ";
/// Where something begins that could not be told; and a failure, which needs a fix where etcd is its cause.
const UNTOLD: &str = "COULD NOT TELL: ";
const FAILURE: &str = "twillctl: ";
const OF_ETCD: &str = "etcd at ";
/// What the next line of each begins with.
const FIX: &str = "    fix: ";
/// A fix with fewer letters says nothing.
const SHORTEST_FIX: usize = 12;

/// Fails where a text, filtered, is not as the file of this suite and name has it, or where a problem has no fix.
#[track_caller]
pub fn is_golden(suite: &str, name: &str, text: &str) {
    has_fixes(text);
    is_as_kept(suite, name, &filter(text), text);
}

/// Fails where a text is not as the file of this suite and name has it, word for word.
#[track_caller]
pub fn is_exactly(suite: &str, name: &str, text: &str) {
    is_as_kept(suite, name, text, text);
}

#[track_caller]
fn is_as_kept(suite: &str, name: &str, filtered: &str, printed: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/{suite}/golden/{name}.txt"));
    if std::env::var_os("TWILL_GOLDEN").is_some_and(|how| how == "overwrite") {
        std::fs::write(&file, filtered).unwrap_or_else(|cause| panic!("{}: {cause}", file.display()));
    }
    let wanted = std::fs::read_to_string(&file).unwrap_or_else(|cause| panic!("{}: {cause}", file.display()));
    assert_eq!(filtered, wanted, "left: as it is, right: {}; as it was printed:\n{printed}", file.display());
}

/// Fails where nothing is said that can be done about a problem, about what could not be told, or about etcd.
#[track_caller]
pub fn has_fixes(text: &str) {
    let wants_fix = |line: &str| {
        let fails_by_etcd = line.starts_with(FAILURE) && line.contains(OF_ETCD);
        line.starts_with(PROBLEM) || line.starts_with(UNTOLD) || fails_by_etcd
    };
    for (line, next) in with_next(text).filter(|(line, _)| wants_fix(line)) {
        let fix = next.strip_prefix(FIX).unwrap_or_default();
        assert!(fix.len() >= SHORTEST_FIX, "a problem without a fix:\n{line}\n{next}");
    }
}

/// The problems of a text that have all of these words, each with its fix: what else is found at the time is left out.
pub fn problems_of(text: &str, words: &[&str]) -> String {
    let has_all = |line: &str| words.iter().all(|word| line.contains(word));
    let told = with_next(text).filter(|(line, _)| line.starts_with(PROBLEM) && has_all(line));
    told.map(|(line, next)| format!("{line}\n{next}\n")).collect()
}

/// Each line, and the one after it.
fn with_next(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().zip(text.lines().skip(1).chain([""]))
}

fn filter(text: &str) -> String {
    let mut filtered = String::new();
    let mut revisions_in_column = false;
    for line in text.lines() {
        let line = &without_entries(&without_words_of_errors(line));
        revisions_in_column = match line.as_str() {
            _ if line.ends_with("CONFIGURATION") => true,
            "" => false,
            _ => revisions_in_column,
        };
        let indent = line.len() - line.trim_start().len();
        filtered += &line[..indent];
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut rest = line[indent..].trim_end();
        for (place, word) in words.iter().enumerate() {
            rest = rest.trim_start();
            rest = &rest[word.len()..];
            let before = place.checked_sub(1).map_or("", |place| words[place]);
            let is_last = place + 1 == words.len();
            filtered += &match revisions_in_column && is_last && is_number(word) {
                true => "<revision>".to_owned(),
                false => placeholder(before, word, words.get(place + 1).copied().unwrap_or_default()),
            };
            filtered += match rest.len() - rest.trim_start().len() {
                0 => "",
                1 => " ",
                _ => "  ",
            };
        }
        filtered.push('\n');
    }
    filtered
}

/// An error of the system is told by its number: "No route to host" of glibc is "Host is unreachable" of musl.
fn without_words_of_errors(line: &str) -> String {
    let mut parts = line.split(NUMBER_OF_ERROR);
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        // Where they begin is known by the colon before them: without one the line stays as it is.
        if let Some(colon) = kept.rfind(": ") {
            kept.replace_range(colon + 2.., "<error>");
        }
        kept += NUMBER_OF_ERROR;
        kept += part;
    }
    kept
}

/// How many connections the kernel follows, and may.
fn without_entries(line: &str) -> String {
    let Some((before, after)) = line.split_once(" entries are in use") else { return line.to_owned() };
    let words = before.rsplitn(4, ' ').collect::<Vec<_>>();
    match words[..] {
        [most, "of", now, before] if is_number(most) && is_number(now) => {
            format!("{before} <count> of <count> entries are in use{after}")
        }
        _ => line.to_owned(),
    }
}

/// A word without what is around it, and that in its place.
fn placeholder(before: &str, word: &str, after: &str) -> String {
    let opening = word.len() - word.trim_start_matches(['(', '\'']).len();
    let core = word[opening..].trim_end_matches([',', ';', ':', '.', ')', '\'']);
    let closing = &word[opening + core.len()..];
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    // Whole, or shortened by `checkup::identity`.
    let is_machine = |text: &str| match text.strip_suffix('…') {
        Some(digits) => digits.len() == 8 && is_hex(digits),
        None => text.len() == 32 && is_hex(text),
    };
    let is_age = |text: &str| text.strip_suffix(['s', 'm', 'h', 'd']).is_some_and(is_number);
    let is_mac = |text: &str| text.len() == 17 && text.split(':').count() == 6 && text.split(':').all(is_hex);
    let kind = if core.parse::<IpAddr>().is_ok() {
        "<address>"
    } else if core.parse::<SocketAddr>().is_ok() {
        "<address>:<port>"
    } else if let Some(below) = core.strip_prefix(ROOT).and_then(|path| path.strip_prefix('/')) {
        let (_, in_lab) = below.split_once('/').unwrap_or_default();
        return format!("{}<lab>/{in_lab}{closing}", &word[..opening]);
    } else if before == "machine" && opening == 1 {
        "<host>"
    } else if core.contains('/') && core.parse::<IpNetwork>().is_ok() {
        "<prefix>"
    } else if is_mac(core) {
        "<mac>"
    } else if is_machine(core) {
        "<machine>"
    } else if is_age(core) {
        "<age>"
    } else if core.starts_with("http://") || core.starts_with("https://") {
        "<url>"
    } else if core.starts_with("tw") && core.len() == 15 {
        "<interface>"
    } else if matches!(after.trim_end_matches([',', ')']), "ms") && core.parse::<f64>().is_ok() {
        "<time>"
    } else if is_number(core) && after == "s" {
        "<age>"
    } else if is_number(core) && is_unit(after) {
        "<size>"
    } else if is_unit(core) && is_number(before.trim_start_matches('(')) {
        "<unit>"
    } else if before == "for" && core.contains("-linux-") {
        "<target>"
    } else if before == "Linux" || (matches!(before, "nft" | "version") && is_release(core)) {
        "<release>"
    } else if is_number(core) && before == "lost" {
        "<count>"
    } else if is_number(core) && matches!(before, "revision" | "configuration" | "was") {
        "<revision>"
    } else if core.starts_with("cnitool-") {
        "<container>"
    } else if core.strip_suffix("-net").is_some_and(|prefix| prefix.starts_with("tw")) {
        "<network>"
    // CNI had a version of the same number.
    } else if core == env!("CARGO_PKG_VERSION") && before != "specification:" {
        "<version>"
    } else {
        return word.to_owned();
    };
    format!("{}{kind}{closing}", &word[..opening])
}

/// Of a file's length.
fn is_unit(text: &str) -> bool {
    matches!(text.trim_end_matches([')', ':', ',']), "B" | "KiB" | "MiB")
}

/// As in "1.0.6", of a program that is not ours.
fn is_release(text: &str) -> bool {
    text != env!("CARGO_PKG_VERSION") && text.contains('.') && text.split('.').all(is_number)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_run_to_run_has_a_word_in_its_place() {
        let text = "revision 7, configuration 3, back end vxlan\n\nn1    192.0.2.1 fd00::1  02:00:5e:10:00:01\n    fix: 'ip route show 192.0.2.1' in 1.2 ms (10.42.0.0/26), 3s ago\n";
        let wanted = "revision <revision>, configuration <revision>, back end vxlan\n\nn1  <address> <address>  <mac>\n    fix: 'ip route show <address>' in <time> ms (<prefix>), <age> ago\n";
        assert_eq!(filter(text), wanted);
        assert_eq!(
            filter("NODE  CONFIGURATION\nn1    0  5\n\nn2  6\n"),
            "NODE  CONFIGURATION\nn1  0  <revision>\n\nn2  6\n"
        );
    }

    #[test]
    fn places_of_a_lab_and_names_of_machines_have_words_too() {
        assert_eq!(filter("(/run/twill-lab/tw1/n2/bin/twill): no"), "(<lab>/n2/bin/twill): no\n");
        assert_eq!(filter("a machine (box, machine ID 7)"), "a machine (<host>, machine ID 7)\n");
        assert_eq!(filter("(01234567…), 01234567"), "(<machine>), 01234567\n");
        assert_eq!(
            filter("to 10.42.0.7:4711: none, [fd42::7]:4711;"),
            "to <address>:<port>: none, <address>:<port>;\n"
        );
        assert_eq!(filter("/run/twill-labs/tw1 of a machine"), "/run/twill-labs/tw1 of a machine\n");
    }

    #[test]
    fn releases_targets_sizes_and_connections_have_words_too() {
        let text = "Linux 6.1.0-18-amd64, with all\nnft  nft 1.0.6\n1 of 1 answer, version 3.4.23, at most\ntwillctl for x86_64-linux-musl\n";
        let wanted = "Linux <release>, with all\nnft  nft <release>\n1 of 1 answer, version <release>, at most\ntwillctl for <target>\n";
        assert_eq!(filter(text), wanted);
        assert_eq!(
            filter("has 19 files (5 KiB):\n  a.json  212 B    b\n"),
            "has 19 files (<size> <unit>):\n  a.json  <size> <unit>  b\n"
        );
        assert_eq!(filter("CNI specification: 0.1.0, 0.2.0"), "CNI specification: 0.1.0, 0.2.0\n");
        assert_eq!(
            filter("revision 9 (it was 2): cnitool-68  tw1x3-net"),
            "revision <revision> (it was <revision>): <container>  <network>\n"
        );
        assert_eq!(filter("ok  67 of 262144 entries are in use"), "ok  <count> of <count> entries are in use\n");
        assert_eq!(filter("no entries are in use"), "no entries are in use\n");
    }

    #[test]
    fn errors_of_the_system_are_told_by_their_numbers() {
        let text = "nothing to n1: No route to host (os error 113); n2: no connection: Refused (os error 111)";
        assert_eq!(filter(text), "nothing to n1: <error> (os error 113); n2: no connection: <error> (os error 111)\n");
        assert_eq!(filter("Refused (os error 111)"), "Refused (os error 111)\n", "where its words begin is not known");
    }

    #[test]
    fn problems_are_found_with_their_fixes_by_their_words() {
        let text = "table\n\nPROBLEM node n1: it is old\n    fix: make it younger\nPROBLEM node n2: it is cold\n    fix: warm it slowly\n";
        assert_eq!(problems_of(text, &["n2", "cold"]), "PROBLEM node n2: it is cold\n    fix: warm it slowly\n");
        assert_eq!(problems_of(text, &["n1", "cold"]), "");
        has_fixes(text);
    }

    #[test]
    fn what_could_not_be_told_and_an_etcd_that_fails_want_a_fix_and_other_failures_have_their_own_words() {
        let fixed = |line: &str| has_fixes(&format!("{line}\n    fix: look whether it runs\n"));
        let lines = ["COULD NOT TELL: how node n1 is", "twillctl: etcd at http://a:1: no connection"];
        for line in lines {
            fixed(line);
            assert!(std::panic::catch_unwind(|| has_fixes(line)).is_err(), "{line}");
        }
        has_fixes("twillctl: there is no node n9: 'twillctl node list' shows those that there are\n");
    }

    #[test]
    #[should_panic(expected = "a problem without a fix")]
    fn a_problem_without_a_fix_is_a_failure() {
        has_fixes("PROBLEM node n1: it is old\nPROBLEM node n2: it is cold\n    fix: warm it slowly\n");
    }
}
