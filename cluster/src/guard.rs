//! The rules that keep addresses unique, by name, so that a test can take one out and see that it is missed.
//!
//! In a program every guard stands: [`stands`] is `true`, and the compiler leaves nothing of it. In this crate's own
//! tests a thread may take one out. The model test does so with each, and fails if no history finds it missing.

/// A guard of the block protocol or of the attachments under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(not(test), expect(dead_code, reason = "some stand in what the tests alone have: operator, plugin, kernel"))]
pub(crate) enum Guard {
    /// A claim compares the create revision of the node's record.
    EpochCompare,
    /// A claim compares that no block lies inside its range.
    RangeCompare,
    /// A claim compares that no wider block lies around it.
    AncestorCompare,
    /// A claim compares the configuration's revision.
    ConfigurationCompare,
    /// A claim that is done late is this node's.
    Adoption,
    /// A block is closed here before it is given back in etcd.
    ClosingFirst,
    /// A block with cooling addresses is not empty.
    CoolingCountsAsUse,
    /// A closed block is written anew before it is opened.
    NonceBeforeReopen,
    /// The deletion of a node compares the revisions of its blocks.
    RevisionsInDelete,
    /// A node whose record somebody else wrote stops.
    OwnRecordCompare,
    /// A record of another machine is not taken over.
    MachineId,
    /// A view from the disk opens no block.
    BootProof,
    /// The last key that was seen is read at its revision before a watch goes on.
    HistoryProof,
    /// A block that vanished in a break of history is not free.
    VanishedIsNotFree,
    /// Whether etcd has stepped back is asked of linearizable reads only.
    LinearizableForBack,
    /// After a break of history nothing is claimed for a while.
    ClaimHold,
    /// An ADD confirms only a row that is still its own and reserved.
    RowIsOurs,
    /// A running ADD or DEL holds the lock of its key.
    LivenessLock,
    /// Addresses cool only from when the link is gone.
    LinkGoneBeforeCooling,
    /// The sweep frees at the second look only.
    TwoObservations,
    /// A GC leaves rows that are younger than itself.
    GcAge,
    /// The kernel refuses a second route to an address.
    ExclusiveRoute,
    /// A rebuilt store knows the tunnel's address.
    TunnelInRebuild,
    /// In a rebuilt store all other addresses cool.
    CoolingAfterRebuild,
    /// Blocks are given back only if much more than the low mark stays free, and after a while.
    GiveBackHysteresis,
}

/// Whether the guard is in its place.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn stands(_: Guard) -> bool {
    true
}

/// Whether the guard is in its place.
#[cfg(test)]
pub(crate) fn stands(guard: Guard) -> bool {
    test::OUT.get() != Some(guard)
}

#[cfg(test)]
pub(crate) mod test {
    //! The switch.

    use std::cell::Cell;

    use super::Guard;

    thread_local! {
        /// The one that this thread has taken out.
        pub(super) static OUT: Cell<Option<Guard>> = const { Cell::new(None) };
    }

    /// Takes a guard out in this thread, or puts it back.
    pub(crate) fn take_out(guard: Option<Guard>) {
        OUT.set(guard);
    }

    /// All of them.
    pub(crate) const ALL: [Guard; 25] = [
        Guard::EpochCompare,
        Guard::RangeCompare,
        Guard::AncestorCompare,
        Guard::ConfigurationCompare,
        Guard::Adoption,
        Guard::ClosingFirst,
        Guard::CoolingCountsAsUse,
        Guard::NonceBeforeReopen,
        Guard::RevisionsInDelete,
        Guard::OwnRecordCompare,
        Guard::MachineId,
        Guard::BootProof,
        Guard::HistoryProof,
        Guard::VanishedIsNotFree,
        Guard::LinearizableForBack,
        Guard::ClaimHold,
        Guard::RowIsOurs,
        Guard::LivenessLock,
        Guard::LinkGoneBeforeCooling,
        Guard::TwoObservations,
        Guard::GcAge,
        Guard::ExclusiveRoute,
        Guard::TunnelInRebuild,
        Guard::CoolingAfterRebuild,
        Guard::GiveBackHysteresis,
    ];
}
