//! Keep-alive of many endpoints: how many requests find theirs asleep, and how
//! long the replicas of idle ones stay up.
//!
//! Requests begin and end when the trace says; a replica serves any number at
//! once. What is counted is idle time alone: the time while requests run costs
//! every policy the same. The first request to an endpoint is cold under any.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use muonic_scheduler::keep_alive::{Fleet, History, Targets, chance_at, decide, pays};
use serde::Serialize;

use crate::trace::Call;

const HOUR_S: f64 = 3600.0;

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Policy {
    /// `muonic-scheduler`, where a cold start is worth so many seconds.
    Learned { worth_s: f64 },
    /// As long after the last request, for all endpoints.
    Fixed { keep_s: f64 },
    /// Knows the future: has this share of cold requests (or as near below as
    /// can be), and keeps the shortest gaps.
    Clairvoyant { cold_pct: f64 },
}

/// Idle time, from `from_s` on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    pub endpoints: usize,
    pub requests: usize,
    pub cold: usize,
    pub cold_pct: f64,
    /// Idle hours with a replica up, until the last request of the trace.
    pub warm_hours: f64,
    /// The least that keeping needs, not waking ahead, for no more cold requests.
    pub clairvoyant_warm_hours: f64,
    /// What the same time for all endpoints needs for no more cold requests.
    pub fixed_warm_hours: f64,
    /// How much of the way from fixed to clairvoyant was gone.
    pub gap_closed_pct: Option<f64>,
    /// Hours in which requests ran, the same for all.
    pub busy_hours: f64,
    /// Replicas woken before a request, and the sleep begun again unused.
    pub woken_early: usize,
    /// The learned policy's knob.
    pub worth_s: Option<f64>,
    pub keep_alive_s: Option<f64>,
}

/// A stretch of idle time of one endpoint in which nothing new was learned.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    endpoint: usize,
    chance_per_s: f64,
    idle_s: f64,
    /// A request ended it.
    hit: bool,
}

/// Idle time of an endpoint that a request ended, or the trace.
#[derive(Debug, Clone, Copy)]
struct Gap {
    idle_s: f64,
    hit: bool,
}

/// A trace, replayed once: what it costs under any knob can be told from that.
#[derive(Debug)]
pub struct Replay {
    endpoints: usize,
    requests: usize,
    first: usize,
    busy_s: f64,
    gaps: Vec<Gap>,
    stretches: Vec<Stretch>,
}

#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
enum What {
    Ends,
    Begins(usize),
    Look,
}

/// Ordered by time, then as at one instant things happen, then by endpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Event {
    at_s: f64,
    what: What,
    endpoint: usize,
    generation: u64,
}

impl Eq for Event {}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let rank = |what| match what {
            What::Ends => 0,
            What::Begins(_) => 1,
            What::Look => 2,
        };
        let order = self.at_s.total_cmp(&other.at_s).then(rank(self.what).cmp(&rank(other.what)));
        let call = |what| if let What::Begins(call) = what { call } else { 0 };
        order.then(call(self.what).cmp(&call(other.what))).then(self.endpoint.cmp(&other.endpoint))
    }
}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// One endpoint while its trace runs.
#[derive(Debug, Clone, Default)]
struct Endpoint {
    history: History,
    /// Counts requests, so that looks planned before one are dropped.
    generation: u64,
    /// The stretch that runs: since when, and its chance.
    open: Option<(f64, f64)>,
    idle_since_s: Option<f64>,
    busy_since_s: f64,
}

impl Replay {
    /// Replays `calls`, which are in the order of their times. Those before
    /// `from_s` are learned from but not counted.
    pub fn new(calls: &[Call], from_s: f64) -> Self {
        let count = calls.iter().map(|call| call.endpoint + 1).max().unwrap_or(0);
        let end_s = calls.last().map_or(0.0, |call| call.at_s);
        let mut replay =
            Self { endpoints: 0, requests: 0, first: 0, busy_s: 0.0, gaps: Vec::new(), stretches: Vec::new() };
        let mut endpoints = vec![Endpoint::default(); count];
        let mut fleet = Fleet::default();
        // Looking needs no targets: when to ask again does not depend on them.
        let targets = Targets { min_replicas: 0, worth_s: 0.0 };
        let mut events: BinaryHeap<Reverse<Event>> = calls
            .iter()
            .enumerate()
            .map(|(n, call)| {
                Reverse(Event { at_s: call.at_s, what: What::Begins(n), endpoint: call.endpoint, generation: 0 })
            })
            .collect();
        while let Some(Reverse(event)) = events.pop() {
            if event.at_s > end_s {
                break;
            }
            fleet.advance(event.at_s);
            let endpoint = &mut endpoints[event.endpoint];
            match event.what {
                What::Begins(n) => {
                    let counted = event.at_s >= from_s;
                    replay.close(endpoint, event.endpoint, event.at_s, from_s, true);
                    if endpoint.history.last_request_s.is_none() {
                        replay.endpoints += 1;
                        replay.first += usize::from(counted);
                    }
                    replay.requests += usize::from(counted);
                    if endpoint.history.running == 0 {
                        endpoint.busy_since_s = event.at_s;
                    }
                    endpoint.history.request(event.at_s);
                    fleet.request(event.at_s);
                    endpoint.generation += 1;
                    let ends = Event { at_s: event.at_s + calls[n].runs_s, what: What::Ends, ..event };
                    events.push(Reverse(ends));
                    continue;
                }
                What::Ends => {
                    endpoint.history.ended(event.at_s);
                    if endpoint.history.running > 0 {
                        continue;
                    }
                    replay.busy_s += (event.at_s - endpoint.busy_since_s.max(from_s)).max(0.0);
                    endpoint.idle_since_s = Some(event.at_s);
                }
                What::Look if event.generation != endpoint.generation => continue,
                What::Look => {}
            }
            replay.end_stretch(endpoint, event.endpoint, event.at_s, from_s, false);
            let chance_per_s = chance_at(&endpoint.history, &fleet, event.at_s);
            endpoint.open = Some((event.at_s, chance_per_s));
            if let Some(at_s) = decide(&endpoint.history, &fleet, &targets, event.at_s).again_at_s {
                let look = Event { at_s, what: What::Look, endpoint: event.endpoint, generation: endpoint.generation };
                events.push(Reverse(look));
            }
        }
        for (number, endpoint) in endpoints.iter_mut().enumerate() {
            replay.close(endpoint, number, end_s, from_s, false);
        }
        replay
    }

    fn end_stretch(&mut self, endpoint: &mut Endpoint, number: usize, now_s: f64, from_s: f64, hit: bool) {
        if let Some((since_s, chance_per_s)) = endpoint.open.take()
            && now_s >= from_s
        {
            let idle_s = now_s - since_s.max(from_s);
            self.stretches.push(Stretch { endpoint: number, chance_per_s, idle_s, hit });
        }
    }

    /// Ends an idle time, by a request or with the trace.
    fn close(&mut self, endpoint: &mut Endpoint, number: usize, now_s: f64, from_s: f64, hit: bool) {
        self.end_stretch(endpoint, number, now_s, from_s, hit);
        match endpoint.idle_since_s.take() {
            Some(since_s) if now_s >= from_s => {
                self.gaps.push(Gap { idle_s: now_s - since_s.max(from_s), hit });
            }
            _ => {}
        }
    }

    /// How many requests may be cold.
    fn cold_allowed(&self, cold_pct: f64) -> usize {
        (cold_pct / 100.0 * self.requests as f64 + 1e-9) as usize
    }

    /// The least share of cold requests: the first of each endpoint.
    pub fn cold_pct_least(&self) -> f64 {
        100.0 * self.first as f64 / self.requests.max(1) as f64
    }

    /// The smallest knob with which no more than this share is cold.
    pub fn worth_for(&self, cold_pct: f64) -> f64 {
        let mut by_chance: Vec<f64> = self.stretches.iter().filter(|s| s.hit).map(|s| s.chance_per_s).collect();
        by_chance.sort_by(|a, b| b.total_cmp(a));
        let keep = self.must_keep(by_chance.len(), cold_pct);
        // The least chance that must be kept; a little more, for rounding.
        keep.checked_sub(1).map_or(0.0, |last| (1.0 + 1e-12) / by_chance[last])
    }

    /// The shortest time for all with which no more than this share is cold.
    pub fn keep_for(&self, cold_pct: f64) -> f64 {
        let hits = self.hits();
        let keep = self.must_keep(hits.len(), cold_pct);
        keep.checked_sub(1).map_or(0.0, |last| hits[last])
    }

    /// Of so many gaps, those that must be kept warm.
    fn must_keep(&self, gaps: usize, cold_pct: f64) -> usize {
        let cold_gaps = self.cold_allowed(cold_pct).saturating_sub(self.first);
        gaps.saturating_sub(cold_gaps)
    }

    /// Gaps that a request ended, shortest first.
    fn hits(&self) -> Vec<f64> {
        let mut hits: Vec<f64> = self.gaps.iter().filter(|gap| gap.hit).map(|gap| gap.idle_s).collect();
        hits.sort_by(f64::total_cmp);
        hits
    }

    pub fn outcome(&self, policy: Policy) -> Outcome {
        let (missed, warm_s, woken_early) = match policy {
            Policy::Learned { worth_s } => self.learned(worth_s),
            Policy::Fixed { keep_s } => {
                let missed = self.gaps.iter().filter(|gap| gap.hit && gap.idle_s > keep_s).count();
                (missed, self.fixed_s(keep_s), 0)
            }
            Policy::Clairvoyant { cold_pct } => {
                let hits = self.hits();
                let keep = self.must_keep(hits.len(), cold_pct);
                (hits.len() - keep, hits[..keep].iter().sum(), 0)
            }
        };
        let cold = self.first + missed;
        let hits = self.hits();
        let kept = hits.len() - missed;
        let clairvoyant_s: f64 = hits[..kept].iter().sum();
        let fixed_s = self.fixed_s(kept.checked_sub(1).map_or(0.0, |last| hits[last]));
        let between_s = fixed_s - clairvoyant_s;
        Outcome {
            endpoints: self.endpoints,
            requests: self.requests,
            cold,
            cold_pct: 100.0 * cold as f64 / self.requests.max(1) as f64,
            warm_hours: warm_s / HOUR_S,
            clairvoyant_warm_hours: clairvoyant_s / HOUR_S,
            fixed_warm_hours: fixed_s / HOUR_S,
            gap_closed_pct: (between_s > 0.0).then(|| 100.0 * (fixed_s - warm_s) / between_s),
            busy_hours: self.busy_s / HOUR_S,
            woken_early,
            worth_s: if let Policy::Learned { worth_s } = policy { Some(worth_s) } else { None },
            keep_alive_s: if let Policy::Fixed { keep_s } = policy { Some(keep_s) } else { None },
        }
    }

    fn fixed_s(&self, keep_s: f64) -> f64 {
        self.gaps.iter().map(|gap| gap.idle_s.min(keep_s)).sum()
    }

    /// Missed requests, warm seconds, replicas woken in vain or in time.
    fn learned(&self, worth_s: f64) -> (usize, f64, usize) {
        let warm = |stretch: &Stretch| pays(stretch.chance_per_s, worth_s);
        let missed = self.stretches.iter().filter(|s| s.hit && !warm(s)).count();
        let warm_s = self.stretches.iter().filter(|s| warm(s)).map(|s| s.idle_s).sum();
        let mut asleep = vec![false; self.stretches.iter().map(|s| s.endpoint + 1).max().unwrap_or(0)];
        let mut woken = 0;
        for stretch in &self.stretches {
            let asleep = &mut asleep[stretch.endpoint];
            woken += usize::from(*asleep && warm(stretch));
            // A request wakes it in any case.
            *asleep = !warm(stretch) && !stretch.hit;
        }
        (missed, warm_s, woken)
    }
}

#[cfg(test)]
mod tests;
