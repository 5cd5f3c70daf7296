//! What the gateway measures. Labels come from the route table, never from
//! the caller, so their number is bounded.

use std::time::Instant;

use muonic_types::Name;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    endpoint: String,
    revision: u32,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Endpoint {
    endpoint: String,
}

/// Counted where the caller left before there was an answer.
const LEFT: u16 = 499;

fn histogram() -> Histogram {
    // 250 µs to about 65 s.
    Histogram::new(exponential_buckets(2.5e-4, 2.0, 19))
}

#[derive(Clone)]
pub struct Metrics {
    requests: Family<Answered, Counter>,
    seconds: Family<Endpoint, Histogram, fn() -> Histogram>,
    in_flight: Family<Endpoint, Gauge>,
}

impl Metrics {
    pub fn new(registry: &mut Registry) -> Self {
        let requests = Family::default();
        let seconds = Family::new_with_constructor(histogram as fn() -> Histogram);
        let in_flight = Family::default();
        registry.register(
            "gateway_requests",
            "Requests to endpoints by the status of their answer; 499 where the caller left first",
            requests.clone(),
        );
        registry.register_with_unit(
            "gateway_request_duration",
            "From a request's head to the end of its answer",
            Unit::Seconds,
            seconds.clone(),
        );
        registry.register("gateway_in_flight", "Requests in the gateway now", in_flight.clone());
        Self { requests, seconds, in_flight }
    }

    pub fn begin(&self, endpoint: &Name) -> Observation {
        let label = Endpoint { endpoint: endpoint.to_string() };
        let gauge = self.in_flight.get_or_create_owned(&label);
        gauge.inc();
        Observation { metrics: self.clone(), label, gauge, began: Instant::now(), revision: 0, code: LEFT }
    }
}

/// One request; counted when dropped.
pub struct Observation {
    metrics: Metrics,
    label: Endpoint,
    gauge: Gauge,
    began: Instant,
    pub revision: u32,
    pub code: u16,
}

impl Drop for Observation {
    fn drop(&mut self) {
        self.gauge.dec();
        self.metrics.seconds.get_or_create(&self.label).observe(self.began.elapsed().as_secs_f64());
        let answered = Answered { endpoint: self.label.endpoint.clone(), revision: self.revision, code: self.code };
        self.metrics.requests.get_or_create(&answered).inc();
    }
}
