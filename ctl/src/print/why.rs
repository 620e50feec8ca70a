//! What `twillctl why` prints.

use super::addresses::{blocks, list};
use super::status::depth;
use super::table::{age, list as all, notes, or_dash, parts, problems, table, unknown};
use crate::report::why::ip::WhyIp;
use crate::report::why::node::WhyNode;
use crate::report::why::pod::{Attached, Failed, WhyPod};

pub(super) fn pod(why: &WhyPod) -> String {
    let attached = |Attached { node, attachment }: &Attached| {
        [
            node.to_string(),
            attachment.state.clone(),
            age(attachment.age_seconds),
            all(&attachment.addresses),
            or_dash(attachment.container.as_ref()),
            or_dash(attachment.network.as_ref()),
            or_dash(attachment.interface.as_ref()),
            attachment.host_interface.clone(),
        ]
    };
    let heading = ["NODE", "STATE", "SINCE", "ADDRESSES", "CONTAINER", "NETWORK", "INTERFACE", "HOST INTERFACE"];
    let attachments = match (why.attachments.as_slice(), why.addresses.as_slice()) {
        ([], []) => format!("pod {} is attached nowhere, as far as the nodes have told\n", why.pod),
        // Its node does not answer, and has told etcd before.
        ([], rows) => list(rows),
        (some, _) => table(heading, some.iter().map(attached)),
    };
    parts([attachments, failures(why), problems(&why.problems), unknown(&why.unknown)])
}

fn failures(why: &WhyPod) -> String {
    let line = |Failed { node, attempt, fix }: &Failed| {
        let (ago, verb, step, code) = (age(attempt.age_seconds), &attempt.verb, &attempt.step, attempt.code);
        format!("{ago} ago on {node}: {verb} failed at {step}, code {code}: {}\n    fix: {fix}\n", attempt.cause)
    };
    // The last one is the problem of a pod that is not attached, and stands there.
    let told = usize::from(!why.is_attached()).min(why.attempts.len());
    let lines: String = why.attempts[told..].iter().map(line).collect();
    match why.failures - why.attempts.len() {
        0 => lines,
        more => format!("{lines}and {more} more failures before ('twillctl ipam attempts' on the node)\n"),
    }
}

pub(super) fn ip(why: &WhyIp) -> String {
    // What no node has needs no table.
    let row = match (&why.underlay_of, &why.address.block) {
        (None, Some(_)) => list(std::slice::from_ref(&why.address)),
        _ => String::new(),
    };
    parts([format!("{}\n", why.meaning), row, problems(&why.problems), unknown(&why.unknown)])
}

pub(super) fn node(why: &WhyNode) -> String {
    let name = why.name.as_str();
    let seen_by = why.seen_by.iter().map(|(node, found)| [node.to_string(), found.clone()]);
    let deletion =
        format!("may it be deleted: {}, {}\n", if why.deletion.allowed { "yes" } else { "NO" }, why.deletion.why);
    parts([
        why.node.as_ref().map(super::node::record).unwrap_or_default(),
        if why.own_blocks.is_empty() { String::new() } else { blocks(&why.own_blocks) },
        why.daemon.as_ref().map(|state| depth::state(name, state)).unwrap_or_default(),
        table(["NODE", "FINDS THE WAY TO IT"], seen_by),
        deletion,
        if why.problems.is_empty() { "no problems\n".to_owned() } else { problems(&why.problems) },
        notes(&why.notes),
        unknown(&why.unknown),
    ])
}
