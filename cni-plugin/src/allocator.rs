//! One allocator for all of the plugin: Rust's part of it and SQLite's.
//!
//! musl's own asks the kernel for a mapping, and gives it back, with nearly every growing vector and every page of SQLite's;
//! in a process that lives for two milliseconds that is a good part of its time. This one takes few large pieces, with
//! their pages in one go instead of by a fault for each, and returns none: the end of the process does. musl lets a static
//! program bring its own `malloc` (musl 1.1.20, "malloc replacement"); its own callers, and those of C, come here by that.
//! `aligned_alloc` and `posix_memalign` are not replaced: nobody here calls them, and what they gave could not be freed
//! here. With another C library only Rust's part comes here, and nobody calls what bears C's names but the tests.
#![allow(unsafe_code)]
#![cfg_attr(not(any(target_env = "musl", test)), allow(dead_code))]

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::Dlmalloc;
use nix::errno::Errno;

#[global_allocator]
static ALLOCATOR: Heap = Heap(Mutex::new(Dlmalloc::new_with_allocator(Pages)));

/// What C expects of every piece of memory (`max_align_t`), and what dlmalloc aligns to where nobody asks for more.
const ALIGN: usize = 16;

/// The size of the pieces that dlmalloc cuts small ones from. A larger one is a buffer for what the kernel sends, of which
/// mostly little is used: its pages come one by one.
const AT_ONCE: usize = 64 * 1024;

/// All of the program's memory.
struct Heap(Mutex<Dlmalloc<Pages>>);

impl Heap {
    fn lock(&self) -> MutexGuard<'_, Dlmalloc<Pages>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// SAFETY: dlmalloc keeps the promises of an allocator, and the lock lets one caller in at a time.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { self.lock().malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { self.lock().calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.lock().free(piece, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { self.lock().realloc(piece, layout.size(), layout.align(), size) }
    }
}

/// Where dlmalloc takes its pieces from: the kernel, with their pages.
struct Pages;

// SAFETY: each piece is a mapping of its own, and none is ever moved or given back.
unsafe impl dlmalloc::Allocator for Pages {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let at_once = if size <= AT_ONCE { libc::MAP_POPULATE } else { 0 };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | at_once;
        // SAFETY: a new mapping, at a place of the kernel's choice.
        match unsafe { libc::mmap(ptr::null_mut(), size, protection, flags, -1, 0) } {
            libc::MAP_FAILED => (ptr::null_mut(), 0, 0),
            piece => (piece.cast(), size, 0),
        }
    }

    fn remap(&self, _piece: *mut u8, _old: usize, _new: usize, _can_move: bool) -> *mut u8 {
        ptr::null_mut()
    }

    fn free_part(&self, _piece: *mut u8, _old: usize, _new: usize) -> bool {
        false
    }

    fn free(&self, _piece: *mut u8, _size: usize) -> bool {
        false
    }

    fn can_release_part(&self, _flags: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        4096
    }
}

/// What C's functions give: null only with errno ENOMEM (POSIX.1-2017, `malloc`).
fn told(piece: *mut u8) -> *mut c_void {
    if piece.is_null() {
        Errno::ENOMEM.set();
    }
    piece.cast()
}

/// C's `malloc` (C17, 7.22.3.4).
#[cfg_attr(target_env = "musl", unsafe(no_mangle))]
extern "C" fn malloc(size: usize) -> *mut c_void {
    // SAFETY: it asks for nothing.
    told(unsafe { ALLOCATOR.lock().c_malloc(size) })
}

/// C's `calloc` (C17, 7.22.3.2).
#[cfg_attr(target_env = "musl", unsafe(no_mangle))]
extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    // SAFETY: it asks for nothing.
    let zeroed = |bytes| unsafe { ALLOCATOR.lock().calloc(bytes, ALIGN) };
    told(count.checked_mul(size).map_or(ptr::null_mut(), zeroed))
}

/// C's `free` (C17, 7.22.3.3).
///
/// # Safety
/// `piece` is null or came from a function of this module and was not freed.
#[cfg_attr(target_env = "musl", unsafe(no_mangle))]
unsafe extern "C" fn free(piece: *mut c_void) {
    if !piece.is_null() {
        // SAFETY: the caller's promise.
        unsafe { ALLOCATOR.lock().c_free(piece.cast()) }
    }
}

/// C's `realloc` (C17, 7.22.3.5).
///
/// # Safety
/// As for [`free`].
#[cfg_attr(target_env = "musl", unsafe(no_mangle))]
unsafe extern "C" fn realloc(piece: *mut c_void, size: usize) -> *mut c_void {
    if piece.is_null() {
        return malloc(size);
    }
    // SAFETY: the caller's promise.
    told(unsafe { ALLOCATOR.lock().c_realloc(piece.cast(), size) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<'a>(piece: *mut c_void, length: usize) -> &'a mut [u8] {
        assert_eq!(piece as usize % ALIGN, 0);
        // SAFETY: the tests name pieces that they hold, and no more than their length.
        unsafe { std::slice::from_raw_parts_mut(piece.cast(), length) }
    }

    #[test]
    fn a_piece_keeps_its_content_when_it_grows_and_shrinks() {
        let mut piece = malloc(5);
        bytes(piece, 5).copy_from_slice(b"twill");
        for size in [100_000, 7, 5] {
            // SAFETY: it is the last one that was given.
            piece = unsafe { realloc(piece, size) };
            assert_eq!(bytes(piece, 5), b"twill");
        }
        // SAFETY: as above.
        unsafe { free(piece) };
    }

    #[test]
    fn what_calloc_gives_is_zero_also_where_memory_is_used_again() {
        for _ in 0..10 {
            let piece = calloc(3, 100);
            assert!(bytes(piece, 300).iter().all(|byte| *byte == 0));
            bytes(piece, 300).fill(0xff);
            // SAFETY: it was just given.
            unsafe { free(piece) };
        }
    }

    #[test]
    fn more_than_there_can_be_is_null_and_what_was_there_stays() {
        Errno::clear();
        assert_eq!((malloc(usize::MAX).is_null(), Errno::last()), (true, Errno::ENOMEM));
        Errno::clear();
        assert_eq!((calloc(usize::MAX, 2).is_null(), Errno::last()), (true, Errno::ENOMEM));
        assert!(calloc(usize::MAX / 2, 1).is_null());
        // SAFETY: null is nothing to resize or to free; the piece was just given.
        unsafe {
            free(ptr::null_mut());
            let piece = realloc(ptr::null_mut(), 1);
            bytes(piece, 1)[0] = 7;
            Errno::clear();
            assert_eq!((realloc(piece, usize::MAX).is_null(), Errno::last()), (true, Errno::ENOMEM));
            assert_eq!(bytes(piece, 1), [7]);
            free(piece);
        }
    }

    #[test]
    fn a_piece_of_no_bytes_is_a_piece() {
        let piece = malloc(0);
        assert!(!piece.is_null());
        // SAFETY: it was just given.
        unsafe { free(piece) };
    }
}
