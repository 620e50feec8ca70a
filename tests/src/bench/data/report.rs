//! What was measured, for people: a table in Markdown, and a plot.

use twill_chart::Spread;
use twill_chart::plot::{Bar, Group, Panel, svg};

use super::conditions::Conditions;
use super::quantity::{Figures, Quantity};
use super::{Masquerade, Plan, Sessions};
use crate::bench::measure::row;
use crate::{LabError, Result};

/// A back end, by both paths.
#[derive(Debug, Clone)]
pub struct Compared {
    /// The back end.
    pub name: &'static str,
    /// The path that was built by hand.
    pub by_hand: Figures,
    /// Twill's.
    pub twill: Figures,
}

/// All that was measured.
#[derive(Debug)]
pub struct Report {
    /// How it was measured.
    pub plan: Plan,
    /// Under what conditions.
    pub conditions: Conditions,
    /// BGP's sessions.
    pub sessions: Sessions,
    /// From node to node, without pods and without Twill.
    pub nodes: Figures,
    /// Each back end.
    pub compared: Vec<Compared>,
}

const NODE_TO_NODE: &str = "node to node";
const BY_HAND: &str = "by hand";
const TWILL: &str = "Twill";

impl Report {
    /// The tables of `docs/performance.md`.
    pub fn markdown(&self) -> String {
        let Plan { rounds, seconds, masquerade } = self.plan;
        let Sessions { up, down, time } = self.sessions;
        let rules = match masquerade {
            Masquerade::Twill => "Twill masquerades; by hand there is no nftables",
            Masquerade::Both => "Both masquerade, by hand with one rule of nftables",
            Masquerade::Neither => "Neither masquerades; by hand there is no nftables",
        };
        format!(
            "{}\nMedians of {rounds} alternating rounds of {seconds} s for each figure (in brackets the least and the \
             greatest); how good is the median of the rounds' own ratios. {rules}. In the {} s that \
             this took, the BGP sessions between the nodes, which BFD watches (300 ms × 3), came up {up} times and went down {down} \
             times.\n\n{}",
            self.conditions.markdown(),
            time.as_secs(),
            self.table()
        )
    }

    fn table(&self) -> String {
        let mut text = row(&["what", "path", BY_HAND, TWILL, "how good beside by hand", "goal", ""]);
        text += "|---|---|---|---|---|---|---|\n";
        for quantity in Quantity::ALL {
            let what = format!("{}, {}", quantity.title(), quantity.unit());
            let figure = |figures: &Figures| figures.spread(quantity).map(|spread| spread.words()).unwrap_or_default();
            text += &row(&[&what, NODE_TO_NODE, &figure(&self.nodes), "", "", "", ""]);
            for Compared { name, by_hand, twill } in &self.compared {
                let (ratio, goal, verdict) = judged(quantity, by_hand, twill);
                text += &row(&[&what, *name, &figure(by_hand), &figure(twill), &ratio, &goal, verdict]);
            }
        }
        text
    }

    /// A plot of all of it: a panel for each quantity, in it a group of bars for each back end.
    pub fn svg(&self) -> Result<String> {
        let panel = |quantity: Quantity| {
            let bar = |series: &str, figures: &Figures| {
                let spread = figures.spread(quantity)?;
                Some(Bar {
                    series: series.into(),
                    value: spread.median,
                    least: spread.least,
                    greatest: spread.greatest,
                })
            };
            let mut groups =
                vec![Group { name: NODE_TO_NODE.into(), bars: bar(NODE_TO_NODE, &self.nodes).into_iter().collect() }];
            groups.extend(self.compared.iter().map(|Compared { name, by_hand, twill }| Group {
                name: (*name).into(),
                bars: [bar(BY_HAND, by_hand), bar(TWILL, twill)].into_iter().flatten().collect(),
            }));
            Panel { title: format!("{} ({})", quantity.title(), quantity.unit()), groups }
        };
        let panels: Vec<_> = Quantity::ALL.into_iter().map(panel).collect();
        svg(&panels).map_err(|cause| LabError::wrong(format!("drawing the plot: {cause}")))
    }
}

/// The ratio, the goal, and whether it is met.
fn judged(quantity: Quantity, by_hand: &Figures, twill: &Figures) -> (String, String, &'static str) {
    let Some(Spread { least, median, greatest }) = twill.beside(by_hand, quantity) else {
        return Default::default();
    };
    let (goal, verdict) = match quantity.goal() {
        Some(goal) => (format!("≥ {goal}"), if median >= goal { "met" } else { "missed" }),
        None => (String::new(), ""),
    };
    // Three digits, so that 0.968 is not shown as a goal of 0.97 that was missed.
    (format!("{median:.3} ({least:.2}–{greatest:.2})"), goal, verdict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::data::quantity::Round;

    fn figures(rounds: &[(f64, f64)]) -> Figures {
        let mut figures = Figures::default();
        for (tcp, late) in rounds {
            figures.add(Round::from([(Quantity::TcpOne, *tcp), (Quantity::Late, *late)]));
        }
        figures
    }

    fn report() -> Report {
        let by_hand = figures(&[(10.0, 100.0), (11.0, 90.0), (9.0, 110.0)]);
        let twill = figures(&[(9.7, 110.0), (9.7, 109.0), (12.0, 111.0)]);
        Report {
            sessions: Sessions { up: 2, down: 0, time: std::time::Duration::from_secs(60) },
            plan: Plan { rounds: 3, seconds: 2, masquerade: Masquerade::Twill },
            conditions: Conditions::look(0.0, Vec::new()).unwrap(),
            nodes: figures(&[(20.0, 50.0)]),
            compared: vec![Compared { name: "host-gw", by_hand, twill }],
        }
    }

    #[test]
    fn the_table_has_the_spread_the_ratio_and_whether_the_goal_is_met() {
        let text = report().markdown();
        assert!(text.contains("| TCP, one stream, Gbit/s | node to node | 20.0 (20.0–20.0) |"), "{text}");
        let met = "| host-gw | 10.0 (9.0–11.0) | 9.70 (9.70–12.00) | 0.970 (0.88–1.33) | ≥ 0.97 | met |";
        assert!(text.contains(met), "{text}");
        let missed = "| request and response, p99, µs | host-gw | 100 (90–110) | 110 (109–111) | 0.909 (0.83–0.99) | ≥ 0.97 | missed |";
        assert!(text.contains(missed), "{text}");
        assert!(text.contains("| processor time, one stream, ms/Gbit | host-gw |  |  |  |  |  |"), "{text}");
    }

    #[test]
    fn the_plot_names_every_quantity_back_end_and_path() {
        let drawn = report().svg().unwrap();
        assert!(drawn.starts_with("<svg "), "{drawn}");
        let titles = Quantity::ALL.map(Quantity::title);
        for word in titles.into_iter().chain([NODE_TO_NODE, BY_HAND, TWILL, "host-gw"]) {
            assert!(drawn.contains(word), "{word} is missing");
        }
    }
}
