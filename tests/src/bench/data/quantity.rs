//! What is measured on a path, in which unit, which of two figures is the better one, and the figures of many rounds.

use std::collections::BTreeMap;

use twill_chart::Spread;

/// A property of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// What a TCP connection carries.
    TcpOne,
    /// What eight TCP connections carry together.
    TcpEight,
    /// Small UDP packets that arrive at the interface of the receiver.
    Arriving,
    /// Those of them that the receiving program gets to read.
    Read,
    /// The time from a question to its answer on a TCP connection: half of them are faster.
    Median,
    /// The same: 99 of 100 are faster.
    Late,
    /// What the whole machine spends on a gigabit of one connection.
    CostOne,
    /// The same of eight.
    CostEight,
    /// What it spends on a small packet that arrives, with those that are lost on the way.
    CostPacket,
}

/// At least this part of what the path by hand reaches.
pub const GOAL: f64 = 0.97;

impl Quantity {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 9] = [
        Self::TcpOne,
        Self::TcpEight,
        Self::Arriving,
        Self::Read,
        Self::Median,
        Self::Late,
        Self::CostOne,
        Self::CostEight,
        Self::CostPacket,
    ];

    /// What people call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::TcpOne => "TCP, one stream",
            Self::TcpEight => "TCP, eight streams",
            Self::Arriving => "UDP of 64 bytes, arriving",
            Self::Read => "UDP of 64 bytes, read",
            Self::Median => "request and response, p50",
            Self::Late => "request and response, p99",
            Self::CostOne => "processor time, one stream",
            Self::CostEight => "processor time, eight streams",
            Self::CostPacket => "processor time, UDP of 64 bytes",
        }
    }

    /// The unit of its figures.
    pub fn unit(self) -> &'static str {
        match self {
            Self::TcpOne | Self::TcpEight => "Gbit/s",
            Self::Arriving | Self::Read => "1000/s",
            Self::Median | Self::Late => "µs",
            Self::CostOne | Self::CostEight => "ms/Gbit",
            Self::CostPacket => "µs/packet",
        }
    }

    /// Whether less is better.
    fn is_a_price(self) -> bool {
        matches!(self, Self::Median | Self::Late) || self.is_processor_time()
    }

    fn is_processor_time(self) -> bool {
        matches!(self, Self::CostOne | Self::CostEight | Self::CostPacket)
    }

    /// The least [`ratio`](Self::ratio) that is good enough, where a goal is set.
    pub fn goal(self) -> Option<f64> {
        (!self.is_processor_time()).then_some(GOAL)
    }

    /// How good a figure is beside a reference: 1 where they are equal, less where it is worse.
    pub fn ratio(self, figure: f64, reference: f64) -> f64 {
        if self.is_a_price() { reference / figure } else { figure / reference }
    }
}

/// The figures of one round.
pub type Round = BTreeMap<Quantity, f64>;

/// The figures of a path in all rounds.
#[derive(Debug, Clone, Default)]
pub struct Figures(BTreeMap<Quantity, Vec<f64>>);

impl Figures {
    /// Adds a round.
    pub fn add(&mut self, round: Round) {
        for (quantity, figure) in round {
            self.0.entry(quantity).or_default().push(figure);
        }
    }

    /// What the rounds gave; `None` where there was none.
    pub fn spread(&self, quantity: Quantity) -> Option<Spread> {
        Spread::of(self.0.get(&quantity)?.clone())
    }

    /// How good the figures are beside those of a reference in the same rounds, as [`Quantity::ratio`]. A machine that is slow
    /// for a while is so for both.
    pub fn beside(&self, reference: &Self, quantity: Quantity) -> Option<Spread> {
        let rounds = self.0.get(&quantity)?.iter().zip(reference.0.get(&quantity)?);
        Spread::of(rounds.map(|(figure, reference)| quantity.ratio(*figure, *reference)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(all: &[f64]) -> Figures {
        let mut figures = Figures::default();
        for figure in all {
            figures.add(Round::from([(Quantity::TcpOne, *figure)]));
        }
        figures
    }

    #[test]
    fn what_was_not_measured_has_no_spread() {
        assert_eq!(figures(&[]).spread(Quantity::TcpOne), None);
        assert_eq!(figures(&[1.0]).spread(Quantity::Late), None);
    }

    #[test]
    fn a_round_is_compared_with_the_same_round_of_the_reference() {
        // The machine was twice as fast in the second round, and both were.
        let (reference, ours) = (figures(&[10.0, 20.0, 10.0]), figures(&[9.0, 18.0, 10.0]));
        let beside = ours.beside(&reference, Quantity::TcpOne).unwrap();
        assert_eq!(beside, Spread { least: 0.9, median: 0.9, greatest: 1.0 });
        assert_eq!(ours.beside(&reference, Quantity::Late), None);
    }

    #[test]
    fn twice_the_rate_is_twice_as_good_and_twice_the_time_half_as_good() {
        assert_eq!(Quantity::TcpEight.ratio(20.0, 10.0), 2.0);
        assert_eq!(Quantity::Late.ratio(20.0, 10.0), 0.5);
        assert_eq!(Quantity::CostOne.ratio(5.0, 10.0), 2.0);
    }
}
