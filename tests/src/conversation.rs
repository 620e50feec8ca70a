//! A TCP connection on which question and answer follow each other: it must live on, whatever happens in between.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::namespace::Namespace;
use crate::{LabError, Result, process};

/// An answer that takes longer is none: TCP itself goes on for minutes.
const PATIENCE: Duration = Duration::from_secs(10);
/// How the two converse.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// The bytes of a question, and of an answer.
    pub message: usize,
    /// Between an answer and the next question.
    pub pause: Duration,
    /// Both work on this processor alone; by `None` on any.
    pub processor: Option<usize>,
}

impl Default for Manner {
    /// More than a segment in each direction, and time for others in between.
    fn default() -> Self {
        Self { message: 4096, pause: Duration::from_millis(2), processor: None }
    }
}

impl Manner {
    /// Takes the calling thread to where it is to work.
    fn settle(self) -> std::io::Result<()> {
        self.processor.map_or(Ok(()), process::pin)
    }
}

/// A conversation that goes on until [`end`](Self::end).
#[derive(Debug)]
pub struct Conversation {
    over: Arc<AtomicBool>,
    asking: Option<JoinHandle<std::io::Result<Vec<Duration>>>>,
    answering: Option<JoinHandle<()>>,
    what: String,
}

impl Conversation {
    /// Connects from one namespace to an address in another.
    pub fn start(from: &Namespace, to: &Namespace, target: IpAddr) -> Result<Self> {
        Self::start_in_manner(from, to, target, Manner::default())
    }

    /// The same in another manner.
    pub fn start_in_manner(from: &Namespace, to: &Namespace, target: IpAddr, manner: Manner) -> Result<Self> {
        let what = format!("the conversation from {} with {target} in {}", from.name(), to.name());
        let listener = to.enter(|| TcpListener::bind((target, 0)))?.map_err(LabError::io(what.clone()))?;
        let at = listener.local_addr().map_err(LabError::io(what.clone()))?;
        let asker = from.enter(|| TcpStream::connect_timeout(&at, PATIENCE))?.map_err(LabError::io(what.clone()))?;
        let (answerer, _) = listener.accept().map_err(LabError::io(what.clone()))?;
        let over = Arc::new(AtomicBool::new(false));
        let asking = std::thread::spawn({
            let over = Arc::clone(&over);
            move || ask(asker, manner, &over)
        });
        let answering = std::thread::spawn(move || answer(answerer, manner));
        Ok(Self { over, asking: Some(asking), answering: Some(answering), what })
    }

    /// Ends it. How many answers there were, and the longest wait for one; an error if the connection broke.
    pub fn end(self) -> Result<(u64, Duration)> {
        let times = self.end_with_times()?;
        let answers = u64::try_from(times.len()).expect("a count of answers");
        Ok((answers, times.into_iter().max().unwrap_or_default()))
    }

    /// Ends it. How long each answer took; an error if the connection broke.
    pub fn end_with_times(mut self) -> Result<Vec<Duration>> {
        self.over.store(true, Ordering::Relaxed);
        let asked = self.asking.take().map(|thread| thread.join().expect("it does not panic"));
        if let Some(answering) = self.answering.take() {
            answering.join().unwrap_or_default();
        }
        asked.expect("it is ended once").map_err(LabError::io(self.what.clone()))
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn ask(mut stream: TcpStream, manner: Manner, over: &AtomicBool) -> std::io::Result<Vec<Duration>> {
    manner.settle()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut times = Vec::new();
    let question = vec![7; manner.message];
    let mut answer = vec![0; manner.message];
    while !over.load(Ordering::Relaxed) {
        let begin = Instant::now();
        stream.write_all(&question)?;
        stream.read_exact(&mut answer)?;
        times.push(begin.elapsed());
        std::thread::sleep(manner.pause);
    }
    Ok(times)
}

/// Until the other side ends it, or it breaks: what broke is told by the one who asks.
fn answer(mut stream: TcpStream, manner: Manner) {
    let mut buffer = vec![0; manner.message];
    let ready = manner
        .settle()
        .and_then(|()| stream.set_read_timeout(Some(3 * PATIENCE)))
        .and_then(|()| stream.set_nodelay(true));
    while ready.is_ok() && stream.read_exact(&mut buffer).and_then(|()| stream.write_all(&buffer)).is_ok() {}
}
