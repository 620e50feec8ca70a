//! Brings what is said, and to whom, to what the cluster and the kernel are now.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use twill_bgp::path::Attributes;
use twill_bgp::policy::Guard;
use twill_bgp::session::State;
use twill_bgp::speaker::{Begin, Config, Input, Speaker};
use twill_cluster::record::Told;
use twill_fabric::Local;
use twill_fabric::peering::Who;
use twill_linux::Netlink;

use super::ground::Ground;
use super::spare::Spare;
use super::table::Table;
use super::translate::{Spoken, Watched, title, translate};
use super::{Speaking, TURN, Task};

/// How long a session may be down before an operator is told.
const PATIENCE: Duration = Duration::from_secs(60);
/// By which the board knows what is found here.
const FINDER: &str = "bgp";

impl Task<'_> {
    /// Brings what is said to what the cluster and the kernel are now. The kernel is looked at where it has told of changes, and else
    /// every [`TURN`].
    pub(super) fn review(&mut self) {
        let picture = self.bgp.pictures.borrow().clone();
        let underlay = self.bgp.underlays.borrow().clone();
        // Who has lost its underlay goes on with what it knows.
        let (Some(picture), Some(underlay)) = (picture, underlay) else { return };
        let local = Local::bare(self.bgp.name.clone(), self.bgp.vtep_mac, underlay);
        let Some(wanted) = self.peerings.speaker(&picture.reach, &local) else {
            if picture.is_whole() {
                self.hush();
            }
            return;
        };
        if self.looked.is_none_or(|looked| looked.elapsed() >= TURN) {
            self.look();
        }
        let spoken = translate(&wanted, &picture.reach, &self.bgp.name, &self.ground, &mut self.secrets);
        let peers = spoken.config.peers().iter().map(|(peer, config)| (*peer, config.endpoint.password.clone()));
        let mut troubles = spoken.troubles.clone();
        troubles.extend(self.lines.listen(wanted.port, peers));
        troubles.extend(wanted.problems.into_iter().map(in_configuration));
        let left_alone = spoken.left_alone.clone();
        self.say(spoken);
        if let Some(speaking) = &mut self.speaking {
            speaking.left_alone = left_alone;
            speaking.troubles = troubles.clone();
        }
        troubles.extend(self.silent());
        self.bgp.troubles.set(FINDER, troubles);
    }

    /// Looks at the kernel. Where it does not answer, what was seen last goes on.
    fn look(&mut self) {
        let seen = self.netlink.take().map_or_else(Netlink::open, Ok).and_then(|mut netlink| {
            let ground = Ground::observe(&mut netlink)?;
            Ok((netlink, ground))
        });
        match seen {
            Ok((netlink, ground)) => {
                self.netlink = Some(netlink);
                self.looked = Some(Instant::now());
                if self.ground != ground {
                    self.ground = ground;
                    self.table.resolve(&self.ground);
                    self.dirty = true;
                    self.reach();
                }
            }
            Err(error) => tracing::warn!("BGP: the kernel's links and routes cannot be read, trying again: {error}"),
        }
    }

    fn say(&mut self, spoken: Spoken) {
        let Spoken { config, announced, guard, watched, names, troubles: _, left_alone: _ } = spoken;
        if let Some(speaking) = &mut self.speaking {
            speaking.names = names;
            if speaking.config != config {
                speaking.config = config.clone();
                let outputs = speaking.speaker.configure(self.begin.elapsed(), config);
                self.perform(outputs);
                self.tell_absent();
            }
        } else {
            self.start(config, names);
        }
        self.originate(announced);
        let Some(speaking) = &mut self.speaking else { return };
        if speaking.guard != guard {
            speaking.guard = guard.clone();
            self.input(Input::Guard(guard));
        }
        self.watch(watched);
    }

    fn start(&mut self, config: Config, names: BTreeMap<IpAddr, Who>) {
        let begin = self.mark.begin();
        let how = if matches!(begin, Begin::Restarted { .. }) { "speaks again" } else { "speaks" };
        tracing::info!("BGP: this node {how} with {} peers", config.peers().len());
        let restart = config.graceful_restart();
        let (speaker, outputs) = Speaker::new(self.now(), config.clone(), begin, self.seed);
        self.speaking = Some(Speaking {
            speaker,
            config,
            announced: BTreeMap::new(),
            guard: Guard::default(),
            names,
            watched: BTreeMap::new(),
            troubles: Vec::new(),
            left_alone: Vec::new(),
            unreached: BTreeMap::new(),
            down: BTreeMap::new(),
        });
        if let (Begin::Restarted { .. }, Some(restart)) = (begin, restart) {
            self.spare = Spare::after(self.now(), restart, self.mark.before());
        }
        self.reach();
        self.tell_absent();
        self.table.await_families(self.awaited());
        self.dirty = true;
        self.perform(outputs);
    }

    /// Those that had no session before a restart are not waited for, nor those that are no peers any more.
    fn tell_absent(&mut self) {
        let Some(speaking) = &self.speaking else { return };
        self.spare.retain(|peer| speaking.config.peers().contains_key(&peer));
        let absent = speaking.config.peers().keys().filter(|peer| !self.mark.was_up(**peer));
        for peer in absent.copied().collect::<Vec<_>>() {
            self.input(Input::Absent(peer));
        }
    }

    fn originate(&mut self, announced: BTreeMap<IpNetwork, Attributes>) {
        let Some(speaking) = &mut self.speaking else { return };
        let before = std::mem::replace(&mut speaking.announced, announced.clone());
        for prefix in before.keys().filter(|prefix| !announced.contains_key(prefix)) {
            self.input(Input::Retract(*prefix));
        }
        for (prefix, attributes) in announced {
            if before.get(&prefix) != Some(&attributes) {
                self.input(Input::Originate(prefix, attributes));
            }
        }
    }

    fn watch(&mut self, watched: BTreeMap<IpAddr, Watched>) {
        let Some(speaking) = self.speaking.as_mut().filter(|speaking| speaking.watched != watched) else { return };
        speaking.watched = watched.clone();
        let before = self.lost.len();
        self.lost.retain(|peer| watched.contains_key(peer));
        if self.lost.len() != before {
            self.reach();
        }
        self.detector.watch(watched);
    }

    /// Nothing is to be said any more: the configuration has no `[bgp]`, or this node is no longer in the cluster.
    fn hush(&mut self) {
        self.mark.remove();
        self.spare = Spare::default();
        self.bgp.troubles.set(FINDER, Vec::new());
        if let Some(mut speaking) = self.speaking.take() {
            tracing::info!("BGP: this node speaks no more");
            let nobody = speaking.config.without_peers();
            let outputs = speaking.speaker.configure(self.now(), nobody);
            outputs.into_iter().for_each(|output| self.do_without_speaker(output));
            self.lines.shut();
            self.detector.watch(BTreeMap::new());
            self.lost.clear();
        }
        if self.table != Table::default() {
            self.table = Table::default();
            self.dirty = true;
        }
    }

    /// The sessions that have not been up for a while.
    fn silent(&mut self) -> Vec<Told> {
        let Some(speaking) = &mut self.speaking else { return Vec::new() };
        let down: Vec<_> =
            speaking.speaker.peers().into_iter().filter(|peer| peer.state != State::Established).collect();
        let is_down = |peer: &IpAddr| down.iter().any(|down| down.address == *peer);
        speaking.down.retain(|peer, _| is_down(peer));
        speaking.unreached.retain(|peer, _| is_down(peer));
        let mut silent = Vec::new();
        for peer in down {
            let since = speaking.down.entry(peer.address).or_insert_with(Instant::now);
            if since.elapsed() >= PATIENCE {
                let who = speaking.names.get(&peer.address).map(title).unwrap_or_default();
                let unreached = speaking.unreached.get(&peer.address).cloned();
                let why = unreached.or_else(|| peer.last_error.map(|(_, reason)| reason.to_string()));
                let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                silent.push(Told {
                    what: format!("the BGP session with {who} ({}) is not up{why}", peer.address),
                    fix: "look whether it is reached on its port, and whether both sides agree on AS numbers, password and hop limit"
                        .to_owned(),
                });
            }
        }
        silent
    }
}

fn in_configuration(what: String) -> Told {
    Told { what, fix: "correct [bgp] in the cluster's configuration ('twillctl config show')".to_owned() }
}
