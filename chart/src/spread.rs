//! Figures of the same thing, measured several times: the median, and how far they lie apart.

use serde::{Deserialize, Serialize};

use crate::plot::digits;

/// Figures of the same thing in many rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The least.
    pub least: f64,
    /// The one in the middle; of an even number, the mean of the two.
    pub median: f64,
    /// The greatest.
    pub greatest: f64,
}

impl Spread {
    /// Of these; `None` where there are none.
    pub fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let middle = figures.len() / 2;
        let (least, greatest) = (*figures.first()?, *figures.last()?);
        let median =
            if figures.len() % 2 == 1 { figures[middle] } else { f64::midpoint(figures[middle - 1], figures[middle]) };
        Some(Self { least, median, greatest })
    }

    /// In words, with three digits of the median or more: `9.70 (9.68–12.00)`.
    pub fn words(&self) -> String {
        let Self { least, median, greatest } = *self;
        let digits = digits(median);
        format!("{median:.digits$} ({least:.digits$}–{greatest:.digits$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        let spread = |figures: &[f64]| Spread::of(figures.to_vec());
        assert_eq!(spread(&[9.0, 1.0, 5.0]), Some(Spread { least: 1.0, median: 5.0, greatest: 9.0 }));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 9.0]).unwrap().median, 3.0);
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[9.7, 9.68, 12.0]).unwrap().words(), "9.70 (9.68–12.00)");
    }
}
