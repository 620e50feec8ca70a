//! What can happen, and how often.

use twill_testkit::histories::Dice;

use crate::board::Kind;

/// Something that happens. Containers are numbered from 0; a number of steps is how far a new process comes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// The node stands alone: no daemon, and the addresses are those of the configuration. At the very beginning only.
    Alone,
    /// An ADD of a container, into the one or the other of its namespaces.
    Add(u8, bool, u32),
    /// A DEL of a container.
    Del(u8, u32),
    /// A GC with the list of what the runtime knows.
    Gc(u32),
    /// The daemon looks for what was forgotten.
    Sweep(u32),
    /// The daemon's block task looks at the store.
    Look(u32),
    /// The node claims a further block.
    Claim,
    /// The daemon gives a block back, if it is empty.
    GiveBack(u8, u32),
    /// The process of that place goes on.
    Go(u8, u32),
    /// All processes go on to their ends, or until they wait.
    Finish,
    /// The last process of that kind is killed where it stands.
    Kill(Kind),
    /// The daemon is killed.
    KillDaemon,
    /// The daemon starts.
    Start(u32),
    /// Time passes, in seconds.
    Wait(u64),
    /// A container's namespace goes, and its runtime never calls DEL.
    Forget(u8),
    /// Somebody removes a container's link.
    Unlink(u8),
    /// Somebody renames a container's link for a moment.
    Rename(u8),
    /// Somebody renames a container's link for good.
    Stray(u8),
    /// Somebody makes a route to the address of that number.
    Squat(u8),
    /// The kernel refuses so many changes.
    Refuse(u32),
    /// The file system is full after so many writes.
    Full(u32),
    /// It has room again.
    Room,
    /// Somebody deletes the store.
    Lose,
    /// Somebody deletes the whole run directory.
    Wipe,
    /// The machine starts anew.
    Reboot,
}

/// Up to its end.
pub(crate) const ALL: u32 = 10_000;
/// Containers, each with one key.
pub(crate) const CONTAINERS: u64 = 6;

/// How far a process comes: mostly to its end.
fn steps(dice: &mut Dice) -> u32 {
    if dice.below(2) == 0 { ALL } else { dice.below(24) as u32 }
}

/// The history of a seed: 30 to 90 actions, 60 on average.
pub(crate) fn history(seed: u64) -> Vec<Action> {
    use Action::*;
    let mut dice = Dice(seed);
    let length = 30 + dice.below(61) as usize;
    let mut actions = Vec::with_capacity(length + 12);
    actions.push(if dice.below(3) == 0 { Alone } else { Look(ALL) });
    while actions.len() < length {
        let container = dice.below(CONTAINERS) as u8;
        let place = dice.below(4) as u8;
        let few = dice.below(24) as u32;
        match dice.below(100) {
            0..14 => actions.push(Add(container, dice.below(8) == 0, steps(&mut dice))),
            14..21 => actions.push(Del(container, steps(&mut dice))),
            21..23 => actions.push(Gc(steps(&mut dice))),
            23..25 => actions.push(Sweep(steps(&mut dice))),
            25..28 => actions.push(Look(steps(&mut dice))),
            28..30 => actions.push(Claim),
            30..33 => actions.push(GiveBack(place, steps(&mut dice))),
            33..39 => actions.push(Go(place, few / 2)),
            39..41 => actions.push(Finish),
            41..46 => actions.push(Wait([1, 5, 14, 16, 31, 61][dice.below(6) as usize])),
            46..49 => actions.extend([Add(container, false, few), Kill(Kind::Add)]),
            49..52 => actions.extend([Del(container, few / 2), Kill(Kind::Del)]),
            52..55 => actions.extend([Gc(few / 8), Kill(Kind::Gc)]),
            55..59 => actions.extend([Start(ALL), Sweep(few / 6), Kill(Kind::Sweep), Start(ALL)]),
            59..63 => actions.extend([Start(ALL), Look(few / 8), Kill(Kind::Daemon), Start(ALL)]),
            63..66 => actions.extend([KillDaemon, Start(steps(&mut dice))]),
            66..68 => actions.extend([Add(container, false, ALL), Forget(container)]),
            68..72 => actions.extend([Finish, Add(container, false, ALL), Unlink(container)]),
            72..75 => actions.extend([Finish, Add(container, false, ALL), Stray(container)]),
            75..78 => actions.extend([Add(container, false, ALL), Wait(1), Rename(container), Sweep(ALL)]),
            78..81 => actions.push(Squat(dice.below(8) as u8)),
            81..83 => actions.push(Refuse(1 + dice.below(2) as u32)),
            83..85 => actions.extend([Full(few / 8), Add(container, false, ALL), Del(container, ALL), Room]),
            85 => actions.push(Lose),
            86 => actions.push(Wipe),
            87..89 => actions.push(Reboot),
            _ => scene(&mut dice, container, &mut actions),
        }
    }
    actions
}

/// Several things in a row that chance would bring together too seldom.
fn scene(dice: &mut Dice, container: u8, actions: &mut Vec<Action>) {
    use Action::*;
    let other = (container + 1) % CONTAINERS as u8;
    let some = dice.below(24) as u32;
    match dice.below(11) {
        // A pod whose link cannot be seen while the sweep looks.
        0 | 1 => {
            actions.extend([Add(container, false, ALL), Wait(1), Rename(container), Sweep(ALL), Wait(31), Sweep(ALL)])
        }
        // A DEL while an ADD is under way, with its process killed after the mark.
        2 => {
            actions.extend([
                Finish,
                Add(container, false, some),
                Del(container, dice.below(8) as u32),
                Kill(Kind::Del),
            ]);
            actions.extend([Go(0, ALL), Finish]);
        }
        // A GC that is slow, and an ADD meanwhile.
        3 => actions.extend([Finish, Gc(dice.below(3) as u32), Add(container, false, ALL), Finish]),
        // A store that is lost with addresses that cool, or while somebody holds one.
        4 => {
            actions.extend([Look(ALL), Add(container, false, ALL), Del(container, ALL)]);
            actions.extend([Lose, Look(ALL)]);
            actions.extend((0..CONTAINERS as u8).map(|one| Add(one, false, ALL)));
        }
        // An address that the store does not know to be in use.
        5 => {
            actions.extend([Add(container, false, ALL), Stray(container), Del(container, ALL), Wait(31)]);
            actions.extend((0..CONTAINERS as u8).map(|one| Add(one, one == container, ALL)));
        }
        6 => actions.extend([Add(container, false, some), Wipe, Look(ALL), Add(other, false, ALL), Go(0, ALL)]),
        // A store that is lost, with the tunnel's address in it.
        7 => {
            actions.extend([
                Look(ALL),
                Add(container, false, ALL),
                Lose,
                Add(other, false, some),
                Sweep(ALL),
                Wait(31),
            ]);
            actions.extend((0..CONTAINERS as u8).map(|one| Add(one, false, ALL)));
        }
        // A block that is given back when its last pod has just gone.
        8 | 9 => actions.extend([
            Finish,
            Claim,
            Look(ALL),
            Add(container, false, ALL),
            Del(container, ALL),
            GiveBack(0, ALL),
            GiveBack(1, some),
        ]),
        // The same key twice at once.
        _ => actions.extend([
            Finish,
            Add(container, false, some),
            Add(container, dice.below(2) == 0, ALL),
            Go(0, ALL),
            Finish,
        ]),
    }
}
