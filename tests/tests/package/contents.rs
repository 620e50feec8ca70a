//! What is in the package and the tarball.

use std::fs;
use std::path::Path;

use twill_tests::needs::unmet;
use twill_tests::process::{command, run_on_host};
use twill_tests::{Lab, LabError, Result, links, with_lab};

use super::debian;
use super::units::values;

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
            "./usr/share/twill/twilld.toml",
            "./usr/share/doc/twill/copyright",
            "./usr/share/doc/twill/README.md",
            "./usr/share/doc/twill/docs/README.md",
            "./usr/share/doc/twill/docs/installing.md",
            "./usr/share/doc/twill/docs/reference/node-configuration.md",
            "./usr/share/doc/twill/examples/cluster.toml",
            "./usr/share/doc/twill/examples/twill-dashboard.json",
            "./usr/share/doc/twill/examples/twill-rules.yml",
            "./usr/share/doc/twill/examples/kubernetes/twill.yaml",
        ] {
            assert!(lines.iter().any(|line| line.ends_with(&format!(" {path}"))), "{path} is missing: {lines:?}");
        }
        assert!(!lines.iter().any(|line| line.contains(" ./etc")), "an upgrade would ask about it: {lines:?}");
        expect_generated(&lines);
        expect_size(&first.to_string_lossy(), &lines)?;
        let tree = lab.directory().join("tree");
        let mut unpack = command(&["dpkg-deb", "--extract"]);
        unpack.arg(&first).arg(&tree);
        run_on_host(unpack)?;
        expect_no_library(&first.to_string_lossy(), &tree)?;
        expect_living_links(&tree)?;
        let in_tarball = run_on_host(command(&["tar", "--list", "--file", &one.to_string_lossy()]))?;
        assert!(!in_tarball.contains("./etc"), "a second unpacking would overwrite it: {in_tarball}");
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

/// The size that the package tells is that of what is in it, in KiB by the rules of dpkg-gencontrol.
fn expect_size(package: &str, lines: &[String]) -> Result<()> {
    let told = run_on_host(command(&["dpkg-deb", "--field", package, "Installed-Size"]))?;
    let size = |line: &String| {
        let bytes: u64 = line.split_whitespace().nth(2).and_then(|size| size.parse().ok()).unwrap_or_default();
        if line.starts_with('-') { bytes.div_ceil(1024) } else { 1 }
    };
    assert_eq!(told.trim(), lines.iter().map(size).sum::<u64>().to_string());
    Ok(())
}

/// The programs are static, and the package asks for no library.
fn expect_no_library(package: &str, tree: &Path) -> Result<()> {
    let depends = run_on_host(command(&["dpkg-deb", "--field", package, "Depends"]))?;
    assert_eq!(depends.trim(), "nftables (>= 1.0.6)");
    for program in ["usr/lib/twill/twill", "usr/lib/twill/twilld", "usr/bin/twillctl"] {
        let path = tree.join(program).to_string_lossy().into_owned();
        let headers = run_on_host(command(&["readelf", "--program-headers", "--dynamic", &path]))?;
        assert!(headers.contains("LOAD"), "{program}: {headers}");
        for word in ["INTERP", "(NEEDED)"] {
            assert!(!headers.contains(word), "{program} asks for a loader or a library: {headers}");
        }
    }
    Ok(())
}

/// Between the documents, where the package puts them.
fn expect_living_links(tree: &Path) -> Result<()> {
    let doc = tree.join("usr/share/doc/twill");
    let dead = links::dead(&doc);
    assert!(dead.is_empty(), "\n{}", dead.join("\n"));
    for unit in ["twilld", "twilld-install"] {
        for documentation in values(&format!("{unit}.service"), "Documentation")? {
            let path = documentation.strip_prefix("file:///").unwrap_or(&documentation);
            assert!(tree.join(path).exists(), "{unit}.service names {documentation}");
        }
    }
    Ok(())
}

/// Debian's own rules, where their program is installed.
fn lint(package: &str) -> Result<()> {
    if !twill_testkit::has_program("lintian") {
        return Ok(());
    }
    // A test's package is not compressed, so that making it takes no time.
    let uncompressed = "uses-no-compression-for-control-tarball,uses-no-compression-for-data-tarball";
    let words = ["lintian", "--allow-root", "--fail-on", "error", "--suppress-tags", uncompressed, package];
    run_on_host(command(&words)).map(drop)
}

#[test]
fn programs_that_need_a_library_of_the_machine_make_no_package() -> Result<()> {
    let io = |what: &str| LabError::io(what.to_owned());
    let directory = tempfile::tempdir().map_err(io("making a directory"))?;
    // Every program of the machine's own is linked with its C library.
    for program in ["twill", "twilld", "twillctl"] {
        fs::copy("/bin/true", directory.path().join(program)).map_err(io("copying a program"))?;
    }
    let out = directory.path().join("out");
    let mut command = command(&["hack/package", "--bin"]);
    command.current_dir(twill_tests::needs::workspace()).arg(directory.path()).arg("--out").arg(&out);
    let output = command.output().map_err(io("running hack/package"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("/twill is not static"), "{said}");
    let made = fs::read_dir(&out).map_err(io("listing"))?.count();
    assert_eq!(made, 0, "nothing is left of a package that was refused");
    Ok(())
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
