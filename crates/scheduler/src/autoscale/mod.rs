//! How many replicas an endpoint should have, from what is seen of it.
//!
//! What comes per second is followed by two averages, a fast and a slow one,
//! and their difference carried on to when a replica launched now would be
//! ready; how long a request takes is told by Little's law from what runs and
//! what was done. Their product is the load, which a queue that waits does not
//! inflate. To it a margin is added that starts wide, shrinks while all goes
//! well and grows while requests wait; then as many replicas are wanted as keep
//! the wait within the aim by Erlang's formula. A replica is given up only once
//! one less has been enough for a while.
//!
//! It is asked at regular times and knows what it saw last; the same
//! observations always give the same answers.

mod average;

use average::Average;

/// What one replica should have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Aim {
    /// Requests in it at once.
    Concurrency { per_replica: f64 },
    /// Requests that come to it in a second.
    Rate { per_replica: f64 },
    /// So many slots, for one of which no request should wait longer.
    QueueTime { wait_s: f64, slots: u32 },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Targets {
    /// Zero allows that there is none: after [`SILENT_S`] without a request.
    pub min_replicas: u32,
    pub max_replicas: u32,
    pub aim: Aim,
    /// From launching a replica to its first request.
    pub cold_start_s: f64,
}

/// What is seen of an endpoint at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Seen {
    pub at_s: f64,
    pub ready: u32,
    pub starting: u32,
    pub running: u32,
    pub queued: u32,
    /// How long the request that waits longest has waited.
    pub oldest_wait_s: f64,
    /// Requests that came since the endpoint began.
    pub arrived: u64,
}

/// Requests older than this count a third in the fast average.
const FAST_S: f64 = 120.0;
const SLOW_S: f64 = 600.0;
/// So long must have been seen before a slope is believed, and no forecast is
/// more than this many times what comes now.
const SLOPE_AFTER_S: f64 = 20.0;
const GROWTH_MAX: f64 = 3.0;
const SERVICE_S: f64 = 150.0;
/// In which time what waits should be done with.
const BACKLOG_S: f64 = 60.0;
/// How long one replica less must have been enough.
const HOLD_S: f64 = 60.0;
const MARGIN_FIRST: f64 = 0.2;
/// The least margin where no wait is allowed, how much less it is for a wait as
/// long as a cold start, and the least of all.
const MARGIN_TIGHT: f64 = 0.2;
const MARGIN_PATIENT: f64 = 0.9;
const MARGIN_MIN: f64 = -0.1;
const MARGIN_MAX: f64 = 1.0;
/// Gained in each second in which the oldest request has waited for more than
/// [`ALARM`] of the aim.
const MARGIN_GAIN: f64 = 0.001;
const ALARM: f64 = 0.6;
/// Part of the way to the least margin in each second without.
const MARGIN_LOSS: f64 = 0.005;
/// Part of the requests that may wait longer than aimed at, by Erlang's
/// formula. It supposes that times vary more than those of most models do.
const LATE: f64 = 0.3;
/// Where the last replica may go, it goes after this long without a request,
/// unless [`crate::keep_alive`] decides about it.
pub const SILENT_S: f64 = 300.0;
/// More slots than this are reckoned without waits: they hardly vary.
const SLOTS_MAX: u32 = 20_000;

/// What is remembered of an endpoint between two observations: plain numbers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Autoscaler {
    last: Option<Seen>,
    fast: Average,
    slow: Average,
    /// Request-seconds over requests done.
    service: Average,
    margin: Option<f64>,
    /// Since when fewer replicas would have been enough, and how many of them.
    enough: Option<(f64, u32)>,
    busy_s: Option<f64>,
}

impl Autoscaler {
    /// How many replicas there should be, those that start among them; to be
    /// asked every few seconds.
    pub fn decide(&mut self, targets: &Targets, seen: &Seen) -> u32 {
        self.observe(targets, seen);
        let most = targets.max_replicas.max(targets.min_replicas);
        let bounded = |replicas: u32| replicas.clamp(targets.min_replicas, most);
        let awake = self.busy_s.is_some_and(|busy_s| seen.at_s - busy_s < SILENT_S);
        let wanted = if awake { self.needed(targets, seen, most).max(1) } else { 0 };
        self.held(seen, bounded(wanted), bounded(seen.ready.saturating_add(seen.starting)))
    }

    fn observe(&mut self, targets: &Targets, seen: &Seen) {
        let comes = self.last.map_or(seen.arrived, |last| seen.arrived.saturating_sub(last.arrived)) > 0;
        if comes || seen.running > 0 || seen.queued > 0 {
            self.busy_s = Some(seen.at_s);
        }
        if let Some(last) = self.last {
            let passed_s = seen.at_s - last.at_s;
            if passed_s > 0.0 {
                let arrived = seen.arrived.saturating_sub(last.arrived) as f64;
                let inside = |seen: &Seen| f64::from(seen.running) + f64::from(seen.queued);
                let done = (arrived + inside(&last) - inside(seen)).max(0.0);
                let ran_s = 0.5 * (f64::from(last.running) + f64::from(seen.running)) * passed_s;
                self.fast.add(arrived, passed_s, passed_s, FAST_S);
                self.slow.add(arrived, passed_s, passed_s, SLOW_S);
                self.service.add(ran_s, done, passed_s, SERVICE_S);
                self.learn(targets, seen, passed_s);
            }
        }
        self.last = Some(*seen);
    }

    fn learn(&mut self, targets: &Targets, seen: &Seen, passed_s: f64) {
        let margin = self.margin.unwrap_or(MARGIN_FIRST);
        let least = margin_least(targets);
        let late = match targets.aim {
            Aim::QueueTime { wait_s, .. } => seen.oldest_wait_s > wait_s * ALARM,
            Aim::Concurrency { .. } | Aim::Rate { .. } => seen.queued > 0 && seen.ready > 0,
        };
        let change =
            if late { MARGIN_GAIN * passed_s } else { (MARGIN_MIN - margin) * (1.0 - (-MARGIN_LOSS * passed_s).exp()) };
        self.margin = Some((margin + change).clamp(least, MARGIN_MAX));
    }

    /// Requests per second when a replica launched now is ready.
    fn rate_ahead(&self, cold_start_s: f64) -> f64 {
        let (fast, slow) = (self.fast.value(), self.slow.value());
        // The ages of what the two averages tell of differ by as much as their spans.
        let apart_s = (self.slow.span() - self.fast.span()).max(1.0);
        let slope = if self.slow.span() > SLOPE_AFTER_S { ((fast - slow) / apart_s).max(0.0) } else { 0.0 };
        (fast + slope * (self.fast.span() + cold_start_s)).min(GROWTH_MAX * fast)
    }

    fn needed(&self, targets: &Targets, seen: &Seen, most: u32) -> u32 {
        let more = 1.0 + self.margin.unwrap_or(MARGIN_FIRST);
        let rate = self.rate_ahead(targets.cold_start_s) * more;
        // Half of each request that runs has been seen.
        let service_s = self.service.with(0.5 * f64::from(seen.running)).max(0.001);
        let load = rate * service_s + f64::from(seen.queued) * (service_s / BACKLOG_S).min(1.0);
        match targets.aim {
            Aim::Concurrency { per_replica } => whole(load / per_replica),
            Aim::Rate { per_replica } => whole(rate / per_replica),
            Aim::QueueTime { wait_s, slots } => within_wait(load, slots.max(1), wait_s / service_s, most),
        }
    }

    /// Up at once; down when fewer have been enough for [`HOLD_S`], and then
    /// to the most that was wanted meanwhile.
    fn held(&mut self, seen: &Seen, wanted: u32, live: u32) -> u32 {
        if wanted >= live {
            self.enough = None;
            return wanted;
        }
        let (since_s, most) = self.enough.map_or((seen.at_s, wanted), |(since_s, most)| (since_s, most.max(wanted)));
        if seen.at_s - since_s >= HOLD_S {
            self.enough = None;
            return most.min(live);
        }
        self.enough = Some((since_s, most));
        live
    }
}

/// A wait that is long beside a cold start forgives a load that was foreseen
/// too low: what is missing is there before anybody has waited too long.
fn margin_least(targets: &Targets) -> f64 {
    match targets.aim {
        Aim::QueueTime { wait_s, .. } => {
            let patience = wait_s / targets.cold_start_s.max(1.0);
            (MARGIN_TIGHT - MARGIN_PATIENT * patience).clamp(MARGIN_MIN, MARGIN_TIGHT)
        }
        // Their targets say themselves how much there is to spare.
        Aim::Concurrency { .. } | Aim::Rate { .. } => 0.0,
    }
}

/// The least replicas with which no more than [`LATE`] of the requests wait
/// longer than `wait` times what a request takes, by Erlang's formula C.
fn within_wait(load: f64, slots: u32, wait: f64, most: u32) -> u32 {
    let stable = whole(load / f64::from(slots));
    if f64::from(slots) * f64::from(stable) > f64::from(SLOTS_MAX) {
        return stable;
    }
    let (mut blocked, mut servers) = (1.0, 0.0);
    for replicas in 1..=most.min(SLOTS_MAX) {
        for _ in 0..slots {
            servers += 1.0;
            blocked = load * blocked / (servers + load * blocked);
        }
        if servers > load {
            let waits = blocked / (1.0 - load / servers * (1.0 - blocked));
            if waits * (-(servers - load) * wait).exp() <= LATE {
                return replicas;
            }
        }
    }
    most
}

/// Saturates; what is no number is none.
fn whole(replicas: f64) -> u32 {
    replicas.ceil() as u32
}

#[cfg(test)]
mod tests;
