//! Where the commands of the pages are run: on machines of a laboratory, whose files are their own, from a directory that looks like
//! the root of the repository after `hack/build` and `hack/setup`.

use std::os::unix::fs::symlink;
use std::path::Path;

use twill_tests::binaries::{self, Binaries};
use twill_tests::clients::Machine;
use twill_tests::needs::workspace;
use twill_tests::{Lab, LabError, Result, process, with_lab};

use crate::blocks::Block;
use crate::registry::Entry;

/// All scenes.
///
/// `cluster`: on n1 of three nodes, with a pod on each and `shop/till-0` on n2. `new-node`: on the only machine of a lab with an etcd and no
/// daemon. `standalone`: on a machine without etcd. `host`: on this very machine, with nothing around it, for what makes labs itself (`LAB`).
///
/// What a page takes from its reader's environment is in that of the commands: `ETCD` (a URL), `NODE` (`n2`), `ADDRESS` (that of
/// `shop/till-0`), `POD1` and `POD2` (addresses of pods on n1 and n2), `TWILL_ETCD`, `TWILLD_ETCD`, and, in `cluster`, the run directory.
pub(crate) const NAMES: [&str; 4] = ["cluster", "new-node", "standalone", "host"];

/// A forever running program must go on for so long, in seconds.
const FOR_A_WHILE: &str = "2";
/// Longer than any block takes on this machine, in seconds.
const LONGEST: &str = "120";
/// timeout(1): the time was over.
const TIME_WAS_OVER: i32 = 124;

/// A block that is about to be run.
pub(crate) struct Stage<'a> {
    pub(crate) block: (&'a Block, &'a Entry),
    place: Place<'a>,
    binaries: Binaries,
    variables: Vec<(&'static str, String)>,
}

/// Where a block is run.
#[derive(Clone, Copy)]
enum Place<'a> {
    Machine(&'a Machine<'a>),
    /// This one, in a directory.
    Host(&'a Path),
}

/// What runs each block.
type One<'a> = &'a mut dyn FnMut(Stage<'_>) -> Result<()>;

/// A directory like the root of the repository.
fn repository(at: &Path, binaries: &Binaries) -> Result<()> {
    let io =
        |what: &str, result: std::io::Result<()>| result.map_err(LabError::io(format!("{what} in {}", at.display())));
    let tools = binaries.cnitool().parent().unwrap_or(Path::new("/")).to_owned();
    io("making target", std::fs::create_dir_all(at.join("target")))?;
    for (name, to) in [
        ("dist", binaries.directory().to_owned()),
        ("conf", workspace().join("conf")),
        ("docs", workspace().join("docs")),
        ("target/tools", tools),
    ] {
        io(name, symlink(to, at.join(name)))?;
    }
    Ok(())
}

impl Stage<'_> {
    /// Runs the commands by a shell that ends at the first one that fails.
    pub(crate) fn run(&self) -> Result<()> {
        let (block, entry) = self.block;
        let name = format!("{}-{}", block.page.replace('/', "-"), block.line);
        let directory = match self.place {
            Place::Machine(machine) => machine.directory().join(name),
            Place::Host(directory) => directory.join(name),
        };
        std::fs::create_dir_all(&directory).map_err(LabError::io(format!("making {}", directory.display())))?;
        repository(&directory, &self.binaries)?;
        let log = directory.join("log");
        // What stays in the background would keep a pipe open.
        let own = match self.place {
            Place::Machine(_) => "mount -t tmpfs tmpfs /usr/local/bin",
            Place::Host(_) => "",
        };
        let head = format!("cd \"$0\"\nexec </dev/null >log 2>&1\n{own}");
        let script = format!("{head}\n{}", entry.script(block));
        let mut words = vec!["bash", "-euo", "pipefail", "-c", &script];
        if entry.forever {
            words.splice(0..0, ["timeout", FOR_A_WHILE]);
        }
        let mut command = match self.place {
            Place::Machine(machine) => machine.command(&words),
            Place::Host(_) => process::command(&[&["timeout", LONGEST][..], &words].concat()),
        };
        command.arg(&directory);
        let path = std::env::var("PATH").unwrap_or_default();
        let tools = self.binaries.directory().display().to_string();
        command.env("PATH", format!("/usr/local/bin:{tools}:{path}:/usr/sbin:/sbin"));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let output = match self.place {
            Place::Machine(machine) => machine.node().namespace().output(&mut command)?,
            Place::Host(_) => command.output().map_err(LabError::io("running a page's commands"))?,
        };
        let wanted = if entry.forever { TIME_WAS_OVER } else { 0 };
        if output.status.code() == Some(wanted) {
            return Ok(());
        }
        let told = std::fs::read_to_string(&log).unwrap_or_default();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(LabError::wrong(format!("its commands end with {}:\n{told}{error}", output.status)))
    }
}

fn endpoints(lab: &Lab) -> Vec<(&'static str, String)> {
    let all = lab.etcd().endpoints();
    let first = all.split(',').next().unwrap_or_default().to_owned();
    vec![("ETCD", first), ("TWILL_ETCD", all.clone()), ("TWILLD_ETCD", all)]
}

fn each<'a>(
    blocks: &'a [(Block, Entry)],
    (machine, lab): (&'a Machine<'a>, &'a Lab),
    variables: &[(&'static str, String)],
    one: One<'_>,
) -> Result<()> {
    blocks.iter().try_for_each(|(block, entry)| {
        let (place, binaries) = (Place::Machine(machine), lab.binaries().clone());
        one(Stage { block: (block, entry), place, binaries, variables: variables.to_vec() })
    })
}

/// Three nodes with pods.
pub(crate) fn cluster(blocks: &[(Block, Entry)], one: One<'_>) {
    with_lab(Lab::builder(), |lab| {
        let lab: &Lab = lab;
        let pods =
            lab.nodes().iter().map(|node| node.attach(&format!("p-{}", node.name()))).collect::<Result<Vec<_>>>()?;
        let till = lab.node(2).create_pod("till")?;
        till.add_as("shop", "till-0")?;
        let machine = Machine::boot(lab.node(1))?;
        let mut variables = endpoints(lab);
        let run_dir = lab.node(1).run_dir().display().to_string();
        variables.extend([
            ("NODE", "n2".to_owned()),
            ("ADDRESS", till.address(false)?.to_string()),
            ("POD1", pods[0].address(false)?.to_string()),
            ("POD2", pods[1].address(false)?.to_string()),
            ("TWILL_RUN_DIR", run_dir.clone()),
            ("TWILLD_RUN_DIR", run_dir),
        ]);
        mirrored(lab, &till.address(false)?.to_string())?;
        each(blocks, (&machine, lab), &variables, one)
    });
}

/// The nodes have told etcd of their pods.
fn mirrored(lab: &Lab, address: &str) -> Result<()> {
    twill_tests::deadline::until("etcd knows of the pods", twill_tests::deadline::PATIENCE, || {
        let mirrors = lab.etcd().read("addresses/")?;
        Ok(mirrors.iter().any(|(_, value)| value["addresses"][address]["pod"] == "shop/till-0"))
    })
}

/// For each block a machine of a new lab, with an etcd and without a daemon.
pub(crate) fn new_node(blocks: &[(Block, Entry)], one: One<'_>) {
    for block in blocks {
        with_lab(Lab::builder().nodes(1).asleep(), |lab| {
            let lab: &Lab = lab;
            let machine = Machine::boot(lab.node(1))?;
            each(std::slice::from_ref(block), (&machine, lab), &endpoints(lab), one)
        });
    }
}

/// For each block a machine of its own, without etcd.
pub(crate) fn standalone(blocks: &[(Block, Entry)], one: One<'_>) {
    for block in blocks {
        let subnet = "10.77.0.0/24".parse().expect("a subnet");
        with_lab(Lab::builder().nodes(1).stand_alone([subnet]), |lab| {
            let lab: &Lab = lab;
            let machine = Machine::boot(lab.node(1))?;
            each(std::slice::from_ref(block), (&machine, lab), &[], one)
        });
    }
}

/// This machine.
pub(crate) fn host(blocks: &[(Block, Entry)], one: One<'_>) {
    let mut run = || -> Result<()> {
        let directory = tempfile::tempdir().map_err(LabError::io("making a directory"))?;
        let binaries = Binaries::ready()?;
        let variables = vec![
            ("LAB", binaries::lab_program()?.display().to_string()),
            ("TWILL_BIN", binaries.directory().display().to_string()),
        ];
        blocks.iter().try_for_each(|(block, entry)| {
            let (place, binaries) = (Place::Host(directory.path()), binaries.clone());
            one(Stage { block: (block, entry), place, binaries, variables: variables.clone() })
        })
    };
    run().unwrap_or_else(|error| panic!("{error}"));
}
