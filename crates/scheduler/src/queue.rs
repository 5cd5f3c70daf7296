//! The queue: first in, first out within a priority; the head is never passed
//! by a job behind it. Jobs that rest before a retry do not hold up others,
//! and neither do those that only somebody's decision could let start.

use muonic_types::job::StartEstimate;
use muonic_types::{JobId, Resources};

/// A job that waits.
#[derive(Debug, Clone)]
pub struct Waiting {
    pub id: JobId,
    pub resources: Resources,
    pub priority: i32,
    /// Order of submission.
    pub sequence: u64,
    /// Seconds from now before which it may not start (back-off).
    pub rests_s: f64,
    /// Seconds it is likely to run, where there is something to judge by.
    pub expected_s: Option<f64>,
}

/// Something that holds resources now.
#[derive(Debug, Clone)]
pub struct Holding {
    /// For the reason shown to those who wait: `train-3` or `endpoint digits`.
    pub label: String,
    pub resources: Resources,
    /// Seconds until it is likely to end; `None` where nobody can say.
    pub ends_in_s: Option<f64>,
    /// It goes on until somebody decides otherwise, as an endpoint does.
    pub endless: bool,
}

/// What to do with one waiting job.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    pub id: JobId,
    /// Start it now; otherwise `reason` says why it waits.
    pub admit: bool,
    pub reason: String,
    pub estimate: StartEstimate,
}

/// Decides over all waiting jobs at once; answers in queue order.
///
/// Properties: those admitted fit into what is free, taken together; a job is
/// admitted only if every rested job before it is admitted too; a job larger
/// than the whole machine, or than what endless holders leave of it, is not
/// admitted and holds up nobody.
pub fn plan(capacity: &Resources, waiting: &[Waiting], holding: &[Holding]) -> Vec<Place> {
    let mut order: Vec<&Waiting> = waiting.iter().collect();
    order.sort_by_key(|w| (std::cmp::Reverse(w.priority), w.sequence));
    let mut timeline = Timeline::new(capacity, holding);
    let endless = holding.iter().filter(|h| h.endless);
    let within_reach = endless.fold(*capacity, |left, h| left.minus(&h.resources));
    let mut head_waits: Option<JobId> = None;
    let mut places = Vec::with_capacity(order.len());
    let mut ahead = 0;
    for job in order {
        if !job.resources.fits(capacity) {
            places.push(Place {
                id: job.id.clone(),
                admit: false,
                reason: format!("asks for {}; all there is here is {capacity}", job.resources),
                estimate: StartEstimate {
                    ahead,
                    starts_in_s: None,
                    basis: "it can never start on this machine".to_owned(),
                },
            });
            continue;
        }
        if job.rests_s > 0.0 {
            places.push(Place {
                id: job.id.clone(),
                admit: false,
                reason: format!("tries again in {}s", job.rests_s.ceil() as u64),
                estimate: StartEstimate {
                    ahead,
                    starts_in_s: Some(job.rests_s),
                    basis: "the pause before its next attempt".to_owned(),
                },
            });
            continue;
        }
        if !job.resources.fits(&within_reach) {
            places.push(Place {
                id: job.id.clone(),
                admit: false,
                reason: waits_for(&job.resources, &within_reach, holding.iter().filter(|h| h.endless)),
                estimate: StartEstimate {
                    ahead,
                    starts_in_s: None,
                    basis: "only when endpoints are deleted or made smaller; others pass it meanwhile".to_owned(),
                },
            });
            continue;
        }
        let admit = head_waits.is_none() && timeline.fits_now(&job.resources);
        let reason = match (&head_waits, admit) {
            (_, true) => String::new(),
            (Some(head), false) => format!("waits behind {head}"),
            (None, false) => waits_for(&job.resources, &timeline.free, holding.iter()),
        };
        let start = timeline.start(job);
        if !admit && head_waits.is_none() {
            head_waits = Some(job.id.clone());
        }
        let basis = match (admit, start) {
            (true, _) => "there is room now",
            (false, Some(_)) => "from time limits and past runs of the jobs before it",
            (false, None) if ahead == 0 => "nobody can say when what it waits for ends",
            (false, None) => "nobody can say when something before it ends",
        }
        .to_owned();
        places.push(Place {
            id: job.id.clone(),
            admit,
            reason,
            estimate: StartEstimate { ahead, starts_in_s: start, basis },
        });
        ahead += 1;
    }
    places
}

/// The future, played forward: jobs start in queue order, so the cursor only
/// ever moves on, and what is free at the cursor is all that must be kept.
struct Timeline {
    free: Resources,
    cursor_s: f64,
    /// (when, what becomes free then); the soonest last.
    ends: Vec<(f64, Resources)>,
    /// An end that nobody can foresee stands in the way.
    unknown: bool,
}

impl Timeline {
    fn new(capacity: &Resources, holding: &[Holding]) -> Self {
        let used = holding.iter().fold(Resources::default(), |sum, h| sum.plus(&h.resources));
        let mut timeline = Self { free: capacity.minus(&used), cursor_s: 0.0, ends: Vec::new(), unknown: false };
        for h in holding {
            timeline.ends_at(h.ends_in_s, h.resources);
        }
        timeline
    }

    fn fits_now(&self, wanted: &Resources) -> bool {
        self.cursor_s == 0.0 && wanted.fits(&self.free)
    }

    /// Starts a job as soon as it fits and answers when that is.
    fn start(&mut self, job: &Waiting) -> Option<f64> {
        while !self.unknown && !job.resources.fits(&self.free) {
            match self.ends.pop() {
                Some((at, freed)) => {
                    self.cursor_s = self.cursor_s.max(at);
                    self.free = self.free.plus(&freed);
                }
                None => self.unknown = true,
            }
        }
        if self.unknown {
            return None;
        }
        self.free = self.free.minus(&job.resources);
        self.ends_at(job.expected_s.map(|s| self.cursor_s + s), job.resources);
        Some(self.cursor_s)
    }

    fn ends_at(&mut self, at: Option<f64>, freed: Resources) {
        if let Some(at) = at {
            let at = at.max(0.0);
            let index = self.ends.partition_point(|(t, _)| *t > at);
            self.ends.insert(index, (at, freed));
        }
    }
}

fn waits_for<'a>(wanted: &Resources, free: &Resources, holding: impl Iterator<Item = &'a Holding>) -> String {
    let mut short = Vec::new();
    if wanted.cpu > free.cpu {
        short.push(format!("cpu={} ({} free)", wanted.cpu, free.cpu));
    }
    if wanted.memory > free.memory {
        short.push(format!("memory={} ({} free)", wanted.memory, free.memory));
    }
    if wanted.gpu > free.gpu {
        short.push(format!("gpu={} ({} free)", wanted.gpu, free.gpu));
    }
    let mut labels = holding.map(|h| h.label.as_str());
    let mut holders: Vec<&str> = labels.by_ref().take(4).collect();
    holders.extend(labels.next().map(|_| "…"));
    let by = if holders.is_empty() { String::new() } else { format!("; in use by {}", holders.join(", ")) };
    format!("waits for {}{by}", short.join(" and "))
}

#[cfg(test)]
mod tests {
    use muonic_types::{Cpu, Memory, Name};
    use proptest::prelude::*;

    use super::*;

    fn resources(milli: u64, mib: u64) -> Resources {
        Resources { cpu: Cpu::milli(milli), memory: Memory::mib(mib), gpu: 0 }
    }

    fn job(n: u32, milli: u64, priority: i32) -> Waiting {
        let name: Name = "t".parse().unwrap();
        Waiting {
            id: JobId::new(&name, n),
            resources: resources(milli, 1),
            priority,
            sequence: n.into(),
            rests_s: 0.0,
            expected_s: Some(10.0),
        }
    }

    fn holding(milli: u64, ends_in_s: Option<f64>) -> Holding {
        Holding { label: "h-1".into(), resources: resources(milli, 1), ends_in_s, endless: false }
    }

    #[test]
    fn what_waits_for_an_endpoint_to_go_holds_up_nobody() {
        let endpoint = Holding { label: "endpoint e".into(), endless: true, ..holding(250, None) };
        let waiting = [job(1, 2000, 5), job(2, 500, 0), job(3, 1750, 0), job(4, 100, 0)];
        let places = plan(&resources(2000, 100), &waiting, &[endpoint]);
        assert_eq!(places.iter().map(|p| p.admit).collect::<Vec<_>>(), [false, true, false, false]);
        assert_eq!(places[0].reason, "waits for cpu=2 (1750m free); in use by endpoint e");
        assert_eq!(places[0].estimate.starts_in_s, None);
        // Jobs end by themselves: what waits for those is not passed.
        assert_eq!(places[3].reason, "waits behind t-3");
    }

    #[test]
    fn the_head_is_not_passed_and_the_reason_says_who_holds_what() {
        let places = plan(&resources(2000, 100), &[job(1, 2000, 0), job(2, 500, 0)], &[holding(1000, Some(5.0))]);
        assert!(!places[0].admit && !places[1].admit);
        assert_eq!(places[0].reason, "waits for cpu=2 (1 free); in use by h-1");
        assert_eq!(places[1].reason, "waits behind t-1");
        assert_eq!(places[0].estimate.starts_in_s, Some(5.0));
        assert_eq!(places[1].estimate.starts_in_s, Some(15.0));
    }

    #[test]
    fn priority_goes_first_and_order_decides_within_it() {
        let places = plan(&resources(1000, 100), &[job(1, 1000, 0), job(2, 1000, 5), job(3, 1000, 5)], &[]);
        let order: Vec<_> = places.iter().map(|p| (p.id.as_str(), p.admit)).collect();
        assert_eq!(order, [("t-2", true), ("t-3", false), ("t-1", false)]);
    }

    #[test]
    fn an_end_nobody_can_foresee_gives_no_estimate() {
        let places = plan(&resources(1000, 100), &[job(1, 1000, 0)], &[holding(1000, None)]);
        assert_eq!(places[0].estimate.starts_in_s, None);
    }

    #[test]
    fn what_can_never_run_and_what_rests_hold_up_nobody() {
        let mut resting = job(2, 1000, 0);
        resting.rests_s = 3.0;
        let places = plan(&resources(1000, 100), &[job(1, 9000, 0), resting, job(3, 1000, 0)], &[]);
        assert_eq!(places.iter().map(|p| p.admit).collect::<Vec<_>>(), [false, false, true]);
    }

    proptest! {
        #[test]
        fn admitted_jobs_fit_and_none_is_passed(
            sizes in prop::collection::vec((1u64..3000, -2i32..3, prop::bool::ANY), 0..20),
            held in prop::collection::vec((1u64..2000, prop::option::of(0.0f64..100.0), prop::bool::ANY), 0..5),
        ) {
            let capacity = resources(4000, 1000);
            let waiting: Vec<_> = sizes.iter().enumerate().map(|(n, (milli, priority, rests))| {
                let mut j = job(n as u32 + 1, *milli, *priority);
                j.rests_s = if *rests { 1.0 } else { 0.0 };
                j
            }).collect();
            let holding: Vec<_> = held
                .iter()
                .map(|(milli, end, endless)| Holding { endless: *endless, ..holding(*milli, *end) })
                .collect();
            let reach = holding.iter().filter(|h| h.endless).fold(capacity, |left, h| left.minus(&h.resources));
            let places = plan(&capacity, &waiting, &holding);
            prop_assert_eq!(places.len(), waiting.len());
            let by_id = |id: &JobId| waiting.iter().find(|w| w.id == *id).unwrap();
            let used = holding.iter().fold(Resources::default(), |sum, h| sum.plus(&h.resources));
            let admitted = places.iter().filter(|p| p.admit).fold(Resources::default(), |sum, p| sum.plus(&by_id(&p.id).resources));
            prop_assert!(admitted.fits(&capacity.minus(&used)));
            let mut blocked = false;
            let mut last_start = 0.0;
            for place in places.iter().filter(|p| by_id(&p.id).rests_s == 0.0 && by_id(&p.id).resources.fits(&reach)) {
                prop_assert!(!(blocked && place.admit));
                blocked |= !place.admit;
                if let Some(start) = place.estimate.starts_in_s {
                    prop_assert!(start >= last_start);
                    last_start = start;
                }
            }
        }
    }
}
