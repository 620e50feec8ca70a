//! The kernel's clock, as far as it tells whether somebody keeps it.
#![allow(unsafe_code)]

use std::io;

/// Whether the kernel counts its clock as kept in step with a better one: without STA_UNSYNC (adjtimex(2)), which programs such as chrony
/// and systemd-timesyncd take away, and which comes back where they have not been heard of for hours. It only reads, for which
/// nobody needs to be root.
pub fn is_kept() -> io::Result<bool> {
    // SAFETY: it is a struct of integers, for which zeroes are good values.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    timex.modes = 0;
    // SAFETY: the pointer is to a whole struct that lives through the call; without modes nothing is set.
    if unsafe { libc::adjtimex(&raw mut timex) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(timex.status & libc::STA_UNSYNC == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_its_state_and_reading_it_changes_nothing() {
        let first = is_kept().expect("reading is allowed to everybody");
        assert_eq!(is_kept().unwrap(), first);
    }
}
