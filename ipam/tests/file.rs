//! What becomes of the file: other boots, other versions, damage, removal, a full and a read-only file system.

#![allow(clippy::unwrap_used, reason = "these are tests, though their helpers are not marked so")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::{at, attach, environment_of_boot, key, node, reserve, reserve_of, store_with};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use twill_ipam::store::{BlockState, Environment, Observed, Role, Schema};
use twill_ipam::{Error, Store};

const SUBNET: [&str; 1] = ["10.1.0.0/24"];

#[test]
fn a_file_of_this_boot_is_kept_and_one_of_another_boot_discarded() {
    let dir = tempfile::tempdir().unwrap();
    let (run, first) = (dir.path().join("run"), environment_of_boot(dir.path(), "first"));
    let mut store = Store::open_in(&run, Role::Plugin, &first).unwrap();
    let row = reserve_of(&mut store, "a", &SUBNET, at(0)).unwrap();
    drop(store);
    let store = Store::open_in(&run, Role::Plugin, &first).unwrap();
    assert_eq!(store.attachments().unwrap(), [row]);
    drop(store);
    let second = environment_of_boot(dir.path(), "second");
    let mut store = Store::open_in(&run, Role::Plugin, &second).unwrap();
    assert!(store.attachments().unwrap().is_empty());
    reserve_of(&mut store, "b", &SUBNET, at(0)).unwrap();
    assert!(matches!(Store::open_in(&run, Role::Reader, &first), Err(Error::Io { .. })));
    assert_eq!(store.attachments().unwrap().len(), 1);
}

#[test]
fn a_killed_processes_log_of_another_boot_goes_with_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let (run, first) = (dir.path().join("run"), environment_of_boot(dir.path(), "first"));
    let mut store = Store::open_in(&run, Role::Plugin, &first).unwrap();
    reserve_of(&mut store, "a", &SUBNET, at(0)).unwrap();
    // What a power failure leaves of a directory that is not on tmpfs: file, log and index as they stand.
    let left = dir.path().join("left");
    fs::create_dir(&left).unwrap();
    for name in ["node.db", "node.db-wal", "node.db-shm"] {
        fs::copy(run.join(name), left.join(name)).unwrap();
    }
    assert!(fs::metadata(left.join("node.db-wal")).unwrap().len() > 0);
    let store = Store::open_in(&left, Role::Plugin, &environment_of_boot(dir.path(), "second")).unwrap();
    assert!(store.attachments().unwrap().is_empty());
}

#[test]
fn a_newer_minor_version_is_served_and_a_newer_major_refused_untouched() {
    let (dir, mut store) = store_with(&["10.0.0.0/26"]);
    attach(&mut store, "a", at(0));
    let known = Schema::CURRENT.version();
    set_version(dir.path(), known + 1);
    reserve(&mut store, "b", at(0)).unwrap();
    reserve(&mut Store::open(dir.path(), Role::Plugin).unwrap(), "c", at(0)).unwrap();
    set_version(dir.path(), known + 1000);
    // Also where the file was open before the newer daemon came.
    assert!(matches!(reserve(&mut store, "d", at(0)), Err(Error::NewerSchema { .. })));
    for role in [Role::Plugin, Role::Daemon, Role::Reader] {
        let refused = Store::open(dir.path(), role);
        assert!(matches!(&refused, Err(Error::NewerSchema { found, .. }) if *found == known + 1000), "{refused:?}");
    }
    set_version(dir.path(), known);
    assert_eq!(store.attachments().unwrap().len(), 3);
}

#[test]
fn an_older_major_version_is_refused() {
    let (dir, store) = store_with(&["10.0.0.0/26"]);
    set_version(dir.path(), Schema::CURRENT.version() - 1000);
    assert!(matches!(Store::open(dir.path(), Role::Plugin), Err(Error::OlderSchema { .. } | Error::Sqlite { .. })));
    drop(store);
}

#[test]
fn only_the_daemon_upgrades_an_older_minor_version() {
    const NEWER: Schema = Schema {
        major: Schema::CURRENT.major,
        steps: &[
            Schema::CURRENT.steps[0],
            Schema::CURRENT.steps[1],
            Schema::CURRENT.steps[2],
            "CREATE TABLE one (n INTEGER)",
            "CREATE TABLE two (n INTEGER)",
        ],
    };
    let (dir, mut store) = store_with(&["10.0.0.0/26"]);
    attach(&mut store, "a", at(0));
    let newer = Environment { schema: NEWER, ..Environment::default() };
    for (role, upgraded) in [(Role::Plugin, false), (Role::Reader, false), (Role::Daemon, true), (Role::Daemon, true)] {
        let opened = Store::open_in(dir.path(), role, &newer).unwrap();
        assert_eq!(opened.attachments().unwrap().len(), 1);
        let tables = "SELECT count(*) = 2 FROM sqlite_schema WHERE name IN ('one', 'two')";
        let plain = rusqlite::Connection::open(dir.path().join("node.db")).unwrap();
        assert_eq!(plain.query_row(tables, [], |row| row.get::<_, bool>(0)).unwrap(), upgraded, "{role:?}");
    }
    reserve(&mut store, "b", at(0)).unwrap();
}

#[test]
fn a_file_removed_while_open_is_noticed_and_the_next_one_knows_that_it_was_lost() {
    let (dir, mut daemon) = store_with(&["10.0.0.0/26"]);
    let mut plugin = Store::open(dir.path(), Role::Plugin).unwrap();
    let row = reserve(&mut plugin, "a", at(0)).unwrap();
    fs::remove_file(dir.path().join("node.db")).unwrap();
    assert!(matches!(plugin.confirm(row.id, at(0)), Err(Error::Replaced(_))));
    let mut next = Store::open(dir.path(), Role::Plugin).unwrap();
    assert!(matches!(daemon.still_there(), Err(Error::Replaced(_))));
    assert!(matches!(reserve(&mut daemon, "b", at(0)), Err(Error::Replaced(_))));
    assert!(matches!(reserve_of(&mut next, "b", &SUBNET, at(0)), Err(Error::NotRebuilt)));
    drop((daemon, plugin));
    next.rebuild(|| Ok::<_, Error>(Observed::default()), at(0)).unwrap();
    assert!(matches!(reserve_of(&mut next, "b", &SUBNET, at(29)), Err(Error::NoFreeAddress { .. })));
    let again = reserve_of(&mut next, "b", &SUBNET, at(30)).unwrap();
    assert!(again.id > row.id);
    assert!(next.still_there().is_ok());
}

#[test]
fn a_truncated_or_overwritten_file_is_put_aside_and_counts_as_lost() {
    let garbage = vec![0x5a; 8192];
    for content in [&b""[..], b"SQLite format 3\0", &garbage] {
        let (dir, mut store) = store_with(&["10.0.0.0/26"]);
        attach(&mut store, "a", at(0));
        drop(store);
        let path = dir.path().join("node.db");
        fs::write(&path, content).unwrap();
        assert!(Store::open(dir.path(), Role::Reader).is_err());
        assert_eq!(fs::read(&path).unwrap(), content);
        let mut store = Store::open(dir.path(), Role::Plugin).unwrap();
        assert!(store.needs_rebuild().unwrap());
        assert!(matches!(reserve_of(&mut store, "b", &SUBNET, at(0)), Err(Error::NotRebuilt)));
        assert_eq!(fs::read(dir.path().join("node.db.damaged")).unwrap(), content);
    }
}

#[test]
fn a_file_truncated_under_a_running_daemon_is_put_aside_and_the_daemon_notices() {
    let (dir, mut daemon) = store_with(&["10.0.0.0/26"]);
    attach(&mut daemon, "a", at(0));
    fs::OpenOptions::new().write(true).open(dir.path().join("node.db")).unwrap().set_len(0).unwrap();
    let opened = Store::open(dir.path(), Role::Plugin);
    if opened.is_ok_and(|store| store.needs_rebuild().unwrap() && store.attachments().unwrap().is_empty()) {
        assert!(matches!(daemon.still_there(), Err(Error::Replaced(_))));
    } else {
        // All that matters stood in the log, which is whole.
        assert_eq!(daemon.attachments().unwrap().len(), 1);
    }
}

#[test]
fn a_reader_makes_nothing_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    assert!(matches!(Store::open(&run, Role::Reader), Err(Error::Io { .. })));
    assert!(!run.exists());
    let mut store = Store::open(&run, Role::Daemon).unwrap();
    let mut reader = Store::open(&run, Role::Reader).unwrap();
    assert!(matches!(reader.set_node(&node(true, true)), Err(Error::ReadOnly { .. })));
    store.set_node(&node(true, true)).unwrap();
    assert!(reader.node().unwrap().is_some());
    drop(store);
    assert_eq!(reader.node().unwrap(), Store::open(&run, Role::Reader).unwrap().node().unwrap());
}

#[test]
fn directory_and_file_are_for_their_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("a/b");
    let store = Store::open(&run, Role::Plugin).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&run), mode(store.path())), (0o700, 0o600));
    assert_eq!(mode(&run.join("node.db-wal")), 0o600);
}

#[test]
fn a_full_file_system_refuses_reservations_and_loses_nothing() {
    on_small_tmpfs(|run| {
        let mut store = Store::open(run, Role::Daemon).unwrap();
        store.set_node(&node(true, false)).unwrap();
        store.put_block("10.0.0.0/24".parse().unwrap(), &"default".parse().unwrap(), BlockState::Open).unwrap();
        let row = attach(&mut store, "a", at(0));
        fill(&run.join("filler"));
        let mut given = 1;
        let refused = loop {
            match reserve(&mut store, &format!("c{given}"), at(0)) {
                Ok(_) => given += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, Error::Full { .. }), "{refused:?}");
        assert!(refused.is_temporary() && refused.to_string().contains("full"), "{refused}");
        assert!(matches!(store.release(row.id, at(0)), Err(Error::Full { .. })));
        assert!(store.mark_deleting(key("never").hash(), at(0)).unwrap().is_none());
        assert_eq!(store.attachments().unwrap().len(), given);
        fs::remove_file(run.join("filler")).unwrap();
        store.release(row.id, at(0)).unwrap();
        reserve(&mut store, "b", at(0)).unwrap();
        assert_eq!(store.attachments().unwrap().len(), given);
    });
}

#[test]
fn on_a_full_file_system_no_store_is_made_and_none_is_left_half_made() {
    on_small_tmpfs(|run| {
        fill(&run.join("filler"));
        let refused = Store::open(run, Role::Plugin).unwrap_err();
        assert!(matches!(&refused, Error::Full { .. } | Error::Io { .. }), "{refused:?}");
        assert!(!run.join("node.db").exists());
        fs::remove_file(run.join("filler")).unwrap();
        reserve_of(&mut Store::open(run, Role::Plugin).unwrap(), "a", &SUBNET, at(0)).unwrap();
    });
}

#[test]
fn a_read_only_file_system_is_named_as_such() {
    on_small_tmpfs(|run| {
        drop(Store::open(run, Role::Plugin).unwrap());
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, run, None::<&str>, flags, None::<&str>).unwrap();
        let refused = Store::open(run, Role::Plugin).and_then(|mut store| reserve_of(&mut store, "a", &SUBNET, at(0)));
        assert!(matches!(&refused, Err(Error::ReadOnly { .. })), "{refused:?}");
    });
}

/// Writes another schema version into the file, as another version of the program would.
fn set_version(run: &Path, version: i64) {
    let plain = rusqlite::Connection::open(run.join("node.db")).unwrap();
    plain.pragma_update(None, "user_version", version).unwrap();
}

/// Writes until nothing more fits.
fn fill(path: &Path) {
    for size in [4096, 512, 1] {
        let block = vec![0; size];
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
    }
}

/// Runs a test in a tmpfs of 256 KiB, in a mount namespace of a thread's own, which goes with the thread.
fn on_small_tmpfs(test: impl FnOnce(&Path) + Send) {
    if !twill_testkit::is_root("mounting a tmpfs") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        let mounted = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
            mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some("size=256k")).unwrap();
            test(dir.path());
        });
        if let Err(panic) = mounted.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn a_store_counts_as_lost_only_where_it_once_stood() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path(), Role::Plugin).unwrap());
    // As a process leaves it that is killed after it put the store in place.
    fs::remove_file(dir.path().join("node.boot")).unwrap();
    drop(Store::open(dir.path(), Role::Plugin).unwrap());
    fs::remove_file(dir.path().join("node.db")).unwrap();
    let mut next = Store::open(dir.path(), Role::Plugin).unwrap();
    assert!(matches!(reserve_of(&mut next, "a", &SUBNET, at(0)), Err(Error::NotRebuilt)));
}

#[test]
fn a_guest_writes_what_is_there_and_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    assert!(matches!(Store::open(&run, Role::Guest), Err(Error::Io { .. })));
    assert!(!run.exists());
    drop(Store::open(&run, Role::Plugin).unwrap());
    reserve_of(&mut Store::open(&run, Role::Guest).unwrap(), "a", &SUBNET, at(0)).unwrap();
    fs::write(run.join("node.db"), "this is no database").unwrap();
    assert!(Store::open(&run, Role::Guest).is_err());
    assert_eq!(fs::read(run.join("node.db")).unwrap(), b"this is no database");
}

/// The flags stand in `.cargo/config.toml`, which a build from elsewhere, or one that sets its own, does not read.
#[test]
fn sqlite_is_built_without_what_the_store_does_not_need() {
    let conn = rusqlite::Connection::open_in_memory().unwrap();
    let mut select = conn.prepare("PRAGMA compile_options").unwrap();
    let options: Vec<String> = select.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    for absent in ["ENABLE_FTS3", "ENABLE_FTS5", "ENABLE_RTREE", "ENABLE_STAT4", "ENABLE_MEMORY_MANAGEMENT"] {
        assert!(!options.iter().any(|option| option == absent), "{absent}: {options:?}");
    }
    for present in ["OMIT_JSON", "DEFAULT_MEMSTATUS=0", "OMIT_LOAD_EXTENSION", "DQS=0", "DEFAULT_WAL_SYNCHRONOUS=0"] {
        assert!(options.iter().any(|option| option == present), "{present}: {options:?}");
    }
}

#[test]
fn sqlite_opens_a_store_as_it_is_meant_to_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let conn = rusqlite::Connection::open(dir.path().join("any.db")).unwrap();
    let setting = |name: &str| conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    assert_eq!(setting("foreign_keys"), Ok(1));
    // 0: OFF, for which nobody has to wait.
    assert_eq!(setting("synchronous"), Ok(0));
    conn.pragma_update(None, "journal_mode", "WAL").unwrap();
    assert_eq!(setting("synchronous"), Ok(0));
    // A file that is not mapped answers nothing, or 0.
    assert_eq!(setting("mmap_size").unwrap_or(0), 0);
}
