//! Replicas of one endpoint that serves a language model: how many requests
//! wait too long for a slot, and how many replica-hours that takes.
//!
//! A replica serves a fixed number of requests at once; each takes the time its
//! tokens take. What no slot is free for waits in one queue, first come, first
//! served. A replica is paid from its launch until it has stopped: while it
//! starts and while it drains, too.

mod clairvoyant;
mod service;

use muonic_scheduler::autoscale::{Aim, Autoscaler, Seen, Targets};
use serde::Serialize;

use crate::trace::Prompt;
use service::{Request, Run, Service};

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Policy {
    /// `muonic-scheduler`, aiming at the time requests wait.
    Learned,
    /// `muonic-scheduler`, aiming at so many requests at once in a replica.
    TargetConcurrency { per_replica: f64 },
    /// As many all the time.
    Fixed { replicas: u32 },
    /// Knows the future.
    Clairvoyant,
}

/// What a replica is and does, and what is asked of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Model {
    /// Requests that a replica serves at once.
    pub slots: u32,
    /// Tokens of a prompt read in a second.
    pub prefill_tokens_per_s: f64,
    /// Seconds for each token of an answer.
    pub token_s: f64,
    /// From launch to the first request.
    pub cold_start_s: f64,
    /// Each launch takes longer or shorter by up to this part, by the seed.
    pub cold_start_spread: f64,
    /// A request that waits no longer for a slot is within target.
    pub target_s: f64,
    pub min_replicas: u32,
    pub max_replicas: u32,
    /// Between two decisions.
    pub tick_s: f64,
    pub seed: u64,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            slots: 8,
            prefill_tokens_per_s: 8000.0,
            token_s: 0.03,
            cold_start_s: 30.0,
            cold_start_spread: 0.1,
            target_s: 10.0,
            min_replicas: 1,
            max_replicas: 1000,
            tick_s: 5.0,
            seed: 0,
        }
    }
}

/// Within target, in per cent, that the clairvoyant keeps and the others should.
pub const IN_SLO_PCT: f64 = 99.0;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    pub requests: usize,
    pub in_slo_pct: f64,
    pub replica_hours: f64,
    /// The cheapest schedule found that keeps 99 % within target and knows the future.
    pub clairvoyant_replica_hours: f64,
    pub clairvoyant_in_slo_pct: f64,
    /// Slots busy with the shortest 99 % of the requests: no schedule needs less.
    pub floor_replica_hours: f64,
    /// Of the replica-hours to the clairvoyant's.
    pub ratio: Option<f64>,
    pub wait_p50_s: f64,
    pub wait_p99_s: f64,
    pub wait_max_s: f64,
    pub launches: usize,
    pub replicas_max: u32,
    pub service_mean_s: f64,
    /// Replicas that stand ready when the trace begins, for every policy.
    pub replicas_first: u32,
}

/// Replays `prompts`, which are in the order of their times, from the first on.
pub fn outcome(prompts: &[Prompt], model: &Model, policy: Policy) -> Outcome {
    let requests = requests(prompts, model);
    let first = first_replicas(&requests, model);
    let service = Service { model, requests: &requests, first };
    let best = clairvoyant::search(&service);
    let run = match policy {
        Policy::Clairvoyant => best.clone(),
        Policy::Fixed { replicas } => Service { first: replicas, ..service }.run(model.seed, |_| replicas),
        Policy::Learned => {
            let aim = Aim::QueueTime { wait_s: model.target_s, slots: model.slots };
            driven(&service, aim)
        }
        Policy::TargetConcurrency { per_replica } => driven(&service, Aim::Concurrency { per_replica }),
    };
    let mut waits = run.waits_s.clone();
    waits.sort_by(f64::total_cmp);
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    Outcome {
        requests: requests.len(),
        in_slo_pct: run.in_slo_pct(model.target_s),
        replica_hours: run.replica_s / 3600.0,
        clairvoyant_replica_hours: best.replica_s / 3600.0,
        clairvoyant_in_slo_pct: best.in_slo_pct(model.target_s),
        floor_replica_hours: floor_s(&requests, model) / 3600.0,
        ratio: (best.replica_s > 0.0).then(|| run.replica_s / best.replica_s),
        wait_p50_s: at(0.5),
        wait_p99_s: at(0.99),
        wait_max_s: at(1.0),
        launches: run.launches,
        replicas_max: run.replicas_max,
        service_mean_s: requests.iter().map(|r| r.service_s).sum::<f64>() / requests.len() as f64,
        replicas_first: first,
    }
}

/// The decider that the server runs, at each tick.
fn driven(service: &Service<'_>, aim: Aim) -> Run {
    let model = service.model;
    let targets = Targets {
        min_replicas: model.min_replicas,
        max_replicas: model.max_replicas,
        aim,
        cold_start_s: model.cold_start_s,
    };
    let mut autoscaler = Autoscaler::default();
    service.run(model.seed, |seen: &Seen| autoscaler.decide(&targets, seen))
}

fn requests(prompts: &[Prompt], model: &Model) -> Vec<Request> {
    let begin_s = prompts.first().map_or(0.0, |prompt| prompt.at_s);
    let request = |prompt: &Prompt| Request {
        at_s: prompt.at_s - begin_s,
        service_s: prompt.tokens_in / model.prefill_tokens_per_s + prompt.tokens_out * model.token_s,
    };
    prompts.iter().map(request).collect()
}

/// A trace is a window of an endpoint that has been running: what its first
/// minute needs is there when it begins, with a quarter to spare.
fn first_replicas(requests: &[Request], model: &Model) -> u32 {
    let minute = requests.iter().take_while(|request| request.at_s < 60.0);
    let busy_s: f64 = minute.map(|request| request.service_s).sum();
    let needed = (1.25 * busy_s / 60.0 / f64::from(model.slots)).ceil() as u32;
    needed.max(1).clamp(model.min_replicas, model.max_replicas)
}

fn floor_s(requests: &[Request], model: &Model) -> f64 {
    let end_s = requests.last().map_or(0.0, |request| request.at_s);
    // What still runs when the trace ends is not counted for anybody.
    let mut busy: Vec<f64> =
        requests.iter().map(|r| r.service_s.min(end_s - r.at_s - model.target_s).max(0.0)).collect();
    busy.sort_by(f64::total_cmp);
    let served = (busy.len() as f64 * IN_SLO_PCT / 100.0) as usize;
    busy[..served].iter().fold(0.0, |sum, busy_s| sum + busy_s) / f64::from(model.slots)
}

#[cfg(test)]
mod tests;
