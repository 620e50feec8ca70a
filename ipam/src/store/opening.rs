//! Making and opening `node.db`, race-free between any number of processes.
//!
//! Everyone holds a shared lock on the directory while opening; who makes, discards or puts aside a file holds it alone.
//! So SQLite never opens the log of one file beside another. A new file is made under another name and renamed when it
//! is whole, in WAL mode for good.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{AccessFlags, access};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::error::{PATIENCE, io, sqlite};
use crate::wait::Wait;
use crate::{BootTime, Error, Store, address};

use super::{Role, Schema, rows::nanoseconds, schema};

/// What the store depends on beside its directory.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Where this boot's ID stands.
    pub boot_id: PathBuf,
    /// How long an address cools.
    pub cooling: Duration,
    /// How long a call waits for other processes' locks.
    pub patience: Duration,
    /// The schema that this program knows.
    pub schema: Schema,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            boot_id: "/proc/sys/kernel/random/boot_id".into(),
            cooling: address::COOLING,
            patience: PATIENCE,
            schema: Schema::CURRENT,
        }
    }
}

/// What stands at the file's place.
enum Found {
    /// A store of this boot.
    Current(Store),
    /// Nothing.
    Absent,
    /// A file of another boot.
    OtherBoot,
    /// Something that is no store: truncated, overwritten, half of a file.
    Damaged,
}

impl Store {
    /// As [`open`](Store::open), with another environment than the machine's own.
    pub fn open_in(run_dir: &Path, role: Role, environment: &Environment) -> Result<Self, Error> {
        let boot = std::fs::read_to_string(&environment.boot_id).map_err(io("reading", &environment.boot_id))?;
        let place = Place { run_dir, path: run_dir.join("node.db"), role, boot: boot.trim(), environment };
        place.open()
    }
}

/// Where a store is to be, for whom and in which boot.
struct Place<'a> {
    run_dir: &'a Path,
    path: PathBuf,
    role: Role,
    boot: &'a str,
    environment: &'a Environment,
}

impl Place<'_> {
    fn open(&self) -> Result<Store, Error> {
        if self.may_make() && identity(self.run_dir)?.is_none() {
            make_run_dir(self.run_dir)?;
        }
        {
            let _shared = lock_directory(self.run_dir, FlockArg::LockSharedNonblock, self.environment.patience)?;
            if let Found::Current(store) = self.look()? {
                self.mark()?;
                return Ok(store);
            }
        }
        if !self.may_make() {
            return Err(io("opening", &self.path)(ErrorKind::NotFound.into()));
        }
        let _alone = lock_alone(self.run_dir, self.environment.patience)?;
        match self.look()? {
            Found::Current(store) => return Ok(store),
            Found::Absent | Found::OtherBoot => self.make(false)?,
            Found::Damaged => {
                // Kept for whoever wants to know; nothing reads it.
                std::fs::rename(&self.path, self.beside(".damaged")).map_err(io("putting aside", &self.path))?;
                self.make(true)?;
            }
        }
        match self.look()? {
            Found::Current(store) => Ok(store),
            Found::Absent | Found::OtherBoot | Found::Damaged => Err(Error::Replaced(self.path.clone())),
        }
    }

    /// Opens what is there, under a lock on the directory.
    fn look(&self) -> Result<Found, Error> {
        let Some(file) = identity(&self.path)? else {
            return Ok(Found::Absent);
        };
        let opened = connect(&self.path, self.role, self.environment.patience)
            .and_then(|conn| probe(&conn).map(|known| (conn, known)));
        let (conn, (version, boot)) = match opened {
            Ok(opened) => opened,
            Err(cause) if is_damage(&cause) => return Ok(Found::Damaged),
            Err(cause) if self.is_read_only(&cause) => return Err(Error::ReadOnly { what: "opening", cause }),
            Err(cause) => return Err(sqlite("opening")(cause)),
        };
        if boot != self.boot {
            return Ok(Found::OtherBoot);
        }
        let schema = self.environment.schema;
        schema.check(&self.path, version)?;
        let cooling = self.environment.cooling;
        let mut store = Store { path: self.path.clone(), conn, file, cooling, schema };
        if self.role == Role::Daemon && version < schema.version() {
            store.write("upgrading the schema", |tx| schema.upgrade(tx, schema::version(tx)?))?;
        }
        // Between our look at its inode and SQLite's opening somebody may have removed it, by hand: locks do not stop rm.
        Ok(if identity(&self.path)? == Some(file) { Found::Current(store) } else { Found::Absent })
    }

    /// Makes a new file at its place, in the place of whatever is there. Under the directory's lock, alone.
    fn make(&self, damaged: bool) -> Result<(), Error> {
        let new = self.beside(".new");
        for ending in ["", "-wal", "-shm", "-journal", ".new", ".new-wal", ".new-shm", ".new-journal"] {
            remove(&self.beside(ending))?;
        }
        // A store that was made in this boot and is no more was lost, with all that it knew.
        let lost = damaged || self.is_marked();
        self.fill(&new, lost).map_err(sqlite("making a new store"))??;
        std::fs::set_permissions(&new, Permissions::from_mode(0o600)).map_err(io("setting the mode of", &new))?;
        std::fs::rename(&new, &self.path).map_err(io("putting in place", &self.path))?;
        self.mark()
    }

    fn may_make(&self) -> bool {
        matches!(self.role, Role::Plugin | Role::Daemon)
    }

    fn marker(&self) -> PathBuf {
        self.run_dir.join("node.boot")
    }

    fn is_marked(&self) -> bool {
        std::fs::read_to_string(self.marker()).is_ok_and(|text| text == self.boot)
    }

    /// Remembers that this boot has a store. Only once it stands: one that was never put in place was never lost. Who
    /// opens it later makes up for a process that was killed in between.
    fn mark(&self) -> Result<(), Error> {
        let marker = self.marker();
        if !self.may_make() || self.is_marked() {
            return Ok(());
        }
        std::fs::write(&marker, self.boot).map_err(io("writing", &marker))
    }

    fn fill(&self, new: &Path, lost: bool) -> rusqlite::Result<Result<(), Error>> {
        let mut conn = Connection::open_with_flags(
            new,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        conn.execute_batch("PRAGMA journal_mode = WAL")?;
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if let Err(cause) = self.environment.schema.upgrade(&tx, 0) {
            return Ok(Err(cause));
        }
        tx.execute("INSERT INTO meta (id, boot, lost) VALUES (1, ?1, ?2)", (self.boot, lost))?;
        // Numbers begin at the microsecond of the boot, so that those of a lost store are not used again.
        let first = nanoseconds(BootTime::now()) / 1000;
        tx.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('attachment', ?1)", [first])?;
        tx.commit()?;
        // Closing moves the log into the file, which alone is renamed.
        conn.close().map_err(|(_, cause)| cause)?;
        Ok(match identity(&self.beside(".new-wal")) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(io("emptying the log of", new)(ErrorKind::StorageFull.into())),
            Err(cause) => Err(cause),
        })
    }

    /// Whether a file cannot be opened because its log cannot be made beside it, of which SQLite tells no reason.
    fn is_read_only(&self, cause: &rusqlite::Error) -> bool {
        cause.sqlite_error_code() == Some(ErrorCode::CannotOpen) && access(self.run_dir, AccessFlags::W_OK).is_err()
    }

    fn beside(&self, ending: &str) -> PathBuf {
        self.run_dir.join(format!("node.db{ending}"))
    }
}

/// A connection with what SQLite does not keep in the file.
fn connect(path: &Path, role: Role, patience: Duration) -> rusqlite::Result<Connection> {
    let mode = if role == Role::Reader { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
    let mut conn = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    let mut wait = Wait::new(patience);
    conn.busy_handler(Some(move |refusals| {
        if refusals == 0 {
            wait = Wait::new(patience);
        }
        wait.again()
    }))?;
    // Foreign keys are checked, nothing is synced, since the file does not outlive the boot, and nothing is mapped, since a
    // mapping of a full tmpfs is SIGBUS: so SQLite is built (.cargo/config.toml), and no plugin has to say it once more.
    Ok(conn)
}

/// The schema's version and the boot ID of an open file.
fn probe(conn: &Connection) -> rusqlite::Result<(i64, String)> {
    let version = conn.prepare_cached("PRAGMA user_version")?.query_row([], |row| row.get(0))?;
    let boot = conn.query_row("SELECT boot FROM meta", [], |row| row.get(0))?;
    Ok((version, boot))
}

/// Whether an answer to [`probe`] says that the file is no store, rather than that it cannot be read now.
fn is_damage(cause: &rusqlite::Error) -> bool {
    match cause {
        rusqlite::Error::QueryReturnedNoRows | rusqlite::Error::InvalidColumnType(..) => true,
        // "No such table" has no code of its own.
        other => matches!(
            other.sqlite_error_code(),
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt | ErrorCode::Unknown)
        ),
    }
}

/// Device and inode of what stands at `path`.
pub(super) fn identity(path: &Path) -> Result<Option<(u64, u64)>, Error> {
    match std::fs::metadata(path) {
        Ok(meta) => Ok(Some((meta.dev(), meta.ino()))),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(io("examining", path)(cause)),
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(io("removing", path)(cause)),
        _ => Ok(()),
    }
}

/// Makes the run directory, for root alone.
pub(crate) fn make_run_dir(run_dir: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(run_dir).map_err(io("making", run_dir))
}

/// Keeps others from opening, making and rebuilding the store. Who has it open goes on.
pub(super) fn lock_alone(run_dir: &Path, patience: Duration) -> Result<Flock<File>, Error> {
    lock_directory(run_dir, FlockArg::LockExclusiveNonblock, patience)
}

fn lock_directory(run_dir: &Path, how: FlockArg, patience: Duration) -> Result<Flock<File>, Error> {
    let mut wait = Wait::new(patience);
    let mut directory =
        OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(run_dir).map_err(io("opening", run_dir))?;
    loop {
        directory = match Flock::lock(directory, how) {
            Ok(lock) => return Ok(lock),
            Err((directory, Errno::EWOULDBLOCK)) if wait.again() => directory,
            Err((_, Errno::EWOULDBLOCK)) => return Err(Error::Contended("opening")),
            Err((_, errno)) => return Err(io("locking", run_dir)(errno.into())),
        };
    }
}
