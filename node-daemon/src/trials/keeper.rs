//! The life of a trial on this node: its pods stand up, it waits, its pods are taken down.

use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use twill_cluster::inquiry::desk::Letter;
use twill_cluster::inquiry::trial::{self, Answer, NAME, Opened, PORT, Place};
use twill_linux::echo::Responder;
use twill_linux::{IfName, NetNs, device};

use super::plugin::{Call, IFNAME};
use super::{Answers, Means, conditions, no_such_place, refused};

/// No trial stands for longer, however often it is asked.
const LONGEST: Duration = Duration::from_secs(2 * 3600);
/// How long tasks may take to notice that the trial is over.
const LEAVING: Duration = Duration::from_secs(5);

/// What the tasks of a trial share with its keeper.
#[derive(Debug)]
pub(super) struct Trial {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    namespaces: Vec<NetNs>,
    /// It ends then, unless something is asked of it.
    until: Instant,
    /// How long it stands after what was asked last.
    stand: Duration,
    /// Tasks under way.
    tasks: usize,
    /// No more is to be done.
    over: bool,
    /// Nothing of it is left.
    gone: bool,
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
            namespaces: Vec::new(),
            until: Instant::now() + stand,
            stand,
            tasks: 0,
            over: false,
            gone: false,
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
        let namespace = self.lock().namespaces.get(usize::from(number)).cloned();
        let namespace = namespace.ok_or_else(|| no_such_place(place))?;
        namespace
            .run(work)
            .map_err(|error| refused(format!("its pod cannot be entered: {error}"), "run the command again"))
    }

    /// Until it is over, by word or by time.
    fn wait(&self) {
        let end = Instant::now() + LONGEST;
        let mut state = self.lock();
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
    thread: JoinHandle<()>,
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
                "install it ('twilld install'), or name it to twilld: plugin in its file, --plugin, or TWILLD_PLUGIN",
            ));
        }
        let trial = Arc::new(Trial::new(stand));
        let (kept, name) = (Arc::clone(&trial), name.to_owned());
        let spawned = std::thread::Builder::new().name("trial-keeper".to_owned()).spawn(move || {
            let mut room = Room { trial: kept, means, name, pods: Vec::new(), responders: Vec::new() };
            // Nobody is left to hear it when the daemon ends.
            let tell = |letter, answer| answers.send((letter, answer)).unwrap_or_default();
            match room.open(pods) {
                Ok(opened) => {
                    tell(letter, Answer::Opened(Box::new(opened)));
                    room.trial.wait();
                    room.clear();
                }
                Err(refusal) => {
                    room.clear();
                    tell(letter, refusal);
                }
            }
            room.closers().into_iter().for_each(|letter| tell(letter, Answer::Closed));
        });
        let thread = spawned.map_err(|cause| refused(format!("no thread can be started: {cause}"), "try again"))?;
        Ok(Self { trial, thread })
    }

    /// What its tasks share.
    pub(super) fn trial(&self) -> Arc<Trial> {
        Arc::clone(&self.trial)
    }

    /// Whether nothing of it is left.
    pub(super) fn is_over(&self) -> bool {
        self.trial.lock().gone
    }

    /// Ends it; the letter is answered once nothing is left. The error is the answer where nothing is.
    pub(super) fn close(&self, letter: Letter) -> Result<(), Answer> {
        let mut state = self.trial.lock();
        if state.gone {
            return Err(Answer::Closed);
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

    /// Waits until it has ended.
    pub(super) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the keeper of a trial had failed: the sweep frees what is left of its pods");
        }
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
            self.responders.push(std::thread::spawn(move || responder.answer(|| trial.goes_on())));
        }
        let device = IfName::new(IFNAME).expect("four letters are a name");
        let settings =
            namespace.run(|| device::settings(device)).map_err(std::io::Error::other).and_then(|looked| looked);
        let mtu = settings.map_err(|cause| failed(format!("its pod shows no MTU: {cause}")))?.mtu;
        self.trial.lock().namespaces.push(namespace);
        Ok(trial::Pod { addresses, mtu })
    }

    fn call<'a>(&'a self, container: &'a str, namespace: &'a NetNs) -> Call<'a> {
        Call { means: &self.means, container, netns: namespace.path() }
    }

    /// Takes the pods down, whatever came of them.
    fn clear(&mut self) {
        self.trial.end();
        for (container, namespace) in &self.pods {
            if let Err(cause) = self.call(container, namespace).del() {
                tracing::warn!("the pod {container} of a trial is left to the sweep: {cause}");
            }
        }
        self.pods.clear();
        self.trial.lock().namespaces.clear();
        for responder in self.responders.drain(..) {
            // It cannot panic, and nothing hangs on it.
            responder.join().unwrap_or_default();
        }
    }

    /// Who wants to know that nothing is left.
    fn closers(&self) -> Vec<Letter> {
        let mut state = self.trial.lock();
        state.gone = true;
        std::mem::take(&mut state.closers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short() -> Arc<Trial> {
        let trial = Trial::new(1);
        trial.lock().stand = Duration::from_millis(50);
        trial.lock().until = Instant::now() + Duration::from_millis(50);
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
}
