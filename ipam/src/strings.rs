//! By what a model test holds the store and its locks, like a puppet: it learns of each transaction before and after it,
//! may refuse it as a full file system does, and says what time it is and how it passes while somebody waits for a lock.
//!
//! With the feature `model`, for which only tests ask, a thread may have a `Puppeteer`. Without it, as the programs are built
//! that are shipped and those of the lab ([`guard`](crate::guard)), there is none of this: every function here is empty there.

#[cfg(feature = "model")]
pub use held::{Puppeteer, Transaction, hold};

#[cfg(not(feature = "model"))]
mod free {
    //! A program.

    use crate::{BootTime, Error};

    #[inline(always)]
    pub(crate) const fn read() {}

    #[inline(always)]
    pub(crate) const fn write(_: &'static str) -> Result<(), Error> {
        Ok(())
    }

    #[inline(always)]
    pub(crate) const fn written() {}

    pub(crate) fn now() -> BootTime {
        BootTime::now()
    }

    pub(crate) fn sleep(time: std::time::Duration) {
        std::thread::sleep(time);
    }
}

#[cfg(not(feature = "model"))]
pub(crate) use free::{now, read, sleep, write, written};

#[cfg(feature = "model")]
pub(crate) use held::{now, read, sleep, write, written};

#[cfg(feature = "model")]
mod held {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    use crate::{BootTime, Error};

    /// A transaction of the store.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Transaction {
        /// One that only reads is about to begin.
        Read,
        /// One that writes is about to begin.
        Write,
        /// One that writes was committed.
        Written,
    }

    /// Who holds the strings. It may end the procedure that the thread plays by unwinding: no transaction is open then.
    pub trait Puppeteer {
        /// The next transaction. Whether there is room for what it writes.
        fn next(&self, transaction: Transaction) -> bool;
        /// The time.
        fn now(&self) -> BootTime;
        /// Lets time pass.
        fn sleep(&self, time: Duration);
    }

    thread_local! {
        static HELD: RefCell<Option<Rc<dyn Puppeteer>>> = const { RefCell::new(None) };
    }

    /// Gives the strings of this thread to somebody, or cuts them.
    pub fn hold(puppeteer: Option<Rc<dyn Puppeteer>>) {
        HELD.set(puppeteer);
    }

    /// Cloned, since what is done with it may unwind.
    fn puppeteer() -> Option<Rc<dyn Puppeteer>> {
        HELD.with_borrow(Clone::clone)
    }

    fn next(transaction: Transaction) -> bool {
        puppeteer().is_none_or(|puppeteer| puppeteer.next(transaction))
    }

    pub(crate) fn read() {
        next(Transaction::Read);
    }

    pub(crate) fn write(what: &'static str) -> Result<(), Error> {
        if next(Transaction::Write) {
            return Ok(());
        }
        let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
        Err(crate::error::sqlite(what)(rusqlite::Error::SqliteFailure(full, None)))
    }

    pub(crate) fn written() {
        next(Transaction::Written);
    }

    pub(crate) fn now() -> BootTime {
        puppeteer().map_or_else(BootTime::now, |puppeteer| puppeteer.now())
    }

    pub(crate) fn sleep(time: Duration) {
        match puppeteer() {
            Some(puppeteer) => puppeteer.sleep(time),
            None => std::thread::sleep(time),
        }
    }
}
