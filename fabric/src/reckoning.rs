//! What shall stand, kept from view to view: a change is as much work as it changes.
//!
//! Each peer's [`Part`] is made of this node's [`Site`] and of what the [`Roll`] believes of that peer, and of nothing else. So a
//! view that changes one record changes one part, and the sum by that part's objects; the maps of the sum share the rest with
//! those before, by which the reconciler finds the difference without a look at it. Where the site is another one, all parts are
//! made anew. What does not come from peers is little, and made each time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use twill_cluster::View;
use twill_conf::NodeName;
use twill_conf::cluster::Kind;
use twill_linux::state::{KernelState, RouteKey};

use crate::backend::{Part, Peer, Problems, Roll, Site, Terms, VxlanUse, backends, devices};
use crate::family::Family;
use crate::firewall::{self, Nodes};
use crate::learned::{Blend, Hop, Learned, Rule};
use crate::tally::Tally;
use crate::{Desired, Local, mtu, node};

/// What the last view came to.
#[derive(Debug, Default)]
pub struct Reckoning {
    roll: Roll,
    site: Option<Site>,
    parts: BTreeMap<NodeName, (Arc<Peer>, Part)>,
    sum: Sum,
    /// The routes of the sum and those that were learned.
    blend: Blend,
}

/// What all parts want.
#[derive(Debug, Default)]
struct Sum {
    /// Routes, neighbours, FDB entries.
    state: KernelState,
    /// The families of headers around what peers send.
    outer: Tally<Family>,
    /// The families in which peers are reached.
    reached: Tally<Family>,
    nodes: Nodes,
    problems: Tally<String>,
}

impl Reckoning {
    /// Everything that shall stand on this node by this view and by what BGP has learned, whatever was asked before.
    pub fn follow(&mut self, view: &View, local: &Local, learned: &Learned) -> Desired {
        let mut problems = Problems::default();
        let mut state = KernelState::default();
        let mut ours = node::ownership(local, learned);
        let (mut vxlan, mut passage) = (VxlanUse::default(), None);
        if let Some(conf) = &view.config {
            for (key, reason) in &view.faults {
                problems.report(format!("{key} cannot be read, and is left out: {reason}"));
            }
            let changed = self.roll.follow(view, &Terms::new(&conf.value, Some(local)));
            let own = view.nodes.get(&local.name).map(|record| &record.value);
            let site = Site::new(&conf.value, local, own, &self.roll);
            self.bring(changed, &site);

            let rule = if conf.value.backend.kind == Kind::Bgp { Rule::Learned } else { Rule::Made };
            self.blend.follow(rule, &self.sum.state.routes, &learned.routes, &devices());

            let outer: BTreeSet<Family> = self.sum.outer.there().iter().copied().collect();
            for backend in backends(&site) {
                state.merge(backend.stand(&site, local, &outer, &mut problems));
            }
            vxlan = site.vxlan_use(!state.links.is_empty(), self.blend.tunnels(), &self.roll);
            state.firewall = Some(firewall::ruleset(&site, local, &state, &self.sum.nodes));
            passage = Some(firewall::passage(&site));
            state.merge(KernelState { routes: self.blend.routes().clone(), ..self.sum.state.clone() });
            state.merge(node::forwarding(&conf.value, local, &learned.exits, self.blend.spread()));
            mtu::report(&site, self.sum.reached.there().iter().copied(), &mut problems);
            let found = self.roll.problems().chain(self.roll.orphans());
            found.chain(self.sum.problems.there().iter().cloned()).for_each(|problem| problems.report(problem));
            self.site = Some(site);
        } else {
            *self = Self::default();
            ours.devices.clear();
            problems.report("the cluster has no configuration: this node reaches no other".to_owned());
        }
        // Last, since it wins: no record may take a pod's address away.
        state.merge(node::attachments(local, &mut problems));
        Desired { state, ours, passage, vxlan, problems: problems.into_iter().collect() }
    }

    /// This node and the others, as they were last reckoned with; `None` where there was no configuration.
    pub(crate) fn known(&self) -> Option<(&Site, &Roll)> {
        Some((self.site.as_ref()?, &self.roll))
    }

    /// Whether the route of that key is one that BGP has learned.
    pub(crate) fn is_learned(&self, key: RouteKey) -> bool {
        self.blend.is_learned(key)
    }

    /// The worst way to any block of a node; `None` where one is not reached, and where nothing of the node is believed.
    pub(crate) fn way_to(&self, node: &NodeName) -> Option<Hop> {
        let peer = self.roll.peer(node)?;
        let hops: Option<Vec<Hop>> = peer.blocks.iter().map(|block| self.blend.hop(block.cidr())).collect();
        hops?.into_iter().max()
    }

    /// Whether packets to any block of a peer go through the tunnel.
    pub(crate) fn tunnels_to(&self, peer: &Peer) -> bool {
        peer.blocks.iter().any(|block| self.blend.hop(block.cidr()) == Some(Hop::Tunnel))
    }

    /// Brings the sum to what peers want now. All old parts are taken out before a new one is put in: what one gives up another
    /// may have.
    fn bring(&mut self, mut changed: BTreeSet<NodeName>, site: &Site) {
        if self.site.as_ref() != Some(site) {
            (self.parts, self.sum) = Default::default();
            changed = self.roll.peers().map(|peer| peer.name.clone()).collect();
        }
        for name in &changed {
            if let Some((peer, part)) = self.parts.remove(name) {
                self.sum.take(&peer, &part, site);
            }
        }
        for name in changed {
            let Some(peer) = self.roll.peer(&name) else { continue };
            count::visit();
            let part = Part::new(site, &self.roll, peer);
            self.sum.add(peer, &part, site);
            self.parts.insert(name, (Arc::clone(peer), part));
        }
    }
}

impl Sum {
    fn add(&mut self, peer: &Peer, part: &Part, site: &Site) {
        let Part { routes, neighbours, fdb, outer, native, problems } = part;
        routes.iter().cloned().for_each(|route| route.insert_into(&mut self.state.routes));
        self.state.neighbours.extend(neighbours.iter().map(|neighbour| (neighbour.key(), *neighbour)));
        self.state.fdb.extend(fdb.iter().map(|entry| (entry.key(), *entry)));
        outer.iter().for_each(|family| self.outer.add(*family));
        reached(peer, site).iter().for_each(|family| self.reached.add(*family));
        self.nodes.add(peer, native);
        problems.iter().for_each(|problem| self.problems.add(problem.clone()));
    }

    fn take(&mut self, peer: &Peer, part: &Part, site: &Site) {
        let Part { routes, neighbours, fdb, outer, native, problems } = part;
        routes.iter().for_each(|route| _ = self.state.routes.remove(&route.key));
        neighbours.iter().for_each(|neighbour| _ = self.state.neighbours.remove(&neighbour.key()));
        fdb.iter().for_each(|entry| _ = self.state.fdb.remove(&entry.key()));
        outer.iter().for_each(|family| self.outer.take(family));
        reached(peer, site).iter().for_each(|family| self.reached.take(family));
        self.nodes.take(peer, native);
        problems.iter().for_each(|problem| self.problems.take(problem));
    }
}

fn reached(peer: &Peer, site: &Site) -> Option<Family> {
    Family::common(&site.ends, &peer.record().underlay)
}

/// Counts how many parts are made, for the test that a change is as much work as it changes.
#[cfg(test)]
pub(crate) mod count {
    use std::cell::Cell;

    thread_local! { static VISITS: Cell<usize> = const { Cell::new(0) }; }

    pub(super) fn visit() {
        VISITS.set(VISITS.get() + 1);
    }

    /// How many since the last call, on this thread.
    pub(crate) fn take() -> usize {
        VISITS.take()
    }
}

#[cfg(not(test))]
mod count {
    #[inline]
    pub(super) fn visit() {}
}
