//! What can happen, and how often.

use twill_testkit::histories::Dice;

use crate::simulated::Fate;

/// Something that happens. Machines are numbered from 0; the last one is a twin of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// A daemon takes what the watch brings.
    See(usize),
    /// A daemon does the next thing that it has to do.
    Step(usize),
    /// A daemon sees, and works until there is nothing to do.
    Run(usize),
    /// A daemon looks at its store.
    Look(usize),
    /// Time passes, in seconds.
    Wait(u64),
    /// A pod comes.
    Add(usize),
    /// Pods come until there is no room.
    Fill(usize),
    /// A pod goes.
    Del(usize, usize),
    /// All pods go.
    Empty(usize),
    /// A daemon is killed, and started again.
    Crash(usize),
    /// A machine is switched off.
    Off(usize),
    /// A machine is switched on, and its daemon starts.
    On(usize),
    /// A machine is cut off from etcd.
    Cut(usize),
    /// It is not any more.
    Heal(usize),
    /// Leases of those that are not heard of run out.
    Expire,
    /// What becomes of the next write to etcd.
    Next(Fate),
    /// Late writes come through.
    Deliver,
    /// etcd forgets the past.
    Compact,
    /// The watch of a machine breaks, and a lagging member is at hand.
    Lag(usize),
    /// The operator writes a configuration: the second pool's blocks get this length; 0: there is none.
    Configure(u8),
    /// The operator reads a node, to delete it.
    Judge(usize),
    /// The operator deletes the node that was read, and asserts that its machine is off.
    Delete,
    /// The operator deletes the node that was read, if it is proved empty.
    DeleteEmpty,
    /// The operator has a node drained, or ends that.
    Drain(usize, bool),
    /// A daemon brings its mirror up to date.
    Mirror(usize),
    /// etcd is backed up.
    Backup,
    /// etcd is restored.
    Restore,
    /// Somebody with this machine's identity writes its record.
    Meddle(usize),
}

/// The history of a seed: 30 to 90 actions, 60 on average.
pub(super) fn history(seed: u64) -> Vec<Action> {
    let mut dice = Dice(seed);
    let length = 30 + dice.below(61) as usize;
    let mut actions = Vec::with_capacity(length + 12);
    actions.extend([Action::Run(0), Action::Run(1), Action::Run(2)]);
    while actions.len() < length {
        let node = dice.below(3) as usize;
        let other = (node + 1 + dice.below(2) as usize) % 3;
        match dice.below(100) {
            0..20 => actions.push(Action::Run(node)),
            20..27 => actions.push(Action::Step(node)),
            27..32 => actions.push(Action::See(node)),
            32..36 => actions.push(Action::Look(node)),
            36..44 => actions.push(Action::Add(node)),
            44..46 => actions.push(Action::Fill(node)),
            46 => actions.extend([Action::Mirror(node), Action::Drain(node, dice.below(3) == 0)]),
            47..52 => actions.push(Action::Del(node, dice.below(4) as usize)),
            52..56 => actions.push(Action::Empty(node)),
            56..63 => actions.push(Action::Wait([1, 5, 20, 31, 61, 601][dice.below(6) as usize])),
            63..65 => actions.push(Action::Crash(node)),
            65..67 => actions.push(Action::Off(node)),
            67..70 => actions.push(Action::On(if dice.below(6) == 0 { 3 } else { node })),
            70..72 => actions.push(Action::Cut(node)),
            72..75 => actions.push(Action::Heal(node)),
            75..82 => {
                let fates = [Fate::Lost, Fate::AnswerLost, Fate::Late, Fate::Twice, Fate::Unavailable];
                actions.push(Action::Next(fates[dice.below(5) as usize]));
            }
            82..85 => actions.push(Action::Deliver),
            85 => actions.push(Action::Compact),
            86 => actions.push(Action::Lag(node)),
            87 => actions.push(Action::Configure([0, 29, 30, 31][dice.below(4) as usize])),
            88 => actions.push(Action::Meddle(node)),
            89 => actions.push(Action::Backup),
            90 => actions.push(Action::Restore),
            91 => actions.extend([Action::Expire, Action::Judge(node), Action::Delete]),
            _ => scene(&mut dice, node, other, &mut actions),
        }
    }
    actions
}

/// Several things in a row that chance would bring together too seldom.
fn scene(dice: &mut Dice, node: usize, other: usize, actions: &mut Vec<Action>) {
    use Action::*;
    let maybe = |dice: &mut Dice, action: Action, actions: &mut Vec<Action>| {
        if dice.below(3) > 0 {
            actions.push(action);
        }
    };
    match dice.below(15) {
        0 => {
            actions.extend([Off(node), Expire, Judge(node)]);
            maybe(dice, Deliver, actions);
            maybe(dice, Run(other), actions);
            actions.extend([Delete, Deliver, On(node)]);
        }
        1 => {
            actions.extend([Fill(node), Run(node), Empty(node), Wait(31), Look(node), Wait(600)]);
            maybe(dice, Add(node), actions);
            maybe(dice, Del(node, 0), actions);
            maybe(dice, Next(Fate::Late), actions);
            actions.extend([Run(node), Add(node), Fill(node)]);
            maybe(dice, Deliver, actions);
        }
        2 => {
            actions.push(Backup);
            actions.extend([Fill(node), Run(node), Fill(node), Run(other)]);
            maybe(dice, Cut(node), actions);
            actions.push(Restore);
            actions.extend([Fill(other), Run(other)]);
            maybe(dice, Wait(601), actions);
            actions.extend([Run(other), Fill(other), Run(other)]);
        }
        3 => {
            actions.extend([Fill(node), Cut(node), Expire, Judge(node), Delete, Run(other), Fill(other), Run(other)]);
            maybe(dice, Configure(29), actions);
            actions.extend([Heal(node), See(node), Step(node), Step(node), Run(other), Step(node), Run(node)]);
        }
        4 => {
            actions.extend([Meddle(node), Run(node), Add(node), Run(node), Add(node)]);
        }
        5 => {
            actions.extend([Next(Fate::Late), Fill(node), Run(node)]);
            let length = [0, 29, 31][dice.below(3) as usize];
            maybe(dice, Configure(length), actions);
            actions.extend([Deliver, Run(node)]);
        }
        6 => {
            actions.extend([
                Fill(node),
                Run(node),
                Empty(node),
                Wait(31),
                Look(node),
                Run(node),
                Wait(601),
                Look(node),
            ]);
            actions.extend([Next(Fate::Late), Step(node), Step(node), Step(node), Step(node), Off(node), Expire]);
            actions.extend([Judge(node), Deliver, Fill(other), Run(other), Fill(other), Run(other), Delete]);
        }
        7 => {
            actions.extend([Fill(node), Run(node), Fill(node), Run(node), Fill(node), Run(node), Cut(node), Expire]);
            actions.extend([Judge(node), Delete, Configure(29), Heal(node), See(node), Step(node), Step(node)]);
            for _ in 0..3 {
                actions.extend([Fill(other), Run(other)]);
            }
            for _ in 0..6 {
                actions.push(Step(node));
            }
            actions.push(Run(node));
        }
        // A lost block is claimed again, inside of which another node is about to claim a smaller one: in its view there is
        // room.
        8 => {
            actions.push(Configure(29));
            for _ in 0..3 {
                actions.extend([Fill(node), Run(node)]);
            }
            actions.extend([Cut(node), Expire, Judge(node), Delete, Configure(31)]);
            for _ in 0..1 + dice.below(4) {
                actions.extend([Run(other), Fill(other)]);
            }
            actions.extend([See(other), Look(other), Heal(node), Run(node), Step(other), Step(other)]);
        }
        9 => {
            actions.extend([Fill(0), On(3), Run(3), Fill(3), Run(0), Off(3)]);
        }
        // A node that was proved empty once has served since.
        11 => {
            actions.extend([Empty(node), Wait(31), Look(node), Drain(node, true), Run(node), Mirror(node)]);
            actions.push(Drain(node, dice.below(4) == 0));
            actions.extend([Run(node), Add(node), Drain(node, true), Run(node)]);
            if dice.below(4) == 0 {
                actions.push(Mirror(node));
            }
            actions.extend(deleted_if_empty(node, other));
        }
        // A node is deleted for its emptiness, and its daemon starts again, in the same boot.
        12 | 13 => {
            actions.extend([Run(node), Empty(node), Wait(31), Look(node)]);
            maybe(dice, Next(Fate::Late), actions);
            actions.extend([Drain(node, true), Run(node), Look(node), Mirror(node)]);
            maybe(dice, Deliver, actions);
            actions.extend(deleted_if_empty(node, other));
            actions.extend([Heal(node), Crash(node), See(node), Look(node), Add(node)]);
            for _ in 0..3 {
                actions.extend([Step(node), Look(node), Add(node)]);
            }
            actions.push(Run(node));
        }
        // A daemon starts, and what it remembers is not so any more when it hears of it.
        10 => {
            let fate = [Fate::AnswerLost, Fate::Late, Fate::Unavailable][dice.below(3) as usize];
            actions.extend([Run(node), Next(fate), Crash(node), Step(node), Meddle(node), Run(node), Add(node)]);
        }
        _ => {
            actions.extend([Off(node), Expire, Judge(node), Delete, Cut(node), On(node), Step(node), Step(node)]);
            actions.extend([Step(node), Add(node), Heal(node)]);
        }
    }
}

/// A node is cut off and deleted, if it is proved empty; another one takes what that leaves.
fn deleted_if_empty(node: usize, other: usize) -> [Action; 8] {
    use Action::*;
    [Cut(node), Expire, Judge(node), DeleteEmpty, Run(other), Fill(other), Run(other), Fill(other)]
}
