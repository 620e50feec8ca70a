//! The image: the Containerfile builds, on a Debian 12 that `debootstrap` made and with the programs under test, since no registry of
//! images need be in reach; and the programs run in what comes out, with no library beside them but the base's.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use twill_tests::binaries::Binaries;
use twill_tests::needs::{say_skipped, unmet, workspace};
use twill_tests::process::{command, expect_success, run_on_host};
use twill_tests::{LabError, Result};

use super::debian;

/// Longer than a build takes, in seconds: `apt-get` in it fetches from afar.
const LONGEST: &str = "600";
/// What `apt-get` says where its mirror is out of reach.
const OUT_OF_REACH: [&str; 3] = ["Failed to fetch", "Temporary failure resolving", "Unable to fetch"];

/// podman with a storage of its own, all of which is removed in the end.
struct Podman(tempfile::TempDir);

impl Podman {
    fn command(&self, words: &[&str]) -> Command {
        let own = |name: &str| self.0.path().join(name);
        let mut command = Command::new("timeout");
        command.args([LONGEST, "podman", "--root"]).arg(own("root")).arg("--runroot").arg(own("run"));
        command.args(["--storage-driver", "overlay"]).args(words);
        command.env("TMPDIR", self.0.path()).stdin(Stdio::null());
        command
    }

    fn output(&self, words: &[&str]) -> Result<Output> {
        self.command(words).output().map_err(LabError::io("running podman"))
    }

    fn run(&self, words: &[&str]) -> Result<String> {
        expect_success(&self.command(words), "the host", self.output(words)?)
    }

    /// Makes an image of a directory.
    fn import(&self, directory: &Path, name: &str) -> Result<()> {
        let file = self.0.path().join("layer.tar");
        let mut tar = command(&["tar", "--create", "--one-file-system", "--file"]);
        run_on_host({
            tar.arg(&file).arg("--directory").arg(directory).arg(".");
            tar
        })?;
        self.run(&["import", "--quiet", &file.to_string_lossy(), name])?;
        std::fs::remove_file(&file).map_err(LabError::io("removing a layer"))
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // Else its mounts would keep the directory.
        for words in [&["image", "umount", "--all", "--force"][..], &["rmi", "--all", "--force"]] {
            self.output(words).map(drop).unwrap_or_else(|error| eprintln!("{error}"));
        }
    }
}

#[test]
fn the_containerfile_makes_an_image_in_which_the_programs_run() -> Result<()> {
    if let Some(why) = unmet() {
        say_skipped(&why);
        return Ok(());
    }
    if !twill_testkit::has_program("podman") {
        return Ok(());
    }
    let Some(base) = debian::base()? else { return Ok(()) };
    let directory = base.parent().expect("the base lies in a directory");
    let podman = Podman(tempfile::tempdir_in(directory).map_err(LabError::io("making a directory"))?);
    podman.import(&base, "twill-base")?;
    let programs = staged_programs(podman.0.path())?;
    podman.import(&programs, "twill-programs")?;
    let arguments = ["BASE=localhost/twill-base", "RUST=localhost/twill-base", "PROGRAMS=localhost/twill-programs"];
    let mut words = vec!["build", "--isolation", "chroot", "--network", "host", "--tag", "twill-image"];
    arguments.iter().for_each(|argument| words.extend(["--build-arg", argument]));
    let context = workspace().to_string_lossy();
    words.push(&context);
    let built = podman.output(&words)?;
    let said = String::from_utf8_lossy(&built.stdout).into_owned() + &String::from_utf8_lossy(&built.stderr);
    if !built.status.success() && OUT_OF_REACH.iter().any(|words| said.contains(words)) {
        say_skipped("the mirror of Debian 12 is out of the image's reach");
        return Ok(());
    }
    assert!(built.status.success(), "{said}");
    let root = podman.run(&["image", "mount", "twill-image"])?;
    let inside = |words: &[&str]| {
        let mut command = Command::new("chroot");
        command.arg(root.trim()).args(words).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        run_on_host(command)
    };
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(inside(&["twilld", "--version"])?, format!("twilld {version}"));
    assert_eq!(inside(&["twillctl", "--version"])?, format!("twillctl {version}"));
    assert!(inside(&["nft", "--version"])?.starts_with("nftables v1."));
    // The plugin lies where `twilld install` looks for it.
    let ask = r#"echo '{"cniVersion":"1.0.0"}' | CNI_COMMAND=VERSION /usr/lib/twill/twill"#;
    assert!(inside(&["sh", "-c", ask])?.contains("supportedVersions"));
    Ok(())
}

/// The programs as the stage of the build has them.
fn staged_programs(own: &Path) -> Result<PathBuf> {
    let (staged, binaries) = (own.join("staged"), Binaries::ready()?);
    let mut install = command(&["install", "-D", "--strip", "-t"]);
    install.arg(staged.join("programs")).args([binaries.plugin(), binaries.daemon(), binaries.ctl()]);
    run_on_host(install)?;
    Ok(staged)
}
