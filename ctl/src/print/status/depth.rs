//! One node in depth: all that its daemon says.

use twill_cluster::inquiry::state::{PoolState, State};

use super::super::table::{age, table};
use crate::report::status::Node;

/// A node's state, a line for each thing.
pub(super) fn of(node: &Node) -> String {
    match &node.daemon {
        Some(state) => self::state(node.name.as_str(), state),
        None => String::new(),
    }
}

/// The same under another heading.
pub(in crate::print) fn state(name: &str, state: &State) -> String {
    let line = |name: &str, value: String| [name.to_owned(), value];
    let mut rows = vec![
        line("twilld", format!("{}, up {}", state.version, age(state.uptime_seconds))),
        line("machine", state.machine_id.clone()),
        line(
            "ready",
            if state.not_ready.is_empty() { "yes".to_owned() } else { format!("NO: {}", state.not_ready.join("; ")) },
        ),
        line("configuration", followed(state)),
        line("back end", backend_in_full(state)),
        line("peers", peers(state)),
        line("probe", probe(state)),
        line(
            "bgp",
            state.bgp.map_or("not spoken".to_owned(), |bgp| format!("{} of {} sessions up", bgp.up, bgp.total)),
        ),
    ];
    rows.extend(state.pools.iter().map(|pool| line("addresses", addresses(pool))));
    rows.extend([line("repairs", repairs(state)), line("kernel", kernel(state)), line("etcd", etcd(state))]);
    table(["node", name], rows)
}

/// The back end in a word, with a mark while it is switched.
pub(super) fn backend(state: &State) -> String {
    let kind = state.backend.kind.as_deref().unwrap_or("none");
    if state.backend.switching.is_some() { format!("{kind}, switching") } else { kind.to_owned() }
}

fn backend_in_full(state: &State) -> String {
    let backend = &state.backend;
    let receives = match backend.receives {
        Some(end) => format!("receives by VXLAN {} on UDP port {}", end.vni, end.port),
        None => "receives by no tunnel".to_owned(),
    };
    let switching =
        backend.switching.as_ref().map(|what| format!("; a switch is under way: {what}")).unwrap_or_default();
    format!("{}, {receives}{switching}", backend.kind.as_deref().unwrap_or("none"))
}

fn peers(state: &State) -> String {
    let peers = &state.peers;
    let ways = [
        (peers.tunnel, "through the tunnel"),
        (peers.plain, "by plain routes"),
        (peers.bgp, "by routes of BGP"),
        (peers.unreached, "NOT REACHED"),
    ];
    let ways = ways.iter().filter(|(count, _)| *count > 0).map(|(count, way)| format!("{count} {way}"));
    match peers.nodes {
        0 => "none with blocks".to_owned(),
        nodes => format!("{nodes}: {}", ways.collect::<Vec<_>>().join(", ")),
    }
}

fn probe(state: &State) -> String {
    let faulty = state.peers.faulty.iter().map(|(node, found)| format!("{node} {}", in_words(found)));
    match state.peers.faulty_nodes {
        0 => "nothing is known to be wrong".to_owned(),
        count => format!("{count} not good: {}", faulty.collect::<Vec<_>>().join(", ")),
    }
}

/// What the path probe finds of a way; a word of a newer daemon stands as it is.
fn in_words(found: &str) -> &str {
    match found {
        "silent" => "does not answer",
        "not_through" => "answers, but not through the tunnel",
        "small_only" => "gets small packets only",
        "checksums" => "gets packets with wrong checksums",
        "no_route" => "has no route from here",
        other => other,
    }
}

fn addresses(pool: &PoolState) -> String {
    let PoolState { pool, blocks, free, used, cooling, total, .. } = pool;
    let pool = if pool.is_empty() { "no pool" } else { pool };
    format!(
        "{pool}: {free} of {total} free, {used} used, {cooling} cooling, in {blocks} {}",
        if *blocks == 1 { "block" } else { "blocks" }
    )
}

fn repairs(state: &State) -> String {
    let repairs = &state.repairs;
    let kinds = repairs.by_kind.iter().map(|(kind, count)| format!("{count} {kind}"));
    let contested = match repairs.contested {
        0 => String::new(),
        count => format!("; {count} again and again"),
    };
    let last = repairs.last.as_ref().map(|last| format!("; last {} ago: {}", age(last.seconds_ago), last.what));
    match repairs.by_kind.len() {
        0 => "none".to_owned(),
        _ => format!("{}{contested}{}", kinds.collect::<Vec<_>>().join(", "), last.unwrap_or_default()),
    }
}

fn kernel(state: &State) -> String {
    let passes = &state.passes;
    let last = match passes.last.as_str() {
        "settled" => "all stands that shall".to_owned(),
        "" => "not looked at yet".to_owned(),
        word => format!("{word}: {}", passes.obstacles.join("; ")).trim_end_matches(": ").to_owned(),
    };
    let settled = passes.settled_seconds_ago.map(|ago| format!(", {} ago", age(ago))).unwrap_or_default();
    let took = passes.converged_millis.map(|millis| format!("; the last change took {millis} ms")).unwrap_or_default();
    format!("{last}{settled}{took}")
}

fn etcd(state: &State) -> String {
    let etcd = &state.etcd;
    let connected = if etcd.connected { "followed" } else { "NOT FOLLOWED" };
    let (last, median) = (latency(etcd.last_micros), latency(etcd.median_micros));
    format!(
        "{connected}, at revision {}, answers in {median} (the last in {last}), lost {} times",
        etcd.revision, etcd.losses
    )
}

/// The free addresses of a family; "-" where the node has no block of it.
pub(super) fn free(state: &State, ipv6: bool) -> String {
    let mut pools = state.pools.iter().filter(|pool| pool.ipv6 == ipv6).peekable();
    match pools.peek() {
        None => "-".to_owned(),
        Some(_) => pools.map(|pool| pool.free).fold(0, u64::saturating_add).to_string(),
    }
}

/// Which configuration it follows; two where the newer one is not brought about yet.
pub(super) fn followed(state: &State) -> String {
    let revision = |revision: Option<i64>| revision.map_or("none".to_owned(), |revision| revision.to_string());
    match (state.config.known, state.config.applied) {
        (known, applied) if known == applied => revision(known),
        (known, None) => format!("{}, not brought about", revision(known)),
        (known, applied) => format!("{}, brought about {}", revision(known), revision(applied)),
    }
}

#[allow(clippy::cast_precision_loss, reason = "it is rounded anyway")]
pub(super) fn latency(micros: Option<u64>) -> String {
    micros.map_or("-".to_owned(), |micros| format!("{:.1} ms", micros as f64 / 1000.0))
}
