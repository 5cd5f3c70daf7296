//! The deciders, driven over recorded traces: `muonic simulate`.
//!
//! Nothing here decides anything: a trace is read ([`trace`]), its requests are
//! replayed against `muonic-scheduler`, the very code that the server runs, and
//! what that cost is set beside what a clairvoyant would have needed for the
//! same service. Pure: a trace comes in as text, a report goes out, and what is
//! random comes from a seed. What is computed, and by which formulas, is
//! written in `docs/simulate.md`.
//!
//! `keep_alive` replays requests to many endpoints (when does each sleep?),
//! `replicas` the requests of one (how many replicas has it?).

pub mod keep_alive;
pub mod replicas;
pub mod trace;

/// A number that depends on nothing but the seed and how many came before.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Between 0 and 1, by SplitMix64.
    pub(crate) fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }
}
