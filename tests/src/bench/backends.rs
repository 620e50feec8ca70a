//! The back ends of one lab, one after the other, by `twillctl bench`: what an operator would measure on his own nodes, side by side.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use serde_json::Value;
use twill_chart::figures::{self, Figure, HEADING, Measured};
use twill_chart::plot::svg;

use super::measure::row;
use crate::deadline;
use crate::lab::{PROTOCOL_CLUSTER, VXLAN};
use crate::node::Node;
use crate::wire::INTERFACE;
use crate::{Lab, LabError, Result};

/// A back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The tunnel.
    Vxlan,
    /// Plain routes by the nodes' addresses.
    HostGw,
    /// Plain routes that BGP tells.
    Bgp,
}

impl Backend {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Vxlan, Self::HostGw, Self::Bgp];

    /// As it is called in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::HostGw => "host-gw",
            Self::Bgp => "bgp",
        }
    }

    /// What chooses it in the configuration.
    pub fn toml(self) -> &'static str {
        match self {
            Self::Vxlan => "type = \"vxlan\"\n",
            Self::HostGw => "type = \"host-gw\"\n",
            Self::Bgp => "type = \"bgp\"\n[bgp]\n",
        }
    }

    /// Whether a node sends to others by it.
    fn is_used_by(self, node: &Node) -> Result<bool> {
        let mut devices = Vec::new();
        for ipv6 in [false, true] {
            for route in node.routes(ipv6, PROTOCOL_CLUSTER)? {
                devices.extend(route["dev"].as_str().filter(|_| route["type"].is_null()).map(str::to_owned));
            }
        }
        let by_tunnel = devices.iter().all(|device| device == VXLAN);
        let plain = devices.iter().all(|device| device != VXLAN);
        // New pods have the room of a tunnel for as long as others may still send by one.
        let has_room = node.query_store("SELECT mtu FROM node")? == mtu_of_the_wire(node)?;
        Ok(!devices.is_empty() && if self == Self::Vxlan { by_tunnel && !has_room } else { plain && has_room })
    }
}

/// As the store says it.
fn mtu_of_the_wire(node: &Node) -> Result<String> {
    let links = node.namespace().run_json(&["ip", "-j", "link", "show", "dev", INTERFACE])?;
    Ok(links[0]["mtu"].to_string())
}

/// A tunnel goes when nobody has sent by it for ten seconds.
pub const SWITCHING: Duration = Duration::from_secs(40);

/// How long each is measured.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How many rounds.
    pub repeat: u8,
    /// How many seconds for each figure.
    pub seconds: u8,
    /// How many TCP connections several are.
    pub streams: u8,
}

/// The figures of all.
#[derive(Debug)]
pub struct Compared {
    /// By back end.
    pub measured: Vec<Measured>,
    /// Under which conditions, and how: a line each.
    pub words: Vec<String>,
}

/// Switches the lab to each back end in turn, and measures between its first two nodes.
pub fn compare(lab: &Lab, backends: &[Backend], plan: Plan) -> Result<Compared> {
    let mut compared = Compared { measured: Vec::new(), words: Vec::new() };
    for backend in backends {
        switch(lab, &lab.config_with(backend.toml()))?;
        until_used(lab, *backend)?;
        let [repeat, seconds, streams] = [plan.repeat, plan.seconds, plan.streams].map(|number| number.to_string());
        let words = [
            "-o",
            "json",
            "bench",
            "--nodes",
            "n1,n2",
            "--repeat",
            &repeat,
            "--seconds",
            &seconds,
            "--streams",
            &streams,
        ];
        let told = lab.node(1).twillctl_told(&words)?;
        if told.status != Some(0) {
            return Err(LabError::wrong(format!("twillctl bench with {}: {told:?}", backend.name())));
        }
        compared.take(*backend, &told.stdout)?;
    }
    Ok(compared)
}

/// Applies a configuration. A node tells for half a minute yet of the greater MTU that the pods of a bench had, which are gone: so it is
/// forced.
pub fn switch(lab: &Lab, toml: &str) -> Result<()> {
    let file = lab.directory().join("backend.toml");
    std::fs::write(&file, toml).map_err(LabError::io(format!("writing {}", file.display())))?;
    lab.node(1).twillctl(&["config", "apply", "--force", &file.to_string_lossy()]).map(drop)
}

/// Waits until all nodes send by a back end, and new pods have the MTU that it leaves them.
pub fn until_used(lab: &Lab, backend: Backend) -> Result<()> {
    deadline::until(&format!("all nodes send by {}", backend.name()), SWITCHING, || {
        for node in lab.nodes() {
            if !backend.is_used_by(node)? {
                return Ok(false);
            }
        }
        let sessions = || Ok(lab.node(1).twillctl_told(&["bgp", "peers"])?.status == Some(0));
        if backend == Backend::Bgp { sessions() } else { Ok(true) }
    })
}

impl Compared {
    fn take(&mut self, backend: Backend, printed: &str) -> Result<()> {
        let unreadable = |cause: serde_json::Error| LabError::Unreadable {
            what: "twillctl bench".into(),
            cause: cause.to_string(),
            text: printed.into(),
        };
        let report: Value = serde_json::from_str(printed).map_err(unreadable)?;
        let figures: Vec<Figure> = serde_json::from_value(report["figures"].clone()).map_err(unreadable)?;
        self.measured.push(Measured { backend: backend.name().into(), figures });
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        let first = &report["conditions"][0];
        let device =
            |device: &Value| format!("{} {} MTU {}", text(&device["role"]), text(&device["name"]), device["mtu"]);
        let devices: Vec<String> = first["devices"].as_array().into_iter().flatten().map(device).collect();
        self.words.push(format!(
            "{}: Linux {}, {} processors, twilld {}; {}; medians of {} rounds of {} s",
            backend.name(),
            text(&first["kernel"]),
            first["processors"],
            text(&first["twilld"]),
            devices.join(", "),
            report["rounds"],
            report["seconds"]
        ));
        Ok(())
    }

    /// The table, in columns.
    pub fn columns(&self) -> String {
        let rows: Vec<[String; 5]> =
            [HEADING.map(str::to_owned)].into_iter().chain(figures::rows(&self.measured)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let line = |row: &[String; 5]| {
            let cells: String =
                row.iter().enumerate().map(|(column, cell)| format!("{cell:<0$}  ", width(column))).collect();
            format!("{}\n", cells.trim_end())
        };
        rows.iter().map(line).collect()
    }

    /// The table, in Markdown.
    pub fn markdown(&self) -> String {
        let mut text = row(&HEADING);
        text += "|---|---|---|---|---|\n";
        text += &figures::rows(&self.measured).iter().map(|cells| row(cells)).collect::<String>();
        let words: String = self.words.iter().map(|line| format!("{line}\n")).collect();
        format!("{words}\n{text}")
    }

    /// Writes the plot, and where it is wanted the page.
    pub fn write(&self, plot: &Path, html: Option<&PathBuf>) -> Result<()> {
        let drawn = svg(&figures::panels(&self.measured));
        let drawn = drawn.map_err(|cause| LabError::wrong(format!("drawing the plot: {cause}")))?;
        let write = |file: &Path, text: &str| {
            std::fs::write(file, text).map_err(LabError::io(format!("writing {}", file.display())))
        };
        write(plot, &drawn)?;
        match html {
            Some(file) => write(file, &figures::page("Back ends side by side", &self.words, &self.measured, &drawn)),
            None => Ok(()),
        }
    }
}
