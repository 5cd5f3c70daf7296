//! What is remembered of the requests of one endpoint.

/// Exponential gaps that the mixtures are made of.
const GAPS: usize = 14;
const GAP_MIN_S: f64 = 5.0;
const GAP_MAX_S: f64 = 4.0 * 86_400.0;
/// What all gaps count together before the first is seen.
const PRIOR: f64 = 5.0;
/// How much of what the last gap told is forgotten with the next request.
const FORGOTTEN: [f64; 2] = [0.5, 0.2];
/// The gap that is taken for the last one before there is one.
const GAP_UNKNOWN_S: f64 = 7200.0;
const HOURS: usize = 24;
const HOURS_MEMORY_S: f64 = 4.0 * 86_400.0;
const HOUR_PRIOR: f64 = 0.3;

/// The requests of one endpoint, in the size of a few of them. All fields are
/// plain numbers, to be stored as they are.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// How many gaps were of each of the exponential kinds.
    pub gaps: [f64; GAPS],
    /// What kind the present gap is, as two degrees of belief in the last one.
    pub present: [[f64; GAPS]; 2],
    pub last_gap_s: Option<f64>,
    pub last_request_s: Option<f64>,
    /// When the last request ended; none before the first has.
    pub last_end_s: Option<f64>,
    /// Requests that run.
    pub running: u32,
    pub by_hour: [f64; HOURS],
}

impl Default for History {
    fn default() -> Self {
        Self {
            gaps: [PRIOR / GAPS as f64; GAPS],
            present: [[1.0 / GAPS as f64; GAPS]; 2],
            last_gap_s: None,
            last_request_s: None,
            last_end_s: None,
            running: 0,
            by_hour: [HOUR_PRIOR; HOURS],
        }
    }
}

impl History {
    /// A request came. A clock that runs backwards counts as standing.
    pub fn request(&mut self, at_s: f64) {
        if self.running > 0 {
            self.gap(0.0);
        } else if let Some(end_s) = self.last_end_s {
            self.gap((at_s - end_s).max(0.0));
        }
        if let Some(last_s) = self.last_request_s {
            let left = (-(at_s - last_s).max(0.0) / HOURS_MEMORY_S).exp();
            self.by_hour.iter_mut().for_each(|count| *count *= left);
        }
        self.by_hour[hour(at_s)] += 1.0;
        self.last_request_s = Some(self.last_request_s.map_or(at_s, |before| before.max(at_s)));
        self.running = self.running.saturating_add(1);
    }

    /// A request ended.
    pub fn ended(&mut self, at_s: f64) {
        self.running = self.running.saturating_sub(1);
        self.last_end_s = Some(self.last_end_s.map_or(at_s, |before| before.max(at_s)));
    }

    /// Since when no request runs; none while one does, and before the first.
    pub fn idle_since_s(&self) -> Option<f64> {
        self.last_end_s.filter(|_| self.running == 0)
    }

    fn gap(&mut self, gap_s: f64) {
        let seen = posterior(&self.gaps, gap_s);
        self.gaps.iter_mut().zip(seen).for_each(|(kind, seen)| *kind += seen);
        let all: f64 = self.gaps.iter().sum();
        for (present, forgotten) in self.present.iter_mut().zip(FORGOTTEN) {
            let told = posterior(present, gap_s);
            for ((present, told), kind) in present.iter_mut().zip(told).zip(self.gaps) {
                *present = (1.0 - forgotten) * told + forgotten * kind / all;
            }
        }
        self.last_gap_s = Some(gap_s);
    }

    /// Chance per second of a request after `idle_s`, as each mixture sees it.
    pub(super) fn mixtures_per_s(&self, idle_s: f64) -> [f64; 3] {
        [&self.gaps, &self.present[0], &self.present[1]].map(|kinds| {
            let left: [f64; GAPS] = std::array::from_fn(|k| kinds[k] * (-idle_s * rate_per_s(k)).exp());
            let coming: f64 = left.iter().enumerate().map(|(k, left)| left * rate_per_s(k)).sum();
            let all: f64 = left.iter().sum();
            // So long a silence belongs to the slowest kind.
            if all > f64::MIN_POSITIVE { coming / all } else { rate_per_s(GAPS - 1) }
        })
    }

    pub(super) fn last_gap_s(&self) -> f64 {
        self.last_gap_s.unwrap_or(GAP_UNKNOWN_S)
    }

    /// How many gaps are known, with the prior.
    pub(super) fn known(&self) -> f64 {
        self.gaps.iter().sum()
    }

    /// How busy the hour of this instant is for this endpoint: 1 is as any other.
    pub(super) fn hour_share(&self, at_s: f64) -> f64 {
        let mean = self.by_hour.iter().sum::<f64>() / HOURS as f64;
        (self.by_hour[hour(at_s)] + HOUR_PRIOR) / (mean + HOUR_PRIOR)
    }
}

/// Of which kind a gap was, by Bayes.
fn posterior(kinds: &[f64; GAPS], gap_s: f64) -> [f64; GAPS] {
    let likely: [f64; GAPS] = std::array::from_fn(|k| kinds[k] * rate_per_s(k) * (-gap_s * rate_per_s(k)).exp());
    let all: f64 = likely.iter().sum();
    if all > f64::MIN_POSITIVE {
        likely.map(|one| one / all)
    } else {
        std::array::from_fn(|k| if k == GAPS - 1 { 1.0 } else { 0.0 })
    }
}

fn rate_per_s(kind: usize) -> f64 {
    let share = kind as f64 / (GAPS - 1) as f64;
    1.0 / (GAP_MIN_S * (GAP_MAX_S / GAP_MIN_S).powf(share))
}

fn hour(at_s: f64) -> usize {
    (at_s.max(0.0) / 3600.0) as usize % HOURS
}
