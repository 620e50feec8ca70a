//! What was measured, for people: tables in Markdown.

use twill_chart::Spread;

use super::Plan;
use super::variant::{Base, Variant};
use crate::bench::data::conditions::Host;
use crate::bench::data::quantity::{Quantity, Round};
use crate::bench::measure::{mebibytes, row};

/// The processor time that one variant takes.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Which.
    pub variant: &'static Variant,
    /// The figures of each turn.
    pub turns: Vec<Round>,
}

/// All that was measured.
#[derive(Debug, Clone)]
pub struct Report {
    /// How it was measured.
    pub plan: Plan,
    /// On what machine.
    pub host: Host,
    /// Each variant, in the order of the tables.
    pub measured: Vec<Measured>,
}

/// What is measured of each variant, by the heading of its figures. A table each.
const TABLES: [(Quantity, &str); 2] = [
    (Quantity::CostPacket, "one packet of 64 bytes by UDP, one way, µs"),
    (Quantity::CostOne, "one TCP stream with its acknowledgements, ms/Gbit"),
];

impl Measured {
    /// The best quarter of the turns, one at least; `None` where there was none.
    fn best(&self, quantity: Quantity) -> Option<Spread> {
        let mut figures: Vec<_> = self.turns.iter().filter_map(|turn| turn.get(&quantity).copied()).collect();
        figures.sort_by(f64::total_cmp);
        figures.truncate(figures.len().div_ceil(4));
        Spread::of(figures)
    }
}

impl Report {
    /// The tables of `docs/performance.md`, with their conditions.
    pub fn markdown(&self) -> String {
        let Plan { way, turns, packets, bytes } = self.plan;
        let mut text = format!(
            "{}. From node to node {}. Medians of the best quarter of {turns} alternating turns of {packets} packets and {} by TCP (in \
             brackets the least and the greatest of that quarter).\n",
            self.host.words(),
            way.words(),
            mebibytes(bytes)
        );
        for (quantity, heading) in TABLES {
            text += &format!("\n{}", self.table(quantity, heading));
        }
        text
    }

    fn table(&self, quantity: Quantity, heading: &str) -> String {
        let mut text = row(&["rules on both nodes", heading, "beside no rules", "beside one rule that masquerades"]);
        text += "|---|---|---|---|\n";
        for measured in &self.measured {
            let figure = measured.best(quantity).map(|best| best.words()).unwrap_or_default();
            let beside = |base| {
                let ratio = self.beside(measured, base, quantity);
                ratio.map(|ratio| format!("{ratio:.3}")).unwrap_or_default()
            };
            // Who tracks no connections is not to be compared with one who does.
            let tracked = if measured.variant.masquerades() { beside(Base::OneRule) } else { String::new() };
            text += &row(&[measured.variant.name, &figure, &beside(Base::Nothing), &tracked]);
        }
        text
    }

    /// How good a variant is beside the first one of these rules; `None` for that one itself.
    fn beside(&self, measured: &Measured, base: Base, quantity: Quantity) -> Option<f64> {
        let reference = self.measured.iter().find(|reference| reference.variant.base == base)?;
        if reference.variant == measured.variant {
            return None;
        }
        Some(quantity.ratio(measured.best(quantity)?.median, reference.best(quantity)?.median))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rules::variant::{VARIANTS, Way, variants};

    fn turns(quantity: Quantity, figures: &[f64]) -> Vec<Round> {
        figures.iter().map(|figure| Round::from([(quantity, *figure)])).collect()
    }

    /// Each variant of a way has one turn, with these figures of a packet and of a gigabit.
    fn report(way: Way, figures: &[(f64, f64)]) -> Report {
        assert_eq!(variants(way).count(), figures.len());
        let measured = variants(way).zip(figures).map(|(variant, (packet, gigabit))| {
            let turn = Round::from([(Quantity::CostPacket, *packet), (Quantity::CostOne, *gigabit)]);
            Measured { variant, turns: vec![turn] }
        });
        let plan = Plan { way, turns: 8, packets: 1000, bytes: 16 << 20 };
        Report { plan, host: Host::look(0.0).unwrap(), measured: measured.collect() }
    }

    #[test]
    fn the_best_quarter_counts_whatever_the_others_are() {
        let best = |figures: &[f64]| {
            let turns = turns(Quantity::CostPacket, figures);
            Measured { variant: &VARIANTS[0], turns }.best(Quantity::CostPacket)
        };
        assert_eq!(best(&[9.0, 5.0, 90.0, 7.0, 6.0, 8.0, 70.0, 60.0]), Spread::of(vec![5.0, 6.0]));
        assert_eq!(best(&[9.0, 5.0, 7.0]), Spread::of(vec![5.0]));
        assert_eq!(best(&[]), None);
    }

    #[test]
    fn each_is_beside_the_references_that_it_can_be_compared_with() {
        let packets = [6.0, 6.0, 7.5, 6.25, 6.25, 6.0, 8.0, 8.0, 10.0, 12.0, 7.5, 8.0, 8.0];
        let text = report(Way::Plain, &packets.map(|packet| (packet, 4.0 * packet))).markdown();
        // The table of packets comes first.
        let line = |name: &str| text.lines().find(|line| line.starts_with(&format!("| {name}"))).unwrap().to_owned();
        assert!(line("none |").ends_with("| 6.00 (6.00–6.00) |  |  |"), "{text}");
        assert!(line("none, a second time").ends_with("| 1.000 |  |"), "{text}");
        assert!(line("none; ").ends_with("| 0.960 |  |"), "{text}");
        assert!(line("one rule").ends_with("| 0.800 |  |"), "{text}");
        assert!(line("`prerouting`: by").ends_with("| 0.750 |  |"), "{text}");
        assert!(line("Twill without a tunnel, masquerading |").ends_with("| 0.600 | 0.750 |"), "{text}");
        assert!(line("Twill with a tunnel's rules, masquerading |").ends_with("| 0.500 | 0.625 |"), "{text}");
    }

    #[test]
    fn each_figure_has_a_table_with_the_same_lines() {
        let figures = [(6.0, 30.0), (6.0, 30.0), (7.5, 32.0), (6.0, 30.0), (8.0, 40.0), (10.0, 50.0), (8.0, 40.0)];
        let text = report(Way::Tunnel, &figures).markdown();
        let lines = |name: &str| text.lines().filter(|line| line.starts_with(&format!("| {name}"))).collect::<Vec<_>>();
        assert_eq!(lines("rules on both nodes").len(), 2, "{text}");
        let [packet, gigabit] = lines("Twill with a tunnel's rules, masquerading |")[..] else { panic!("{text}") };
        assert!(packet.ends_with("| 10.0 (10.0–10.0) | 0.600 | 0.750 |"), "{text}");
        assert!(gigabit.ends_with("| 50.0 (50.0–50.0) | 0.600 | 0.640 |"), "{text}");
        for variant in variants(Way::Tunnel) {
            assert_eq!(lines(&format!("{} |", variant.name)).len(), 2, "{text}");
        }
        assert!(text.contains("through a VXLAN tunnel") && text.contains("16.0 MiB by TCP"), "{text}");
    }
}
