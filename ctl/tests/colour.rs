//! Colour: on a terminal, and nowhere else.

#[allow(dead_code, reason = "other tests need more of it")]
mod common;

use std::fs::File;
use std::io::Read as _;
use std::process::{Command, Stdio};

use common::Etcd;
use nix::pty::openpty;

/// Where the colour of problems begins: bold, and red (ECMA-48).
const RED: &str = "\u{1b}[1m\u{1b}[31mPROBLEM\u{1b}[0m ";

/// What twillctl shows on a terminal, on which both of its streams are.
fn on_terminal(etcd: &Etcd, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let pty = openpty(None, None).expect("a pseudoterminal");
    let mut command = command(etcd, arguments, variables);
    command.stdout(Stdio::from(pty.slave.try_clone().expect("a descriptor"))).stderr(Stdio::from(pty.slave));
    let mut child = command.spawn().expect("twillctl runs");
    // It has copies of the terminal, whose end is seen when nobody has one any more.
    drop(command);
    let mut shown = Vec::new();
    let mut terminal = File::from(pty.master);
    let mut part = [0; 4096];
    // The kernel says EIO when the last of the other end is closed (drivers/tty/n_tty.c).
    while let Ok(length @ 1..) = terminal.read(&mut part) {
        shown.extend_from_slice(&part[..length]);
    }
    child.wait().expect("it is our child");
    String::from_utf8(shown).expect("UTF-8").replace("\r\n", "\n")
}

fn command(etcd: &Etcd, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = etcd.command(arguments);
    for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
        command.env_remove(variable);
    }
    command.env("TERM", "xterm").envs(variables.iter().copied());
    command
}

#[test]
fn problems_are_red_on_a_terminal_unless_that_is_not_wanted_and_never_in_a_pipe_or_in_json() {
    let Some(etcd) = Etcd::start() else { return };
    etcd.apply(&etcd.file("c.toml", "[[pool]]\nname = 'default'\ncidr = '10.42.0.0/16'\n")).ends_with(0);
    etcd.put(&[("nodes/n1", "rubbish")]);
    let status = ["status", "--timeout", "1"];
    let piped = String::from_utf8(command(&etcd, &status, &[]).output().expect("twillctl runs").stdout).expect("UTF-8");
    assert!(piped.contains("\nPROBLEM node n1: ") && !piped.contains('\u{1b}'), "{piped}");

    let coloured = on_terminal(&etcd, &status, &[]);
    assert!(coloured.contains(&format!("\n{RED}node n1: ")), "{coloured:?}");
    assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), piped, "the text is the same");
    for unwanted in [&[("NO_COLOR", "1")][..], &[("TERM", "dumb")], &[("TERM", "dumb"), ("CI", "1"), ("CLICOLOR", "1")]]
    {
        assert_eq!(on_terminal(&etcd, &status, unwanted), piped, "{unwanted:?}");
    }
    let json = on_terminal(&etcd, &["status", "-o", "json"], &[]);
    assert!(json.starts_with('{') && !json.contains('\u{1b}'), "{json:?}");

    let failure = ["node", "show", "n9"];
    let refused = on_terminal(&etcd, &failure, &[]);
    assert!(refused.starts_with("\u{1b}[1m\u{1b}[31mtwillctl:\u{1b}[0m "), "{refused:?}");
    let refused = on_terminal(&etcd, &failure, &[("NO_COLOR", "1")]);
    assert!(refused.starts_with("twillctl: ") && !refused.contains('\u{1b}'), "{refused:?}");
}
