//! Numbers that look random and are the same for the same seed, for jitter and for discriminators: so every history can be played again.
//!
//! `session`, `bfd` and `speaker` draw from it; the daemon gives the seeds.

/// A stream of them (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one: all values are equally likely.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// Half of it.
    pub fn draw_half(&mut self) -> u32 {
        u32::try_from(self.draw() >> 32).expect("half of the bits")
    }
}
