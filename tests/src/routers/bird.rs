//! BIRD 2, controlled by `birdc` over its socket.

mod config;
mod read;

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::sys::signal::Signal;

use super::program::{self, Program};
use super::{Family, Host, Route, Router, Session, Settings};
use crate::deadline::{self, PATIENCE};
use crate::{LabError, Result};

/// The programs that must be installed.
pub const PROGRAMS: [&str; 2] = ["bird", "birdc"];

/// A BIRD on a host.
#[derive(Debug)]
pub struct Bird {
    program: Program,
    settings: Settings,
}

impl Bird {
    /// Starts one, and waits until it answers.
    pub fn start(host: &Host, settings: Settings) -> Result<Self> {
        let mut bird = Self { program: Program::on(host), settings };
        bird.run(false)?;
        Ok(bird)
    }

    /// Starts one with a file that somebody wrote, and waits until it answers. It knows no neighbour by its settings.
    pub fn start_with(host: &Host, text: &str) -> Result<Self> {
        let settings = Settings::new(0, std::net::Ipv4Addr::UNSPECIFIED);
        let mut bird = Self { program: Program::on(host), settings };
        bird.launch(text, false)?;
        Ok(bird)
    }

    /// Starts it again after it was ended. After a graceful restart it waits for its neighbours' routes before it changes those of the
    /// kernel.
    pub fn run(&mut self, gracefully: bool) -> Result<()> {
        self.launch(&config::text(&self.settings)?, gracefully)
    }

    fn launch(&mut self, text: &str, gracefully: bool) -> Result<()> {
        let file = self.program.write("bird.conf", text)?;
        let mut command = program::command("bird")?;
        command.arg("-f").arg("-c").arg(file).arg("-s").arg(self.program.file("bird.ctl"));
        command.arg("-P").arg(self.program.file("bird.pid"));
        command.args(gracefully.then_some("-R"));
        self.program.start(command)?;
        deadline::until_some(&format!("{} answers", self.program.name()), PATIENCE, || {
            self.program.expect_running()?;
            Ok(self.birdc("show status").map(drop).map_err(|error| error.to_string()))
        })
    }

    /// Gives it another configuration: sessions that it does not concern stand.
    pub fn configure(&mut self, settings: Settings) -> Result<()> {
        self.program.write("bird.conf", &config::text(&settings)?)?;
        self.settings = settings;
        let answer = self.birdc("configure")?;
        // birdc ends well also where the file was refused.
        if answer.contains("Reconfigured") || answer.contains("Reconfiguration in progress") {
            return Ok(());
        }
        Err(LabError::wrong(format!("{} does not take the configuration: {answer}", self.program.name())))
    }

    /// What it is to be configured with when it [runs](Self::run) again.
    pub fn set(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// What it is configured with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Runs a command of `birdc`, and gives its answer without the greeting.
    pub fn birdc(&self, command: &str) -> Result<String> {
        let mut birdc = program::command("birdc")?;
        birdc.arg("-s").arg(self.program.file("bird.ctl")).args(command.split(' '));
        let answer = self.program.namespace().execute(birdc)?;
        Ok(answer.split_once('\n').map(|(_greeting, rest)| rest.to_owned()).unwrap_or_default())
    }

    /// Starts the session with a neighbour anew.
    pub fn reset(&self, neighbour: IpAddr) -> Result<()> {
        self.birdc(&format!("restart {}", config::protocol(neighbour))).map(drop)
    }

    /// Stops the session with a neighbour, or lets it start again.
    pub fn enable(&self, neighbour: IpAddr, enabled: bool) -> Result<()> {
        let verb = if enabled { "enable" } else { "disable" };
        self.birdc(&format!("{verb} {}", config::protocol(neighbour))).map(drop)
    }

    /// Asks a neighbour for all routes again (RFC 2918), and tells it all again.
    pub fn refresh(&self, neighbour: IpAddr) -> Result<()> {
        self.birdc(&format!("reload {}", config::protocol(neighbour))).map(drop)
    }

    /// Ends it with a word to its neighbours.
    pub fn stop(&mut self) -> Result<()> {
        self.program.end(Signal::SIGTERM)
    }

    /// Ends it so that its neighbours keep its routes, until it [runs](Self::run) again.
    pub fn stop_gracefully(&mut self) -> Result<()> {
        self.birdc("graceful restart")?;
        deadline::until(&format!("{} has ended", self.program.name()), PATIENCE, || {
            Ok(self.program.expect_running().is_err())
        })?;
        self.program.end(Signal::SIGKILL)
    }

    /// Kills it.
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

    /// Names of protocols are made of addresses.
    fn neighbour(&self, protocol: &str) -> Option<IpAddr> {
        let addresses = self.settings.neighbours.iter().map(|neighbour| neighbour.address);
        addresses.into_iter().find(|address| config::protocol(*address) == protocol)
    }
}

impl Router for Bird {
    fn name(&self) -> &str {
        self.program.name()
    }

    fn pid(&self) -> Result<u32> {
        self.program.pid()
    }

    fn sessions(&self) -> Result<Vec<Session>> {
        let text = self.birdc("show protocols all")?;
        let mut sessions = read::sessions(&text)?;
        if self.settings.neighbours.iter().any(|neighbour| neighbour.bfd) {
            let states = read::bfd(&self.birdc("show bfd sessions")?);
            for session in &mut sessions {
                session.bfd = states.get(&session.neighbour).cloned();
            }
        }
        Ok(sessions)
    }

    fn routes(&self, prefix: IpNetwork) -> Result<Vec<Route>> {
        // That it has none is an answer too.
        let text = match self.birdc(&format!("show route {prefix} all")) {
            Err(LabError::Command { output, .. }) if output.contains("Network not found") => return Ok(Vec::new()),
            other => other?,
        };
        read::routes(&text, |protocol| self.neighbour(protocol))
    }

    fn learned(&self, family: Family) -> Result<usize> {
        let table = if family == Family::Ipv4 { "master4" } else { "master6" };
        read::count(&self.birdc(&format!("show route primary table {table} where source = RTS_BGP count"))?)
    }
}
