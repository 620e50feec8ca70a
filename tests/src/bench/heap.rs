//! An allocator that counts what a thread asks it for: for benchmarks of what is reckoned in their own process.
//!
//! A program that counts makes it its `#[global_allocator]`; in any other nothing is ever counted.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::AddAssign;

/// Pieces of memory that were asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allocations {
    /// How many; one that was made larger counts once more.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl AddAssign for Allocations {
    fn add_assign(&mut self, more: Self) {
        *self = Self { count: self.count + more.count, bytes: self.bytes + more.bytes };
    }
}

thread_local! {
    static SO_FAR: Cell<Allocations> = const { Cell::new(Allocations { count: 0, bytes: 0 }) };
    static HELD: Cell<i64> = const { Cell::new(0) };
}

/// All that the calling thread has asked for.
pub fn so_far() -> Allocations {
    SO_FAR.get()
}

/// The bytes that the calling thread has asked for, less those that it has freed: what it holds, where no piece goes from one thread to
/// another.
pub fn held() -> i64 {
    HELD.get()
}

/// What the calling thread asks for while something runs.
pub fn counted<T>(run: impl FnOnce() -> T) -> (T, Allocations) {
    let before = so_far();
    let result = run();
    let after = so_far();
    (result, Allocations { count: after.count - before.count, bytes: after.bytes - before.bytes })
}

/// The system's allocator, counted.
#[derive(Debug)]
pub struct Counting;

fn count(bytes: usize) {
    // It has no destructor, so it is there as long as its thread; and it was made without memory.
    let mut so_far = SO_FAR.get();
    so_far += Allocations { count: 1, bytes: bytes as u64 };
    SO_FAR.set(so_far);
    HELD.set(HELD.get() + bytes.cast_signed() as i64);
}

fn free(bytes: usize) {
    HELD.set(HELD.get() - bytes.cast_signed() as i64);
}

// SAFETY: all of it is the system allocator's, with the caller's promises; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        free(layout.size());
        // SAFETY: the caller's promise; it was the system's.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        free(layout.size());
        count(size);
        // SAFETY: the caller's promise; it was the system's.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: Counting = Counting;

    #[test]
    fn what_is_freed_is_no_longer_held() {
        let before = held();
        let mut all = Vec::<u64>::with_capacity(8);
        assert_eq!(held() - before, 64);
        all.reserve_exact(16);
        assert_eq!(held() - before, 128);
        drop(all);
        assert_eq!(held(), before);
    }

    #[test]
    fn every_piece_is_counted_with_its_bytes_and_those_of_other_threads_are_not() {
        let (made, allocations) = counted(|| (Box::new([0_u8; 100]), Vec::<u32>::with_capacity(10)));
        assert_eq!(allocations, Allocations { count: 2, bytes: 140 });
        let (_, of_drop) = counted(|| drop(made));
        assert_eq!(of_drop, Allocations::default());
        let other = std::thread::spawn(|| counted(|| vec![0_u8; 7]).1);
        assert_eq!(other.join().unwrap(), Allocations { count: 1, bytes: 7 });
        let (_, grown) = counted(|| {
            (0..9).fold(Vec::with_capacity(8), |mut all, n| {
                all.push(n as u64);
                all
            })
        });
        assert_eq!(grown.count, 2, "once made, once made larger");
    }
}
