//! What the gateway measures. Labels come from the route table, never from
//! the caller; what is in the table no more is forgotten, so that their number
//! is bounded however many endpoints and revisions come and go.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use muonic_ports::routes::RouteTable;
use muonic_types::Name;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::watch;

/// Counted where the caller left before there was an answer.
const LEFT: u16 = 499;
/// Revisions of an endpoint that are shown: those that began to answer last.
const REVISIONS_MAX: usize = 4;

#[derive(Debug, EncodeLabelSet)]
struct EndpointLabel {
    endpoint: String,
}

#[derive(Debug, EncodeLabelSet)]
struct AnsweredLabel {
    endpoint: String,
    revision: u32,
    code: u16,
}

/// Of one endpoint.
#[derive(Debug)]
struct Series {
    in_flight: Gauge,
    seconds: Histogram,
    /// Answers of each revision by their status.
    answered: Mutex<VecDeque<(u32, BTreeMap<u16, Counter>)>>,
}

impl Series {
    fn new() -> Self {
        // 250 µs to about 65 s.
        let seconds = Histogram::new(exponential_buckets(2.5e-4, 2.0, 19));
        Self { in_flight: Gauge::default(), seconds, answered: Mutex::default() }
    }

    fn count(&self, revision: u32, code: u16) {
        let mut answered = locked(&self.answered);
        if !answered.iter().any(|(number, _)| *number == revision) {
            answered.truncate(REVISIONS_MAX - 1);
            answered.push_front((revision, BTreeMap::new()));
        }
        if let Some((_, codes)) = answered.iter_mut().find(|(number, _)| *number == revision) {
            codes.entry(code).or_default().inc();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone)]
pub struct Metrics {
    endpoints: Arc<Mutex<BTreeMap<Name, Arc<Series>>>>,
    routes: watch::Receiver<Arc<RouteTable>>,
}

impl Metrics {
    pub fn new(registry: &mut Registry, routes: watch::Receiver<Arc<RouteTable>>) -> Self {
        let metrics = Self { endpoints: Arc::default(), routes };
        registry.register_collector(Box::new(metrics.clone()));
        metrics
    }

    pub fn begin(&self, endpoint: &Name) -> Observation {
        let mut endpoints = locked(&self.endpoints);
        let known = endpoints.get(endpoint).cloned();
        let series = known.unwrap_or_else(|| {
            // Somebody may never look; a new endpoint is a moment to forget too.
            self.forget(&mut endpoints);
            let series = Arc::new(Series::new());
            endpoints.insert(endpoint.clone(), Arc::clone(&series));
            series
        });
        series.in_flight.inc();
        Observation { series, began: Instant::now(), revision: 0, code: LEFT }
    }

    fn forget(&self, endpoints: &mut BTreeMap<Name, Arc<Series>>) {
        let table = self.routes.borrow();
        endpoints.retain(|name, _| table.routes.contains_key(name));
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let endpoints = {
            let mut endpoints = locked(&self.endpoints);
            self.forget(&mut endpoints);
            endpoints.clone()
        };
        if endpoints.is_empty() {
            return Ok(());
        }
        let help = "Requests to endpoints by the status of their answer; 499 where the caller left first.";
        let mut family = encoder.encode_descriptor("gateway_requests", help, None, MetricType::Counter)?;
        for (name, series) in &endpoints {
            for (revision, codes) in locked(&series.answered).iter() {
                for (code, counter) in codes {
                    let label = AnsweredLabel { endpoint: name.to_string(), revision: *revision, code: *code };
                    counter.encode(family.encode_family(&label)?)?;
                }
            }
        }
        let help = "From a request's head to the end of its answer.";
        let unit = Unit::Seconds;
        let mut family = encoder.encode_descriptor("gateway_request_duration", help, Some(&unit), Histogram::TYPE)?;
        for (name, series) in &endpoints {
            let label = EndpointLabel { endpoint: name.to_string() };
            series.seconds.encode(family.encode_family(&label)?)?;
        }
        let help = "Requests in the gateway now.";
        let mut family = encoder.encode_descriptor("gateway_in_flight", help, None, MetricType::Gauge)?;
        for (name, series) in &endpoints {
            let label = EndpointLabel { endpoint: name.to_string() };
            series.in_flight.encode(family.encode_family(&label)?)?;
        }
        Ok(())
    }
}

/// One request; counted when dropped.
pub struct Observation {
    series: Arc<Series>,
    began: Instant,
    pub revision: u32,
    pub code: u16,
}

impl Drop for Observation {
    fn drop(&mut self) {
        self.series.in_flight.dec();
        self.series.seconds.observe(self.began.elapsed().as_secs_f64());
        self.series.count(self.revision, self.code);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_revisions_are_shown() {
        let series = Series::new();
        for revision in (1..=20).chain([20, 18]) {
            series.count(revision, 200);
            series.count(revision, 400);
        }
        let shown: Vec<_> = locked(&series.answered)
            .iter()
            .map(|(revision, codes)| (*revision, codes.values().map(Counter::get).collect::<Vec<_>>()))
            .collect();
        assert_eq!(shown, [(20, vec![2, 2]), (19, vec![1, 1]), (18, vec![2, 2]), (17, vec![1, 1])]);
    }
}
