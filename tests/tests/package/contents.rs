//! What is in the package and the tarball.

use std::fs;

use twill_tests::needs::unmet;
use twill_tests::process::{command, run_on_host};
use twill_tests::{Lab, LabError, Result, with_lab};

use super::debian;

/// The listing of a package: mode, owner, path.
fn listing(package: &str) -> Result<Vec<String>> {
    let said = run_on_host(command(&["dpkg-deb", "--contents", package]))?;
    Ok(said.lines().map(str::to_owned).collect())
}

#[test]
fn the_same_programs_make_the_same_package_which_has_what_it_shall() {
    if unmet().is_none() && !twill_testkit::has_program("dpkg-deb") {
        return;
    }
    with_lab(Lab::builder().nodes(0).asleep(), |lab| {
        let (first, second) = (debian::package(lab, "first", &[])?, debian::package(lab, "second", &[])?);
        let read = |path: &std::path::Path| fs::read(path).map_err(LabError::io(format!("reading {}", path.display())));
        assert!(read(&first)? == read(&second)?, "two packages of the same programs differ");
        let tarballs = ["first", "second"].map(|out| debian::made(&lab.directory().join(out), ".tar.gz"));
        let [one, two] = tarballs;
        let (one, two) = (one?, two?);
        assert!(read(&one)? == read(&two)?, "two tarballs of the same programs differ");

        let lines = listing(&first.to_string_lossy())?;
        assert!(lines.iter().all(|line| line.contains(" root/root ")), "{lines:?}");
        let special = |line: &&String| line[..10].contains(['s', 'S', 't', 'T']);
        assert_eq!(lines.iter().filter(special).count(), 0, "a package of Twill needs no set-user-ID: {lines:?}");
        for path in [
            "./usr/lib/twill/twill",
            "./usr/lib/twill/twilld",
            "./usr/bin/twillctl",
            "./usr/sbin/twilld -> ../lib/twill/twilld",
            "./usr/lib/systemd/system/twilld.service",
            "./usr/lib/systemd/system/twilld-install.service",
            "./etc/twill/twilld.toml",
            "./usr/share/doc/twill/copyright",
            "./usr/share/doc/twill/index.md",
            "./usr/share/doc/twill/installing.md",
            "./usr/share/doc/twill/reference/node-configuration.md",
            "./usr/share/doc/twill/examples/cluster.toml",
            "./usr/share/doc/twill/examples/twill-dashboard.json",
            "./usr/share/doc/twill/examples/twill-rules.yml",
            "./usr/share/doc/twill/examples/kubernetes/twill.yaml",
        ] {
            assert!(lines.iter().any(|line| line.ends_with(&format!(" {path}"))), "{path} is missing: {lines:?}");
        }
        expect_generated(&lines);
        let in_tarball = run_on_host(command(&["tar", "--list", "--file", &one.to_string_lossy()]))?;
        let of_debian = ["changelog.gz", "copyright", "lintian"];
        for line in lines.iter().filter(|line| !of_debian.iter().any(|part| line.contains(part))) {
            let path = line.split_whitespace().nth(5).unwrap_or_default();
            assert!(in_tarball.lines().any(|file| file == path), "{path} is not in the tarball");
        }
        lint(&first.to_string_lossy())
    });
}

/// Completions and man pages, which the programs write themselves.
fn expect_generated(lines: &[String]) {
    let pages = [
        "usr/share/bash-completion/completions/twillctl",
        "usr/share/zsh/vendor-completions/_twillctl",
        "usr/share/fish/vendor_completions.d/twillctl.fish",
        "usr/share/man/man1/twillctl.1.gz",
        "usr/share/man/man8/twilld.8.gz",
    ];
    for path in pages {
        assert!(lines.iter().any(|line| line.ends_with(&format!(" ./{path}"))), "{path} is missing: {lines:?}");
    }
}

/// Debian's own rules, where their program is installed.
fn lint(package: &str) -> Result<()> {
    if twill_testkit::finds("lintian").is_none() {
        return Ok(());
    }
    run_on_host(command(&["lintian", "--allow-root", "--fail-on", "error", package])).map(drop)
}

#[test]
fn a_version_or_a_directory_that_makes_no_package_is_refused() -> Result<()> {
    for (words, wanted) in [
        (["--version", "new"], "is no version"),
        (["--bin", "/usr/share"], "has no program twill"),
        (["--compression", "7z"], "usage: "),
        (["--color", "red"], "usage: "),
    ] {
        let mut command = command(&["hack/package"]);
        command.current_dir(twill_tests::needs::workspace()).args(["--bin", "/usr/share"]).args(words);
        let output = command.output().map_err(LabError::io("running hack/package"))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(wanted), "{words:?}: {said}");
    }
    Ok(())
}
