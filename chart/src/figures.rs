//! What is measured between pods of two nodes and between the nodes themselves: what the figures are called, and how those of several
//! back ends look side by side.

use serde::{Deserialize, Serialize};

use crate::Spread;
use crate::page::Page;
use crate::plot::{Bar, Group, Panel};

/// A property of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    /// What a TCP connection carries.
    TcpOne,
    /// What several carry together.
    TcpMany,
    /// Small UDP packets that the receiver reads.
    Packets,
    /// The time from a question to its answer on a TCP connection: half of them are faster.
    Median,
    /// The same: 99 of 100 are faster.
    Late,
    /// What all processors of both machines spend on a gigabit of one connection.
    CostOne,
    /// The same of several.
    CostMany,
}

impl Quantity {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 7] =
        [Self::TcpOne, Self::TcpMany, Self::Packets, Self::Median, Self::Late, Self::CostOne, Self::CostMany];

    /// What people call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::TcpOne => "TCP, one stream",
            Self::TcpMany => "TCP, several streams",
            Self::Packets => "UDP of 64 bytes, read",
            Self::Median => "request and response, p50",
            Self::Late => "request and response, p99",
            Self::CostOne => "processor time, one stream",
            Self::CostMany => "processor time, several streams",
        }
    }

    /// The unit of its figures.
    pub fn unit(self) -> &'static str {
        match self {
            Self::TcpOne | Self::TcpMany => "Gbit/s",
            Self::Packets => "1000/s",
            Self::Median | Self::Late => "µs",
            Self::CostOne | Self::CostMany => "CPU ms/Gbit",
        }
    }

    /// Whether less is better.
    pub fn is_a_price(self) -> bool {
        !matches!(self, Self::TcpOne | Self::TcpMany | Self::Packets)
    }
}

/// The figures of one property.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Of which.
    pub quantity: Quantity,
    /// The unit.
    pub unit: String,
    /// From pod to pod.
    pub pods: Option<Spread>,
    /// From node to node, without pods.
    pub nodes: Option<Spread>,
    /// How good pod to pod is beside node to node, of the rounds' own ratios: 1 where they are equal, less where it is worse.
    pub ratio: Option<Spread>,
}

impl Figure {
    /// Of the figures of each round, those of the two paths in the same order.
    pub fn of(quantity: Quantity, pods: &[f64], nodes: &[f64]) -> Self {
        let ratio = |(pods, nodes): (&f64, &f64)| if quantity.is_a_price() { nodes / pods } else { pods / nodes };
        let ratios = pods.iter().zip(nodes).map(ratio).filter(|ratio| ratio.is_finite()).collect();
        Self {
            quantity,
            unit: quantity.unit().to_owned(),
            pods: Spread::of(pods.to_vec()),
            nodes: Spread::of(nodes.to_vec()),
            ratio: Spread::of(ratios),
        }
    }
}

/// A back end with its figures.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The back end.
    pub backend: String,
    /// Its figures.
    pub figures: Vec<Figure>,
}

/// The heading of [`rows`].
pub const HEADING: [&str; 5] = ["WHAT", "BACK END", "POD TO POD", "NODE TO NODE", "POD/NODE"];

/// A table of all back ends: those of one property stand together.
pub fn rows(all: &[Measured]) -> Vec<[String; 5]> {
    let words = |spread: &Option<Spread>| spread.as_ref().map_or_else(|| "-".to_owned(), Spread::words);
    let row = |quantity: Quantity, measured: &Measured| {
        let figure = measured.figures.iter().find(|figure| figure.quantity == quantity)?;
        let ratio = figure.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.2}", ratio.median));
        let what = format!("{}, {}", quantity.title(), quantity.unit());
        Some([what, measured.backend.clone(), words(&figure.pods), words(&figure.nodes), ratio])
    };
    Quantity::ALL.iter().flat_map(|quantity| all.iter().filter_map(|measured| row(*quantity, measured))).collect()
}

/// A panel for each property that was measured, in it a group for each back end.
pub fn panels(all: &[Measured]) -> Vec<Panel> {
    let bar = |series: &str, spread: &Option<Spread>| {
        spread.map(|Spread { least, median, greatest }| Bar {
            series: series.to_owned(),
            value: median,
            least,
            greatest,
        })
    };
    let panel = |quantity: Quantity| {
        let group = |measured: &Measured| {
            let figure = measured.figures.iter().find(|figure| figure.quantity == quantity)?;
            let bars = [bar("node to node", &figure.nodes), bar("pod to pod", &figure.pods)];
            Some(Group { name: measured.backend.clone(), bars: bars.into_iter().flatten().collect() })
        };
        let groups: Vec<Group> = all.iter().filter_map(group).collect();
        let better = if quantity.is_a_price() { "less is better" } else { "more is better" };
        let title = format!("{} ({}), {better}", quantity.title(), quantity.unit());
        (!groups.is_empty()).then_some(Panel { title, groups })
    };
    Quantity::ALL.into_iter().filter_map(panel).collect()
}

/// A page with the paragraphs, the table, and the plot, which is an SVG document.
pub fn page(title: &str, paragraphs: &[String], all: &[Measured], plot: &str) -> String {
    let mut page = Page::new(title);
    paragraphs.iter().for_each(|text| page.paragraph(text));
    page.table(HEADING, rows(all));
    page.svg(plot);
    page.html()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::svg;

    fn all() -> Vec<Measured> {
        let figures = |factor: f64| {
            vec![
                Figure::of(Quantity::TcpOne, &[8.0 * factor, 9.0 * factor, 7.0], &[16.0, 18.0, 17.0]),
                Figure::of(Quantity::Late, &[200.0], &[100.0]),
            ]
        };
        ["vxlan", "host-gw"].map(|backend| Measured { backend: backend.into(), figures: figures(1.0) }).into()
    }

    #[test]
    fn a_round_is_compared_with_the_same_round() {
        // The machine was twice as fast in the second round, and both were.
        let figure = Figure::of(Quantity::TcpOne, &[9.0, 18.0, 10.0], &[10.0, 20.0, 10.0]);
        assert_eq!(figure.ratio, Some(Spread { least: 0.9, median: 0.9, greatest: 1.0 }));
        assert_eq!(Figure::of(Quantity::Late, &[200.0], &[100.0]).ratio.unwrap().median, 0.5, "twice the time");
        let nothing = Figure::of(Quantity::TcpOne, &[], &[1.0]);
        assert_eq!((nothing.pods, nothing.ratio), (None, None));
        assert_eq!(Figure::of(Quantity::TcpOne, &[1.0], &[0.0]).ratio, None, "no JSON can say infinity");
    }

    #[test]
    fn back_ends_stand_side_by_side_in_the_table_the_plot_and_the_page() {
        let all = all();
        let rows = rows(&all);
        assert_eq!(rows[0], ["TCP, one stream, Gbit/s", "vxlan", "8.00 (7.00–9.00)", "17.0 (16.0–18.0)", "0.50"]);
        assert_eq!((rows[1][1].as_str(), rows[2][4].as_str(), rows.len()), ("host-gw", "0.50", 4));
        let drawn = svg(&panels(&all)).unwrap();
        for word in ["vxlan", "host-gw", "pod to pod", "node to node", "TCP, one stream (Gbit/s), more is better"] {
            assert!(drawn.contains(word), "{word} is missing in {drawn}");
        }
        assert!(!drawn.contains("UDP"), "what was not measured has no panel");
        let html = page("t", &["p".to_owned()], &all, &drawn);
        assert!(html.contains("<p>p</p>") && html.contains("<td>host-gw</td>") && html.contains("<svg "), "{html}");
    }
}
