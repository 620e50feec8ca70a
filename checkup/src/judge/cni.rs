//! What a runtime finds.

use std::path::Path;

use twill_conf::network::list::{Author, PLUGIN};
use twill_conf::node::{RUN_DIR, Setting};

use super::Findings;
use crate::finding::Check;
use crate::observe::{Network, Observations, Plugin};
use crate::scope::{Scope, Stage};

const CHECK: Check = Check::Cni;
const INSTALL: &str = "run 'twilld install' (docs/installing.md)";

/// What is to be done where something is not where runtimes look; `key` of the node's configuration says where that is.
pub fn install_where(key: Setting) -> String {
    format!("{INSTALL}; where runtimes look elsewhere, name that as {} in twilld's file, and restart twilld", key.key())
}

/// What `twilld install` calls its list.
const LIST: &str = "05-twill.conflist";
/// A name that comes before most.
const FIRST: &str = "00-twill.conflist";

pub(super) fn cni(scope: &Scope, seen: &Observations, findings: &mut Findings) {
    if let Some(plugin) = findings.seen(CHECK, &seen.plugin) {
        self::plugin(scope, plugin, findings);
    }
    if let Some(networks) = findings.seen(CHECK, &seen.networks) {
        self::networks(scope, networks, findings);
    }
    let words = match scope.stage {
        Stage::Serving => {
            format!("{PLUGIN} {} in {}, and its network is the first", scope.version, scope.cni.bin.display())
        }
        Stage::Before => {
            format!("{} and {} have nothing that stands in the way", scope.cni.bin.display(), scope.cni.conf.display())
        }
    };
    findings.else_ok(CHECK, words);
}

fn plugin(scope: &Scope, plugin: &Plugin, findings: &mut Findings) {
    let subject = scope.cni.plugin().display().to_string();
    let serving = scope.stage == Stage::Serving;
    match plugin {
        Plugin::Missing if serving => {
            let what = "the plugin is not there: no pod can be attached, and none removed";
            findings.problem(CHECK, subject, what, install_where(Setting::CniBinDir));
        }
        Plugin::Missing => {}
        Plugin::Foreign => {
            let what = "another program stands in the plugin's place";
            findings.problem(CHECK, subject, what, "move it away; then run 'twilld install'");
        }
        Plugin::NotExecutable => {
            findings.problem(
                CHECK,
                subject.clone(),
                "nobody may execute it: no pod can be attached",
                format!("chmod 755 {subject}"),
            );
        }
        Plugin::Ours { version: Err(why) } => {
            findings.problem(CHECK, subject, format!("the plugin does not run: {why}"), INSTALL);
        }
        Plugin::Ours { version: Ok(version) } if version != scope.version => {
            let what = format!("the plugin is of version {version}, and twilld of {}", scope.version);
            findings.note(CHECK, subject, what, format!("bring both to one version: {INSTALL}"));
        }
        Plugin::Ours { .. } => {}
    }
}

fn networks(scope: &Scope, networks: &[Network], findings: &mut Findings) {
    let serving = scope.stage == Stage::Serving;
    let twills = networks.iter().position(|network| network.author != Author::Other);
    match (networks.first(), twills) {
        (Some(Network { file, author: Author::Other, .. }), _) => first_is_foreign(scope, file, twills, findings),
        (_, None) if serving => {
            let subject = scope.cni.conf.display().to_string();
            let what = "no network of Twill's is there: a runtime attaches no pod by it";
            findings.problem(CHECK, subject, what, install_where(Setting::CniConfDir));
        }
        _ => {}
    }
    let Some(network) = twills.map(|place| &networks[place]) else { return };
    let subject = network.file.display().to_string();
    if !network.meets {
        let plugins = match &network.run_dir {
            Some(named) => format!("it names the run directory {}", named.display()),
            None => format!("it names no run directory, which means {RUN_DIR}"),
        };
        let daemons = scope.run_dir.display();
        let what = format!("{plugins}, and the daemon's is {daemons}: plugin and daemon do not meet");
        findings.problem(CHECK, subject, what, "run 'twilld install' with the daemon's --run-dir");
    } else if let Author::Edited { more } = &network.author {
        let what = format!("it was edited: it has {more}");
        findings.note(CHECK, subject, what, "nothing is to be done; 'twilld install' leaves it as it is");
    }
}

fn first_is_foreign(scope: &Scope, file: &Path, twills: Option<usize>, findings: &mut Findings) {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let subject = file.display().to_string();
    let wins = scope.stage == Stage::Serving || twills.is_some() || *name < *LIST;
    if wins {
        let what = "it is another network's, and the first by name, which a runtime takes: its pods are not Twill's";
        let fix = match *name > *FIRST {
            true => format!(
                "move it away, or let Twill's list come before it by name ('twilld install --conflist-name {FIRST}'; {LIST} by default)"
            ),
            false => "move it away, or give it a name that comes after that of Twill's list".to_owned(),
        };
        findings.problem(CHECK, subject, what, fix);
    } else {
        let what = format!(
            "pods are attached by another network; once {LIST} is there it comes before it by name, and is taken"
        );
        findings.note(CHECK, subject, what, "docs/migration.md says how pods go from one to the other");
    }
}
