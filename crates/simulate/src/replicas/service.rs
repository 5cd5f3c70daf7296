//! The queue, the slots and the replicas, moved from event to event.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use muonic_scheduler::autoscale::Seen;

use super::Model;
use crate::Random;

#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub at_s: f64,
    pub service_s: f64,
}

/// An endpoint and its requests.
#[derive(Clone, Copy)]
pub(super) struct Service<'a> {
    pub model: &'a Model,
    pub requests: &'a [Request],
    pub first: u32,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Run {
    /// Of each request, in order; of those that never began, until the trace ended.
    pub waits_s: Vec<f64>,
    pub replica_s: f64,
    pub launches: usize,
    pub replicas_max: u32,
}

impl Run {
    pub(super) fn in_slo_pct(&self, target_s: f64) -> f64 {
        100.0 - 100.0 * self.late(target_s) as f64 / self.waits_s.len() as f64
    }

    pub(super) fn late(&self, target_s: f64) -> usize {
        // Sums of times are not exact.
        self.waits_s.iter().filter(|wait_s| **wait_s > target_s + 1e-6).count()
    }
}

#[derive(Debug, Clone, Copy)]
struct Replica {
    launched_s: f64,
    ready_s: f64,
    busy: u32,
    draining: bool,
    stopped_s: Option<f64>,
}

impl Replica {
    fn takes(&self, now_s: f64, slots: u32) -> bool {
        !self.draining && self.ready_s <= now_s && self.busy < slots
    }
}

/// A time as a key of a heap: none is negative, so its bits are in its order.
fn key(at_s: f64) -> u64 {
    at_s.max(0.0).to_bits()
}

struct Moving<'a> {
    service: &'a Service<'a>,
    random: Random,
    replicas: Vec<Replica>,
    /// Those of `replicas` that have not stopped.
    live: Vec<usize>,
    queue: VecDeque<usize>,
    /// When a slot becomes free or a replica ready, and of which.
    events: BinaryHeap<Reverse<(u64, bool, usize)>>,
    running: u32,
    run: Run,
}

impl Service<'_> {
    /// Replays all requests; `wanted` is asked at each tick how many replicas there should be.
    pub(super) fn run(&self, seed: u64, mut wanted: impl FnMut(&Seen) -> u32) -> Run {
        let end_s = self.requests.last().map_or(0.0, |request| request.at_s);
        let mut moving = Moving {
            service: self,
            random: Random::new(seed),
            replicas: Vec::new(),
            live: Vec::new(),
            queue: VecDeque::new(),
            events: BinaryHeap::new(),
            running: 0,
            run: Run { waits_s: vec![0.0; self.requests.len()], ..Run::default() },
        };
        for _ in 0..self.first {
            moving.launch(0.0, 0.0);
        }
        moving.run.launches = 0;
        let mut next = 0;
        let mut tick = 0u64;
        loop {
            let tick_s = tick as f64 * self.model.tick_s;
            let arrives_s = self.requests.get(next).map_or(f64::INFINITY, |request| request.at_s);
            let event_s = moving.events.peek().map_or(f64::INFINITY, |Reverse((at, ..))| f64::from_bits(*at));
            let now_s = tick_s.min(arrives_s).min(event_s);
            if now_s > end_s {
                break;
            }
            if event_s <= now_s {
                moving.happen(now_s);
            } else if arrives_s <= now_s {
                moving.queue.push_back(next);
                next += 1;
                moving.serve(now_s);
            } else {
                let seen = moving.seen(now_s, next);
                moving.scale(now_s, wanted(&seen));
                tick += 1;
            }
        }
        moving.finish(end_s)
    }
}

impl Moving<'_> {
    fn launch(&mut self, now_s: f64, cold_start_s: f64) {
        let number = self.replicas.len();
        let ready_s = now_s + cold_start_s;
        self.replicas.push(Replica { launched_s: now_s, ready_s, busy: 0, draining: false, stopped_s: None });
        self.live.push(number);
        self.events.push(Reverse((key(ready_s), false, number)));
        self.run.launches += 1;
        self.run.replicas_max = self.run.replicas_max.max(self.live.len() as u32);
    }

    fn happen(&mut self, now_s: f64) {
        let Some(Reverse((_, freed, number))) = self.events.pop() else { return };
        if freed {
            self.running -= 1;
            let replica = &mut self.replicas[number];
            replica.busy -= 1;
            if replica.draining && replica.busy == 0 {
                self.stop(number, now_s);
            }
        }
        self.serve(now_s);
    }

    fn stop(&mut self, number: usize, now_s: f64) {
        self.replicas[number].stopped_s = Some(now_s);
        self.live.retain(|live| *live != number);
    }

    /// Begins what waits, each in the replica with the fewest requests in it.
    fn serve(&mut self, now_s: f64) {
        let slots = self.service.model.slots;
        while let Some(request) = self.queue.front().copied() {
            let free = self.live.iter().copied().filter(|n| self.replicas[*n].takes(now_s, slots));
            let Some(number) = free.min_by_key(|n| self.replicas[*n].busy) else { return };
            self.queue.pop_front();
            let Request { at_s, service_s } = self.service.requests[request];
            self.run.waits_s[request] = now_s - at_s;
            self.replicas[number].busy += 1;
            self.running += 1;
            self.events.push(Reverse((key(now_s + service_s), true, number)));
        }
    }

    fn seen(&self, now_s: f64, arrived: usize) -> Seen {
        let kept = || self.live.iter().map(|n| &self.replicas[*n]).filter(|replica| !replica.draining);
        let ready = kept().filter(|replica| replica.ready_s <= now_s).count() as u32;
        Seen {
            at_s: now_s,
            ready,
            starting: kept().count() as u32 - ready,
            running: self.running,
            queued: self.queue.len() as u32,
            oldest_wait_s: self.queue.front().map_or(0.0, |request| now_s - self.service.requests[*request].at_s),
            arrived: arrived as u64,
        }
    }

    /// Launches, or drains: what starts first, then what has the fewest requests.
    fn scale(&mut self, now_s: f64, wanted: u32) {
        let model = self.service.model;
        let wanted = wanted.min(model.max_replicas);
        let mut kept: Vec<usize> = self.live.iter().copied().filter(|n| !self.replicas[*n].draining).collect();
        for _ in kept.len()..wanted as usize {
            let spread = model.cold_start_spread * (2.0 * self.random.unit() - 1.0);
            self.launch(now_s, model.cold_start_s * (1.0 + spread));
        }
        kept.sort_by_key(|n| {
            let replica = &self.replicas[*n];
            (replica.ready_s <= now_s, replica.busy, Reverse(*n))
        });
        for number in kept.iter().take(kept.len().saturating_sub(wanted as usize)) {
            self.replicas[*number].draining = true;
            if self.replicas[*number].busy == 0 {
                self.stop(*number, now_s);
            }
        }
    }

    fn finish(mut self, end_s: f64) -> Run {
        for request in &self.queue {
            self.run.waits_s[*request] = end_s - self.service.requests[*request].at_s;
        }
        self.run.replica_s = self.replicas.iter().map(|r| r.stopped_s.unwrap_or(end_s).min(end_s) - r.launched_s).sum();
        self.run
    }
}
