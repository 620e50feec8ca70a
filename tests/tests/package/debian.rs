//! A clean Debian 12 beside a node: the tree that `debootstrap` made once, under an overlay in the lab's directory, entered by
//! `chroot` in the node's network namespace. Either a script in it stands for `systemctl`: it does by the units' own lines what systemd
//! would, as far as the package's scripts ask for it. Or systemd itself is process 1 of the machine: [`Debian::boot`].

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};
use twill_tests::cleanup::cgroups;
use twill_tests::cni::Verb;
use twill_tests::deadline::{self, PATIENCE};
use twill_tests::needs::{say_skipped, workspace};
use twill_tests::process::{Process, expect_success, run_on_host};
use twill_tests::{Lab, LabError, Node, Pod, Result};

/// Longer than any command takes, in seconds; `debootstrap` fetches from afar.
const LONGEST: &str = "120";
const LONGEST_FETCH: &str = "900";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Of the tree, what is not the package's doing: of dpkg itself, and of the one who stands for systemd.
const NOT_OURS: [&str; 7] =
    ["./var/lib/dpkg", "./var/log", "./var/cache", "./proc", "./run/netns", "./tmp", "./etc/.pwd.lock"];

/// Run by the shell that becomes systemd, process 1 of the tree $1.
const BOOT: &str = r#"
    mount --rbind "$1" "$1"
    cd "$1"
    mount -t proc proc proc
    mount -t sysfs sysfs sys
    mount -t tmpfs -o mode=0755 run run
    mkdir -p run/lock run/netns old
    mount --rbind /run/netns run/netns
    if [ -d /sys/fs/cgroup/systemd ]; then
        mount -t tmpfs cgroup sys/fs/cgroup
        mkdir sys/fs/cgroup/systemd
        mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
    else
        mount -t cgroup2 cgroup sys/fs/cgroup
    fi
    pivot_root . old
    umount -l /old
    # Of what the machine mounts, nothing comes out; of what comes and goes below /run/netns, all comes in.
    mount --make-rshared /
    exec env -i container=twill-tests PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --log-target=console
"#;

/// Makes the tree $1 from the mirror $2, in memory, where dpkg need not wait for a disk.
const MAKE: &str = r#"
    rm -rf "$1" "$1.memory"
    mkdir -p "$1" "$1.memory"
    mount -t tmpfs -o mode=0755 memory "$1.memory"
    debootstrap --variant=minbase --include=nftables,iproute2,systemd,systemd-sysv bookworm "$1.memory" "$2"
    rm -f "$1.memory"/var/cache/apt/archives/*.deb
    cp --archive --one-file-system "$1.memory/." "$1"
    umount --recursive "$1.memory"
    rmdir "$1.memory"
"#;

/// The script that stands for `systemctl`.
const SYSTEMCTL: &str = r#"#!/bin/sh
set -eu
state=/tmp/systemd
echo "$*" >>$state/calls
line() { sed -n "s/^ExecStart=//p" "/usr/lib/systemd/system/$1"; }
running() { [ -e $state/pid ] && [ -d "/proc/$(cat $state/pid)" ]; }
start() {
    running && return
    setsid sh -c "echo \$\$ >$state/pid; exec $(line twilld.service)" </dev/null >>$state/log 2>&1 &
    while [ ! -e $state/pid ]; do sleep 0.05; done
}
stop() {
    running || return 0
    kill "$(cat $state/pid)"
    tries=0
    while running; do
        tries=$((tries + 1))
        [ $tries -lt 200 ] || { echo "twilld does not end" >&2; exit 1; }
        sleep 0.05
    done
    rm -f $state/pid
}
case "$*" in
    daemon-reload) ;;
    "start twilld.service") start ;;
    "start twilld-install.service") $(line twilld-install.service) && touch $state/installed ;;
    "stop twilld-install.service twilld.service") rm -f $state/installed; stop ;;
    "try-restart twilld.service") if running; then stop; start; fi ;;
    "--no-block try-restart twilld-install.service") [ ! -e $state/installed ] || $(line twilld-install.service) ;;
    *) echo "systemctl $*: nobody expected that" >&2; exit 1 ;;
esac
"#;

/// The tree of a clean Debian 12, made where it is not there yet. `None`, and it is said, where it cannot be had.
pub fn base() -> Result<Option<PathBuf>> {
    for program in ["debootstrap", "dpkg-deb", "chroot", "unshare"] {
        if !twill_testkit::has_program(program) {
            return Ok(None);
        }
    }
    let directory = target().join("package");
    fs::create_dir_all(&directory).map_err(LabError::io(format!("making {}", directory.display())))?;
    // Of several tests one makes it, and the others wait.
    let file = directory.join("lock");
    let lock = File::create(&file).map_err(LabError::io(format!("making {}", file.display())))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, errno)| LabError::errno(format!("locking {}", file.display()))(errno))?;
    let tree = directory.join("debian-12");
    if tree.exists() {
        return Ok(Some(tree));
    }
    let Some(mirror) = mirror()? else {
        say_skipped("apt knows no mirror of Debian 12 (bookworm, main); apt-get update asks them");
        return Ok(None);
    };
    let making = directory.join("debian-12.new");
    let mut command = Command::new("timeout");
    // What it mounts is gone with it.
    command.args([LONGEST_FETCH, "unshare", "--mount", "--propagation", "private", "sh", "-euc", MAKE, "make"]);
    command.arg(&making).arg(&mirror);
    let output = command.stdin(Stdio::null()).output().map_err(LabError::io("running debootstrap"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        let last = said.lines().last().unwrap_or_default();
        say_skipped(&format!("debootstrap cannot make a Debian 12 from {mirror}: {last}"));
        return Ok(None);
    }
    fs::rename(&making, &tree).map_err(LabError::io(format!("making {}", tree.display())))?;
    Ok(Some(tree))
}

/// Whether systemd can have a group of its own: in its hierarchy, where there are several, else in the one there is.
pub fn has_groups_for_systemd() -> bool {
    ["systemd/cgroup.procs", "cgroup.procs"].iter().any(|file| Path::new("/sys/fs/cgroup").join(file).exists())
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), |target| workspace().join(target))
}

/// Where apt gets Debian 12 from.
fn mirror() -> Result<Option<String>> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Codename: bookworm"]);
    command.arg("Component: main");
    Ok(run_on_host(command)?.lines().next().map(|uri| uri.trim_end_matches('/').to_owned()))
}

/// Makes the package of the lab's programs; the options are those of `hack/package`. Yields the package's file.
pub fn package(lab: &Lab, out: &str, options: &[&str]) -> Result<PathBuf> {
    let out = lab.directory().join(out);
    let mut command = Command::new(workspace().join("hack/package"));
    command.arg("--out").arg(&out).arg("--bin").arg(lab.binaries().directory());
    command.args(["--compression", "none"]).args(options).env_remove("TWILL_BIN");
    run_on_host(command)?;
    made(&out, ".deb")
}

/// The one file of that ending.
pub fn made(directory: &Path, ending: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(directory).map_err(LabError::io(format!("listing {}", directory.display())))?;
    let mut files = entries.flatten().map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with(ending));
    files.next().ok_or_else(|| LabError::wrong(format!("no {ending} in {}", directory.display())))
}

/// The tree of a node. Its mounts go with the lab's directory.
pub struct Debian<'a> {
    node: &'a Node,
    root: PathBuf,
    /// systemd, and the process that holds its namespaces. It ends with the lab, as all that runs in the node's network does.
    init: Option<(u32, Process)>,
}

impl<'a> Debian<'a> {
    /// Lays it over the base, for a node of this name.
    pub fn on(node: &'a Node, base: &Path) -> Result<Self> {
        let own = |part: &str| node.directory().join("debian").join(part);
        for part in ["upper", "work", "root"] {
            fs::create_dir_all(own(part)).map_err(LabError::io(format!("making {}", own(part).display())))?;
        }
        let root = own("root");
        let (base, upper, work) = (base.display(), own("upper"), own("work"));
        let options = format!("lowerdir={base},upperdir={},workdir={}", upper.display(), work.display());
        let failed = |what: &str| LabError::errno(format!("mounting {what} on {}", root.display()));
        mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(&*options))
            .map_err(failed("the base"))?;
        mount(Some("proc"), &root.join("proc"), Some("proc"), MsFlags::empty(), None::<&str>)
            .map_err(failed("/proc"))?;
        let debian = Self { node, root: root.clone(), init: None };
        debian.make_directory("run/netns")?;
        // Pods' namespaces come and go there.
        let (from, to) = (Path::new(twill_tests::namespace::DIRECTORY), debian.path("run/netns"));
        let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(from), &to, None::<&str>, bind, None::<&str>).map_err(failed("the namespaces"))?;
        let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
        mount(None::<&str>, &to, None::<&str>, slave, None::<&str>).map_err(failed("the namespaces"))?;
        debian.write("etc/machine-id", &format!("{}\n", node.machine_id()))?;
        Ok(debian)
    }

    /// Has a script stand for systemd.
    pub fn stand_in(&self) -> Result<()> {
        self.make_directory("run/systemd/system")?;
        self.make_directory("tmp/systemd")?;
        self.write("usr/local/bin/systemctl", SYSTEMCTL)?;
        self.run(&["chmod", "0755", "/usr/local/bin/systemctl"]).map(drop)
    }

    /// Has systemd run in it, as process 1. The error says what systemd wrote, where it does not come up.
    pub fn boot(&mut self) -> Result<()> {
        let lab = self.node.directory().parent().and_then(Path::file_name).unwrap_or_default();
        let group = format!("{}{}", cgroups::prefix(&lab.to_string_lossy()), self.node.name());
        // Of all hierarchies systemd needs its own, where there are several.
        let enter = r#"
            tree=/sys/fs/cgroup
            [ ! -d $tree/systemd ] || tree=$tree/systemd
            mkdir -p "$tree/$2"
            echo $$ >"$tree/$2/cgroup.procs"
            exec unshare --mount --propagation slave --pid --fork --kill-child --uts --ipc --cgroup sh -euc "$0" boot "$1"
        "#;
        let mut command = Command::new("sh");
        command.args(["-euc", enter, BOOT]).arg(&self.root).arg(group);
        let log = self.node.directory().join("debian/boot.log");
        let holder = self.node.namespace().start_process("systemd", command, &log)?;
        let children = format!("/proc/{0}/task/{0}/children", holder.pid());
        let init = deadline::until_some("systemd has begun", PATIENCE, || {
            let children = fs::read_to_string(&children).map_err(LabError::io(format!("reading {children}")))?;
            let init = children.trim().parse::<u32>().ok();
            let begun =
                |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "systemd");
            Ok(init.filter(begun).ok_or_else(|| holder.log()))
        })?;
        self.init = Some((init, holder));
        deadline::until_some("systemd has brought the machine up", PATIENCE, || {
            let output = self.output(&["systemctl", "is-system-running"])?;
            let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            Ok(if ["running", "degraded"].contains(&said.as_str()) { Ok(()) } else { Err(said) })
        })
    }

    fn make_directory(&self, inside: &str) -> Result<()> {
        let path = self.path(inside);
        fs::create_dir_all(&path).map_err(LabError::io(format!("making {}", path.display())))
    }

    /// A file of it, as the host sees it.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside)
    }

    /// Writes a file.
    pub fn write(&self, inside: &str, text: &str) -> Result<()> {
        let path = self.path(inside);
        fs::write(&path, text).map_err(LabError::io(format!("writing {}", path.display())))
    }

    /// What a file says; nothing where there is none.
    pub fn read(&self, inside: &str) -> String {
        fs::read_to_string(self.path(inside)).unwrap_or_default()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.arg(LONGEST);
        match &self.init {
            None => command.arg("chroot").arg(&self.root),
            Some((init, _)) => command.args([
                "nsenter",
                "--mount",
                "--pid",
                "--uts",
                "--ipc",
                "--cgroup",
                "--target",
                &init.to_string(),
            ]),
        };
        command.args(words);
        command.env_clear().env("PATH", PATH).env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// Runs words in it, in the node's network namespace; another status than 0 is an error.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        self.node.namespace().execute(self.command(words))
    }

    /// The same, whatever the status.
    pub fn output(&self, words: &[&str]) -> Result<Output> {
        self.node.namespace().output(&mut self.command(words))
    }

    /// Installs a package's file.
    pub fn dpkg_install(&self, package: &Path) -> Result<String> {
        let name = "tmp/package.deb";
        let to = self.path(name);
        fs::copy(package, &to).map_err(LabError::io(format!("copying to {}", to.display())))?;
        self.run(&["dpkg", "--install", &format!("/{name}")])
    }

    /// Calls the plugin that was brought to where runtimes look, with what the list there says, about a pod's `eth0`.
    pub fn cni(&self, verb: Verb, pod: &Pod, previous: Option<&Value>) -> Result<Value> {
        let list: Value = serde_json::from_str(&self.read("etc/cni/net.d/05-twill.conflist"))
            .map_err(|error| LabError::wrong(format!("the list that was installed: {error}")))?;
        let mut input = list["plugins"][0].clone();
        input["cniVersion"] = json!(twill_tests::cni::VERSION);
        input["name"] = list["name"].clone();
        if let Some(previous) = previous {
            input["prevResult"] = previous.clone();
        }
        let mut command = self.command(&["/opt/cni/bin/twill"]);
        command.env("CNI_COMMAND", verb.as_str()).env("CNI_CONTAINERID", pod.name()).env("CNI_IFNAME", "eth0");
        command.env("CNI_NETNS", pod.namespace().path()).env("CNI_PATH", "/opt/cni/bin");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.node.namespace().start(&mut command)?;
        let mut stdin = child.stdin.take().expect("it was piped");
        stdin.write_all(input.to_string().as_bytes()).map_err(LabError::io("writing to the plugin"))?;
        drop(stdin);
        let output = child.wait_with_output().map_err(LabError::io("waiting for the plugin"))?;
        let said = expect_success(&command, self.node.name(), output)?;
        if said.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&said).map_err(|error| LabError::wrong(format!("the plugin said {said:?}: {error}")))
    }

    /// The daemon's process, by who stands for systemd; none where it does not run.
    pub fn daemon(&self) -> Option<u32> {
        let pid: u32 = self.read("tmp/systemd/pid").trim().parse().ok()?;
        Path::new(&format!("/proc/{pid}")).exists().then_some(pid)
    }

    /// All files with kind, mode, owner and where a link leads, and the contents of those in /etc.
    pub fn files(&self) -> Result<BTreeMap<String, String>> {
        let mut look = "cd / && find . -xdev".to_owned();
        NOT_OURS.iter().for_each(|path| look += &format!(" -path {path} -prune -o"));
        look += r" -printf '%p\t%y %m %U %G %l\n' && find ./etc -type f -exec md5sum {} + | sed -E 's/^([^ ]+) +(.*)/\2 (content)\t\1/'";
        let listing = self.run(&["sh", "-euc", &look])?;
        Ok(listing.lines().filter_map(|line| line.split_once('\t')).map(|(a, b)| (a.into(), b.into())).collect())
    }

    /// Devices, routes, rules and tables of the node.
    pub fn kernel(&self) -> Result<String> {
        let looks = [
            "ip -o link show | sed -E 's/^[0-9]+: ([^:]+):.*/\\1/'",
            "ip -N -4 route show table all",
            // Without the anycast addresses of routers: that the machine forwards stays so.
            "ip -N -6 route show table all | sed '/^4 /d'",
            "ip rule show",
            "ip -6 rule show",
            "nft list ruleset",
        ];
        looks.iter().map(|look| Ok(self.node.run(&["sh", "-euc", look])? + "\n")).collect()
    }
}
