//! Random histories of the store against a model that knows only the rules.

#![allow(clippy::unwrap_used, reason = "these are tests, though their helpers are not marked so")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use common::{at, block, delete, ip_of, key, reserve, store_with};
use proptest::prelude::*;
use twill_ipam::store::{BlockState, BlockUse};
use twill_ipam::{Attachment, Block, Error, State, Store};

const BLOCKS: [&str; 3] = ["255.255.255.252/30", "10.0.0.0/31", "10.0.0.2/32"];
const CONTAINERS: usize = 9;
const COOLING: u64 = 30;

#[derive(Debug, Clone)]
enum Event {
    Reserve(usize),
    /// For one address of a block.
    Ask(usize, usize, u64),
    Confirm(usize),
    Mark(usize),
    Release(usize),
    Wait(u64),
    Put(usize, bool),
    CloseEmpty(usize),
    Remove(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let container = 0..CONTAINERS;
    let block = 0..BLOCKS.len();
    prop_oneof![
        6 => container.clone().prop_map(Event::Reserve),
        3 => (container.clone(), block.clone(), 0..5_u64).prop_map(|(of, block, nth)| Event::Ask(of, block, nth)),
        3 => container.clone().prop_map(Event::Confirm),
        3 => container.clone().prop_map(Event::Mark),
        5 => container.prop_map(Event::Release),
        4 => (0..25_u64).prop_map(Event::Wait),
        1 => (block.clone(), any::<bool>()).prop_map(|(block, open)| Event::Put(block, open)),
        1 => block.clone().prop_map(Event::CloseEmpty),
        1 => block.prop_map(Event::Remove),
    ]
}

/// What the rules say that the store must hold.
#[derive(Default)]
struct Model {
    now: u64,
    open: BTreeMap<usize, bool>,
    rows: BTreeMap<usize, (Attachment, State)>,
    /// Who had it, and when it was given back.
    cooling: BTreeMap<IpAddr, (usize, u64)>,
}

impl Model {
    fn block_of(&self, ip: IpAddr) -> usize {
        BLOCKS.iter().position(|text| block(text).contains(ip)).unwrap()
    }

    fn is_cooling(&self, ip: IpAddr) -> bool {
        self.cooling.get(&ip).is_some_and(|(_, since)| self.now < since + COOLING)
    }

    /// What `container` may be given.
    fn choice(&self, container: usize) -> BTreeSet<IpAddr> {
        let given: BTreeSet<_> =
            self.rows.iter().filter(|(of, _)| **of != container).map(|(_, (row, _))| ip_of(row)).collect();
        let open = self.open.iter().filter(|(_, open)| **open).flat_map(|(index, _)| addresses(block(BLOCKS[*index])));
        open.filter(|ip| !given.contains(ip))
            .filter(|ip| !self.is_cooling(*ip) || self.cooling[ip].0 == container)
            .collect()
    }

    fn is_empty(&self, index: usize) -> bool {
        let within = |ip: &IpAddr| self.block_of(*ip) == index;
        !self.rows.values().any(|(row, _)| within(&ip_of(row)))
            && !self.cooling.keys().any(|ip| within(ip) && self.is_cooling(*ip))
    }

    fn give(&mut self, container: usize, row: Attachment) {
        if let Some((old, _)) = self.rows.remove(&container) {
            assert!(row.id > old.id);
            self.cooling.insert(ip_of(&old), (container, self.now));
        }
        self.cooling.remove(&ip_of(&row));
        assert!(self.rows.values().all(|(other, _)| ip_of(other) != ip_of(&row)), "given twice: {row:?}");
        self.rows.insert(container, (row, State::Reserved));
    }
}

fn addresses(block: Block) -> impl Iterator<Item = IpAddr> {
    (0..).map_while(move |n| block.nth(n))
}

fn name(container: usize) -> String {
    format!("c{container}")
}

/// Lets the same happen to store and model.
fn happen(store: &mut Store, model: &mut Model, event: &Event) {
    let now = at(model.now);
    match *event {
        Event::Reserve(container) => reserve_both(store, model, container),
        Event::Ask(container, index, nth) => {
            // The fifth of four lies in no block.
            let ip = block(BLOCKS[index]).nth(nth.into()).unwrap_or_else(|| common::ip("192.0.2.1"));
            ask_both(store, model, container, ip);
        }
        Event::Confirm(container) => {
            if let Some((row, state)) = model.rows.get_mut(&container) {
                let outcome = store.confirm(row.id, now);
                assert_eq!(outcome.is_ok(), *state == State::Reserved, "{outcome:?}");
                if outcome.is_ok() {
                    *state = State::Attached;
                }
            }
        }
        Event::Mark(container) => {
            let marked = store.mark_deleting(key(&name(container)).hash(), now).unwrap();
            assert_eq!(marked.is_some(), model.rows.contains_key(&container));
            if let Some((_, state)) = model.rows.get_mut(&container) {
                *state = State::Deleting;
            }
        }
        Event::Release(container) => {
            if let Some((row, _)) = model.rows.remove(&container) {
                store.release(row.id, now).unwrap();
                store.release(row.id, now).unwrap();
                model.cooling.insert(ip_of(&row), (container, model.now));
            }
        }
        Event::Wait(seconds) => model.now += seconds,
        Event::Put(index, open) => {
            let state = if open { BlockState::Open } else { BlockState::Closing };
            store.put_block(block(BLOCKS[index]), &"default".parse().unwrap(), state).unwrap();
            model.open.insert(index, open);
        }
        Event::CloseEmpty(index) => {
            let closed = store.close_empty_block(block(BLOCKS[index]), now).unwrap();
            assert_eq!(closed, model.open.contains_key(&index) && model.is_empty(index));
            if closed {
                model.open.insert(index, false);
            }
        }
        Event::Remove(index) => {
            let removed = store.remove_block(block(BLOCKS[index]), now).unwrap();
            assert_eq!(removed, model.is_empty(index));
            if removed {
                model.open.remove(&index);
            }
        }
    }
}

fn reserve_both(store: &mut Store, model: &mut Model, container: usize) {
    let choice = model.choice(container);
    let state = model.rows.get(&container).map(|(_, state)| *state);
    match reserve(store, &name(container), at(model.now)) {
        Ok(row) => {
            assert!(matches!(state, None | Some(State::Reserved)));
            assert!(choice.contains(&ip_of(&row)), "{row:?} is none of {choice:?}");
            if let Some((old, _)) = model.rows.get(&container)
                && choice.contains(&ip_of(old))
            {
                assert!(model.cooling.values().any(|(of, _)| *of == container) || ip_of(old) == ip_of(&row));
            }
            model.give(container, row);
        }
        Err(Error::Exists { state: found }) => assert_eq!(Some(found), state),
        Err(Error::NoFreeAddress { .. } | Error::NotReady) => assert!(choice.is_empty(), "{choice:?} was free"),
        Err(other) => panic!("{other}"),
    }
}

fn ask_both(store: &mut Store, model: &mut Model, container: usize, ip: IpAddr) {
    let allowed = model.choice(container).contains(&ip);
    let state = model.rows.get(&container).map(|(_, state)| *state);
    match common::ask(store, &name(container), &[ip], at(model.now)) {
        Ok(row) => {
            assert!(matches!(state, None | Some(State::Reserved)));
            assert!(allowed && ip_of(&row) == ip, "{row:?} for {ip}");
            model.give(container, row);
        }
        Err(Error::Exists { state: found }) => assert_eq!(Some(found), state),
        Err(Error::Requested { address, .. }) => assert!(address == ip && !allowed, "{ip} was free"),
        Err(Error::NotReady) => assert!(!allowed && model.open.values().all(|open| !open)),
        Err(other) => panic!("{other}"),
    }
}

/// Whether the store tells what the model knows.
fn compare(store: &Store, model: &Model) {
    let rows = store.attachments().unwrap();
    let told: BTreeMap<_, _> = rows.iter().map(|row| (row.hash, (row.id, row.state, ip_of(row)))).collect();
    let known = model.rows.values().map(|(row, state)| (row.hash, (row.id, *state, ip_of(row))));
    assert_eq!(told, known.collect());
    for usage in store.blocks(at(model.now)).unwrap() {
        let BlockUse { block, assigned, cooling, .. } = usage;
        let given = model.rows.values().filter(|(row, _)| block.contains(ip_of(row))).count();
        let resting = model.cooling.keys().filter(|ip| block.contains(**ip) && model.is_cooling(**ip)).count();
        assert_eq!((assigned, cooling), (given as u64, resting as u64), "{block}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn no_address_is_given_twice_or_early_and_each_comes_back(events in prop::collection::vec(event(), 1..80)) {
        let (_dir, mut store) = store_with(&BLOCKS);
        let mut model = Model { open: (0..BLOCKS.len()).map(|index| (index, true)).collect(), ..Model::default() };
        for event in &events {
            happen(&mut store, &mut model, event);
            compare(&store, &model);
        }
        for container in 0..CONTAINERS {
            happen(&mut store, &mut model, &Event::Release(container));
        }
        happen(&mut store, &mut model, &Event::Wait(COOLING));
        for index in 0..BLOCKS.len() {
            happen(&mut store, &mut model, &Event::Put(index, true));
        }
        let all: BTreeSet<_> = BLOCKS.iter().flat_map(|text| addresses(block(text))).collect();
        let given: BTreeSet<_> =
            (0..all.len()).map(|n| ip_of(&reserve(&mut store, &format!("last{n}"), at(model.now)).unwrap())).collect();
        prop_assert_eq!(given, all);
    }
}

#[test]
fn ten_thousand_pods_in_a_row_leave_nothing_behind() {
    let (dir, mut store) = store_with(&["10.0.0.0/26", "fd00::/122"]);
    let mut longest = 0;
    for n in 0..10_000 {
        let now = at(n);
        common::attach(&mut store, &name(n as usize), now);
        delete(&mut store, &name(n as usize), now);
        longest = longest.max(std::fs::metadata(dir.path().join("node.db-wal")).map_or(0, |file| file.len()));
    }
    assert!(store.attachments().unwrap().is_empty());
    assert!(store.blocks(at(10_030)).unwrap().iter().all(|usage| usage.free() == 64));
    assert!(std::fs::metadata(store.path()).unwrap().len() < 256 << 10);
    assert!(longest < 8 << 20, "{longest}");
}
