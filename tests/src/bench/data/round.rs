//! The figures of one path: iperf3 for throughput and packets, a TCP connection of our own for the times of answers.
//!
//! Whoever wants figures calls it: the ends may be pods, nodes, or any two namespaces that reach each other.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use super::Ends;
use super::quantity::{Quantity, Round};
use crate::bench::measure::Samples;
use crate::bench::usage::Machine;
use crate::conversation::{Conversation, Manner};
use crate::iperf::{Iperf, Report};
use crate::{LabError, Result};

/// The bytes of a small packet, and of a question: what RPCs are made of.
pub const SMALL: usize = 64;

/// The processors of iperf3's client and server. Which ones the scheduler takes makes more difference than any path.
const AFFINITY: &str = "0,1";

/// A part of what is measured, in so many seconds. The path is a directory for iperf3's logs.
pub type Part = fn(Ends<'_>, u64, &Path) -> Result<Round>;

/// All parts of a round. Each is measured on all paths before the next one comes, so that what is compared lies close together
/// in time.
pub const PARTS: [Part; 4] = [one_stream, eight_streams, packets, answers];

fn one_stream(ends: Ends<'_>, seconds: u64, scratch: &Path) -> Result<Round> {
    let (rate, cost) = tcp(ends, 1, seconds, scratch)?;
    Ok(Round::from([(Quantity::TcpOne, rate), (Quantity::CostOne, cost)]))
}

fn eight_streams(ends: Ends<'_>, seconds: u64, scratch: &Path) -> Result<Round> {
    let (rate, cost) = tcp(ends, 8, seconds, scratch)?;
    Ok(Round::from([(Quantity::TcpEight, rate), (Quantity::CostEight, cost)]))
}

/// Gigabits a second, and milliseconds of processor time that the whole machine spent on each.
fn tcp(ends: Ends<'_>, streams: u8, seconds: u64, scratch: &Path) -> Result<(f64, f64)> {
    let (report, spent) = iperf(ends, &["-P", &streams.to_string()], seconds, scratch)?;
    let gigabits = report.bytes as f64 * 8.0 / 1e9;
    Ok((report.bits_per_second / 1e9, spent.busy.as_secs_f64() * 1e3 / gigabits))
}

/// Thousands of packets a second: those that came to the interface, and those that the program read. And the microseconds of
/// processor time that the whole machine spent on each of the former.
fn packets(ends: Ends<'_>, seconds: u64, scratch: &Path) -> Result<Round> {
    let before = received(ends)?;
    // As many as one sender can.
    let (report, spent) = iperf(ends, &["-u", "-b", "0", "-l", &SMALL.to_string()], seconds, scratch)?;
    let arrived = received(ends)?.saturating_sub(before);
    let read = report.datagrams.ok_or_else(|| LabError::wrong("iperf3 counted no datagrams"))?;
    let rate = |count: u64| count as f64 / report.time.as_secs_f64() / 1e3;
    let cost = spent.busy.as_secs_f64() * 1e6 / arrived as f64;
    Ok(Round::from([(Quantity::Arriving, rate(arrived)), (Quantity::Read, rate(read)), (Quantity::CostPacket, cost)]))
}

fn iperf(ends: Ends<'_>, words: &[&str], seconds: u64, scratch: &Path) -> Result<(Report, Machine)> {
    let seconds = seconds.to_string();
    let words = [words, &["-t", &seconds, "-A", AFFINITY]].concat();
    let iperf = Iperf::start(ends.from, ends.to, ends.target, &words, &scratch.join("iperf3.log"))?;
    let before = Machine::now()?;
    let report = iperf.finish()?;
    Ok((report, Machine::now()? - before))
}

/// How many packets the interface of the receiver has received.
fn received(ends: Ends<'_>) -> Result<u64> {
    let links = ends.to.run_json(&["ip", "-j", "-s", "link", "show", "dev", ends.interface])?;
    let count = links[0]["stats64"]["rx"]["packets"].as_u64();
    count.ok_or_else(|| LabError::wrong(format!("{} counts no packets: {links}", ends.interface)))
}

/// One question after the other, without a pause: how many microseconds each answer took. All of it on one processor: to wake another
/// takes as long as a path, and now more, now less.
fn answers(ends: Ends<'_>, seconds: u64, _: &Path) -> Result<Round> {
    let manner = Manner { message: SMALL, pause: Duration::ZERO, processor: Some(0) };
    let conversation = Conversation::start_in_manner(ends.from, ends.to, ends.target, manner)?;
    sleep(Duration::from_secs(seconds));
    let times: Samples = conversation.end_with_times()?.into_iter().collect();
    let micros = |part| times.quantile(part).as_secs_f64() * 1e6;
    Ok(Round::from([(Quantity::Median, micros(0.5)), (Quantity::Late, micros(0.99))]))
}
