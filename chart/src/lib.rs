//! Figures for people: medians with their spread, plots of bars as SVG, and a page in HTML that has both.
//!
//! `twillctl bench` draws by it, and so do the benchmarks of the tests. Nothing is measured here.

pub mod figures;
pub mod page;
pub mod plot;
pub mod spread;

pub use spread::Spread;
