//! Man pages of this program, of section 8, for who packages it.

use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_mangen::Man;

use crate::flags::CommandLine;

/// Of the system's administration, by man(1).
const SECTION: &str = "8";

/// Writes a page for the program and one for each of its commands into a directory, which is made where it is not there.
pub fn write(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut command = CommandLine::command().disable_help_subcommand(true);
    command.build();
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set()).cloned().collect::<Vec<_>>();
    for command in commands.into_iter().chain([command]) {
        Man::new(command).section(SECTION).generate_to(dir)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn there_is_a_page_for_the_daemon_and_for_each_command_that_groff_takes_without_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let pages = dir.path().join("man8");
        write(&pages).unwrap();
        for name in ["twilld", "twilld-install", "twilld-uninstall"] {
            let page = pages.join(format!("{name}.8"));
            let text = std::fs::read_to_string(&page).unwrap();
            for part in [&format!(".TH {name} 8")[..], ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH OPTIONS"] {
                assert!(text.contains(part), "{name} has no {part:?}:\n{text}");
            }
            if twill_testkit::has_program("groff") {
                let groff = Command::new("groff").args(["-man", "-ww", "-z", "-Tutf8"]).arg(&page).output().unwrap();
                assert!(groff.status.success() && groff.stderr.is_empty(), "{name}: {groff:?}");
            }
        }
        assert_eq!(std::fs::read_dir(&pages).unwrap().count(), 3, "what help does not show has no page");
    }
}
