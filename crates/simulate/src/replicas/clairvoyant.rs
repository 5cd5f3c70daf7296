//! The cheapest schedule that knows the future, as far as a search finds it.
//!
//! A schedule says for each stretch of time how many replicas are to be ready;
//! it is run by the same simulation as any policy, its launches a cold start
//! ahead, and all it pays for is counted. The search begins with the demand
//! smoothed over several widths and scaled as low as 99 % within target allow;
//! then it lowers long stretches of the best of these by a replica, then ever
//! shorter ones, and keeps what serves as well and costs less.

use muonic_scheduler::autoscale::Seen;

use super::IN_SLO_PCT;
use super::service::{Run, Service};

/// Length of a stretch of the schedule.
const STEP_S: f64 = 10.0;
const WIDTHS_S: [f64; 5] = [10.0, 30.0, 60.0, 120.0, 300.0];
const HALVINGS: usize = 10;
/// Lengths of what is lowered at once, in steps.
const LOWERED: [usize; 5] = [60, 24, 9, 4, 2];
/// Replays that the search may take, also in requests and ticks, so that it ends for long traces too.
const EVENTS_MAX: usize = 20_000_000;
const REPLAYS_MAX: usize = 1500;

pub(super) fn search(service: &Service<'_>) -> Run {
    let demand = demand(service);
    let mut best: Option<(Vec<u32>, Run)> = None;
    for width_s in WIDTHS_S {
        let smooth = smoothed(&demand, (width_s / STEP_S) as usize);
        let (mut low, mut high) = (0.3, 3.0);
        for _ in 0..HALVINGS {
            let scale = (low + high) / 2.0;
            let (schedule, run) = scaled(service, &smooth, scale);
            if good(service, &run) {
                high = scale;
                if best.as_ref().is_none_or(|(_, best)| run.replica_s < best.replica_s) {
                    best = Some((schedule, run));
                }
            } else {
                low = scale;
            }
        }
    }
    // Where even three times the demand does not do, nothing cheaper is looked for.
    let (schedule, run) = best.unwrap_or_else(|| scaled(service, &smoothed(&demand, 1), 3.0));
    lowered(service, schedule, run)
}

fn lowered(service: &Service<'_>, mut schedule: Vec<u32>, mut best: Run) -> Run {
    let ticks = schedule.len() as f64 * STEP_S / service.model.tick_s;
    let mut left = (EVENTS_MAX / (service.requests.len() + ticks as usize + 1)).min(REPLAYS_MAX);
    for length in LOWERED {
        let mut at = 0;
        while at < schedule.len() {
            if left == 0 {
                return best;
            }
            left -= 1;
            let end = (at + length).min(schedule.len());
            let mut lower = schedule.clone();
            lower[at..end].iter_mut().for_each(|n| *n = n.saturating_sub(1).max(service.model.min_replicas));
            let run = scheduled(service, &lower);
            if lower != schedule && good(service, &run) && run.replica_s < best.replica_s {
                (schedule, best) = (lower, run);
            } else {
                at = end;
            }
        }
    }
    best
}

fn good(service: &Service<'_>, run: &Run) -> bool {
    run.in_slo_pct(service.model.target_s) >= IN_SLO_PCT
}

/// Mean number of requests at once, in replicas, were there slots for all.
fn demand(service: &Service<'_>) -> Vec<f64> {
    let end_s = service.requests.last().map_or(0.0, |request| request.at_s);
    let mut demand = vec![0.0; (end_s / STEP_S) as usize + 1];
    for request in service.requests {
        let (from_s, to_s) = (request.at_s, (request.at_s + request.service_s).min(end_s));
        for (step, demand) in demand.iter_mut().enumerate().skip((from_s / STEP_S) as usize) {
            let begin_s = step as f64 * STEP_S;
            if begin_s >= to_s {
                break;
            }
            *demand += (to_s.min(begin_s + STEP_S) - from_s.max(begin_s)).max(0.0);
        }
    }
    let whole = STEP_S * f64::from(service.model.slots);
    demand.iter_mut().for_each(|demand| *demand /= whole);
    demand
}

fn smoothed(demand: &[f64], width: usize) -> Vec<f64> {
    let reach = width / 2;
    (0..demand.len())
        .map(|at| {
            let near = &demand[at.saturating_sub(reach)..(at + reach + 1).min(demand.len())];
            near.iter().sum::<f64>() / near.len() as f64
        })
        .collect()
}

fn scaled(service: &Service<'_>, smooth: &[f64], scale: f64) -> (Vec<u32>, Run) {
    let schedule: Vec<u32> =
        smooth.iter().map(|demand| ((demand * scale).ceil() as u32).max(service.model.min_replicas)).collect();
    let run = scheduled(service, &schedule);
    (schedule, run)
}

/// Launches so early that what a stretch needs is ready when it begins, and
/// keeps what is needed again before a new one could be.
fn scheduled(service: &Service<'_>, schedule: &[u32]) -> Run {
    let mut exact = *service.model;
    exact.cold_start_spread = 0.0;
    let ahead_s = exact.cold_start_s + exact.tick_s;
    let wanted = |seen: &Seen| {
        let from = (seen.at_s / STEP_S) as usize;
        let to = ((seen.at_s + ahead_s) / STEP_S) as usize;
        let last = schedule.len() - 1;
        schedule[from.min(last)..=to.min(last)].iter().copied().max().unwrap_or(0)
    };
    // It would have had ready what it needs at once.
    let first = schedule.first().copied().unwrap_or(0).max(1).min(service.first);
    Service { model: &exact, first, ..*service }.run(0, wanted)
}
