//! What two OPENs make of a session, or what is wrong with the peer's (RFC 4271, sections 4.2 and 6.2).

use std::net::Ipv4Addr;
use std::time::Duration;

use super::Config;
use crate::path::{Asn, Family, PeerAs, PerFamily};
use crate::wire::{AddPath, Dialect, ErrorCode, GracefulRestart, Notification, Open};

/// What both ends have agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// The peer's system, as its OPEN names it.
    pub peer_as: Asn,
    /// The peer's BGP identifier.
    pub peer_identifier: Ipv4Addr,
    /// The smaller of both. Zero: none, and no KEEPALIVEs.
    pub hold_time: Duration,
    /// How UPDATEs are written.
    pub dialect: Dialect,
    /// The peer takes ROUTE-REFRESH.
    pub route_refresh: bool,
    /// What the peer said of a restart, of families that both have. None where one of both does not know of it.
    pub graceful_restart: Option<GracefulRestart>,
}

impl Negotiated {
    /// Whether a lost connection may be the peer's restart, with routes to be kept (RFC 4724, section 4.2).
    #[must_use]
    pub fn keeps_routes(&self) -> bool {
        self.graceful_restart.as_ref().is_some_and(|restart| !restart.families.is_empty())
    }
}

/// # Errors
/// What to answer where no session can be.
pub(super) fn negotiate(config: &Config, open: &Open) -> Result<Negotiated, Notification> {
    let internal = config.peer_as == PeerAs::Is(config.local_as);
    if !config.peer_as.admits(open.system) || (!internal && open.system == config.local_as) {
        return Err(ErrorCode::BAD_PEER_AS.into());
    }
    // Two speakers of one AS must differ (RFC 6286, section 2.2).
    if open.identifier.is_unspecified() || (internal && open.identifier == config.identifier) {
        return Err(Notification::new(ErrorCode::BAD_IDENTIFIER, open.identifier.octets().to_vec()));
    }
    if matches!(open.hold_time, 1 | 2) {
        return Err(Notification::new(ErrorCode::UNACCEPTABLE_HOLD_TIME, open.hold_time.to_be_bytes().to_vec()));
    }
    let (ours, theirs) = (&config.capabilities, &open.capabilities);
    let families = PerFamily::new(|family| ours.spoken().contains(&family) && theirs.spoken().contains(&family));
    if !Family::ALL.into_iter().any(|family| families[family]) {
        return Err(Notification::new(ErrorCode::UNSUPPORTED_CAPABILITY, ours.multiprotocol()));
    }
    let add_path = PerFamily::new(|family| AddPath {
        send: families[family] && ours.add_path[family].send && theirs.add_path[family].receive,
        receive: families[family] && ours.add_path[family].receive && theirs.add_path[family].send,
    });
    let graceful_restart =
        theirs.graceful_restart.clone().filter(|_| ours.graceful_restart.is_some()).map(|mut peer| {
            peer.families.retain(|(family, _)| families[*family]);
            peer
        });
    Ok(Negotiated {
        peer_as: open.system,
        peer_identifier: open.identifier,
        hold_time: Duration::from_secs(config.hold_time.min(open.hold_time).into()),
        dialect: Dialect {
            families,
            four_octet: theirs.four_octet.is_some(),
            add_path,
            extended_next_hop: ours.extended_next_hop && theirs.extended_next_hop,
            internal,
            first_as: (config.first_as && !internal).then_some(open.system),
        },
        route_refresh: theirs.route_refresh,
        graceful_restart,
    })
}
