//! How long an endpoint that has no requests keeps its last replica, learned
//! from its own requests: [`History`] is what is remembered of them (600 bytes,
//! whatever their number), [`Fleet`] at which hours of the day requests come at all, [`decide`] whether a replica is worth having at an instant.
//!
//! There is one knob: what a cold start is worth, in seconds of an idle
//! replica. An idle replica saves a cold start with the chance that the next
//! request comes in the next second, so it is kept while chance × worth ≥ 1.
//! With true chances no rule has fewer idle seconds at as many cold starts,
//! whatever the number of endpoints; and a replica is woken before a request
//! where the chance grows again, as in the morning.
//!
//! The chance is `exp` of a quadratic form of [`SIGNALS`] numbers: what three
//! mixtures of exponential gaps expect (one takes the endpoint's gaps as
//! independent, two believe the more in the last ones), how long the endpoint
//! is idle, its last gap, its own and the fleet's hours of the day, and how
//! much is known. A histogram of gaps alone would not tell the end of a burst
//! from a pause in it.

mod fitted;
mod fleet;
mod history;

pub use fleet::Fleet;
pub use history::History;

use fitted::{CONSTANT, DEVIATION, DEVIATIONS_MAX, LINEAR, MEAN, PRODUCTS};

const SIGNALS: usize = 9;
const LOOKS: i32 = 60;
const LOOK_FIRST_S: f64 = 10.0;
/// A look is due this much early: sums of times are not exact.
const EARLY_S: f64 = 0.001;
/// After this long without a request an endpoint sleeps until the next.
pub const IDLE_S_MAX: f64 = 14.0 * 86_400.0;

/// How many replicas an endpoint may have, and what a cold start is worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Targets {
    /// With one or more, the endpoint never sleeps.
    pub min_replicas: u32,
    /// Seconds of an idle replica that one cold start less is worth.
    pub worth_s: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// Whether the endpoint should have a replica now.
    pub warm: bool,
    /// Ask again then, if no request has come; never means with the next request.
    pub again_at_s: Option<f64>,
}

/// Whether an endpoint keeps (or wakes) a replica; while requests run, always.
///
/// `now_s`: on the clock that `history` and `fleet` were told times of.
pub fn decide(history: &History, fleet: &Fleet, targets: &Targets, now_s: f64) -> Decision {
    if targets.min_replicas > 0 || history.running > 0 {
        return Decision { warm: true, again_at_s: None };
    }
    let Some(idle_since_s) = history.idle_since_s() else {
        return Decision { warm: false, again_at_s: None };
    };
    let idle_s = (now_s - idle_since_s).max(0.0) + EARLY_S;
    if idle_s >= IDLE_S_MAX {
        return Decision { warm: false, again_at_s: None };
    }
    let (from_s, to_s) = look(idle_s);
    let warm = pays(chance_per_s(history, fleet, idle_since_s, from_s, to_s), targets.worth_s);
    Decision { warm, again_at_s: Some(idle_since_s + to_s) }
}

/// Whether an idle replica is worth its time.
pub fn pays(chance_per_s: f64, worth_s: f64) -> bool {
    chance_per_s * worth_s >= 1.0
}

/// The chance, per second, that a request comes now: what [`decide`] weighs.
pub fn chance_at(history: &History, fleet: &Fleet, now_s: f64) -> f64 {
    let Some(idle_since_s) = history.idle_since_s() else { return 0.0 };
    let idle_s = (now_s - idle_since_s).max(0.0) + EARLY_S;
    if idle_s >= IDLE_S_MAX {
        return 0.0;
    }
    let (from_s, to_s) = look(idle_s);
    chance_per_s(history, fleet, idle_since_s, from_s, to_s)
}

/// The stretch of idle time that one look decides about: the k-th begins after
/// 10 s × q^(k-1), so that the looks at a gap are few however long it is.
fn look(idle_s: f64) -> (f64, f64) {
    let begin = |k: i32| if k == 0 { 0.0 } else { LOOK_FIRST_S * ratio().powi(k - 1) };
    let mut k = if idle_s < LOOK_FIRST_S { 0 } else { 1 + ((idle_s / LOOK_FIRST_S).ln() / ratio().ln()) as i32 };
    // Rounding may be off by one on a border, and the border belongs to the later look.
    while k > 0 && begin(k) > idle_s {
        k -= 1;
    }
    while begin(k + 1) <= idle_s {
        k += 1;
    }
    (begin(k), begin(k + 1))
}

fn ratio() -> f64 {
    (IDLE_S_MAX / LOOK_FIRST_S).powf(1.0 / f64::from(LOOKS - 1))
}

fn chance_per_s(history: &History, fleet: &Fleet, idle_since_s: f64, from_s: f64, to_s: f64) -> f64 {
    let middle_s = if from_s == 0.0 { 3.0 } else { (from_s * to_s).sqrt() };
    let at_s = idle_since_s + middle_s;
    let [alone, believing, steady] = history.mixtures_per_s(middle_s);
    let signals: [f64; SIGNALS] = [
        alone.ln(),
        believing.ln(),
        steady.ln(),
        (middle_s + 10.0).ln(),
        (history.last_gap_s() + 10.0).ln(),
        history.hour_share(at_s).ln(),
        fleet.hour_share(at_s).ln(),
        fleet.hour_share(at_s + 3600.0).ln(),
        history.known().ln(),
    ];
    let mut unit = [0.0; SIGNALS];
    for ((unit, signal), (mean, deviation)) in unit.iter_mut().zip(signals).zip(MEAN.iter().zip(DEVIATION)) {
        *unit = ((signal - mean) / deviation).clamp(-DEVIATIONS_MAX, DEVIATIONS_MAX);
    }
    let mut sum = CONSTANT;
    let mut products = PRODUCTS.iter();
    for (i, a) in unit.iter().enumerate() {
        sum += LINEAR[i] * a;
        sum += unit[i..].iter().zip(&mut products).map(|(b, product)| a * b * product).sum::<f64>();
    }
    sum.clamp(-30.0, 8.0).exp()
}

#[cfg(test)]
mod tests;
