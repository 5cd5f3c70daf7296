//! At which hours of the day requests come, over all endpoints.

const DAY_H: u64 = 24;
/// Requests of a week ago count a third.
const MEMORY_H: f64 = 7.0 * DAY_H as f64;

/// Decayed counts of requests by hour of the day, of all endpoints together.
/// Only whole hours count, so that the hour that runs does not look quiet.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fleet {
    /// Hours since the clock began, of the hour that runs.
    pub hour: u64,
    pub running: f64,
    pub by_hour: [f64; DAY_H as usize],
}

impl Fleet {
    /// A request came to one of the endpoints.
    pub fn request(&mut self, at_s: f64) {
        self.advance(at_s);
        self.running += 1.0;
    }

    /// Time has passed: closes the hours that are over.
    pub fn advance(&mut self, now_s: f64) {
        let hour = (now_s.max(0.0) / 3600.0) as u64;
        let passed = hour.saturating_sub(self.hour);
        if passed == 0 {
            return;
        }
        self.fade(1);
        self.by_hour[(self.hour % DAY_H) as usize] += self.running;
        self.running = 0.0;
        self.fade(passed - 1);
        self.hour = hour;
    }

    fn fade(&mut self, hours: u64) {
        let left = (-(hours as f64) / MEMORY_H).exp();
        self.by_hour.iter_mut().for_each(|count| *count *= left);
    }

    /// How busy the hour of this instant is: 1 is as any other.
    pub(super) fn hour_share(&self, at_s: f64) -> f64 {
        let mean = self.by_hour.iter().sum::<f64>() / DAY_H as f64;
        let hour = ((at_s.max(0.0) / 3600.0) as u64 % DAY_H) as usize;
        (self.by_hour[hour] + 0.2 * mean + 0.5) / (1.2 * mean + 0.5)
    }
}
