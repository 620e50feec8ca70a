//! What `twillctl bundle` prints.

use super::table::{number, parts, table};
use crate::report::bundle::{Bundle, Member};

pub(super) fn bundle(bundle: &Bundle) -> String {
    let row = |member: &Member| [format!("  {}", member.path), size(member.bytes as u64), member.what.clone()];
    let members = table(["", "", ""], bundle.members.iter().map(row));
    let members = members.split_once('\n').map_or("", |(_, rows)| rows);
    let heading = format!(
        "{} has {} ({}):\n{members}",
        bundle.file.display(),
        number(bundle.members.len(), "file"),
        size(bundle.bytes)
    );
    let unknown = super::table::unknown(&bundle.unknown);
    let advice = "Passwords, keys and users are left out. Names of nodes and pods, addresses and labels are in it: look through it \
                  before you hand it on.\n";
    parts([heading, unknown, advice.to_owned()])
}

/// In bytes, or the largest unit of which there is one.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{} MiB", bytes.div_ceil(1 << 20)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::untold::Untold;

    #[test]
    fn what_is_in_it_and_what_is_not_are_told() {
        let member = |path: &str, bytes| Member { path: path.into(), what: "what".into(), bytes };
        let told = bundle(&Bundle {
            file: "b.tar.gz".into(),
            bytes: 2_000_000,
            members: vec![member("a.json", 7), member("local/long.json", 1025)],
            unknown: vec![Untold::new("etcd: away", "bring it back")],
        });
        let wanted = "b.tar.gz has 2 files (2 MiB):\n  a.json           7 B    what\n  local/long.json  2 KiB  what\n\nCOULD NOT TELL: \
                      etcd: away\n    fix: bring it back\n\nPasswords, keys";
        assert!(told.starts_with(wanted), "{told}");
    }
}
