//! The registry against its documentation: all that is told is explained, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};

use twill_ipam::store::{BlockState, BlockUse, Origin};
use twill_linux::state::KernelState;
use twill_linux::table::Outcome;

use super::*;

const DOCUMENT: &str = include_str!("../../../docs/metrics.md");
const RULES: &str = include_str!("../../../conf/samples/twill-rules.yml");
/// Labels whose values are not ours to list.
const FREE: [&str; 2] = ["pool", "version"];

/// A metric, as told or as documented.
#[derive(Debug, Default, PartialEq, Eq)]
struct Metric {
    kind: String,
    unit: String,
    labels: BTreeMap<String, BTreeSet<String>>,
}

fn unit(name: &str) -> String {
    let bare = name.trim_end_matches("_total");
    ["seconds", "bytes"].into_iter().find(|unit| bare.ends_with(unit)).unwrap_or_default().to_owned()
}

/// Something of everything is noted.
fn exercise(handles: &Handles) {
    let block = |cidr: &str| BlockUse {
        block: cidr.parse().unwrap(),
        pool: Some("default".parse().unwrap()),
        state: BlockState::Open,
        origin: Origin::Cluster,
        tunnel: None,
        total: 64,
        assigned: 3,
        cooling: 2,
        reserved: 1,
    };
    let closing = BlockUse { state: BlockState::Closing, ..block("fd42::/120") };
    handles.addresses.stand(&[block("10.42.0.0/26"), block("10.42.0.64/26"), closing]);
    handles.passes.wanted(&KernelState::default(), 0);
    let stood = ["link", "address", "route", "neighbour", "fdb", FILTERS].map(|table| (table, 1));
    handles.passes.did(&Outcome { stood: stood.into(), ..Outcome::default() }, true);
    handles.peers.stand(Some(Vec::new()));
    handles.probes.stand(0, BTreeMap::new());
}

fn told() -> BTreeMap<String, Metric> {
    let (metrics, handles) = Metrics::new(&Troubles::default());
    exercise(&handles);
    let text = metrics.tell(Form::Prometheus);
    let mut all: BTreeMap<String, Metric> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let metric = Metric { kind: kind.to_owned(), unit: unit(name), ..Metric::default() };
            assert!(all.insert(name.to_owned(), metric).is_none(), "{name} is told twice");
        }
        let Some((series, _)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#')) else { continue };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let suffixes = ["", "_bucket", "_sum", "_count"];
        let family = suffixes.iter().find_map(|suffix| {
            let family = name.strip_suffix(suffix)?;
            all.contains_key(family).then(|| family.to_owned())
        });
        let family = all.get_mut(&family.unwrap_or_else(|| panic!("{name} has no type"))).unwrap();
        for label in labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once("=\"").unwrap();
            if label != "le" {
                let values = family.labels.entry(label.to_owned()).or_default();
                values.extend((!FREE.contains(&label)).then(|| value.trim_end_matches('"').to_owned()));
            }
        }
    }
    all
}

fn documented() -> BTreeMap<String, Metric> {
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| `twill_") || line.starts_with("| `process_"));
    let mut all = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, unit, labels, meaning] = cells.as_slice() else { panic!("five cells: {row}") };
        assert!(meaning.len() >= 6, "{row}");
        let mut metric = Metric { kind: (*kind).to_owned(), unit: (*unit).to_owned(), ..Metric::default() };
        for label in labels.split("), ").filter(|label| !label.is_empty()) {
            let (label, values) = label.split_once(" (").unwrap_or_else(|| panic!("a label with its values: {row}"));
            let values = values.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            metric.labels.insert(label.trim_matches('`').to_owned(), values);
        }
        assert!(all.insert(name.trim_matches('`').to_owned(), metric).is_none(), "{name} stands there twice");
    }
    all
}

#[test]
fn the_document_has_each_metric_with_type_unit_and_labels_and_no_other() {
    let (told, documented) = (told(), documented());
    let names = |metrics: &BTreeMap<String, Metric>| metrics.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(&told), names(&documented));
    for (name, metric) in &told {
        assert_eq!(metric, &documented[name], "left: told, right: documented, of {name}");
    }
}

#[test]
fn the_document_says_what_to_do_for_each_alert_and_for_no_other() {
    let heading = DOCUMENT.find("## What to do when an alert fires").unwrap();
    let sections: BTreeSet<&str> = DOCUMENT[heading..].lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let alerts: BTreeSet<&str> = RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(alerts, sections);
    for alert in alerts {
        let runbook = format!("docs/metrics.md#{}\"", alert.to_lowercase());
        assert!(RULES.contains(&runbook), "{alert} does not say where that stands");
    }
}

#[test]
fn both_forms_tell_the_same_and_say_which_they_are() {
    let (metrics, handles) = Metrics::new(&Troubles::default());
    exercise(&handles);
    let [open, plain] = [Form::OpenMetrics, Form::Prometheus].map(|form| metrics.tell(form));
    assert!(open.ends_with("# EOF\n") && !plain.contains("# EOF"));
    assert!(open.contains("# TYPE twill_build info\ntwill_build_info{version="));
    assert!(plain.contains("# TYPE twill_repairs_total counter\n"));
    assert!(open.contains("# UNIT twill_pass_duration_seconds seconds\n"));
    let addresses = "twill_addresses{pool=\"default\",family=\"ipv4\",state=\"free\"} 116";
    assert!(open.contains(addresses) && plain.contains(addresses), "of two blocks, added: {plain}");
    assert!(plain.contains("twill_addresses{pool=\"default\",family=\"ipv6\",state=\"closed\"} 58"));
    handles.addresses.stand(&[]);
    assert!(!metrics.tell(Form::Prometheus).contains("twill_addresses"), "what is not any more is not told");
}
