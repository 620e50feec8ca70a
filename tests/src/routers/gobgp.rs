//! GoBGP, controlled by `gobgp` over its API. It has no forwarding of its own: nothing that it learns gets into the kernel.

mod config;
mod read;

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::program::{self, Program};
use super::{Announcement, Family, Host, Route, Router, Session, Settings};
use crate::deadline::{self, PATIENCE};
use crate::{LabError, Result};

/// The programs that must be installed.
pub const PROGRAMS: [&str; 2] = ["gobgpd", "gobgp"];
/// Where the API listens, on the loopback of its host's namespace.
const PORT: &str = "50051";

/// A GoBGP on a host.
#[derive(Debug)]
pub struct Gobgp {
    program: Program,
    settings: Settings,
}

impl Gobgp {
    /// Starts one, and waits until it answers.
    pub fn start(host: &Host, settings: Settings) -> Result<Self> {
        let mut gobgp = Self { program: Program::on(host), settings };
        gobgp.run(false)?;
        Ok(gobgp)
    }

    /// Starts one with a file that somebody wrote, which has so many neighbours, and waits until it answers.
    pub fn start_with(host: &Host, text: &str, neighbours: usize) -> Result<Self> {
        let settings = Settings::new(0, std::net::Ipv4Addr::UNSPECIFIED);
        let mut gobgp = Self { program: Program::on(host), settings };
        gobgp.launch(text, neighbours, false)?;
        Ok(gobgp)
    }

    /// Starts it again after it was ended. After a graceful restart it says so to its neighbours, and waits for what they have.
    pub fn run(&mut self, gracefully: bool) -> Result<()> {
        self.launch(&config::text(&self.settings)?, self.settings.neighbours.len(), gracefully)?;
        self.settings.announced.iter().try_for_each(|own| self.announce(own))
    }

    fn launch(&mut self, text: &str, neighbours: usize, gracefully: bool) -> Result<()> {
        let file = self.program.write("gobgp.toml", text)?;
        let mut command = program::command("gobgpd")?;
        command.arg("-f").arg(file).arg("--pprof-disable").arg(format!("--api-hosts=127.0.0.1:{PORT}"));
        command.args(gracefully.then_some("--graceful-restart"));
        self.program.start(command)?;
        deadline::until_some(&format!("{} answers", self.program.name()), PATIENCE, || {
            self.program.expect_running()?;
            // It answers before it has read its file.
            let count = self.sessions().map(|sessions| sessions.len()).map_err(|error| error.to_string());
            Ok(if count == Ok(neighbours) { Ok(()) } else { Err(count) })
        })
    }

    /// Gives it another configuration: sessions that it does not concern stand.
    pub fn configure(&mut self, settings: Settings) -> Result<()> {
        let text = config::text(&settings)?;
        self.program.write("gobgp.toml", &text)?;
        let former = std::mem::replace(&mut self.settings, settings);
        self.program.signal(Signal::SIGHUP)?;
        for own in &former.announced {
            self.withdraw(own.prefix)?;
        }
        self.settings.announced.iter().try_for_each(|own| self.announce(own))?;
        let wanted: Vec<_> = self.settings.neighbours.iter().map(|neighbour| neighbour.address).collect();
        deadline::until_some(&format!("{} has the neighbours {wanted:?}", self.program.name()), PATIENCE, || {
            let sessions = self.sessions()?;
            let is_so = sessions.len() == wanted.len() && sessions.iter().all(|each| wanted.contains(&each.neighbour));
            Ok(if is_so { Ok(()) } else { Err(sessions) })
        })
    }

    /// What it is configured with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Announces a prefix of its own, or says something else of it.
    pub fn announce(&self, own: &Announcement) -> Result<()> {
        let mut words = vec![own.prefix.to_string(), "origin".into(), "igp".into()];
        let joined = |all: Vec<String>| all.join(",");
        if !own.communities.is_empty() {
            let all = own.communities.iter().map(|(system, value)| format!("{system}:{value}"));
            words.extend(["community".into(), joined(all.collect())]);
        }
        if !own.large_communities.is_empty() {
            let all = own.large_communities.iter().map(|[a, b, c]| format!("{a}:{b}:{c}"));
            words.extend(["large-community".into(), joined(all.collect())]);
        }
        words.extend(own.med.map(|med| ["med".into(), med.to_string()]).into_iter().flatten());
        self.change("add", own.family(), &words)
    }

    /// No longer announces a prefix of its own.
    pub fn withdraw(&self, prefix: IpNetwork) -> Result<()> {
        let family = if prefix.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 };
        self.change("del", family, &[prefix.to_string()])
    }

    fn change(&self, verb: &str, family: Family, words: &[String]) -> Result<()> {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        self.gobgp(&[&["global", "rib", "-a", &family.to_string(), verb], words.as_slice()].concat()).map(drop)
    }

    /// Runs a command of `gobgp`.
    pub fn gobgp(&self, words: &[&str]) -> Result<String> {
        let mut gobgp = program::command("gobgp")?;
        gobgp.args(["--port", PORT]).args(words);
        self.program.namespace().execute(gobgp)
    }

    /// The same for its JSON.
    fn ask(&self, words: &[&str]) -> Result<Value> {
        let text = self.gobgp(&[&["--json"], words].concat())?;
        serde_json::from_str(&text).map_err(|error| LabError::Unreadable {
            what: words.join(" "),
            cause: error.to_string(),
            text,
        })
    }

    /// Starts the session with a neighbour anew.
    pub fn reset(&self, neighbour: IpAddr) -> Result<()> {
        self.gobgp(&["neighbor", &neighbour.to_string(), "reset"]).map(drop)
    }

    /// Stops the session with a neighbour, or lets it start again.
    pub fn enable(&self, neighbour: IpAddr, enabled: bool) -> Result<()> {
        let verb = if enabled { "enable" } else { "disable" };
        self.gobgp(&["neighbor", &neighbour.to_string(), verb]).map(drop)
    }

    /// Asks a neighbour for all routes again (RFC 2918), and tells it all again.
    pub fn refresh(&self, neighbour: IpAddr) -> Result<()> {
        self.gobgp(&["neighbor", &neighbour.to_string(), "softreset"]).map(drop)
    }

    /// Ends it with a word to its neighbours.
    pub fn stop(&mut self) -> Result<()> {
        self.program.end(Signal::SIGTERM)
    }

    /// Kills it. Neighbours with graceful restart keep its routes until it [runs](Self::run) again.
    pub fn kill(&mut self) -> Result<()> {
        self.program.end(Signal::SIGKILL)
    }

    /// Sends a signal: SIGSTOP freezes it, SIGCONT lets it go on.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.program.signal(signal)
    }

    /// What it wrote.
    pub fn log(&self) -> String {
        self.program.log()
    }
}

impl Router for Gobgp {
    fn name(&self) -> &str {
        self.program.name()
    }

    fn pid(&self) -> Result<u32> {
        self.program.pid()
    }

    fn sessions(&self) -> Result<Vec<Session>> {
        read::sessions(&self.ask(&["neighbor"])?)
    }

    fn routes(&self, prefix: IpNetwork) -> Result<Vec<Route>> {
        let family = if prefix.is_ipv4() { "ipv4" } else { "ipv6" };
        let prefix = prefix.to_string();
        // It says so where it has none, and ends badly.
        match self.ask(&["global", "rib", "-a", family, &prefix]) {
            Ok(table) => read::routes(&table, &prefix),
            Err(LabError::Command { output, .. }) if output.contains("Network not in table") => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    fn learned(&self, family: Family) -> Result<usize> {
        let summary = self.ask(&["global", "rib", "summary", "-a", &family.to_string()])?;
        let own = self.settings.announced.iter().filter(|own| own.family() == family).count();
        // What is zero is left out.
        let all = summary["num_destination"].as_u64().unwrap_or_default();
        Ok(usize::try_from(all).unwrap_or(usize::MAX).saturating_sub(own))
    }
}
