//! The life of a trial on this node: its pods stand up, it waits, its pods are taken down.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use twill_cluster::inquiry::desk::Letter;
use twill_cluster::inquiry::trial::{self, Answer, NAME, Opened, PORT, Place};
use twill_conf::node::Setting;
use twill_linux::echo::Responder;
use twill_linux::{IfName, NetNs, device};

use super::plugin::{self, Call, IFNAME};
use super::standing::One;
use super::{Answers, Means, conditions, no_such_place, refused};

/// No trial stands for longer, however often it is asked.
const LONGEST: Duration = Duration::from_secs(2 * 3600);
/// How long tasks may take to notice that the trial is over.
const LEAVING: Duration = Duration::from_secs(5);

/// What helps where a pod cannot be detached: its namespace is gone with this daemon's descriptor, and so is its interface.
pub(super) const LEFT: &str =
    "its address is freed by the sweep within minutes; 'twillctl ipam attempts' on the node shows why";

/// Why pods are left whose keeper's thread has failed.
const FAILED: &str = "whoever looked after its pods has failed";

/// What the tasks of a trial share with its keeper.
#[derive(Debug)]
pub(super) struct Trial {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// The pods, with their addresses.
    pods: Vec<(NetNs, Vec<IpAddr>)>,
    /// It ends then, unless something is asked of it.
    until: Instant,
    /// How long it stands after what was asked last.
    stand: Duration,
    /// Tasks under way.
    tasks: usize,
    /// No more is to be done.
    over: bool,
    /// Nothing more is done about it, since then.
    gone: Option<Instant>,
    /// What could not be taken down.
    left: Option<String>,
    /// Who wants to know that.
    closers: Vec<Letter>,
}

/// A task under way; the trial does not end of itself meanwhile.
#[derive(Debug)]
pub(super) struct Working(Arc<Trial>);

impl Deref for Working {
    type Target = Trial;
    fn deref(&self) -> &Trial {
        &self.0
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.tasks -= 1;
        state.until = Instant::now() + state.stand;
        self.0.changed.notify_all();
    }
}

impl Trial {
    fn new(stand: u16) -> Self {
        let stand = Duration::from_secs(stand.into());
        let state = State {
            pods: Vec::new(),
            until: Instant::now() + stand,
            stand,
            tasks: 0,
            over: false,
            gone: None,
            left: None,
            closers: Vec::new(),
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Whether what a task does is still wanted.
    pub(super) fn goes_on(&self) -> bool {
        !self.lock().over
    }

    /// Counts a task, if there are not too many and the trial goes on.
    pub(super) fn begin(self: &Arc<Self>, most: usize) -> Option<Working> {
        let mut state = self.lock();
        if state.over || state.tasks >= most {
            return None;
        }
        state.tasks += 1;
        Some(Working(Arc::clone(self)))
    }

    /// Does something there, on this thread or on one inside the pod.
    pub(super) fn inside<T: Send>(&self, place: Place, work: impl FnOnce() -> T + Send) -> Result<T, Answer> {
        let Place::Pod(number) = place else { return Ok(work()) };
        let namespace = self.lock().pods.get(usize::from(number)).map(|(namespace, _)| namespace.clone());
        let namespace = namespace.ok_or_else(|| no_such_place(place))?;
        namespace
            .run(work)
            .map_err(|error| refused(format!("its pod cannot be entered: {error}"), "run the command again"))
    }

    /// Whether a pod has this address; which ones a node has is not known here.
    pub(super) fn has(&self, place: Place, address: IpAddr) -> bool {
        let Place::Pod(number) = place else { return true };
        self.lock().pods.get(usize::from(number)).is_some_and(|(_, addresses)| addresses.contains(&address))
    }

    /// Until it is over, by word or by time, which begins now: to stand the pods up may have taken long.
    fn wait(&self) {
        let end = Instant::now() + LONGEST;
        let mut state = self.lock();
        state.until = Instant::now() + state.stand;
        while !state.over {
            let now = Instant::now();
            let until = if state.tasks > 0 { end } else { state.until.min(end) };
            let left = until.saturating_duration_since(now);
            if left.is_zero() {
                state.over = true;
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        self.changed.notify_all();
        let deadline = Instant::now() + LEAVING;
        while state.tasks > 0 && Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn end(&self) {
        self.lock().over = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that looks after a trial.
#[derive(Debug)]
pub(super) struct Keeper {
    trial: Arc<Trial>,
}

impl Keeper {
    /// Begins a trial; `letter` is answered when its pods stand.
    pub(super) fn start(
        means: Arc<Means>,
        name: &str,
        pods: u8,
        stand: u16,
        letter: Letter,
        answers: Answers,
    ) -> Result<Self, Answer> {
        if !means.plugin.exists() {
            return Err(refused(
                format!("the plugin is not at {}", means.plugin.display()),
                twill_checkup::judge::install_where(Setting::CniBinDir),
            ));
        }
        let trial = Arc::new(Trial::new(stand));
        let (kept, name, one) = (Arc::clone(&trial), name.to_owned(), means.standing.one());
        let spawned = std::thread::Builder::new().name("trial-keeper".to_owned()).spawn(move || {
            let mut room =
                Room { trial: kept, means, name, pods: Vec::new(), responders: Vec::new(), answers, _one: one };
            match room.open(pods) {
                Ok(opened) => {
                    room.tell(letter, Answer::Opened(Box::new(opened)));
                    room.trial.wait();
                    room.clear();
                }
                Err(refusal) => {
                    let left = room.clear();
                    room.tell(letter, with_what_is_left(refusal, left));
                }
            }
        });
        spawned.map_err(|cause| refused(format!("no thread can be started: {cause}"), "try again"))?;
        Ok(Self { trial })
    }

    /// What its tasks share.
    pub(super) fn trial(&self) -> Arc<Trial> {
        Arc::clone(&self.trial)
    }

    /// Whether its keeper has done with it.
    pub(super) fn is_over(&self) -> bool {
        self.trial.lock().gone.is_some()
    }

    /// How long ago it has ended and left something, if that was no longer ago.
    pub(super) fn left_within(&self, longest: Duration) -> Option<Duration> {
        let state = self.trial.lock();
        state.left.as_ref()?;
        state.gone.map(|gone| gone.elapsed()).filter(|ago| *ago <= longest)
    }

    /// Ends it; the letter is answered once nothing is left, or nothing more can be done. The error is the answer where nothing is.
    pub(super) fn close(&self, letter: Letter) -> Result<(), Answer> {
        let mut state = self.trial.lock();
        if state.gone.is_some() {
            return Err(state.closed());
        }
        state.closers.push(letter);
        drop(state);
        self.end();
        Ok(())
    }

    /// Ends it.
    pub(super) fn end(&self) {
        self.trial.end();
    }
}

#[cfg(test)]
impl Keeper {
    /// One of a trial that has just ended, and left this, or nothing.
    pub(super) fn that_left(what: &str) -> Self {
        let trial = Trial::new(1);
        let mut state = trial.lock();
        (state.over, state.gone) = (true, Some(Instant::now()));
        state.left = Some(what.to_owned()).filter(|what| !what.is_empty());
        drop(state);
        Self { trial: Arc::new(trial) }
    }
}

/// What a keeper keeps.
struct Room {
    trial: Arc<Trial>,
    means: Arc<Means>,
    name: String,
    /// The IDs of the containers, with what CNI_NETNS was.
    pods: Vec<(String, NetNs)>,
    responders: Vec<JoinHandle<()>>,
    answers: Answers,
    /// It counts until all of this is dropped.
    _one: One,
}

impl Room {
    fn open(&mut self, count: u8) -> Result<Opened, Answer> {
        let pods = (0..count).map(|number| self.stand_up(number)).collect::<Result<Vec<_>, _>>()?;
        let pod = self.pods.first().map(|(_, namespace)| namespace);
        Ok(conditions::look(pods, pod, &self.means))
    }

    fn stand_up(&mut self, number: u8) -> Result<trial::Pod, Answer> {
        let failed = |what: String| refused(what, "look at twilld's log there, and run the command again");
        let namespace = NetNs::create().map_err(|error| failed(format!("no namespace can be made: {error}")))?;
        let container = format!("{NAME}-{}-{number}", self.name);
        self.pods.push((container.clone(), namespace.clone()));
        let addresses = self.call(&container, &namespace).add()?;
        for address in addresses.clone() {
            let responder = namespace.run(|| Responder::open(address, PORT));
            let responder = responder.map_err(std::io::Error::other).and_then(|opened| opened);
            let responder =
                responder.map_err(|cause| failed(format!("its pod cannot listen at {address}: {cause}")))?;
            let trial = Arc::clone(&self.trial);
            let answering = std::thread::Builder::new().name("responder".to_owned());
            let answering = answering.spawn(move || responder.answer(|| trial.goes_on()));
            self.responders.push(answering.map_err(|cause| failed(format!("no thread can be started: {cause}")))?);
        }
        let device = IfName::new(IFNAME).expect("four letters are a name");
        let settings =
            namespace.run(|| device::settings(device)).map_err(std::io::Error::other).and_then(|looked| looked);
        let mtu = settings.map_err(|cause| failed(format!("its pod shows no MTU: {cause}")))?.mtu;
        self.trial.lock().pods.push((namespace, addresses.clone()));
        Ok(trial::Pod { addresses, mtu })
    }

    fn call<'a>(&'a self, container: &'a str, namespace: &'a NetNs) -> Call<'a> {
        Call { means: &self.means, container, netns: namespace.path(), patience: plugin::PATIENCE }
    }

    /// Takes the pods down, whatever came of them; what of them is left.
    fn clear(&mut self) -> Option<String> {
        self.trial.end();
        let pods = std::mem::take(&mut self.pods);
        let mut left = Vec::new();
        for (container, namespace) in &pods {
            if let Err(cause) = self.call(container, namespace).del() {
                tracing::warn!("the pod {container} of a trial is left to the sweep: {cause}");
                self.means.leftovers.add(container, &cause);
                left.push(format!("its pod {container} is not detached: {cause}"));
            }
        }
        let mut state = self.trial.lock();
        state.pods.clear();
        state.left = (!left.is_empty()).then(|| left.join("; "));
        let left = state.left.clone();
        drop(state);
        for responder in self.responders.drain(..) {
            // Nothing hangs on it.
            responder.join().unwrap_or_default();
        }
        left
    }

    fn tell(&self, letter: Letter, answer: Answer) {
        // Nobody is left to hear it when the daemon ends.
        self.answers.send((letter, answer)).unwrap_or_default();
    }
}

impl Drop for Room {
    /// Also when the thread fails: the trial is not one for ever that goes on, and who waits for its end hears of it.
    fn drop(&mut self) {
        let mut state = self.trial.lock();
        state.over = true;
        state.gone = Some(Instant::now());
        for (container, _) in &self.pods {
            self.means.leftovers.add(container, FAILED);
        }
        if !self.pods.is_empty() {
            state.left.get_or_insert_with(|| FAILED.to_owned());
        }
        let closers = std::mem::take(&mut state.closers);
        let answer = state.closed();
        drop(state);
        closers.into_iter().for_each(|letter| self.tell(letter, answer.clone()));
    }
}

impl State {
    /// The answer to who wants it closed, when it is gone.
    fn closed(&self) -> Answer {
        self.left.as_ref().map_or(Answer::Closed, |left| refused(left, LEFT))
    }
}

/// A refusal, and what is left although it says that nothing was done.
fn with_what_is_left(refusal: Answer, left: Option<String>) -> Answer {
    match (refusal, left) {
        (Answer::Refused(told), Some(left)) => refused(format!("{}; moreover {left}", told.what), told.fix),
        (refusal, _) => refusal,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use tokio::sync::watch;

    use super::super::FINDER;
    use super::*;

    fn short() -> Arc<Trial> {
        let trial = Trial::new(1);
        trial.lock().stand = Duration::from_millis(50);
        Arc::new(trial)
    }

    #[test]
    fn a_trial_of_which_nothing_is_heard_ends_by_itself_and_takes_no_more_tasks() {
        let trial = short();
        let begun = Instant::now();
        trial.wait();
        assert!(begun.elapsed() >= Duration::from_millis(50) && !trial.goes_on());
        assert!(trial.begin(4).is_none());
    }

    #[test]
    fn while_a_task_works_the_trial_stands_and_for_a_while_after_it() {
        let trial = short();
        let working = trial.begin(1).unwrap();
        assert!(trial.begin(1).is_none(), "one is enough");
        let task = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(150));
            assert!(working.goes_on());
            Instant::now()
        });
        trial.wait();
        assert!(task.join().unwrap().elapsed() >= Duration::from_millis(45));
    }

    #[test]
    fn a_word_ends_it_at_once_and_the_tasks_are_waited_for() {
        let trial = Arc::new(Trial::new(300));
        let working = trial.begin(1).unwrap();
        let task = std::thread::spawn(move || {
            while working.goes_on() {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(50));
        });
        let ending = Arc::clone(&trial);
        std::thread::spawn(move || ending.end());
        trial.wait();
        assert_eq!(trial.lock().tasks, 0);
        task.join().unwrap();
    }

    #[test]
    fn its_time_begins_when_its_pods_stand() {
        let trial = short();
        trial.lock().until = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        let begun = Instant::now();
        trial.wait();
        assert!(begun.elapsed() >= Duration::from_millis(50));
    }

    fn letter() -> Letter {
        Letter { id: "a".into(), revision: 1, value: Vec::new() }
    }

    /// A keeper's room, whose plugin does what this line of a shell does; and what is answered.
    fn room(directory: &Path, line: &str) -> (Room, UnboundedReceiver<(Letter, Answer)>) {
        let plugin = directory.join("plugin");
        twill_testkit::write_program(&plugin, &format!("#!/bin/sh\n{line}\n"));
        let means = Means::for_tests(plugin, watch::channel(None).1, watch::channel(None).1);
        let (answers, answered) = unbounded_channel();
        let (name, _one) = ("t".to_owned(), means.standing.one());
        let means = Arc::new(means);
        let room = Room { trial: short(), means, name, pods: Vec::new(), responders: Vec::new(), answers, _one };
        (room, answered)
    }

    #[test]
    fn who_waits_for_the_end_hears_what_could_not_be_taken_down() {
        let directory = tempfile::tempdir().unwrap();
        let said = r#"echo '{ "code": 11, "msg": "the store is locked" }'; exit 1"#;
        let (mut room, mut answered) = room(directory.path(), said);
        room.pods.push(("twill-trial-t-0".to_owned(), NetNs::create().unwrap()));
        let board = room.means.leftovers.board();
        let trial = Arc::clone(&room.trial);
        Keeper { trial: Arc::clone(&trial) }.close(letter()).unwrap();
        let left = room.clear();
        let refusal = with_what_is_left(refused("no block", "wait"), left);
        let words = "its pod twill-trial-t-0 is not detached: the store is locked";
        assert_eq!(refusal, refused(format!("no block; moreover {words}"), "wait"));
        let standing = room.means.standing.clone();
        drop(room);
        assert!(standing.wait(Duration::ZERO));
        let told = board.borrow().get(FINDER).cloned().unwrap_or_default();
        let kept = "the pod twill-trial-t-0 of a trial is not detached: the store is locked";
        assert!(told.len() == 1 && told[0].what == kept && told[0].fix == LEFT, "who asked may be gone: {told:?}");
        assert_eq!(answered.try_recv().unwrap(), (letter(), refused(words, LEFT)));
        assert_eq!(Keeper { trial }.close(letter()), Err(refused(words, LEFT)), "who comes later hears it too");
    }

    #[test]
    fn a_keeper_that_fails_leaves_no_trial_that_seems_to_go_on() {
        let directory = tempfile::tempdir().unwrap();
        let (mut room, mut answered) = room(directory.path(), "exit 0");
        room.pods.push(("twill-trial-t-0".to_owned(), NetNs::current().unwrap()));
        let trial = Arc::clone(&room.trial);
        let keeper = Keeper { trial: Arc::clone(&trial) };
        keeper.close(letter()).unwrap();
        trial.lock().over = false;
        let failed = std::thread::spawn(move || {
            let _room = room;
            panic!("as a keeper may");
        });
        assert!(failed.join().is_err() && keeper.is_over() && !trial.goes_on());
        let told = answered.try_recv().unwrap().1;
        assert!(matches!(&told, Answer::Refused(told) if told.what.contains("has failed")), "{told:?}");
    }

    #[test]
    fn a_pod_serves_at_its_own_address() {
        let trial = short();
        let own: IpAddr = [10, 42, 0, 7].into();
        trial.lock().pods.push((NetNs::current().unwrap(), vec![own]));
        assert!(trial.has(Place::Pod(0), own) && !trial.has(Place::Pod(1), own));
        assert!(!trial.has(Place::Pod(0), [0, 0, 0, 0].into()));
    }
}
