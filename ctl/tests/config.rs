//! twillctl config: what is compared, rehearsed and edited, against a real etcd.

mod common;

use std::path::PathBuf;

use common::{Etcd, Ran};
use serde_json::json;

const ONE_POOL: &str = "[[pool]]\nname = 'default'\ncidr = '10.42.0.0/16'\n";

/// Two nodes in zones a and b; the first has a block.
fn populate(etcd: &Etcd) -> i64 {
    etcd.apply(&etcd.file("cluster.toml", ONE_POOL)).ends_with(0);
    let record = |n: u8, zone: &str| {
        json!({"machine_id": format!("m{n}"), "nonce": "x", "underlay": {"ipv4": format!("192.0.2.{n}/24")},
               "labels": {"zone": zone}, "version": "0.0.9"})
        .to_string()
    };
    let epoch = etcd.put(&[("nodes/n1", &record(1, "a"))]);
    let block = json!({"node": "n1", "machine_id": "m1", "epoch": epoch, "nonce": "x"}).to_string();
    etcd.put(&[("nodes/n2", &record(2, "b")), ("blocks/4/0a2a0000-26", &block)]);
    etcd.config().expect("it was applied").1
}

/// An editor: a script that is given the file's name as $1.
fn editor(etcd: &Etcd, name: &str, script: &str) -> String {
    let path = etcd.dir.path().join(name);
    twill_testkit::write_program(&path, &format!("#!/bin/sh\nset -e\n{script}\n"));
    path.display().to_string()
}

/// `config edit` by such a script; files that are kept come into the test's directory.
fn edit(etcd: &Etcd, script: &str, flags: &[&str]) -> Ran {
    let editor = editor(etcd, "editor", script);
    let mut command = etcd.command(&[&["config", "edit"], flags].concat());
    command.env_remove("VISUAL").env("EDITOR", format!("'{editor}'")).env("TMPDIR", etcd.dir.path());
    Ran::of(command.output().expect("twillctl runs"))
}

fn kept(etcd: &Etcd) -> Vec<PathBuf> {
    let files = std::fs::read_dir(etcd.dir.path()).expect("the test's directory").filter_map(Result::ok);
    files.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains("/twill-config-")).collect()
}

#[test]
fn a_comparison_says_what_would_change_whom_it_concerns_and_what_would_be_refused() {
    let Some(etcd) = Etcd::start() else { return };
    let file = etcd.file("new.toml", ONE_POOL);
    let first = etcd.run(&["config", "diff", file.to_str().unwrap()]).ends_with(1).stdout;
    assert!(
        first.starts_with(&format!("from no configuration to {}:\n  + backend.port: 4789\n", file.display())),
        "{first}"
    );
    assert!(first.ends_with("concerns: no node is registered yet\n"), "{first}");

    let revision = populate(&etcd);
    let same = "[[pool]]\nname='default'\nmasquerade=true\nblock=26\ncidr='10.42.0.0/16'\n[backend]\nvni=7777\n";
    let same = etcd.feed(&["config", "diff", "-"], same).ends_with(0).stdout;
    assert_eq!(same, format!("no difference: revision {revision} says what standard input says\n"));

    let zoned = format!("{ONE_POOL}nodes = \"zone == 'a'\"\n");
    let told = etcd.feed(&["config", "diff", "-"], &zoned).ends_with(1).stdout;
    let wanted = format!(
        "from revision {revision} to standard input:\n  + pool.default.nodes: \"zone == 'a'\"\nconcerns: 1 of 2 nodes, n2\n\
         NOTE node n2: no IPv4 pool is for it any more: new pods there get no address\n"
    );
    assert!(told.starts_with(&wanted), "{told}");

    let both = "[[pool]]\nname='other'\ncidr='192.0.2.0/24'\n[backend]\ntype='bgp'\n";
    let report = etcd.feed(&["config", "diff", "-", "-o", "json"], both).ends_with(1).json();
    assert_eq!((&report["would"], &report["revision"]), (&json!("refuse"), &json!(revision)));
    assert_eq!((&report["nodes"], &report["of_nodes"]), (&json!(["n1", "n2"]), &json!(2)));
    let refusals: Vec<_> = report["refusals"].as_array().unwrap().iter().map(|why| why.as_str().unwrap()).collect();
    assert!(refusals[0].contains("speak BGP") && refusals[0].contains("on n1 (0.0.9), n2 (0.0.9)"), "{refusals:?}");
    assert!(refusals[1].contains("node n1 has the underlay address 192.0.2.1"), "{refusals:?}");
    assert!(refusals[2].starts_with("pool \"default\" cannot be removed"), "{refusals:?}");
    assert!(report["perils"][0].as_str().unwrap().contains("knows VXLAN alone"), "{report}");

    let wrong = etcd.feed(&["config", "diff", "-"], "[[pool]]").ends_with(1);
    assert!(wrong.stdout.is_empty() && wrong.stderr.contains("standard input: the 1st [[pool]].name"), "{wrong:?}");
    assert_eq!(etcd.config().unwrap().1, revision, "nobody wrote anything");
}

#[test]
fn without_etcd_nothing_is_told_and_nothing_is_said_to_differ() {
    let Some(mut etcd) = Etcd::start() else { return };
    populate(&etcd);
    let file = etcd.file("new.toml", ONE_POOL);
    etcd.kill();
    for arguments in [&["diff"][..], &["apply", "--dry-run"], &["apply", "--expect-revision", "7"]] {
        let silent = etcd.run(&[&["config"], arguments, &[file.to_str().unwrap()]].concat()).ends_with(2);
        assert!(silent.stdout.is_empty() && silent.stderr.contains(&etcd.url), "{silent:?}");
    }
    let edited = edit(&etcd, ": > \"$1\"", &[]).ends_with(2);
    assert!(edited.stderr.contains(&etcd.url), "{edited:?}");
}

#[test]
fn a_dry_run_checks_all_of_it_and_writes_nothing() {
    let Some(etcd) = Etcd::start() else { return };
    let revision = populate(&etcd);
    let other = format!("{ONE_POOL}masquerade = false\n");
    let dry = etcd.feed(&["config", "apply", "-", "--dry-run"], &other).ends_with(0).stdout;
    let wanted = format!(
        "dry run, nothing was changed: standard input would be applied in place of revision {revision}:\n  ~ \
         pool.default.masquerade: true -> false\nconcerns: all 2 nodes\n"
    );
    assert_eq!(dry, wanted);
    let refused =
        etcd.feed(&["config", "apply", "-", "--dry-run"], "[[pool]]\nname='b'\ncidr='10.43.0.0/16'").ends_with(1);
    assert!(
        refused.stdout.contains("would be refused") && refused.stdout.contains("\nREFUSED: pool \"default\" cannot"),
        "{refused:?}"
    );
    for (force, status) in [(&[][..], 1), (&["--force"][..], 0)] {
        let arguments = [&["config", "apply", "-", "--dry-run"], force].concat();
        let plain = etcd.feed(&arguments, &format!("{ONE_POOL}[backend]\ntype='host-gw'\n")).ends_with(status).stdout;
        assert!(
            plain.contains("\nREFUSED without --force: twilld on n1, n2 is of a version that knows VXLAN alone"),
            "{plain}"
        );
    }
    let same = etcd.feed(&["config", "apply", "-", "--dry-run"], ONE_POOL).ends_with(0).stdout;
    assert_eq!(same, format!("dry run: nothing to change: revision {revision} has all of it\n"));
    assert_eq!(etcd.config().unwrap().1, revision, "nobody wrote anything");

    let late = ["config", "apply", "-", "--expect-revision", "1"];
    for arguments in [&late[..], &[&late[..], &["--dry-run"]].concat()] {
        let late = etcd.feed(arguments, &other).ends_with(1).stderr;
        assert!(late.contains(&format!("the configuration is at revision {revision}, not at revision 1;")), "{late}");
    }
    assert_eq!(etcd.config().unwrap().1, revision);
    let shown = etcd.run(&["config", "show", "-o", "json"]).ends_with(0).json()["revision"].to_string();
    etcd.feed(&["config", "apply", "-", "--expect-revision", &shown], &other).ends_with(0);
    assert!(etcd.config().unwrap().1 > revision);
}

#[test]
fn what_is_edited_is_applied_and_nothing_is_left_of_the_file() {
    let Some(etcd) = Etcd::start() else { return };
    let revision = populate(&etcd);
    let asis =
        edit(&etcd, "grep -q '^#| The cluster configuration, as it stands at revision' \"$1\"", &[]).ends_with(0);
    assert_eq!(asis.stdout, format!("nothing to change: revision {revision} has all of it\n"));
    assert_eq!(etcd.config().unwrap().1, revision);
    let emptied = edit(&etcd, ": > \"$1\"", &[]).ends_with(1);
    assert!(emptied.stderr.contains("nothing was changed: the file was saved without a configuration"), "{emptied:?}");

    let done = edit(&etcd, "sed -i 's/^masquerade = true/masquerade = false/' \"$1\"", &[]).ends_with(0);
    assert!(done.stdout.contains("  ~ pool.default.masquerade: true -> false\n"), "{done:?}");
    assert!(etcd.config().unwrap().0.contains("\"masquerade\":false"));
    assert_eq!(kept(&etcd), Vec::<PathBuf>::new());
}

#[test]
fn what_is_wrong_is_shown_at_the_top_and_edited_again() {
    let Some(etcd) = Etcd::start() else { return };
    populate(&etcd);
    // The first time it makes a mistake; the second time it sees the reason, and mends it.
    let script = "if grep -q '^#| .*pool \"default\".block: \"99\" is not valid' \"$1\"\nthen sed -i 's/= 99/= 26/; s/7777/7778/' \
                  \"$1\"\nelse sed -i 's/^block = 26/block = 99/' \"$1\"; fi";
    let mended = edit(&etcd, script, &[]).ends_with(0);
    assert!(mended.stdout.ends_with("  ~ backend.vni: 7777 -> 7778\n"), "{mended:?}");

    // What is refused is shown as what is wrong is; who leaves it so gives up, and finds it again.
    let script = "grep -q '^#| WRONG' \"$1\" || sed -i 's/^block = 26/block = 27/' \"$1\"";
    let left = edit(&etcd, script, &[]).ends_with(1);
    let [file] = kept(&etcd).try_into().expect("one file");
    assert!(
        left.stderr.contains("the blocks of pool \"default\" cannot become /27 while nodes have blocks"),
        "{left:?}"
    );
    assert!(
        left.stderr.contains(&format!(
            "what you wrote is kept in {} and not applied: when what is said above is done,",
            file.display()
        )),
        "{left:?}"
    );
    let diff = etcd.run(&["config", "diff", file.to_str().unwrap()]).ends_with(1).stdout;
    assert!(diff.contains("  ~ pool.default.block: 26 -> 27\n"), "{diff}");
}

#[test]
fn who_is_slower_than_another_is_told_and_keeps_what_was_written() {
    let Some(etcd) = Etcd::start() else { return };
    let revision = populate(&etcd);
    let other = etcd.file("other.toml", &format!("{ONE_POOL}[backend]\nvni = 9\n"));
    let twillctl = env!("CARGO_BIN_EXE_twillctl");
    let script = format!("{twillctl} config apply {} >/dev/null\nsed -i 's/7777/8/' \"$1\"", other.display());
    let slow = edit(&etcd, &script, &["--force"]).ends_with(1);
    let now = etcd.config().unwrap();
    assert!(now.1 > revision && now.0.contains("\"vni\":9"), "{now:?}");
    assert!(slow.stderr.contains(&format!("is at revision {}, not at revision {revision}", now.1)), "{slow:?}");
    let [file] = kept(&etcd).try_into().expect("one file");
    assert!(std::fs::read_to_string(file).unwrap().contains("vni = 8"));
}

#[test]
fn an_editor_that_is_not_there_or_fails_changes_nothing() {
    let Some(etcd) = Etcd::start() else { return };
    let revision = populate(&etcd);
    let run = |variable: Option<&str>| {
        let mut command = etcd.command(&["config", "edit"]);
        command.env_remove("VISUAL").env_remove("EDITOR").env("TMPDIR", etcd.dir.path());
        command.envs(variable.map(|editor| ("VISUAL", editor)));
        Ran::of(command.output().expect("twillctl runs")).ends_with(2).stderr
    };
    let none = run(None);
    assert!(none.starts_with("twillctl: there is no editor: neither VISUAL nor EDITOR is set"), "{none}");
    let absent = run(Some("/nowhere/editor -w"));
    assert!(absent.starts_with("twillctl: there is no editor: '/nowhere/editor' is not there; set VISUAL"), "{absent}");
    let failed = run(Some("false"));
    assert!(
        failed.starts_with("twillctl: the editor 'false' failed (exit status: 1): nothing was changed"),
        "{failed}"
    );
    assert_eq!(etcd.config().unwrap().1, revision);
    assert_eq!(kept(&etcd), Vec::<PathBuf>::new());
}

#[test]
fn what_was_saved_by_an_editor_that_then_fails_is_left_as_it_is() {
    let Some(etcd) = Etcd::start() else { return };
    let revision = populate(&etcd);
    // The first time: a text that could be applied, and one that could not.
    for (change, word, ending) in [
        ("s/7777/7778/", "vni = 7778", "compares it"),
        ("s/^block = 26/block = 99/", "block = 99", "since it is not right"),
    ] {
        let failed = edit(&etcd, &format!("sed -i '{change}' \"$1\"; exit 3"), &[]).ends_with(2).stderr;
        let [file] = kept(&etcd).try_into().expect("one file");
        assert!(failed.starts_with("twillctl: the editor ") && failed.contains("exit status: 3"), "{failed}");
        assert!(failed.contains(&format!("kept in {}", file.display())) && failed.contains(ending), "{failed}");
        assert!(std::fs::read_to_string(&file).unwrap().contains(word));
        std::fs::remove_file(file).unwrap();
    }
    // A later time: what was saved last, not what was saved before.
    let script = "if grep -q '^#| WRONG' \"$1\"\nthen sed -i 's/^block = 99/block = 26/; s/7777/7779/' \"$1\"; exit 3\nelse sed -i \
                  's/^block = 26/block = 99/' \"$1\"; fi";
    let failed = edit(&etcd, script, &[]).ends_with(2).stderr;
    let [file] = kept(&etcd).try_into().expect("one file");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("vni = 7779") && text.contains("block = 26") && !text.contains("block = 99"), "{text}");
    assert!(failed.contains("compares it") && !failed.contains("not right"), "what was wrong is mended: {failed}");
    std::fs::remove_file(file).unwrap();
    // A later time, and nothing was saved: what was saved before, with what is wrong with it.
    let script = "grep -q '^#| WRONG' \"$1\" && exit 3\nsed -i 's/^block = 26/block = 99/' \"$1\"";
    let failed = edit(&etcd, script, &[]).ends_with(2).stderr;
    let [file] = kept(&etcd).try_into().expect("one file");
    assert!(std::fs::read_to_string(file).unwrap().contains("block = 99"));
    assert!(failed.contains("since it is not right") && failed.contains("\"99\" is not valid"), "{failed}");
    assert_eq!(etcd.config().unwrap().1, revision, "nothing of all that was applied");
}

#[test]
fn a_file_that_the_editor_has_replaced_is_replaced_once_more_and_nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;

    let Some(etcd) = Etcd::start() else { return };
    populate(&etcd);
    let others = etcd.file("others", "somebody's own");
    // A mistake, in a file that a link leads to, and then another failure: what stands there now is a file of ours.
    let script = format!(
        "if grep -q '^#| WRONG' \"$1\"\nthen stat -c '%a %F' \"$1\" >'{0}'.seen; exit 3\nfi\n\
         sed 's/^block = 26/block = 99/' \"$1\" >'{0}'\nrm \"$1\"\nln -s '{0}' \"$1\"",
        others.display()
    );
    edit(&etcd, &script, &[]).ends_with(2);
    let seen = std::fs::read_to_string(format!("{}.seen", others.display())).unwrap();
    assert_eq!(seen, "600 regular file\n");
    let theirs = std::fs::read_to_string(&others).unwrap();
    assert!(
        theirs.contains("block = 99") && !theirs.contains("WRONG"),
        "nothing was written through the link: {theirs}"
    );
    let [file] = kept(&etcd).try_into().expect("one file");
    let kept = std::fs::symlink_metadata(file).unwrap();
    assert!(kept.is_file() && kept.permissions().mode() & 0o777 == 0o600, "{kept:?}");
}
