//! What a job, its metrics and its report must be like. Pure.

use muonic_types::job::{GRACE_S_MAX, METRIC_NAME_BYTES_MAX, MetricPoint, NewJob, TIME_LIMIT_S_MAX, is_metric_name};
use muonic_types::task::ExitReport;
use muonic_types::{ErrorCode, Resources};

use crate::{Error, Result};

const COMMAND_BYTES_MAX: usize = 128 << 10;
const ENV_BYTES_MAX: usize = 64 << 10;
const PARAMS_BYTES_MAX: usize = 64 << 10;
const INPUTS_MAX: usize = 100;
const PATTERNS_MAX: usize = 100;
const PATTERN_BYTES_MAX: usize = 1 << 10;
const POINTS_MAX: usize = 10_000;
const MESSAGE_BYTES_MAX: usize = 64 << 10;

pub(crate) fn check(new: &NewJob, capacity: &Resources) -> Result<()> {
    let spec = &new.spec;
    let bad = |text: String| Err(Error::invalid(text));
    if spec.command.is_empty() || spec.command[0].is_empty() {
        return Err(Error::invalid("the command is empty")
            .hint("name a program and its arguments, such as [\"python\", \"train.py\"]"));
    }
    if spec.command.len() > 1_000 || spec.command.iter().map(String::len).sum::<usize>() > COMMAND_BYTES_MAX {
        return bad(format!("the command is longer than 1000 words or {COMMAND_BYTES_MAX} bytes"));
    }
    if spec.command.iter().any(|part| part.contains('\0')) {
        return bad("the command holds a NUL character".to_owned());
    }
    for (name, value) in &spec.env {
        let first = name.bytes().next();
        let ok = first.is_some_and(|c| c.is_ascii_alphabetic() || c == b'_')
            && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
        if !ok || value.contains('\0') {
            return bad(format!(
                "'{}' is not an environment variable: use letters, digits and '_', and no NUL in the value",
                shown(name)
            ));
        }
    }
    if spec.env.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>() > ENV_BYTES_MAX {
        return bad(format!("the environment variables are longer than {ENV_BYTES_MAX} bytes"));
    }
    for name in spec.params.keys() {
        if name.is_empty() || name.len() > 250 || name.chars().any(|c| c.is_control() || c == '=') {
            return bad(format!(
                "'{}' is not a parameter name: use 1 to 250 characters without '=' and control characters",
                shown(name)
            ));
        }
    }
    if serde_json::to_vec(&spec.params).map_or(0, |v| v.len()) > PARAMS_BYTES_MAX {
        return bad(format!("the params are longer than {PARAMS_BYTES_MAX} bytes"));
    }
    if spec.inputs.len() > INPUTS_MAX {
        return bad(format!("a job may have {INPUTS_MAX} inputs; this one has {}", spec.inputs.len()));
    }
    if !(-1000..=1000).contains(&spec.priority) {
        return bad(format!("priority must be between -1000 and 1000, not {}", spec.priority));
    }
    if spec.time_limit_s.is_some_and(|s| s == 0 || s > TIME_LIMIT_S_MAX) {
        return bad(format!("time_limit_s must be between 1 and {TIME_LIMIT_S_MAX}"));
    }
    if spec.grace_s > GRACE_S_MAX {
        return bad(format!("grace_s must be between 0 and {GRACE_S_MAX}"));
    }
    if spec.retries > 100 {
        return bad("retries must be between 0 and 100".to_owned());
    }
    if new
        .request_token
        .as_ref()
        .is_some_and(|t| t.is_empty() || t.len() > 64 || !t.bytes().all(|c| c.is_ascii_graphic()))
    {
        return bad("request_token must be 1 to 64 visible ASCII characters".to_owned());
    }
    check_patterns(new)?;
    check_resources(&spec.resources, capacity)
}

/// A name that may be anything, as a message shows it.
fn shown(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_debug).collect()
}

fn check_patterns(new: &NewJob) -> Result<()> {
    if new.spec.metrics.len() > PATTERNS_MAX {
        return Err(Error::invalid(format!("a job may have {PATTERNS_MAX} metric patterns")));
    }
    for pattern in &new.spec.metrics {
        check_metric_name(&pattern.name)?;
        if pattern.regex.len() > PATTERN_BYTES_MAX {
            return Err(Error::invalid(format!(
                "the pattern of metric '{}' is longer than {PATTERN_BYTES_MAX} bytes",
                pattern.name
            )));
        }
        let regex = regex::RegexBuilder::new(&pattern.regex).size_limit(1 << 20).build();
        match regex {
            Ok(r) if r.captures_len() >= 2 => {}
            Ok(_) => {
                return Err(Error::invalid(format!(
                    "the pattern of metric '{}' has no group: put the number in parentheses",
                    pattern.name
                ))
                .hint("for example 'loss=([0-9.]+)'"));
            }
            Err(error) => {
                return Err(Error::invalid(format!(
                    "the pattern of metric '{}' is not a regular expression: {}",
                    pattern.name,
                    regex_reason(&error)
                )));
            }
        }
    }
    Ok(())
}

/// The sentence in an error that also draws the pattern with a mark below it.
fn regex_reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").trim_end_matches('.').to_owned()
}

pub(crate) fn check_resources(wanted: &Resources, capacity: &Resources) -> Result<()> {
    if wanted.cpu.milli == 0 {
        return Err(Error::invalid("cpu must be more than 0").hint("ask for cpu=1, or a part such as cpu=0.5"));
    }
    if wanted.memory < Resources::MEMORY_MIN {
        return Err(Error::invalid(format!("memory must be at least {}", Resources::MEMORY_MIN))
            .hint("ask for memory=1Gi, for example"));
    }
    if !wanted.fits(capacity) {
        return Err(Error::new(
            ErrorCode::Unschedulable,
            format!("this asks for {wanted}; all there is here is {capacity}"),
        )
        .hint("ask for less, or run it on a larger machine"));
    }
    Ok(())
}

fn check_metric_name(name: &str) -> Result<()> {
    if !is_metric_name(name) {
        return Err(Error::invalid(format!(
            "'{}' is not a metric name: use 1 to {METRIC_NAME_BYTES_MAX} bytes without control characters",
            shown(name)
        )));
    }
    Ok(())
}

pub(crate) fn check_points(points: &[MetricPoint]) -> Result<()> {
    if points.len() > POINTS_MAX {
        return Err(Error::invalid(format!(
            "{} points are too many; at most {POINTS_MAX} fit in one request",
            points.len()
        )));
    }
    for point in points {
        check_metric_name(&point.name)?;
        if !point.value.is_finite() {
            return Err(Error::invalid(format!("metric '{}' has a value that is not a finite number", point.name)));
        }
    }
    Ok(())
}

pub(crate) fn check_report(report: &ExitReport) -> Result<()> {
    if report.message.as_ref().is_some_and(|m| m.len() > MESSAGE_BYTES_MAX) {
        return Err(Error::invalid(format!("the message is longer than {MESSAGE_BYTES_MAX} bytes")));
    }
    Ok(())
}
