//! twillctl version, completions and man: as shells, `man` and programs take them.

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::{Etcd, Ran};
use serde_json::json;
use twill_testkit::has_program;

fn twillctl(arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twillctl"));
    Ran::of(command.args(arguments).stdin(Stdio::null()).output().expect("twillctl runs"))
}

/// What a bash offers that has loaded the completions, for a line of which the last word is being written.
fn offered(script: &Path, words: &[&str]) -> Vec<String> {
    // The function that bash would call, and how it would call it.
    let program = r#"
        source "$1" || exit 9; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
        function=$(complete -p twillctl | sed -n 's/.* -F \([^ ]*\) .*/\1/p')
        "$function" twillctl "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}" || exit 8
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "--noprofile", "-c", program, "bash"]).arg(script).args(words);
    let ran = Ran::of(bash.output().expect("bash runs")).ends_with(0);
    assert_eq!(ran.stderr, "");
    ran.stdout.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn a_bash_that_has_loaded_the_completions_completes_commands_flags_and_their_values() {
    if !has_program("bash") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("twillctl.bash");
    std::fs::write(&script, twillctl(&["completions", "bash"]).ends_with(0).stdout).unwrap();
    assert_eq!(offered(&script, &["twillctl", "conf"]), ["config"]);
    assert_eq!(offered(&script, &["twillctl", "config", "di"]), ["diff"]);
    assert_eq!(offered(&script, &["twillctl", "config", "apply", "--dry"]), ["--dry-run"]);
    assert_eq!(offered(&script, &["twillctl", "completions", "f"]), ["fish"]);
    assert_eq!(offered(&script, &["twillctl", "status", "--output", "j"]), ["json"]);
    let commands = offered(&script, &["twillctl", ""]);
    assert!(["config", "status", "version"].iter().all(|name| commands.contains(&(*name).to_owned())), "{commands:?}");
}

#[test]
fn completions_of_each_shell_name_each_command_and_are_the_bare_script() {
    for (shell, begins) in [("bash", "_twillctl() {"), ("zsh", "#compdef twillctl"), ("fish", "# Print an optspec")] {
        let script = twillctl(&["completions", shell]).ends_with(0).stdout;
        assert!(script.starts_with(begins), "{shell}: {}", &script[..200]);
        for command in ["status", "config", "ipam", "node", "completions"] {
            assert!(script.contains(command), "{shell} does not know {command}");
        }
        let json = twillctl(&["completions", shell, "-o", "json"]).ends_with(0).json();
        assert_eq!(json["script"], script);
        // Where the shell is there, it reads it.
        if Command::new(shell).arg("--version").output().is_ok_and(|output| output.status.success()) {
            let mut command = Command::new(shell);
            let mut child = command.arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {output:?}");
        }
    }
    let wrong = twillctl(&["completions", "tcsh"]).ends_with(2).stderr;
    assert!(wrong.contains("invalid value 'tcsh'"), "{wrong}");
}

#[test]
fn there_is_a_man_page_for_each_command_that_groff_takes_without_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("deep/man1");
    let written = twillctl(&["man", pages.to_str().unwrap(), "-o", "json"]).ends_with(0).json();
    let names: Vec<&str> = written["pages"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    for name in
        ["twillctl.1", "twillctl-config.1", "twillctl-config-edit.1", "twillctl-bgp-explain.1", "twillctl-version.1"]
    {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    assert!(!names.contains(&"twillctl-man.1"), "what help does not show has no page");
    for name in names {
        let page = pages.join(name);
        let text = std::fs::read_to_string(&page).unwrap();
        let title = name.trim_end_matches(".1");
        for part in [&format!(".TH {title} 1")[..], ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH OPTIONS"] {
            assert!(text.contains(part), "{name} has no {part:?}:\n{text}");
        }
        if has_program("groff") {
            let groff = Command::new("groff").args(["-man", "-ww", "-z", "-Tutf8"]).arg(&page).output().unwrap();
            assert!(groff.status.success() && groff.stderr.is_empty(), "{name}: {groff:?}");
        }
    }
    let shown = std::fs::read_to_string(pages.join("twillctl-config-diff.1")).unwrap();
    assert!(shown.contains("Exit status: 0 no difference"), "{shown}");
    twillctl(&["man", "/proc/nowhere"]).ends_with(2);
}

#[test]
fn the_version_needs_no_cluster_and_that_of_the_cluster_tells_who_cannot_what() {
    let own = twillctl(&["version", "-o", "json"]).ends_with(0).json();
    assert_eq!((&own["version"], &own["can"]), (&json!(env!("CARGO_PKG_VERSION")), &json!(["bgp"])));
    assert_eq!(own["cni"][6], "1.1.0");
    assert!(
        own["target"].as_str().unwrap().starts_with(std::env::consts::ARCH) && own.get("cluster").is_none(),
        "{own}"
    );
    let text = twillctl(&["version"]).ends_with(0).stdout;
    assert!(text.starts_with(&format!("twillctl {} for ", env!("CARGO_PKG_VERSION"))), "{text}");

    let Some(mut etcd) = Etcd::start() else { return };
    let config = etcd.file("c.toml", "[[pool]]\nname = 'default'\ncidr = '10.42.0.0/16'\n");
    etcd.apply(&config).ends_with(0);
    let record = |version: &str, can: bool| {
        let mut record = json!({"machine_id": "m", "nonce": "x", "version": version});
        if can {
            record["can"] = json!({"version": version, "what": ["bgp"]});
        }
        record.to_string()
    };
    etcd.put(&[("nodes/n1", &record("0.1.0", true)), ("nodes/n2", &record("0.0.9", false))]);
    etcd.put(&[("alive/n1", r#"{"version":"0.1.0"}"#)]);
    let mixed = etcd.run(&["version", "--cluster"]).ends_with(0).stdout;
    let table = "NODE  ALIVE  VERSION  CAN  REMARKS\nn1    yes    0.1.0    bgp\nn2    no     0.0.9    -\n\n0.0.9 on 1 node, 0.1.0 on 1 node\n\nno problems\n";
    assert!(mixed.contains(table), "{mixed}");
    assert!(mixed.contains("NOTE cluster: not all nodes have said that they can speak BGP: not n2\n"), "{mixed}");
    let before = etcd.config();
    let refused =
        etcd.feed(&["config", "apply", "-"], "[[pool]]\nname='default'\ncidr='10.42.0.0/16'\n[bgp]").ends_with(1);
    assert!(refused.stderr.contains("to speak BGP, and that has not said that it can on n2 (0.0.9)"), "{refused:?}");

    assert_eq!(etcd.config(), before);
    let with_bgp =
        twill_conf::cluster::ClusterConf::from_toml("[[pool]]\nname='default'\ncidr='10.42.0.0/16'\n[bgp]").unwrap();
    etcd.put(&[("config", std::str::from_utf8(&with_bgp.to_json()).unwrap())]);
    let asked = etcd.run(&["version", "--cluster", "-o", "json"]).ends_with(1).json();
    assert_eq!(
        asked["cluster"]["lacks"][0],
        json!({"ability": "bgp", "what": "speak BGP", "nodes": ["n2"], "asked": true})
    );
    etcd.kill();
    etcd.run(&["version", "--cluster"]).ends_with(2);
}

#[test]
fn no_command_waits_for_an_etcd_that_accepts_and_never_answers_longer_than_it_is_told_to() {
    // The kernel accepts for it.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cluster.toml");
    std::fs::write(&file, "[[pool]]\nname = \"v4\"\ncidr = \"10.42.0.0/16\"\n").unwrap();
    let (file, run_dir) = (file.to_str().unwrap(), dir.path().to_str().unwrap());
    let commands = [
        &["why", "ip", "10.42.0.1"][..],
        &["node", "list"],
        &["node", "delete", "n1"],
        &["ipam", "show"],
        &["config", "show"],
        &["config", "diff", file],
        &["config", "apply", file],
        &["version", "--cluster"],
        &["status"],
        &["trace", "n1", "n2"],
        &["test"],
    ];
    // All at once: each spends its time waiting.
    std::thread::scope(|scope| {
        for command in commands {
            let place = ["--timeout", "1s", "--etcd", &url, "--run-dir", run_dir].map(str::to_owned);
            scope.spawn(move || {
                let begun = std::time::Instant::now();
                let ran = twillctl(&[command, &place.each_ref().map(String::as_str)].concat()).ends_with(2);
                let took = begun.elapsed();
                assert!(took < std::time::Duration::from_millis(4500), "{command:?}: {took:?}");
                assert!(ran.stderr.contains("no answer within 1.0 s"), "{command:?}: {ran:?}");
                assert!(ran.stderr.contains("\n    fix: look whether etcd runs there"), "{command:?}: {ran:?}");
            });
        }
    });
    let doctor = twillctl(&["doctor", "--timeout", "1", "--etcd", &url]).ends_with(1);
    assert!(doctor.stdout.contains("this member does not answer: no answer within 1.0 s"), "{doctor:?}");
}
