//! One question after the other on a TCP connection, each when the answer to the one before has come: how long answers take.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use twill_cluster::inquiry::trial::{Answer, Answered, LONGEST_RUN};

use super::refused;

/// How long a client is waited for, and a message.
const PATIENCE: Duration = Duration::from_secs(15);
/// A conversation has ended then, whatever still comes.
const LONGEST: Duration = Duration::from_secs(LONGEST_RUN as u64).saturating_add(PATIENCE);
/// After so long without a byte is looked whether all of it is still wanted.
const SLICE: Duration = Duration::from_millis(100);
/// How long a connection may take.
const CONNECTING: Duration = Duration::from_secs(3);
/// How often is looked whether all of it is still wanted.
const TURN: Duration = Duration::from_millis(20);
/// So many times are kept; of more every second one, and so on.
const MOST: usize = 1 << 20;

/// Sends back what one client sends, after it has told the port; one of those that `may` come.
pub(super) fn serve(
    address: IpAddr,
    may: impl Fn(IpAddr) -> bool,
    goes_on: impl Fn() -> bool,
    tell: impl FnOnce(u16),
) -> Result<(), Answer> {
    let failed =
        |cause: io::Error| refused(format!("nobody can listen at {address} there: {cause}"), "run the command again");
    let listener = TcpListener::bind((address, 0)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    tell(listener.local_addr().map_err(failed)?.port());
    let deadline = Instant::now() + PATIENCE;
    while goes_on() && Instant::now() < deadline {
        match listener.accept() {
            // What breaks, the other end tells.
            Ok((stream, from)) if may(from.ip().to_canonical()) => return echo(stream, LONGEST, &goes_on).or(Ok(())),
            // Another one has no answer, and the connection ends.
            Ok(_) => {}
            Err(_) => std::thread::sleep(TURN),
        }
    }
    Ok(())
}

fn echo(stream: TcpStream, longest: Duration, goes_on: impl Fn() -> bool) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let mut line = Line::new(stream, longest, goes_on)?;
    let mut buffer = [0; 2048];
    loop {
        match line.receive(&mut buffer)? {
            0 => return Ok(()),
            length => line.send(&buffer[..length])?,
        }
    }
}

/// A connection on which nothing is waited for that is not wanted any more, or after its time.
struct Line<G> {
    stream: TcpStream,
    end: Instant,
    goes_on: G,
}

impl<G: Fn() -> bool> Line<G> {
    fn new(stream: TcpStream, longest: Duration, goes_on: G) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SLICE))?;
        stream.set_write_timeout(Some(SLICE))?;
        Ok(Self { stream, end: Instant::now() + longest, goes_on })
    }

    /// What has come; nothing where the other end has closed.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.in_time(|stream| stream.read(buffer))
    }

    fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.in_time(|stream| stream.write(bytes))? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                sent => bytes = &bytes[sent..],
            }
        }
        Ok(())
    }

    /// Until the buffer is full.
    fn receive_all(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let mut come = 0;
        while come < buffer.len() {
            match self.receive(&mut buffer[come..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => come += more,
            }
        }
        Ok(())
    }

    /// At the most for [`PATIENCE`]. Whoever sends byte after byte has no more time for all of it.
    fn in_time(&mut self, mut work: impl FnMut(&mut TcpStream) -> io::Result<usize>) -> io::Result<usize> {
        let end = self.end.min(Instant::now() + PATIENCE);
        loop {
            if !(self.goes_on)() || Instant::now() >= end {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match work(&mut self.stream) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                done => return done,
            }
        }
    }
}

/// Asks for so many seconds.
pub(super) fn ask(to: SocketAddr, bytes: u16, seconds: u16, goes_on: impl Fn() -> bool) -> Result<Answer, Answer> {
    let times = conversation(to, bytes, Duration::from_secs(seconds.into()), goes_on).map_err(|cause| {
        refused(
            format!("no answers come from {to}: {cause}"),
            "run 'twillctl test' between these nodes: it says what is in the way",
        )
    })?;
    times
        .report()
        .map(Answer::Answered)
        .ok_or_else(|| refused(format!("no answer came from {to} in time"), "try again"))
}

fn conversation(to: SocketAddr, bytes: u16, length: Duration, goes_on: impl Fn() -> bool) -> io::Result<Times> {
    let stream = TcpStream::connect_timeout(&to, CONNECTING)?;
    let mut line = Line::new(stream, length + PATIENCE, &goes_on)?;
    let (question, mut answer) = (vec![7; bytes.into()], vec![0; bytes.into()]);
    let mut times = Times::default();
    let end = Instant::now() + length;
    while goes_on() {
        let begun = Instant::now();
        if begun >= end {
            break;
        }
        line.send(&question)?;
        line.receive_all(&mut answer)?;
        times.add(begun.elapsed());
    }
    Ok(times)
}

/// How long answers took; of very many an even part.
#[derive(Debug)]
struct Times {
    nanos: Vec<u64>,
    count: u64,
    /// Every so many-eth is kept.
    stride: u64,
}

impl Default for Times {
    fn default() -> Self {
        Self { nanos: Vec::new(), count: 0, stride: 1 }
    }
}

impl Times {
    fn add(&mut self, time: Duration) {
        if self.count.is_multiple_of(self.stride) {
            self.nanos.push(time.as_nanos().try_into().unwrap_or(u64::MAX));
        }
        self.count += 1;
        if self.nanos.len() >= MOST {
            let mut place = 0_usize;
            self.nanos.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            self.stride *= 2;
        }
    }

    fn report(mut self) -> Option<Answered> {
        self.nanos.sort_unstable();
        let last = self.nanos.len().checked_sub(1)?;
        Some(Answered {
            count: self.count,
            median_nanos: self.nanos[last / 2],
            late_nanos: self.nanos[last * 99 / 100],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_are_faster_than_the_median_and_nearly_all_than_the_late_ones() {
        let mut times = Times::default();
        (1..=101).rev().for_each(|nanos| times.add(Duration::from_nanos(nanos)));
        assert_eq!(times.report(), Some(Answered { count: 101, median_nanos: 51, late_nanos: 100 }));
        assert_eq!(Times::default().report(), None);
    }

    #[test]
    fn of_very_many_times_an_even_part_is_kept() {
        let mut times = Times::default();
        let all = 3 * MOST as u64;
        (0..all).for_each(|nanos| times.add(Duration::from_nanos(nanos)));
        assert!(times.nanos.len() < MOST && times.stride == 4);
        let report = times.report().unwrap();
        assert_eq!(report.count, all);
        assert!(report.median_nanos.abs_diff(all / 2) < all / 100, "{report:?}");
    }

    #[test]
    fn questions_are_answered_until_the_time_is_over() {
        let (port, told) = std::sync::mpsc::channel();
        let local: IpAddr = [127, 0, 0, 1].into();
        let serving =
            std::thread::spawn(move || serve(local, |from| from == local, || true, |at| port.send(at).unwrap()));
        let to = SocketAddr::new(local, told.recv().unwrap());
        let Ok(Answer::Answered(report)) = ask(to, 64, 1, || true) else { panic!("there is an answer") };
        assert!(report.count > 100 && report.median_nanos <= report.late_nanos, "{report:?}");
        assert_eq!(serving.join().unwrap(), Ok(()));
        assert!(matches!(ask(to, 64, 1, || true), Err(Answer::Refused(_))), "nobody listens any more");
    }

    /// Both ends of a connection.
    fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn who_drips_bytes_has_no_more_time_than_who_sends_none() {
        let (mut near, far) = connected();
        let longest = Duration::from_millis(300);
        let begun = Instant::now();
        let serving = std::thread::spawn(move || echo(far, longest, || true));
        while !serving.is_finished() && begun.elapsed() < PATIENCE {
            near.write_all(&[7]).unwrap_or_default();
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(serving.join().unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= longest);
    }

    #[test]
    fn nobody_waits_for_an_answer_that_is_not_wanted_any_more() {
        let (near, _far) = connected();
        let (begun, turns) = (Instant::now(), std::cell::Cell::new(0));
        let goes_on = || turns.replace(turns.get() + 1) < 2;
        let mut line = Line::new(near, LONGEST, goes_on).unwrap();
        assert_eq!(line.receive(&mut [0]).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() < PATIENCE / 2);
    }

    #[test]
    fn who_may_not_come_has_no_answer() {
        let (port, told) = std::sync::mpsc::channel();
        let local: IpAddr = [127, 0, 0, 1].into();
        let serving = std::thread::spawn(move || {
            let begun = Instant::now();
            let goes_on = || begun.elapsed() < Duration::from_secs(2);
            serve(local, |from| from != local, goes_on, |at| port.send(at).unwrap())
        });
        let to = SocketAddr::new(local, told.recv().unwrap());
        assert!(matches!(ask(to, 64, 1, || true), Err(Answer::Refused(_))));
        assert_eq!(serving.join().unwrap(), Ok(()));
    }
}
