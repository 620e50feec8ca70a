//! One question after the other on a TCP connection, each when the answer to the one before has come: how long answers take.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use twill_cluster::inquiry::trial::{Answer, Answered};

use super::refused;

/// How long a client is waited for, and a message.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a connection may take.
const CONNECTING: Duration = Duration::from_secs(3);
/// How often is looked whether all of it is still wanted.
const TURN: Duration = Duration::from_millis(20);
/// So many times are kept; of more every second one, and so on.
const MOST: usize = 1 << 20;

/// Sends back what one client sends, after it has told the port.
pub(super) fn serve(address: IpAddr, goes_on: impl Fn() -> bool, tell: impl FnOnce(u16)) -> Result<(), Answer> {
    let failed =
        |cause: io::Error| refused(format!("nobody can listen at {address} there: {cause}"), "run the command again");
    let listener = TcpListener::bind((address, 0)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    tell(listener.local_addr().map_err(failed)?.port());
    let deadline = Instant::now() + PATIENCE;
    while goes_on() && Instant::now() < deadline {
        match listener.accept() {
            // What breaks, the other end tells.
            Ok((stream, _)) => return echo(&stream, &goes_on).or(Ok(())),
            Err(_) => std::thread::sleep(TURN),
        }
    }
    Ok(())
}

fn echo(mut stream: &TcpStream, goes_on: impl Fn() -> bool) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut buffer = [0; 2048];
    while goes_on() {
        match stream.read(&mut buffer)? {
            0 => break,
            length => stream.write_all(&buffer[..length])?,
        }
    }
    Ok(())
}

/// Asks for so many seconds.
pub(super) fn ask(to: SocketAddr, bytes: u16, seconds: u16, goes_on: impl Fn() -> bool) -> Result<Answer, Answer> {
    let times = conversation(to, bytes, Duration::from_secs(seconds.into()), goes_on).map_err(|cause| {
        refused(format!("no answers come from {to}: {cause}"), "look whether 'twillctl test' finds something")
    })?;
    times
        .report()
        .map(Answer::Answered)
        .ok_or_else(|| refused(format!("no answer came from {to} in time"), "try again"))
}

fn conversation(to: SocketAddr, bytes: u16, length: Duration, goes_on: impl Fn() -> bool) -> io::Result<Times> {
    let mut stream = TcpStream::connect_timeout(&to, CONNECTING)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (question, mut answer) = (vec![7; bytes.into()], vec![0; bytes.into()]);
    let mut times = Times::default();
    let end = Instant::now() + length;
    while goes_on() {
        let begun = Instant::now();
        if begun >= end {
            break;
        }
        stream.write_all(&question)?;
        stream.read_exact(&mut answer)?;
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
        let serving = std::thread::spawn(move || serve(local, || true, |at| port.send(at).unwrap()));
        let to = SocketAddr::new(local, told.recv().unwrap());
        let Ok(Answer::Answered(report)) = ask(to, 64, 1, || true) else { panic!("there is an answer") };
        assert!(report.count > 100 && report.median_nanos <= report.late_nanos, "{report:?}");
        assert_eq!(serving.join().unwrap(), Ok(()));
        assert!(matches!(ask(to, 64, 1, || true), Err(Answer::Refused(_))), "nobody listens any more");
    }
}
