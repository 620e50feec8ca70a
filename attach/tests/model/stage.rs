//! The stage: processes as threads, of which one runs at a time, for as many steps as it is told.
//!
//! A process pauses before and after each transaction and before each effect on the kernel. One that is killed there unwinds
//! with [`Killed`]: its locks and its connections go with it, as the kernel would take them, and no line of its course runs
//! any more.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use twill_ipam::BootTime;
use twill_ipam::guard::{is_out, take_out};
use twill_ipam::strings::{self, Puppeteer, Transaction};

use crate::board::Shared;

/// The payload of a kill.
struct Killed;

enum Order {
    Go(u32),
    Kill,
}

enum Report<T> {
    Paused,
    Ended(End<T>),
}

/// How a process ended.
#[derive(Debug)]
pub(crate) enum End<T> {
    /// By itself.
    Done(T),
    /// It was killed.
    Killed,
    /// By a panic, whose text this is.
    Panicked(String),
}

/// A process that has not ended.
pub(crate) struct Process<T> {
    orders: Sender<Order>,
    reports: Receiver<Report<T>>,
    thread: Option<JoinHandle<()>>,
}

/// The strings by which a process hangs, on its own side.
pub(crate) struct Strings {
    orders: Receiver<Order>,
    pause: Box<dyn Fn()>,
    left: Cell<u32>,
    board: Shared,
    /// Which process it is.
    pub(crate) process: usize,
}

impl Strings {
    /// What may come between two steps comes here.
    pub(crate) fn pause(&self) {
        match self.left.get() {
            0 => (self.pause)(),
            left => return self.left.set(left - 1),
        }
        match self.orders.recv() {
            Ok(Order::Go(steps)) => self.left.set(steps),
            Ok(Order::Kill) | Err(_) => resume_unwind(Box::new(Killed)),
        }
    }
}

impl Puppeteer for Strings {
    fn next(&self, transaction: Transaction) -> bool {
        if transaction == Transaction::Written {
            self.board.lock().written(self.process);
        }
        self.pause();
        transaction != Transaction::Write || self.board.lock().has_room()
    }

    fn now(&self) -> BootTime {
        self.board.lock().now
    }

    /// Whoever waits runs no further by itself: the others have to go on, or time has to pass.
    fn sleep(&self, _: Duration) {
        self.left.set(0);
        self.pause();
    }
}

impl<T: Send + 'static> Process<T> {
    /// Starts one, which stands before its first step.
    pub(crate) fn start(
        board: &Shared,
        process: usize,
        course: impl FnOnce(&Rc<Strings>) -> T + Send + 'static,
    ) -> Self {
        let (orders, their_orders) = channel();
        let (their_reports, reports) = channel();
        let (board, out) = (board.clone(), is_out());
        let thread = std::thread::spawn(move || {
            take_out(out);
            let paused = their_reports.clone();
            let pause = Box::new(move || drop(paused.send(Report::Paused)));
            let strings = Rc::new(Strings { orders: their_orders, pause, left: Cell::new(0), board, process });
            strings::hold(Some(strings.clone()));
            let end = catch_unwind(AssertUnwindSafe(|| {
                strings.pause();
                course(&strings)
            }));
            strings::hold(None);
            drop(their_reports.send(Report::Ended(end.map_or_else(ended_by, End::Done))));
        });
        let process = Self { orders, reports, thread: Some(thread) };
        assert!(matches!(process.reports.recv(), Ok(Report::Paused)), "a process begins with a pause");
        process
    }

    /// Lets it go on for so many steps. How it ended, if it did.
    pub(crate) fn go(&mut self, steps: u32) -> Option<End<T>> {
        self.order(Order::Go(steps))
    }

    /// Kills it.
    pub(crate) fn kill(mut self) -> End<T> {
        self.order(Order::Kill).expect("whoever is killed ends")
    }

    fn order(&mut self, order: Order) -> Option<End<T>> {
        self.orders.send(order).expect("it waits for orders");
        match self.reports.recv().expect("it reports before it ends") {
            Report::Paused => None,
            Report::Ended(end) => {
                self.thread.take().expect("it ends once").join().expect("it catches what unwinds");
                Some(end)
            }
        }
    }
}

fn ended_by<T>(payload: Box<dyn Any + Send>) -> End<T> {
    if payload.is::<Killed>() {
        return End::Killed;
    }
    let text = payload.downcast_ref::<String>().cloned();
    End::Panicked(text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
}
