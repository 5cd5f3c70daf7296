//! How large a revision is, and how traffic comes to it.

use std::time::Duration;

use muonic_types::endpoint::{
    Canary, MetricRule, NewRevision, PerReplica, REPLICAS_MAX, RESOURCES, Release, Scale, Shadow, Split,
};
use muonic_types::{Resources, VersionRef};

use crate::failure::{Exit, Failure, Result};
use crate::parse::{self, PartialResources};

/// How large a revision is.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Size {
    /// Processes that serve it: a number, or LEAST..MOST by what is asked of
    /// them; with 0.. it sleeps while nobody asks, and a request wakes it. 1, or
    /// as in the revision before, without
    #[arg(long, value_name = "NUMBER", value_parser = replicas)]
    replicas: Option<Replicas>,
    /// Requests at once that each replica should have; 4 without
    #[arg(long, value_name = "NUMBER", value_parser = positive, requires = "replicas", group = "aim")]
    concurrency: Option<f64>,
    /// Requests a second that each replica should have
    #[arg(long, value_name = "NUMBER", value_parser = positive, requires = "replicas", group = "aim")]
    rate: Option<f64>,
    /// How long a request should wait in a replica's queue at most
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, requires = "replicas", group = "aim")]
    queue_time: Option<Duration>,
    /// With 0.. replicas, how long it stays awake after a request; learned from
    /// its requests without
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, requires = "replicas")]
    idle: Option<Duration>,
    /// What each replica asks for; what is not named is as in the revision
    /// before, or cpu=250m and memory=256Mi
    #[arg(long, value_name = "cpu=N,memory=N,gpu=N", value_parser = parse::partial_resources(RESOURCES))]
    pub(super) resources: Option<PartialResources>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Replicas {
    Fixed(u32),
    Between(u32, u32),
}

fn replicas(text: &str) -> std::result::Result<Replicas, String> {
    let number = |text: &str| {
        text.parse::<u32>().ok().filter(|n| *n <= REPLICAS_MAX).ok_or_else(|| {
            format!("'{text}' is not a number of replicas: write 1 to {REPLICAS_MAX}, or LEAST..MOST such as 0..4")
        })
    };
    match text.split_once("..") {
        None => match number(text)? {
            0 => {
                Err("an endpoint without replicas cannot answer; to let it sleep while nobody asks, write 0..1".into())
            }
            fixed => Ok(Replicas::Fixed(fixed)),
        },
        Some((least, most)) => {
            let (least, most) = (number(least)?, number(most)?);
            if most == 0 || least > most {
                return Err(format!("{text} leaves no number: write the least and then the most, such as 0..4"));
            }
            Ok(Replicas::Between(least, most))
        }
    }
}

fn positive(text: &str) -> std::result::Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|n| n.is_finite() && *n > 0.0);
    number.ok_or_else(|| format!("'{text}' is not a number greater than 0"))
}

impl Size {
    /// `before`: what a replica of the revision before asks for.
    pub(super) fn revision(self, model: VersionRef, before: impl FnOnce() -> Result<Resources>) -> Result<NewRevision> {
        let per_replica = match (self.concurrency, self.rate, self.queue_time) {
            (Some(at_once), ..) => Some(PerReplica::Concurrency(at_once)),
            (_, Some(rate), _) => Some(PerReplica::RatePerS(rate)),
            (.., Some(time)) => Some(PerReplica::QueueTimeS(time.as_secs_f64())),
            _ => None,
        };
        let (replicas, scale) = match self.replicas {
            None => (None, None),
            Some(Replicas::Fixed(_)) if per_replica.is_some() || self.idle.is_some() => {
                return Err(Failure::new(Exit::BadInput, "the number of replicas is fixed: it follows nothing")
                    .hint("to let it follow what is asked of them, write --replicas LEAST..MOST"));
            }
            Some(Replicas::Fixed(fixed)) => (Some(fixed), None),
            Some(Replicas::Between(min, max)) => {
                let per_replica = per_replica.unwrap_or_default();
                (None, Some(Scale { min, max, per_replica, idle_s: self.idle.map(|idle| idle.as_secs_f64()) }))
            }
        };
        let resources = match self.resources {
            Some(named) => Some(named.over(before()?)?),
            None => None,
        };
        Ok(NewRevision { model, replicas, scale, resources, release: None })
    }
}

/// How traffic comes to a revision; all at once where nothing is said.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Traffic {
    /// In steps of so many percent, each of which must go well: else it is
    /// rolled back
    #[arg(long, value_name = "PERCENT,…", value_parser = percents, num_args = 0..=1, require_equals = true,
          default_missing_value = "5,25,50", group = "kind")]
    canary: Option<Percents>,
    /// How long each step of a canary takes at least; 1m without
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, requires = "canary")]
    step: Option<Duration>,
    /// Requests that a canary must answer in each step; 20 without
    #[arg(long, value_name = "NUMBER", requires = "canary")]
    requests: Option<u64>,
    /// Which part of its requests may fail, beyond what fails anyway; 0.01 without
    #[arg(long, value_name = "FRACTION", requires = "canary")]
    max_errors: Option<f64>,
    /// In which time 99 of 100 requests are to be answered
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, requires = "canary")]
    max_p99: Option<Duration>,
    /// What the mean of a metric of your own must keep to
    #[arg(long, value_name = "NAME>=N|NAME<=N", value_parser = rule, requires = "canary")]
    metric: Option<MetricRule>,
    /// So many percent go there until you promote it or roll it back
    #[arg(long, value_name = "PERCENT", value_parser = positive, group = "kind")]
    split: Option<f64>,
    /// Requests with the same value of this header go to the same revision
    #[arg(long, value_name = "HEADER", requires = "split")]
    sticky: Option<String>,
    /// It gets copies of so many percent of the requests; its answers are
    /// compared and dropped
    #[arg(long, value_name = "PERCENT", value_parser = positive, num_args = 0..=1, require_equals = true,
          default_missing_value = "100", group = "kind")]
    shadow: Option<f64>,
}

#[derive(Debug, Clone, PartialEq)]
struct Percents(Vec<f64>);

fn percents(text: &str) -> std::result::Result<Percents, String> {
    text.split(',').map(|part| positive(part.trim())).collect::<std::result::Result<_, _>>().map(Percents)
}

fn rule(text: &str) -> std::result::Result<MetricRule, String> {
    let bad = || format!("'{text}' is not a rule: write NAME>=NUMBER or NAME<=NUMBER, such as accuracy>=0.9");
    let at = text.find(['<', '>']).ok_or_else(bad)?;
    let (name, rest) = text.split_at(at);
    let (least, bound) = match (rest.strip_prefix(">="), rest.strip_prefix("<=")) {
        (Some(bound), _) => (true, bound),
        (_, Some(bound)) => (false, bound),
        _ => return Err(bad()),
    };
    let bound = bound.trim().parse::<f64>().map_err(|_| bad())?;
    let (min, max) = if least { (Some(bound), None) } else { (None, Some(bound)) };
    Ok(MetricRule { name: name.trim().to_owned(), min, max, values_min: 10 })
}

impl Traffic {
    pub(super) fn release(self) -> Release {
        if let Some(Percents(steps)) = self.canary {
            let usual = Canary::default();
            return Release::Canary(Canary {
                steps,
                step_s: self.step.map_or(usual.step_s, |step| step.as_secs_f64()),
                requests_min: self.requests.unwrap_or(usual.requests_min),
                error_rate_max: self.max_errors.unwrap_or(usual.error_rate_max),
                p99_max_s: self.max_p99.map(|time| time.as_secs_f64()),
                metric: self.metric,
            });
        }
        match (self.split, self.shadow) {
            (Some(percent), _) => Release::Split(Split { percent, sticky_header: self.sticky }),
            (_, Some(percent)) => Release::Shadow(Shadow { percent }),
            _ => Release::AllAtOnce,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_is_as_before() {
        let size = |text: Option<&str>| Size {
            resources: text.map(|text| parse::partial_resources(RESOURCES)(text).unwrap()),
            ..Size::default()
        };
        let model: VersionRef = "digits".parse().unwrap();
        let before = Resources::parse_over(RESOURCES, "memory=2Gi").unwrap();
        let asked = size(Some("cpu=1")).revision(model.clone(), || Ok(before)).unwrap();
        assert_eq!(asked.resources.unwrap().to_string(), "cpu=1 memory=2Gi");
        let unsaid = size(None).revision(model, || unreachable!("not needed")).unwrap();
        assert_eq!(unsaid.resources, None);
    }

    #[test]
    fn replicas_are_a_number_or_follow_what_is_asked() {
        assert_eq!(replicas("2"), Ok(Replicas::Fixed(2)));
        assert_eq!(replicas("0..4"), Ok(Replicas::Between(0, 4)));
        for wrong in ["0", "0..0", "4..1", "101", "..", "x", "1..1000", "-1"] {
            assert!(replicas(wrong).is_err(), "{wrong}");
        }
        let size = |replicas| Size { replicas: Some(replicas), rate: Some(5.0), ..Size::default() };
        let revision = |size: Size| size.revision("m".parse().unwrap(), || unreachable!("not needed"));
        let scale = revision(size(Replicas::Between(0, 4))).unwrap().scale.unwrap();
        assert_eq!(scale, Scale { min: 0, max: 4, per_replica: PerReplica::RatePerS(5.0), idle_s: None });
        assert!(revision(size(Replicas::Fixed(2))).is_err());
    }

    #[test]
    fn rules_and_steps_are_read() {
        let accuracy = rule("accuracy >= 0.9").unwrap();
        assert_eq!((accuracy.name.as_str(), accuracy.min, accuracy.max), ("accuracy", Some(0.9), None));
        assert_eq!(rule("loss<=1").unwrap().max, Some(1.0));
        for wrong in ["accuracy", "a>0.9", "a>=x", "a=1"] {
            assert!(rule(wrong).is_err(), "{wrong}");
        }
        assert_eq!(percents("5, 25,50"), Ok(Percents(vec![5.0, 25.0, 50.0])));
        assert!(percents("5,,50").is_err());
    }
}
