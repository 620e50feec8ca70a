//! One allocator for all of the plugin: Rust's part of it and SQLite's.
//!
//! musl's own asks the kernel for a mapping, and gives it back, with nearly every growing vector and every page of SQLite's;
//! in a process that lives for two milliseconds that is a good part of its time. This one takes few large pieces and
//! returns none: the end of the process does. musl lets a static program bring its own `malloc` (musl 1.1.20, "malloc
//! replacement"); its own callers, and those of C, come here by that. `aligned_alloc` and `posix_memalign` are not
//! replaced: nobody here calls them, and what they gave could not be freed here. With another C library only Rust's part
//! comes here, and nobody calls what bears C's names but the tests.
#![allow(unsafe_code)]
#![cfg_attr(not(any(target_env = "musl", test)), allow(dead_code))]

use std::alloc::{Layout, alloc, dealloc, realloc as resize};
use std::ffi::c_void;
use std::ptr;

use nix::errno::Errno;

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// What C expects of every piece of memory (`max_align_t`), and as many bytes before each hold its size.
const ALIGN: usize = 16;

/// The layout of `size` bytes with their header; `None` where there cannot be so many.
fn layout(size: usize) -> Option<Layout> {
    Layout::from_size_align(size.checked_add(ALIGN)?, ALIGN).ok()
}

/// Writes the header of a fresh piece and gives what the caller gets to see; null stays null.
///
/// # Safety
/// `base` is null or the begin of a piece of [`layout`]`(size)`.
unsafe fn labelled(base: *mut u8, size: usize) -> *mut c_void {
    if base.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: the piece begins with ALIGN bytes for this, aligned for a usize.
    unsafe {
        base.cast::<usize>().write(size);
        base.add(ALIGN).cast()
    }
}

/// The begin of a piece, and its layout.
///
/// # Safety
/// `piece` came from [`labelled`] and was not freed.
unsafe fn unlabelled(piece: *mut c_void) -> (*mut u8, Layout) {
    // SAFETY: the header lies right before what the caller got, and its size had a layout then.
    unsafe {
        let base = piece.cast::<u8>().sub(ALIGN);
        let size = base.cast::<usize>().read();
        (base, Layout::from_size_align_unchecked(size + ALIGN, ALIGN))
    }
}

/// What C's functions give: null only with errno ENOMEM (POSIX.1-2017, `malloc`).
fn told(piece: Option<*mut c_void>) -> *mut c_void {
    piece.filter(|piece| !piece.is_null()).unwrap_or_else(|| {
        Errno::ENOMEM.set();
        ptr::null_mut()
    })
}

/// C's `malloc` (C17, 7.22.3.4).
#[cfg_attr(target_env = "musl", unsafe(no_mangle))]
extern "C" fn malloc(size: usize) -> *mut c_void {
    // SAFETY: a layout of ours is never of size zero.
    told(layout(size).map(|layout| unsafe { labelled(alloc(layout), size) }))
}

/// C's `calloc` (C17, 7.22.3.2).
#[cfg_attr(target_env = "musl", unsafe(no_mangle))]
extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    let sized = count.checked_mul(size).and_then(|bytes| Some((bytes, layout(bytes)?)));
    // SAFETY: as above.
    told(sized.map(|(bytes, layout)| unsafe { labelled(std::alloc::alloc_zeroed(layout), bytes) }))
}

/// C's `free` (C17, 7.22.3.3).
///
/// # Safety
/// `piece` is null or came from a function of this module and was not freed.
#[cfg_attr(target_env = "musl", unsafe(no_mangle))]
unsafe extern "C" fn free(piece: *mut c_void) {
    if !piece.is_null() {
        // SAFETY: the caller's promise.
        unsafe {
            let (base, layout) = unlabelled(piece);
            dealloc(base, layout);
        }
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
    // SAFETY: the caller's promise, and the new size has a layout.
    told(layout(size).map(|new| unsafe {
        let (base, old) = unlabelled(piece);
        labelled(resize(base, old, new.size()), size)
    }))
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
