//! What the daemon tells systemd, heard by a socket that stands for systemd's.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use twill_tests::{Lab, LabError, Node, Result, with_lab};

/// What systemd would say that it waits for between two signs of life, in microseconds: the daemon gives one in half of it.
const WATCHDOG_USEC: u64 = 400_000;
/// The daemon's event loop counts as hung after 20 s.
const PATIENCE: Duration = Duration::from_secs(45);

/// The supervisor's end.
struct Supervisor(UnixDatagram);

impl Supervisor {
    fn listen(node: &Node) -> Result<(Self, String)> {
        let path = node.directory().join("notify");
        let socket = UnixDatagram::bind(&path).map_err(LabError::io("making the supervisor's socket"))?;
        socket.set_read_timeout(Some(Duration::from_millis(50))).map_err(LabError::io("setting a timeout"))?;
        Ok((Self(socket), path.to_string_lossy().into_owned()))
    }

    /// The next message; none where none comes soon.
    fn hear(&self) -> Result<Option<String>> {
        let mut buffer = [0; 4096];
        match self.0.recv(&mut buffer) {
            Ok(length) => Ok(Some(String::from_utf8_lossy(&buffer[..length]).into_owned())),
            Err(cause) if matches!(cause.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
            Err(cause) => Err(LabError::io("hearing the daemon")(cause)),
        }
    }

    /// Waits for a message that has these words, and yields what came, the message last.
    fn until(&self, words: &str) -> Result<Vec<String>> {
        let (end, mut heard) = (Instant::now() + PATIENCE, Vec::new());
        while Instant::now() < end {
            let Some(message) = self.hear()? else { continue };
            let is_it = message.contains(words);
            heard.push(message);
            if is_it {
                return Ok(heard);
            }
        }
        Err(LabError::wrong(format!("nothing with {words:?} within {PATIENCE:?}, but {heard:?}")))
    }

    /// Waits until no sign of life has come for so long.
    fn until_silent(&self, silence: Duration) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        let mut last = Instant::now();
        while Instant::now() < end {
            if self.hear()?.is_some_and(|message| message.contains("WATCHDOG=1")) {
                last = Instant::now();
            }
            if last.elapsed() >= silence {
                return Ok(());
            }
        }
        Err(LabError::wrong(format!("signs of life came for {PATIENCE:?}")))
    }
}

#[test]
fn systemd_hears_that_the_daemon_runs_what_the_node_lacks_and_that_its_tasks_live() {
    with_lab(Lab::builder().nodes(1).asleep(), |lab| {
        let node = lab.node(1);
        let (supervisor, path) = Supervisor::listen(node)?;
        lab.etcd().stop()?;
        let variables = [format!("NOTIFY_SOCKET={path}"), format!("WATCHDOG_USEC={WATCHDOG_USEC}")];
        let began = Instant::now();
        node.start_daemon_by(&["env", &variables[0], &variables[1]], &[])?;
        let mut heard = supervisor.until("READY=1")?;
        let ready = heard.last().map(String::as_str).unwrap_or_default();
        assert!(ready.contains("STATUS=no pod can be served: "), "without etcd it is up, and says what lacks: {ready}");
        heard.extend(supervisor.until("WATCHDOG=1")?);
        lab.etcd().start()?;
        let served = supervisor.until("STATUS=pods are served")?;
        assert!(served.iter().all(|message| !message.contains("READY=1")), "once is enough: {served:?}");
        heard.extend(served);

        let five = Instant::now();
        for _ in 0..5 {
            heard.extend(supervisor.until("WATCHDOG=1")?);
        }
        assert!(five.elapsed() < PATIENCE, "not at the default, which would take longer: {:?}", five.elapsed());
        // A machine that is busy delays signs, and makes none.
        let signs = heard.iter().filter(|message| message.contains("WATCHDOG=1")).count();
        let halves = began.elapsed().as_micros() / u128::from(WATCHDOG_USEC / 2);
        assert!(signs as u128 <= halves + 1, "at half of the time, and not oftener: {signs} signs in {halves} halves");
        hang(node, || supervisor.until_silent(Duration::from_micros(WATCHDOG_USEC * 10)))?;
        supervisor.until("WATCHDOG=1")?;
        assert!(node.daemon_log().contains("is given no sign of life: the event loop has not turned"), "it says why");
        node.stop_daemon()?;
        supervisor.until("STOPPING=1").map(drop)
    });
}

/// Does `meanwhile` while the daemon's event loop, its first thread, hangs, and its other threads run.
fn hang(node: &Node, meanwhile: impl FnOnce() -> Result<()>) -> Result<()> {
    let pid = node.daemon_pid().ok_or_else(|| LabError::wrong("no daemon runs"))?;
    let first = Pid::from_raw(pid.cast_signed());
    let failed = |what: &'static str| LabError::errno(format!("{what} thread {pid} of the daemon"));
    ptrace::seize(first, Options::empty()).map_err(failed("seizing"))?;
    ptrace::interrupt(first).map_err(failed("stopping"))?;
    waitpid(first, Some(WaitPidFlag::__WALL)).map_err(failed("waiting for"))?;
    let done = meanwhile();
    ptrace::detach(first, None).map_err(failed("letting go"))?;
    done
}
