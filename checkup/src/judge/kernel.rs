//! The kernel, nft, and settings of the kernel.

use std::io::ErrorKind;

use twill_linux::nft::Version;
use twill_linux::trial::Feature;

use super::{Findings, some_of};
use crate::finding::Check;
use crate::observe::Observations;
use crate::scope::{Scope, Stage};
use crate::unseen::AS_ROOT;

/// Twill is tested on this kernel and newer ones.
const OLDEST_KERNEL: (u32, u32) = (6, 1);
/// Twill is tested with this nft and newer ones.
const OLDEST_NFT: Version = Version(1, 0, 6);

pub(super) fn kernel(_: &Scope, seen: &Observations, findings: &mut Findings) {
    const CHECK: Check = Check::Kernel;
    let release = match &seen.kernel {
        Ok(release) => release.as_str(),
        Err(unseen) => {
            findings.unknown(CHECK, "", &unseen.why, unseen.remedy());
            "of unknown version"
        }
    };
    if version(release).is_some_and(|version| version < OLDEST_KERNEL) {
        let (major, minor) = OLDEST_KERNEL;
        let what = format!("Linux {release} is older than {major}.{minor}, with which Twill is tested");
        findings.note(CHECK, "", what, "take a newer kernel; features that it lacks are told one by one");
    }
    match &seen.features {
        Ok(features) => {
            for (feature, outcome) in features {
                // Where nft is missing, its own check says so.
                let of_nft = matches!(feature, Feature::Nftables | Feature::Fib | Feature::Nat);
                if let Err(why) = outcome
                    && !(of_nft && seen.nft.is_err())
                {
                    let (name, without, fix) = lack(*feature);
                    let what = format!("the kernel cannot: {why}; {without}");
                    match feature {
                        Feature::SourceFilter => findings.note(CHECK, name, what, fix),
                        _ => findings.problem(CHECK, name, what, fix),
                    }
                }
            }
            findings.else_ok(CHECK, format!("Linux {release}, with all features that Twill needs"));
        }
        Err(unseen) => {
            let what = match unseen.kind {
                ErrorKind::PermissionDenied => "they can be tried out by root only",
                _ => "they could not be tried out",
            };
            findings.unknown(CHECK, "features", format!("{what}: {}", unseen.why), unseen.remedy());
        }
    }
}

/// "6.1" of "6.1.0-18-amd64".
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// What it is called, what does not work without it, and what to do.
fn lack(feature: Feature) -> (&'static str, &'static str, &'static str) {
    match feature {
        Feature::Veth => ("veth", "no pod can be attached", "load the module veth, or take a kernel with CONFIG_VETH"),
        Feature::Vxlan => (
            "vxlan",
            "the back end vxlan has no tunnel",
            "load the module vxlan, or take a kernel with CONFIG_VXLAN; the back ends host-gw and bgp need none",
        ),
        Feature::Nftables => (
            "nf_tables",
            "there is no firewall, and nobody is masqueraded",
            "load the modules nf_tables and nft_ct, or take a kernel with CONFIG_NF_TABLES_INET and CONFIG_NFT_CT",
        ),
        Feature::Fib => (
            "nft_fib",
            "the guard against forged packets, and published ports, cannot be made",
            "load the module nft_fib_inet, or take a kernel with CONFIG_NFT_FIB_INET",
        ),
        Feature::Nat => (
            "nft_nat",
            "pods reach nothing outside, and no port is published",
            "load the modules nft_nat and nft_masq, or take a kernel with CONFIG_NFT_NAT and CONFIG_NFT_MASQ",
        ),
        Feature::TokenBucket => (
            "sch_tbf",
            "the bandwidth of pods cannot be limited",
            "load the module sch_tbf, or take a kernel with CONFIG_NET_SCH_TBF",
        ),
        Feature::Redirection => (
            "ifb",
            "what pods send cannot be limited",
            "load the modules ifb, sch_ingress, cls_u32 and act_mirred, or take a kernel that has them",
        ),
        Feature::SourceFilter => (
            "cls_bpf",
            "hostEndFilter of a network has no effect: rules of nftables look at the sources of what pods send instead",
            "load the modules sch_ingress and cls_bpf, or take a kernel with CONFIG_NET_CLS_BPF",
        ),
    }
}

pub(super) fn nft(_: &Scope, seen: &Observations, findings: &mut Findings) {
    const CHECK: Check = Check::Nft;
    match &seen.nft {
        Ok(version) if *version < OLDEST_NFT => {
            let what = format!("nft {version} is older than {OLDEST_NFT}: it may misread what Twill writes");
            findings.problem(CHECK, "", what, format!("install nftables {OLDEST_NFT} or newer (Debian 12 has it)"));
        }
        Ok(version) => findings.ok(CHECK, format!("nft {version}")),
        Err(why) => {
            let what = format!("it cannot be run, so there is no firewall, and no port is published: {why}");
            let fix = "install the package nftables, and let nft stand in the PATH of twilld and of the runtime";
            findings.problem(CHECK, "", what, fix);
        }
    }
}

/// What is written for the loose mode (RFC 3704, section 2.4).
const STRICT: u8 = 1;

pub(super) fn sysctl(scope: &Scope, seen: &Observations, findings: &mut Findings) {
    const CHECK: Check = Check::Sysctl;
    let sysctls = &seen.sysctls;
    let serving = scope.stage == Stage::Serving;
    let fix = |setting: String| match &sysctls.unwritable {
        Some(why) => format!("set {setting}: twilld cannot, since /proc/sys cannot be written ({why})"),
        None => format!("set {setting}, and look for who sets it back (a file in /etc/sysctl.d, say): twilld sets it"),
    };
    // Before the daemon is there, it matters only whether it will be able to set them.
    match &sysctls.unwritable {
        Some(_) if !serving && sysctls.read_only => {
            let what = "it is mounted read-only: twilld can switch on no forwarding";
            findings.problem(
                CHECK,
                "/proc/sys",
                what,
                "mount it read-write; a container has to be privileged for that",
            );
        }
        Some(why) if !serving => {
            findings.unknown(CHECK, "/proc/sys", format!("whoever asks may not write there: {why}"), AS_ROOT)
        }
        _ => {}
    }
    let names = |is: fn(&crate::observe::Settings) -> bool| -> Vec<&str> {
        let such = sysctls.interfaces.iter().filter(|(_, settings)| is(settings));
        such.map(|(name, _)| name.as_str()).collect()
    };
    let closed = names(|settings| !settings.forwarding);
    if let Some(first) = closed.first().filter(|_| serving && scope.cluster.ipv4) {
        let what =
            format!("forwarding of IPv4 is off on {}: what comes in there for pods is dropped", some_of(&closed));
        findings.problem(CHECK, "forwarding", what, fix(format!("net.ipv4.conf.{first}.forwarding=1")));
    }
    if serving && scope.cluster.ipv6 && sysctls.ipv6_forwarding == Some(false) {
        let what = "forwarding of IPv6 is off: what pods send goes no further than the node";
        findings.problem(CHECK, "forwarding", what, fix("net.ipv6.conf.all.forwarding=1".to_owned()));
    }
    if scope.cluster.ipv6 && sysctls.ipv6_forwarding.is_none() {
        let what = "the kernel has no IPv6 (ipv6.disable=1?): pods of this node have no IPv6 addresses";
        let fix = "boot without ipv6.disable=1, or give this node no pool of IPv6 (\"nodes\" of the pool)";
        if serving {
            findings.problem(CHECK, "IPv6", what, fix);
        } else {
            findings.note(CHECK, "IPv6", what, fix);
        }
    }
    // What a pod sends by its own address passes there all the same: the way back is by its host end.
    let is_host_end = |name: &str| seen.links.iter().any(|links| links.pods.iter().any(|pod| pod.name == name));
    let mut strict = names(|settings| settings.rp_filter == STRICT);
    strict.retain(|name| !is_host_end(name));
    if let Some(first) = strict.first() {
        let what = format!(
            "rp_filter is strict (1) on {}: the kernel drops what comes in there if it would answer by another interface",
            some_of(&strict)
        );
        let remedy = fix(format!("net.ipv4.conf.{first}.rp_filter=2"));
        match serving || sysctls.read_only {
            true => findings.problem(CHECK, "rp_filter", what, remedy),
            false => findings.note(CHECK, "rp_filter", what, "nothing is to be done: twilld makes it loose (2)"),
        }
    }
    if let Some(bridge) = bridge_that_calls(seen) {
        let what = format!(
            "{bridge} is a bridge and bridge-nf-call-iptables is 1: packets between its ports pass the FORWARD chains too"
        );
        findings.note(
            CHECK,
            "bridge-nf-call",
            what,
            "set net.bridge.bridge-nf-call-iptables=0, if nothing else needs it",
        );
    }
    let words = if serving { "forwarding is on, no strict rp_filter" } else { "nothing stands in the way of twilld" };
    findings.else_ok(CHECK, words);
}

fn bridge_that_calls(seen: &Observations) -> Option<&str> {
    let links = seen.links.as_ref().ok()?;
    let bridge = links.underlay.iter().find(|interface| interface.kind.as_deref() == Some("bridge"))?;
    (seen.sysctls.bridge_calls == Some(true)).then_some(bridge.name.as_str())
}

/// Where the table of connections is so full, in percent.
const FILLING: u64 = 75;
const FULL: u64 = 95;

pub(super) fn conntrack(_: &Scope, seen: &Observations, findings: &mut Findings) {
    const CHECK: Check = Check::Conntrack;
    let Some(table) = seen.conntrack else {
        return findings.ok(CHECK, "no connection is tracked yet");
    };
    let percent = table.count.saturating_mul(100) / table.max.max(1);
    let what = format!("{} of {} entries are in use", table.count, table.max);
    let fix = format!(
        "raise net.netfilter.nf_conntrack_max, to {} say; then look who opens so many",
        table.max.saturating_mul(2)
    );
    match percent {
        FULL.. => {
            let what = format!("{what}: new connections are dropped when it is full");
            findings.problem(CHECK, "nf_conntrack_max", what, fix);
        }
        FILLING.. => findings.note(CHECK, "nf_conntrack_max", what, fix),
        _ => findings.ok(CHECK, what),
    }
}
