//! What was measured, for people: a table in Markdown.

use twill_chart::Spread;

use super::Plan;
use super::variant::{Base, Variant};
use crate::bench::data::conditions::Host;
use crate::bench::data::quantity::Quantity;
use crate::bench::measure::row;

/// The processor time of a packet by one variant.
#[derive(Debug, Clone)]
pub struct Measured {
    /// By which.
    pub variant: &'static Variant,
    /// In each turn, in microseconds.
    pub turns: Vec<f64>,
}

/// All that was measured.
#[derive(Debug, Clone)]
pub struct Report {
    /// How it was measured.
    pub plan: Plan,
    /// On what machine.
    pub host: Host,
    /// Each variant, in the order of the table.
    pub measured: Vec<Measured>,
}

impl Measured {
    /// The best quarter of the turns, one at least; `None` where there was none.
    fn best(&self) -> Option<Spread> {
        let mut turns = self.turns.clone();
        turns.sort_by(f64::total_cmp);
        turns.truncate(turns.len().div_ceil(4));
        Spread::of(turns)
    }
}

impl Report {
    /// The table of `docs/performance.md`, with its conditions.
    pub fn markdown(&self) -> String {
        let Plan { turns, packets } = self.plan;
        let mut text = format!(
            "{}. Medians of the best quarter of {turns} alternating turns of {packets} packets (in brackets the least and the greatest of that \
             quarter).\n\n",
            self.host.words()
        );
        text += &row(&[
            "rules on both nodes",
            "one packet, one way, µs",
            "beside no rules",
            "beside one rule that masquerades",
        ]);
        text += "|---|---|---|---|\n";
        for measured in &self.measured {
            let figure = measured.best().map(|best| best.words()).unwrap_or_default();
            let beside = |base| self.beside(measured, base).map(|ratio| format!("{ratio:.3}")).unwrap_or_default();
            // Who tracks no connections is not to be compared with one who does.
            let tracked = if measured.variant.masquerades() { beside(Base::OneRule) } else { String::new() };
            text += &row(&[measured.variant.name, &figure, &beside(Base::Nothing), &tracked]);
        }
        text
    }

    /// How good a variant is beside the first one of these rules; `None` for that one itself.
    fn beside(&self, measured: &Measured, base: Base) -> Option<f64> {
        let reference = self.measured.iter().find(|reference| reference.variant.base == base)?;
        if reference.variant == measured.variant {
            return None;
        }
        Some(Quantity::CostPacket.ratio(measured.best()?.median, reference.best()?.median))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rules::variant::VARIANTS;

    fn report(turns: &[&[f64]]) -> Report {
        assert_eq!(turns.len(), VARIANTS.len());
        let measured = VARIANTS.iter().zip(turns).map(|(variant, turns)| Measured { variant, turns: turns.to_vec() });
        let measured = measured.collect();
        Report { plan: Plan { turns: 8, packets: 1000 }, host: Host::look(0.0).unwrap(), measured }
    }

    #[test]
    fn the_best_quarter_counts_whatever_the_others_are() {
        let measured = Measured { variant: &VARIANTS[0], turns: vec![9.0, 5.0, 90.0, 7.0, 6.0, 8.0, 70.0, 60.0] };
        assert_eq!(measured.best(), Spread::of(vec![5.0, 6.0]));
        assert_eq!(Measured { variant: &VARIANTS[0], turns: vec![9.0, 5.0, 7.0] }.best(), Spread::of(vec![5.0]));
        assert_eq!(Measured { variant: &VARIANTS[0], turns: Vec::new() }.best(), None);
    }

    #[test]
    fn each_is_beside_the_references_that_it_can_be_compared_with() {
        let text =
            report(&[&[6.0], &[6.0], &[7.5], &[6.25], &[6.0], &[8.0], &[8.0], &[8.0], &[10.0], &[12.0]]).markdown();
        let line = |name: &str| text.lines().find(|line| line.starts_with(&format!("| {name}"))).unwrap().to_owned();
        assert!(line("none |").ends_with("| 6.00 (6.00–6.00) |  |  |"), "{text}");
        assert!(line("none, a second time").ends_with("| 1.000 |  |"), "{text}");
        assert!(line("none; ").ends_with("| 0.960 |  |"), "{text}");
        assert!(line("one rule").ends_with("| 0.800 |  |"), "{text}");
        assert!(line("`prerouting`: by").ends_with("| 0.750 |  |"), "{text}");
        assert!(line("Twill without a tunnel, masquerading |").ends_with("| 0.600 | 0.750 |"), "{text}");
        assert!(line("Twill with a tunnel's rules").ends_with("| 0.500 | 0.625 |"), "{text}");
    }
}
