//! How traffic comes to a new revision.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Invalid, Timestamp};

/// How traffic comes to a new revision, once all its replicas are ready.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Release {
    /// In one step.
    #[default]
    AllAtOnce,
    /// In steps, each of which must go well; else it is rolled back.
    Canary(Canary),
    /// A share goes there until somebody promotes it or rolls it back.
    Split(Split),
    /// It gets copies of requests; its answers are compared and dropped, until
    /// somebody promotes it or rolls it back.
    Shadow(Shadow),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// Percent of the requests, step by step; 5, 25 and 50 where nothing is said.
    #[serde(default = "steps")]
    pub steps: Vec<f64>,
    /// Seconds that each step takes at least.
    #[serde(default = "step_s")]
    pub step_s: f64,
    /// Requests that the new revision must have answered in each step.
    #[serde(default = "requests_min")]
    pub requests_min: u64,
    /// How much more of its requests than of the active revision's may fail
    /// (answers of 500 and more, and broken connections), as a fraction.
    #[serde(default = "error_rate_max")]
    pub error_rate_max: f64,
    /// Seconds within which 99 of 100 requests are to be answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_max_s: Option<f64>,
    /// A metric of your own, sent to `/endpoints/NAME/metrics`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<MetricRule>,
}

/// The mean of what was sent since the step began must keep to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricRule {
    pub name: String,
    #[serde(default)]
    pub min: Option<f64>,
    #[serde(default)]
    pub max: Option<f64>,
    /// Values without which nothing is said.
    #[serde(default = "values_min")]
    pub values_min: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Of the requests.
    pub percent: f64,
    /// Requests with the same value of this header go to the same revision.
    #[serde(default)]
    pub sticky_header: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Shadow {
    /// Of the requests that are copied.
    #[serde(default = "all")]
    pub percent: f64,
}

fn steps() -> Vec<f64> {
    vec![5.0, 25.0, 50.0]
}
fn step_s() -> f64 {
    60.0
}
fn requests_min() -> u64 {
    20
}
fn error_rate_max() -> f64 {
    0.01
}
fn values_min() -> u64 {
    10
}
fn all() -> f64 {
    100.0
}

impl Default for Canary {
    fn default() -> Self {
        Self {
            steps: steps(),
            step_s: step_s(),
            requests_min: requests_min(),
            error_rate_max: error_rate_max(),
            p99_max_s: None,
            metric: None,
        }
    }
}

const STEPS_MAX: usize = 100;
const STEP_S_MAX: f64 = 7.0 * 86_400.0;
pub const METRIC_NAME_MAX: usize = 64;

impl Release {
    /// The error is a sentence.
    pub fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::AllAtOnce => Ok(()),
            Self::Canary(canary) => canary.check(),
            Self::Split(Split { percent, sticky_header }) => {
                percent_of(*percent)?;
                match sticky_header {
                    Some(name) if http_name(name).is_none() => {
                        Err(Invalid(format!("'{}' is no name of a header", name.escape_debug())))
                    }
                    _ => Ok(()),
                }
            }
            Self::Shadow(Shadow { percent }) => percent_of(*percent),
        }
    }
}

/// Letters, digits and `-` and `_`, which is what people name headers with.
fn http_name(name: &str) -> Option<&str> {
    let fits = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    (!name.is_empty() && name.len() <= 64 && name.bytes().all(fits)).then_some(name)
}

fn percent_of(percent: f64) -> Result<(), Invalid> {
    if percent > 0.0 && percent <= 100.0 {
        return Ok(());
    }
    Err(Invalid("percent must be greater than 0 and at most 100".into()))
}

impl Canary {
    fn check(&self) -> Result<(), Invalid> {
        if self.steps.is_empty() || self.steps.len() > STEPS_MAX {
            return Err(Invalid(format!("a canary has between 1 and {STEPS_MAX} steps")));
        }
        self.steps.iter().try_for_each(|step| percent_of(*step))?;
        if self.steps.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(Invalid("each step of a canary must be larger than the one before".into()));
        }
        if !(0.0..=STEP_S_MAX).contains(&self.step_s) {
            return Err(Invalid(format!("step_s must be between 0 and {STEP_S_MAX} seconds")));
        }
        let Self { error_rate_max, p99_max_s, metric, .. } = self;
        if !(0.0..=1.0).contains(error_rate_max) {
            return Err(Invalid("error_rate_max must be a fraction between 0 and 1".into()));
        }
        if p99_max_s.is_some_and(|s| !(s.is_finite() && s > 0.0)) {
            return Err(Invalid("p99_max_s must be a number of seconds greater than 0".into()));
        }
        metric.as_ref().map_or(Ok(()), MetricRule::check)
    }
}

impl MetricRule {
    fn check(&self) -> Result<(), Invalid> {
        if self.name.is_empty() || self.name.len() > METRIC_NAME_MAX {
            return Err(Invalid(format!("the name of a metric has 1 to {METRIC_NAME_MAX} bytes")));
        }
        if self.min.is_none() && self.max.is_none() {
            return Err(Invalid("the rule for a metric needs min or max".into()));
        }
        if [self.min, self.max].into_iter().flatten().any(|bound| !bound.is_finite()) {
            return Err(Invalid("min and max of a metric must be numbers".into()));
        }
        Ok(())
    }
}

/// How a release goes: of the revision that an endpoint moves to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    pub revision: u32,
    /// Of the requests that go there; of a shadow, that are copied there.
    pub percent: f64,
    /// Since when, as far as this server knows.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Of the new revision since then.
    pub new: Answers,
    /// Of the active revision since then.
    pub active: Answers,
    /// The mean of the metric that the canary is judged by, and of how many values.
    pub metric: Option<Mean>,
    /// Of a shadow.
    pub compared: Option<Comparison>,
}

/// Answers of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Answers {
    pub requests: u64,
    /// Answers of 500 and more, and broken connections.
    pub errors: u64,
    /// Seconds to the head of the answer; none before the first.
    pub p50_s: Option<f64>,
    pub p99_s: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Mean {
    pub values: u64,
    pub mean: f64,
}

/// Answers of a shadow beside those that were given.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
pub struct Comparison {
    /// Requests that both answered.
    pub answered: u64,
    /// Of which status and body are the same, byte for byte.
    pub same: u64,
    /// Of which the numbers in the bodies differ by at most 1e-4, relative to their size.
    pub close: u64,
    pub different: u64,
    /// With an answer too large to compare, or a body too large to copy.
    pub not_compared: u64,
    /// Copies that were left out because the shadow was busy.
    pub left_out: u64,
    /// The largest difference of two numbers in bodies that have the same form.
    pub difference_max: f64,
}

/// A value of a metric of your own, of one revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMetric {
    pub name: String,
    pub value: f64,
    /// The revision that answered: the header `x-muonic-revision` of its answer.
    pub revision: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_has_defaults_and_what_cannot_be_is_refused() {
        let canary: Release = serde_json::from_str(r#"{"kind": "canary"}"#).unwrap();
        assert_eq!(canary, Release::Canary(Canary::default()));
        canary.check().unwrap();
        for wrong in [
            r#"{"kind": "canary", "steps": []}"#,
            r#"{"kind": "canary", "steps": [50, 5]}"#,
            r#"{"kind": "canary", "steps": [101]}"#,
            r#"{"kind": "canary", "step_s": -1}"#,
            r#"{"kind": "canary", "error_rate_max": 2}"#,
            r#"{"kind": "canary", "p99_max_s": 0}"#,
            r#"{"kind": "canary", "metric": {"name": "a"}}"#,
            r#"{"kind": "split", "percent": 0}"#,
            r#"{"kind": "split", "percent": 10, "sticky_header": "a b"}"#,
            r#"{"kind": "shadow", "percent": 200}"#,
        ] {
            let release: Release = serde_json::from_str(wrong).unwrap();
            assert!(release.check().is_err(), "{wrong}");
        }
        assert!(serde_json::from_str::<Release>(r#"{"kind": "slow"}"#).is_err());
    }
}
