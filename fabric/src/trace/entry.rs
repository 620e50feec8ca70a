//! How a packet comes in: from a pod of this node, from the node itself, or from another node.

use std::net::IpAddr;

use twill_cluster::inquiry::trace::{Outer, Step};
use twill_conf::NodeName;
use twill_linux::IfName;
use twill_linux::arrival::Shut;
use twill_linux::state::LinkKind;
use twill_linux::table::SeenLink;
use twill_linux::table::route::{Flow, Found, SeenTarget};

use super::step::{Words as _, differs, foreign, repaired, stands};
use super::{Input, Kernel, Onward, Stop, Walk, arrival_of};
use crate::backend::Backend as _;
use crate::family::{Family, host_prefix};
use crate::{Pod, Side, vxlan};

impl<K: Kernel> Walk<'_, K> {
    /// A packet that begins here: at a pod's host end, or none for the node's own.
    pub(super) fn begin(&mut self) -> Onward<Option<Input>> {
        let Some(source) = self.packet.source else {
            self.push(Step::of("the node itself sends it"))?;
            return Ok(None);
        };
        if let Some(pod) = self.pod_of(source) {
            let link = self.sound(Step::of("the pod's packet comes in at its host end"), pod.host, "the pod")?;
            self.unforged(pod, source, &link)?;
            self.unforbidden()?;
            return Ok(Some(Input { link, pod: true }));
        }
        if self.is_own(source)? {
            self.push(Step::of(format!("the node itself sends it, by its address {source}")))?;
            return Ok(None);
        }
        let whose = self.whose(source);
        let fix = format!("'twillctl ipam show --ip {source}' says who has it");
        self.push(
            Step::of("it begins here").broken(format!("no attached pod of this node has {source}: {whose}"), fix),
        )?;
        Err(Stop::Lost)
    }

    /// A packet from another node.
    pub(super) fn arrive(&mut self, from: &NodeName, outer: Option<&Outer>) -> Onward<Input> {
        let Some(outer) = outer else { return self.arrive_plain(from) };
        let family = Family::of(outer.destination);
        let what = format!("the tunnel's packet from {from} ({}) comes in", outer.source);
        let side = self.side(family, &what)?;
        let overhead = self.overhead(family);
        let carries = self.plain_link(Step::of(&what), side.device, overhead, "drops without a word")?;
        if !self.is_own(outer.destination)? {
            let cause = format!("{} is no address of this node any more", outer.destination);
            let fix = format!("{from} hears of the new one through etcd: look whether twilld runs there, and here");
            self.push(Step::of(&what).at(side.device).broken(cause, fix))?;
        }
        self.push(Step::of(what).at(side.device).carries(carries.mtu.saturating_sub(overhead)))?;
        self.admitted(outer, side.device)?;
        self.believed(from, outer, side.device)?;
        let link = self.unpacked(outer)?;
        Ok(Input { link, pod: false })
    }

    fn arrive_plain(&mut self, from: &NodeName) -> Onward<Input> {
        let what = format!("it comes in as it is from {from}");
        // By whichever interface its source is reached; where that is unknown, the one of its family.
        let towards = self.packet.source.and_then(|source| self.interface_towards(source).transpose()).transpose()?;
        let device = match towards {
            Some(link) if !vxlan::devices().contains(&link.name) => link.name,
            _ => self.side(self.family(), &what)?.device,
        };
        let link = self.plain_link(Step::of(&what), device, 0, "drops without a word")?;
        self.push(Step::of(what).at(device).carries(link.mtu))?;
        Ok(Input { link, pod: false })
    }

    fn interface_towards(&mut self, ip: IpAddr) -> Onward<Option<SeenLink>> {
        let flow = Flow { source: None, destination: ip, input: None };
        let Found::Route(decision) = self.kernel.look_up(flow)? else { return Ok(None) };
        let index = decision.target.index().filter(|_| !decision.local);
        Ok(index.map(|index| self.kernel.link_at(index)).transpose()?.flatten())
    }

    fn side(&mut self, family: Family, what: &str) -> Onward<Side> {
        let underlay = &self.known.local.underlay;
        // IPv4 may travel by an IPv6 underlay.
        let side = underlay.side(family).or_else(|| underlay.side(Family::V6)).cloned();
        let Some(side) = side else {
            let fix = "give twilld its interface with --underlay, or the interface an address";
            self.push(Step::of(what).broken(format!("this node has no {family} underlay address"), fix))?;
            return Err(Stop::Lost);
        };
        Ok(side)
    }

    pub(super) fn overhead(&self, family: Family) -> u32 {
        self.site.tunnel.clone().unwrap_or_default().overhead(family)
    }

    /// No chain of others stands in the way of the tunnel's packet.
    fn admitted(&mut self, outer: &Outer, device: IfName) -> Onward<()> {
        let port = outer.port;
        let shut = self.kernel.shut(arrival_of(outer))?;
        let Some(Shut { place, how }) = shut.first() else { return Ok(()) };
        let step = Step::of(format!("it is for this node, UDP port {port}")).at(device).by(foreign("firewall", place));
        let cause = format!("{place} drops it: {how}");
        self.push(step.broken(cause, format!("'nft insert rule {place} udp dport {port} accept'")))
    }

    /// The guard takes tunnel packets from nodes that it knows, on the underlay.
    fn believed(&mut self, from: &NodeName, outer: &Outer, device: IfName) -> Onward<()> {
        let step = Step::of(format!("the firewall takes {} for a node", outer.source)).at(device);
        if !self.verdicts().knows(outer.source) {
            let cause = format!("the firewall drops it: no node that this one knows has the address {}", outer.source);
            let fix = format!(
                "look at 'twillctl node show {from}': its record must give that address; and whether twilld here follows etcd"
            );
            return self.push(step.broken(cause, fix));
        }
        self.guarded(step)
    }

    /// The VXLAN device takes it.
    fn unpacked(&mut self, outer: &Outer) -> Onward<SeenLink> {
        let step = Step::of("the tunnel's header is taken off");
        let wanted = self.known.desired.state.links.values();
        let fits = |kind: &LinkKind| {
            let LinkKind::Vxlan { vni, port, local } = kind;
            (*vni, *port, *local) == (outer.vni, outer.port, outer.destination)
        };
        let Some(wanted) = wanted.into_iter().find(|link| fits(&link.kind)) else {
            let cause = format!(
                "no tunnel ends here for the identifier {}, the port {} and the address {}",
                outer.vni, outer.port, outer.destination
            );
            let fix = "compare vni and port in the records: 'twillctl node show'; nodes follow 'twillctl config apply' one by one";
            self.push(step.broken(cause, fix))?;
            return Err(Stop::Lost);
        };
        self.sound(step, wanted.name, "the tunnel")
    }

    /// A device that is there, up and has a carrier, told by one step; the packet fits into it.
    pub(super) fn sound(&mut self, step: Step, device: IfName, whose: &str) -> Onward<SeenLink> {
        let wanted = self.known.desired.state.links.get(&device);
        let link = self.up(step.clone(), device, wanted.map(ToString::to_string), whose)?;
        let step = step.at(device).carries(link.mtu);
        let step = match wanted {
            Some(wanted) if wanted.mtu != link.mtu => {
                let found = Some(format!("{device} mtu {}", link.mtu));
                let cause = format!("its MTU is {}, and shall be {}", link.mtu, wanted.mtu);
                step.by(differs("link", wanted, found)).odd(cause, repaired("it"))
            }
            Some(wanted) => step.by(stands("link", wanted)),
            None => step,
        };
        self.push(step)?;
        self.fits(device, link.mtu)?;
        Ok(link)
    }

    /// The device, where it is up. Where it is not, the step is broken.
    pub(super) fn up(&mut self, step: Step, device: IfName, wanted: Option<String>, whose: &str) -> Onward<SeenLink> {
        let step = step.at(device);
        let ours = wanted.is_some();
        let object = |found: Option<String>| wanted.clone().map(|wanted| differs("link", wanted, found));
        let with = |step: Step, found: Option<String>| match object(found.clone()) {
            Some(object) => step.by(object),
            None => found.into_iter().fold(step, |step, found| step.by(foreign("link", found))),
        };
        let Some(link) = self.kernel.link(device)? else {
            let fix =
                if ours { repaired("it") } else { format!("{whose} must be attached anew, or its interface made") };
            self.push(with(step, None).broken(format!("{device} does not exist"), fix))?;
            return Err(Stop::Lost);
        };
        if !link.up {
            let fix = if ours { repaired("it") } else { format!("ip link set {device} up") };
            self.push(with(step, Some(format!("{device} state DOWN"))).broken(format!("{device} is down"), fix))?;
        } else if !link.carrier {
            let cause = format!("{device} has no carrier");
            let fix = format!("look at what {device} is plugged into; of a pod: whether its own end is up");
            self.push(with(step, Some(format!("{device} NO-CARRIER"))).broken(cause, fix))?;
        }
        Ok(link)
    }

    /// An interface of the underlay by which packets come in with so much around them.
    fn plain_link(&mut self, step: Step, device: IfName, overhead: u32, how: &str) -> Onward<SeenLink> {
        let link = self.up(step.clone(), device, None, "the underlay")?;
        let length = self.packet.size.map(|size| size + overhead);
        if let Some(length) = length.filter(|length| *length > link.mtu) {
            let cause = format!(
                "the packet has {length} bytes here, and the MTU of {device} is {}: what is larger an interface {how}",
                link.mtu
            );
            let fix = format!("give {device} the MTU of the other nodes' interfaces ('ip link set {device} mtu N')");
            self.push(step.at(device).carries(link.mtu - overhead.min(link.mtu)).broken(cause, fix))?;
        }
        Ok(link)
    }

    /// Its source is the pod's own, by the filter of its host end; where that has none, by the firewall, which asks whether the kernel leads
    /// back to the source by that very host end. Answers need that way in either case.
    fn unforged(&mut self, pod: &Pod, source: IpAddr, link: &SeenLink) -> Onward<()> {
        if pod.unchecked {
            let what = "the firewall does not look at its source: its network has spoofCheck = false";
            return self.push(Step::of(what).at(pod.host));
        }
        let by = if pod.filtered { "the filter of its host end" } else { "the firewall" };
        let step = Step::of(format!("its source {source} is its own: {by} lets it pass")).at(pod.host);
        let state = &self.known.desired.state;
        let wanted = state.routes.values().find(|route| {
            route.key.destination == host_prefix(source) && route.target.devices().any(|device| device == pod.host)
        });
        let back = self.kernel.look_up(Flow { source: None, destination: source, input: None })?;
        let leads_back = |target: &SeenTarget| target.indices().any(|index| index == link.index);
        let found = match &back {
            Found::Route(decision) if leads_back(&decision.target) => {
                let step = wanted.into_iter().fold(step, |step, route| step.by(stands("route", route)));
                return if pod.filtered { self.push(step) } else { self.guarded(step) };
            }
            Found::Route(decision) => Some(super::step::decided(self.kernel, decision)?),
            Found::Refused(_) => None,
        };
        let object = match wanted {
            Some(wanted) => differs("route", wanted, found),
            None => differs("route", format!("{source} dev {}", pod.host), found),
        };
        let (cause, fix) = (format!("no route leads back to {source} by {}", pod.host), repaired("the route"));
        if pod.filtered {
            return self.push(step.by(object).odd(format!("{cause}: it passes, and no answer comes back"), fix));
        }
        let what = "the firewall looks whether its source is its own";
        let cause = format!("{cause}, so the firewall takes the source for forged and drops it");
        self.push(Step::of(what).at(pod.host).by(object).broken(cause, fix))
    }
}
