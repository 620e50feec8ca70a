//! All figures of one path, once: iperf3 for throughput and packets, a TCP connection of our own for the times of answers.
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
const SMALL: usize = 64;

/// Measures everything; each of the four parts takes so many seconds. `scratch` is a directory for iperf3's logs.
pub fn measure(ends: Ends<'_>, seconds: u64, scratch: &Path) -> Result<Round> {
    let (one, cost_one) = tcp(ends, 1, seconds, scratch)?;
    let (eight, cost_eight) = tcp(ends, 8, seconds, scratch)?;
    let (arriving, read) = packets(ends, seconds, scratch)?;
    let times = answers(ends, Duration::from_secs(seconds))?;
    let micros = |part| times.quantile(part).as_secs_f64() * 1e6;
    Ok(Round::from([
        (Quantity::TcpOne, one),
        (Quantity::TcpEight, eight),
        (Quantity::Arriving, arriving),
        (Quantity::Read, read),
        (Quantity::Median, micros(0.5)),
        (Quantity::Late, micros(0.99)),
        (Quantity::CostOne, cost_one),
        (Quantity::CostEight, cost_eight),
    ]))
}

/// Gigabits a second, and milliseconds of processor time that the whole machine spent on each.
fn tcp(ends: Ends<'_>, streams: u8, seconds: u64, scratch: &Path) -> Result<(f64, f64)> {
    let (report, spent) = iperf(ends, &["-P", &streams.to_string()], seconds, scratch)?;
    let gigabits = report.bytes as f64 * 8.0 / 1e9;
    Ok((report.bits_per_second / 1e9, spent.busy.as_secs_f64() * 1e3 / gigabits))
}

/// Thousands of packets a second: those that came to the interface, and those that the program read.
fn packets(ends: Ends<'_>, seconds: u64, scratch: &Path) -> Result<(f64, f64)> {
    let before = received(ends)?;
    // As many as one sender can.
    let (report, _) = iperf(ends, &["-u", "-b", "0", "-l", &SMALL.to_string()], seconds, scratch)?;
    let arrived = received(ends)?.saturating_sub(before);
    let read = report.datagrams.ok_or_else(|| LabError::wrong("iperf3 counted no datagrams"))?;
    let rate = |count: u64| count as f64 / report.time.as_secs_f64() / 1e3;
    Ok((rate(arrived), rate(read)))
}

fn iperf(ends: Ends<'_>, words: &[&str], seconds: u64, scratch: &Path) -> Result<(Report, Machine)> {
    let seconds = seconds.to_string();
    let words = [words, &["-t", &seconds]].concat();
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

/// One question after the other, without a pause: how long each answer took.
fn answers(ends: Ends<'_>, time: Duration) -> Result<Samples> {
    let manner = Manner { message: SMALL, pause: Duration::ZERO };
    let conversation = Conversation::start_in_manner(ends.from, ends.to, ends.target, manner)?;
    sleep(time);
    Ok(conversation.end_with_times()?.into_iter().collect())
}
