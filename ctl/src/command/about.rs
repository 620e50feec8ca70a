//! `twillctl version`, `completions` and `man`.

use std::collections::BTreeMap;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::shells;
use twill_cluster::record::AliveRecord;
use twill_cluster::store::{Range, Store};
use twill_conf::NodeName;

use crate::access;
use crate::arguments::Arguments;
use crate::arguments::about::{Shell, VersionFlags};
use crate::error::Error;
use crate::place::Place;
use crate::report::Report;
use crate::report::about::{ClusterVersions, Pages, Script, Version};

pub(super) async fn version(
    flags: VersionFlags,
    place: impl FnOnce() -> Result<Place, Error>,
) -> Result<Report, Error> {
    let own = Version::own();
    if !flags.cluster {
        return Ok(Report::Version(own));
    }
    let store = access::connect(&place()?)?;
    let cluster = cluster_versions(&store).await?;
    Ok(Report::Version(Version { cluster: Some(cluster), ..own }))
}

/// What the records of nodes and their signs of life say.
pub(super) async fn cluster_versions(store: &impl Store) -> Result<ClusterVersions, Error> {
    let view = access::picture(store).await?.view;
    let alive = store.read(&Range::prefix("alive/")).await.map_err(Error::Etcd)?;
    let alive: BTreeMap<NodeName, String> = alive
        .entries
        .iter()
        .filter_map(|entry| {
            Some((entry.key.strip_prefix("alive/")?.parse().ok()?, AliveRecord::read(&entry.value).version))
        })
        .collect();
    Ok(ClusterVersions::new(&view, &alive))
}

pub(super) fn completions(shell: Shell) -> Report {
    let (mut command, mut script) = (Arguments::command(), Vec::new());
    let name = command.get_name().to_owned();
    match shell {
        Shell::Bash => clap_complete::generate(shells::Bash, &mut command, name, &mut script),
        Shell::Zsh => clap_complete::generate(shells::Zsh, &mut command, name, &mut script),
        Shell::Fish => clap_complete::generate(shells::Fish, &mut command, name, &mut script),
    }
    Report::Script(Script { script: String::from_utf8_lossy(&script).into_owned() })
}

/// A page for the program, and one for each of its commands.
pub(super) fn man(dir: &Path) -> Result<Report, Error> {
    let error = |what| move |cause| Error::File { what, path: dir.to_owned(), cause };
    std::fs::create_dir_all(dir).map_err(error("make"))?;
    clap_mangen::generate_to(Arguments::command(), dir).map_err(error("write pages into"))?;
    let entries = std::fs::read_dir(dir).map_err(error("read"))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut pages: Vec<String> = names.filter(|name| name.starts_with("twillctl") && name.ends_with(".1")).collect();
    pages.sort();
    Ok(Report::Pages(Pages { dir: dir.to_owned(), pages }))
}
