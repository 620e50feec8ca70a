//! Programs that must not outlive whoever has started them.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// The program is killed when the thread that starts it ends, be it that its process is killed (PR_SET_PDEATHSIG, prctl(2)). So that thread
/// must wait for it.
pub fn dies_with_its_starter(command: &mut Command) -> &mut Command {
    let starter = std::process::id();
    // SAFETY: between fork and exec it makes two system calls and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            // It may have ended before the call.
            if u32::try_from(nix::unistd::getppid().as_raw()) != Ok(starter) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_program_ends_with_the_thread_that_has_started_it() {
        let mut sleeper = std::thread::spawn(|| {
            let mut command = Command::new("sleep");
            dies_with_its_starter(command.arg("600").stdin(Stdio::null())).spawn().unwrap()
        })
        .join()
        .unwrap();
        assert!(!sleeper.wait().unwrap().success());
    }
}
