//! Programs that a test writes and then runs.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes a program that everybody may execute, in the place of what stands there, so that it can be run at once.
///
/// Another program writes it (install(1)): had this process the file open for writing, a child that another test's thread starts
/// meanwhile would have it too until its exec, and whoever runs the file as long as that is so is refused (ETXTBSY, execve(2)).
pub fn write_program(path: &Path, text: &str) {
    let mut install = Command::new("install");
    let install = install.args(["-m", "755", "/dev/stdin"]).arg(path).stdin(Stdio::piped()).spawn();
    let mut install = install.expect("coreutils are there");
    let mut pipe = install.stdin.take().expect("it was piped");
    pipe.write_all(text.as_bytes()).expect("it reads all");
    drop(pipe);
    assert!(install.wait().expect("it is our child").success(), "{} cannot be written", path.display());
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_program_runs_at_once_while_others_are_started() {
        let directory = std::env::temp_dir().join(format!("twill-testkit-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory can be made");
        let run = |name: String| {
            let path = directory.join(name);
            for number in 0..50 {
                write_program(&path, &format!("#!/bin/sh\nexit {number}\n"));
                let status = Command::new(&path).status().expect("it is not busy");
                assert_eq!(status.code(), Some(number));
            }
        };
        thread::scope(|scope| {
            for number in 0..4 {
                scope.spawn(move || run(number.to_string()));
            }
        });
        std::fs::remove_dir_all(&directory).expect("it is ours");
    }
}
