//! The rules that keep addresses unique, by name, so that a test can take one out and see that it is missed.
//!
//! In the programs that are shipped, and in those of the lab, every guard stands: [`stands`] is `true`, and the compiler leaves
//! nothing of it. They are built without the feature `model` (`tests/tests/structure.rs` holds that, and the crate does not
//! compile with it but in debug builds). With it, for which only tests ask, a thread may take one out; a build of the whole
//! workspace's tests has it in every crate, and takes none out by itself. The model tests of the block protocol
//! (`cluster/src/model`) and of attachments (`attach/tests/model`) do so with each, and fail if no history finds it missing.

/// Makes the type, and the list of all its values.
macro_rules! guards {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// A guard of the block protocol or of the attachments under it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Guard {
            $($(#[$doc])* $name),*
        }

        impl Guard {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

guards! {
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
    /// A mirror proves a node empty only if it was taken during the drain that the node's record names.
    DrainWord,
    /// A drain holds until the run that ends it has written a record without it.
    DrainUntilWritten,
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
    /// The kernel refuses a second route to an address. A switch of the model's kernel: in the product `linux/src/table/route.rs`
    /// makes routes exclusively, and the kernel itself refuses.
    ExclusiveRoute,
    /// A rebuilt store knows the tunnel's address.
    TunnelInRebuild,
    /// In a rebuilt store all other addresses cool.
    CoolingAfterRebuild,
    /// Blocks are given back only if much more than the low mark stays free, and after a while.
    GiveBackHysteresis,
}

/// Whether the guard is in its place.
#[cfg(not(feature = "model"))]
#[inline(always)]
pub const fn stands(_: Guard) -> bool {
    true
}

#[cfg(feature = "model")]
pub use switch::{is_out, stands, take_out};

#[cfg(feature = "model")]
mod switch {
    use std::cell::Cell;

    use super::Guard;

    thread_local! {
        /// The one that this thread has taken out.
        static OUT: Cell<Option<Guard>> = const { Cell::new(None) };
    }

    /// Whether the guard is in its place.
    pub fn stands(guard: Guard) -> bool {
        OUT.get() != Some(guard)
    }

    /// Takes a guard out in this thread, or puts it back.
    pub fn take_out(guard: Option<Guard>) {
        OUT.set(guard);
    }

    /// The guard that this thread has taken out.
    pub fn is_out() -> Option<Guard> {
        OUT.get()
    }
}
