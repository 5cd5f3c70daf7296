//! An average that forgets.

/// Sums of a quantity and of what it is counted over (seconds, requests), both
/// fading: true from the first observation on, without a wrong beginning.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Average {
    sum: f64,
    over: f64,
}

impl Average {
    pub(super) fn add(&mut self, amount: f64, over: f64, passed_s: f64, memory_s: f64) {
        let left = (-passed_s / memory_s).exp();
        self.sum = self.sum * left + amount;
        self.over = self.over * left + over;
    }

    pub(super) fn value(&self) -> f64 {
        self.with(0.0)
    }

    /// With as much more to be counted over.
    pub(super) fn with(&self, over: f64) -> f64 {
        let over = self.over + over;
        if over > 0.0 { self.sum / over } else { 0.0 }
    }

    /// What it is counted over.
    pub(super) fn span(&self) -> f64 {
        self.over
    }
}
