//! iperf3, as either end, from where the calling thread is.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use twill_cluster::inquiry::trial::{Answer, Carried, LONGEST_RUN, Load};
use twill_linux::program::{converse, dies_with_its_starter, end, wait};
use twill_linux::sockets::is_listened;

use super::refused;

/// How long a server waits for its client, and a client for its server's last word.
const CONNECTING: Duration = Duration::from_secs(15);
/// How long a server may take until it listens.
const LISTENING: Duration = Duration::from_secs(5);
const TURN: Duration = Duration::from_millis(10);
/// No more is kept of a client's report, in bytes: an interval of a stream has 500, and there are as many as seconds.
const LONGEST_REPORT: usize = 16 << 20;

/// Serves one client, after it has told the port.
pub(super) fn serve(address: IpAddr, goes_on: impl Fn() -> bool, tell: impl FnOnce(u16)) -> Result<(), Answer> {
    let port = free_port(address)?;
    let (bind, number) = (address.to_string(), port.to_string());
    let mut command = Command::new("iperf3");
    command.args(["--server", "--one-off", "--bind", &bind, "--port", &number]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = start(&mut command)?;
    let deadline = Instant::now() + LISTENING;
    loop {
        let ended = wait(&mut child, TURN, &goes_on);
        // That it lives is seen first: another program may listen there.
        let lives = matches!(ended, Ok(None)) && goes_on();
        if lives && is_listened(SocketAddr::new(address, port)).unwrap_or(false) {
            break;
        }
        if !lives || Instant::now() > deadline {
            end(&mut child);
            return Err(refused(format!("iperf3 does not listen at {address} port {port}"), "run the command again"));
        }
    }
    tell(port);
    let longest = CONNECTING + Duration::from_secs(LONGEST_RUN.into()) + CONNECTING;
    // Whether it went well, the client tells.
    wait(&mut child, longest, &goes_on).map(drop).unwrap_or_default();
    end(&mut child);
    Ok(())
}

/// Runs a client to its end, and reads what has arrived.
pub(super) fn run(to: SocketAddr, load: Load, seconds: u16, goes_on: impl Fn() -> bool) -> Result<Answer, Answer> {
    let mut command = Command::new("iperf3");
    command.args(["--json", "--connect-timeout", "3000", "--client", &to.ip().to_string()]);
    command.args(["--port", &to.port().to_string(), "--time", &seconds.to_string()]);
    match load {
        Load::Tcp { streams } => command.args(["--parallel", &streams.to_string()]),
        Load::Udp { bytes } => command.args(["--udp", "--bitrate", "0", "--length", &bytes.to_string()]),
        Load::Questions { .. } => unreachable!("iperf3 asks no questions"),
    };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let child = start(&mut command)?;
    let longest = Duration::from_secs(seconds.into()) + CONNECTING;
    let said = converse(child, b"", longest, LONGEST_REPORT, &goes_on);
    let failed = |what: &str| {
        refused(
            format!("iperf3 has measured nothing to {to}: {what}"),
            "run 'twillctl test' between these nodes: it says what is in the way",
        )
    };
    match said {
        Ok(said) => read(&String::from_utf8_lossy(&said.stdout)).map(Answer::Carried).map_err(|what| failed(&what)),
        Err(cause) if [ErrorKind::TimedOut, ErrorKind::Interrupted].contains(&cause.kind()) => {
            Err(failed("it did not come to its end in time"))
        }
        Err(cause) => Err(failed(&cause.to_string())),
    }
}

fn start(command: &mut Command) -> Result<Child, Answer> {
    dies_with_its_starter(command).spawn().map_err(|cause| match cause.kind() {
        ErrorKind::NotFound => refused(
            "there is no iperf3",
            "install it ('apt-get install iperf3'); where twilld runs in a container, in its image",
        ),
        _ => refused(format!("iperf3 cannot be run: {cause}"), "look at the permissions of twilld"),
    })
}

/// A port at which nobody listens.
fn free_port(address: IpAddr) -> Result<u16, Answer> {
    let port = TcpListener::bind((address, 0)).and_then(|listener| listener.local_addr()).map(|at| at.port());
    port.map_err(|cause| refused(format!("nobody can listen at {address} there: {cause}"), "run the command again"))
}

/// What a client with `--json` tells of what arrived. The error says what is missing, or what iperf3 complains of.
fn read(text: &str) -> Result<Carried, String> {
    let json: Value = serde_json::from_str(text).map_err(|error| format!("its report cannot be read: {error}"))?;
    if let Some(error) = json["error"].as_str() {
        return Err(error.to_owned());
    }
    let (sent, received) = (&json["end"]["sum_sent"], &json["end"]["sum_received"]);
    let seconds = received["seconds"].as_f64().filter(|seconds| *seconds > 0.0 && *seconds < 1e6);
    let seconds = seconds.ok_or("its report has no end.sum_received.seconds")?;
    // Of datagrams the receiver's sum has those that were sent, and how many of them are missing.
    let count = |name: &str| received[name].as_u64();
    let datagrams = count("packets").unwrap_or(0).saturating_sub(count("lost_packets").unwrap_or(0));
    Ok(Carried {
        bytes: count("bytes").ok_or("its report has no end.sum_received.bytes")?,
        micros: Duration::from_secs_f64(seconds).as_micros().try_into().unwrap_or(u64::MAX),
        retransmits: sent["retransmits"].as_u64().unwrap_or(0),
        datagrams,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_tcp_what_was_received_counts_and_of_udp_what_was_not_lost() {
        let tcp = r#"{ "end": { "sum_sent": { "bytes": 260, "retransmits": 3 }, "sum_received": { "seconds": 2.0, "bytes": 250 } } }"#;
        assert_eq!(read(tcp), Ok(Carried { bytes: 250, micros: 2_000_000, retransmits: 3, datagrams: 0 }));
        let sum = r#"{ "seconds": 1.5, "bytes": 640, "packets": 25, "lost_packets": 15 }"#;
        let udp = read(&format!(r#"{{ "end": {{ "sum_received": {sum} }} }}"#)).unwrap();
        assert_eq!((udp.datagrams, udp.micros), (10, 1_500_000));
    }

    #[test]
    fn what_iperf3_complains_of_is_told() {
        let refused = read(r#"{ "end": {}, "error": "unable to connect to server" }"#);
        assert_eq!(refused.unwrap_err(), "unable to connect to server");
        assert!(read("{}").unwrap_err().contains("sum_received.seconds"));
        assert!(read("iperf3: not JSON").is_err());
        assert!(read(r#"{ "end": { "sum_received": { "seconds": -1, "bytes": 1 } } }"#).is_err());
    }
}
