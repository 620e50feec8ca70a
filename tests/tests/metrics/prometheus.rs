//! A real Prometheus scrapes a cluster, and has an answer to each query of the dashboard and of the alerts.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use twill_tests::deadline;
use twill_tests::process::Process;
use twill_tests::routers::missing;
use twill_tests::{Lab, LabError, Node, Result, needs, with_lab};

use super::page::{PORT, get};

/// The test of the alerts for `promtool`, from the workspace's root.
pub const RULES_TEST: &str = "tests/tests/metrics/rules.test.yml";
const RULES: &str = "conf/samples/twill-rules.yml";
const DOCUMENT: &str = "docs/metrics.md";
const DASHBOARD: &str = "conf/samples/twill-dashboard.json";

/// Several scrapes, on a machine that is busy.
const LONG: Duration = Duration::from_secs(90);

/// Prometheus in a namespace, for as long as this lives.
struct Prometheus<'a> {
    lab: &'a Lab,
    at: SocketAddr,
    process: Process,
}

fn sample(path: &str) -> Result<PathBuf> {
    let path = needs::workspace().join(path);
    path.canonicalize().map_err(LabError::io(path.display().to_string()))
}

/// That of the document, for these targets, with scrapes that tests can wait for.
fn configuration(targets: &str) -> Result<String> {
    let document = std::fs::read_to_string(sample(DOCUMENT)?).map_err(LabError::io(DOCUMENT))?;
    let shown = document.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    let shown = shown.expect("the document shows a configuration");
    let mut conf = "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n".to_owned() + shown;
    let rules = format!("{:?}", sample(RULES)?);
    for (word, ours) in [("\"node-1:9477\", \"node-2:9477\"", targets), ("\"twill-rules.yml\"", rules.as_str())] {
        assert!(conf.contains(word), "{word} in {conf}");
        conf = conf.replace(word, ours);
    }
    Ok(conf)
}

impl<'a> Prometheus<'a> {
    /// Starts one in the place of the host outside, which reaches the nodes over the wire.
    fn start(lab: &'a Lab, targets: &[SocketAddr]) -> Result<Self> {
        let directory = lab.directory().join("prometheus");
        let write = |name: &str, text: &str| {
            let file = directory.join(name);
            std::fs::write(&file, text).map_err(LabError::io(format!("writing {}", file.display())))?;
            Ok::<_, LabError>(file)
        };
        std::fs::create_dir_all(&directory).map_err(LabError::io(format!("making {}", directory.display())))?;
        let targets = targets.iter().map(|target| format!("\"{target}\"")).collect::<Vec<_>>().join(", ");
        let conf = write("prometheus.yml", &configuration(&targets)?)?;
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 9090));
        let mut command = Command::new("prometheus");
        command.arg("--config.file").arg(conf).arg("--storage.tsdb.path").arg(directory.join("data"));
        command.args(["--web.listen-address", &at.to_string()]);
        lab.outside().run(&["ip", "link", "set", "lo", "up"])?;
        let process = lab.outside().start_process("prometheus", command, &directory.join("log"))?;
        Ok(Self { lab, at, process })
    }

    fn api(&self, path: &str) -> Result<Value> {
        let page = get(self.lab.outside(), self.at, path)?;
        let answer: Value = serde_json::from_str(&page.body)
            .map_err(|error| LabError::wrong(format!("{path}: {}: {error}: {}", page.status, page.body)))?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].clone()),
            _ => Err(LabError::wrong(format!("{path}: {answer}"))),
        }
    }

    /// The values that a query gives now.
    fn values(&self, query: &str) -> Result<Vec<f64>> {
        let data = self.api(&format!("/api/v1/query?query={}", encoded(query)))?;
        let of_sample = |sample: &Value| sample["value"][1].as_str().and_then(|value| value.parse().ok());
        Ok(data["result"].as_array().into_iter().flatten().filter_map(of_sample).collect())
    }

    /// Waits until a query gives just this.
    fn answers(&self, query: &str, wanted: &[f64]) -> Result<()> {
        deadline::until_some(&format!("{query} is {wanted:?}"), LONG, || {
            let seen = self.values(query)?;
            Ok(if seen == wanted { Ok(()) } else { Err(seen) })
        })
    }

    /// Waits until each query gives a number at least.
    fn all_answered(&self, queries: &BTreeSet<String>) -> Result<()> {
        deadline::until_some("each query returns something", LONG, || {
            let mut silent = Vec::new();
            for query in queries {
                if !self.values(query)?.iter().any(|value| value.is_finite()) {
                    silent.push(query);
                }
            }
            Ok(if silent.is_empty() { Ok(()) } else { Err(format!("{silent:#?}")) })
        })
    }
}

/// As a part of a URL (RFC 3986, 2.1).
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => write!(encoded, "%{byte:02X}").expect("text can be written to memory"),
        }
    }
    encoded
}

/// The queries of the dashboard, as Grafana asks them where all nodes are chosen.
fn of_dashboard() -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(sample(DASHBOARD)?).map_err(LabError::io(DASHBOARD))?;
    let dashboard: Value = serde_json::from_str(&text).expect("the dashboard is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries = targets.filter_map(|target| target["expr"].as_str());
    Ok(queries.map(|query| query.replace("$instance", ".*").replace("$__rate_interval", "10m")).collect())
}

/// What an alert compares: it returns nothing itself where all is well.
fn compared(query: &str) -> Vec<String> {
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for character in query.chars() {
        match character {
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' => depth -= 1,
            '<' | '>' | '=' | '!' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("there is one from the beginning").push(character);
    }
    let parts = parts.into_iter().map(|part| part.trim().to_owned());
    parts.filter(|part| !part.is_empty() && part.parse::<f64>().is_err()).collect()
}

/// Pods come and go, somebody meddles, and the cluster changes, so that there is something to tell of.
fn stir(lab: &Lab, round: usize) -> Result<()> {
    for node in lab.nodes() {
        let pod = node.attach(&format!("r{round}-{}", node.name()))?;
        node.run(&["ip", "route", "del", &format!("{}/32", pod.address(false)?)])?;
        pod.del()?;
    }
    let clamp = round.is_multiple_of(2);
    lab.apply_config(&format!("{}\n[firewall]\nclamp_mss = {clamp}\n", lab.cluster_config()))
}

#[test]
fn every_query_of_the_dashboard_and_of_the_rules_returns_something() {
    if let Some(why) = missing(&["prometheus"]) {
        needs::say_skipped(&why);
        return;
    }
    with_lab(Lab::builder().nodes(2).backend("type = \"bgp\"\n[bgp]\n").asleep(), |lab| {
        let listening = format!("[::]:{PORT}");
        for node in lab.nodes() {
            node.start_daemon_with(&["--metrics", &listening, "--probe-turn-ms", "500"])?;
        }
        lab.converged()?;
        let address = |node: &Node, ipv6: bool| {
            let found = node.addresses().iter().find(|ip| ip.is_ipv6() == ipv6).copied();
            found.map(|ip: IpAddr| SocketAddr::from((ip, PORT))).ok_or_else(|| LabError::wrong("it has no address"))
        };
        let targets = [address(lab.node(1), false)?, address(lab.node(2), true)?];
        let mut prometheus = Prometheus::start(lab, &targets)?;
        deadline::until_some("Prometheus scrapes both nodes", LONG, || {
            if let Some(status) = prometheus.process.ended()? {
                return Err(LabError::wrong(format!("it ended: {status}\n{}", prometheus.process.log())));
            }
            let up = prometheus.values("up{job=\"twill\"}")?;
            Ok(if up == [1.0, 1.0] { Ok(()) } else { Err((up, prometheus.process.log())) })
        })?;
        prometheus.answers("sum(twill_bgp_sessions{state='established',kind='internal'})", &[2.0])?;
        prometheus.answers("min(twill_bgp_prefixes{way='accepted'}) > bool 0", &[1.0])?;
        prometheus.answers("sum(twill_probe_targets)", &[2.0])?;
        prometheus.answers("min(twill_probes_total{found='good'}) > bool 0", &[1.0])?;
        prometheus.answers("sum(twill_probe_faulty_nodes)", &[0.0])?;
        (0..2).try_for_each(|round| stir(lab, round))?;

        let queries = of_dashboard()?;
        assert!(queries.len() > 40, "{queries:?}");
        prometheus.all_answered(&queries)?;
        let rules = prometheus.api("/api/v1/rules")?;
        let rules: Vec<&Value> =
            rules["groups"].as_array().into_iter().flatten().filter_map(|g| g["rules"].as_array()).flatten().collect();
        assert!(rules.len() > 10 && rules.iter().all(|rule| rule["lastError"].is_null()), "{rules:?}");
        let operands = rules.iter().filter_map(|rule| rule["query"].as_str()).flat_map(compared).collect();
        prometheus.all_answered(&operands)
    });
}

#[test]
fn what_an_alert_compares_is_found_in_its_query() {
    let query = "sum by (a) (x{b!=\"c\"}) > 0.1 * sum(y[5m] offset 1m)";
    assert_eq!(compared(query), ["sum by (a) (x{b!=\"c\"})", "0.1 * sum(y[5m] offset 1m)"]);
    assert_eq!(compared("up{job=\"twill\"} == 0"), ["up{job=\"twill\"}"]);
}
