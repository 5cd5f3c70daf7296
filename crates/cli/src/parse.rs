//! Words of the command line as values. Pure; clap calls these.

use std::time::Duration;

use muonic_types::job::{GRACE_S_MAX, MetricPattern, TIME_LIMIT_S_MAX};
use muonic_types::{Invalid, Name, Resources, VersionRef};
use serde_json::Value;

/// `90`, `90s`, `10m`, `1h30m`, `30d`, `250ms`. A bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("'{text}' is not a duration: write a number with ms, s, m, h or d, such as 90s or 1h30m");
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let number: u32 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            "d" => Duration::from_secs(86_400),
            _ => return Err(bad()),
        };
        rest = &rest[end..];
        total = unit.checked_mul(number).and_then(|d| total.checked_add(d)).ok_or_else(bad)?;
    }
    if text.is_empty() { Err(bad()) } else { Ok(total) }
}

/// A duration in whole seconds; none at all is one too.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let duration = duration(text)?;
    if duration.subsec_nanos() == 0 {
        Ok(duration.as_secs())
    } else {
        Err(format!("'{text}' is not a whole number of seconds"))
    }
}

/// A duration in whole seconds, at least one: for limits, which nothing could keep otherwise.
pub(crate) fn seconds_min_1(text: &str) -> Result<u64, String> {
    match seconds(text)? {
        0 => Err(format!("'{text}' is no time at all: give a second or more")),
        some => Ok(some),
    }
}

pub(crate) fn time_limit(text: &str) -> Result<u64, String> {
    at_most(TIME_LIMIT_S_MAX, "365d", seconds_min_1(text)?)
}

pub(crate) fn grace(text: &str) -> Result<u64, String> {
    at_most(GRACE_S_MAX, "1h", seconds(text)?)
}

pub(crate) fn lifetime(text: &str) -> Result<u64, String> {
    at_most(36_500 * 86_400, "36500d", seconds_min_1(text)?)
}

fn at_most(most: u64, shown: &str, given: u64) -> Result<u64, String> {
    if given > most { Err(format!("it is longer than {shown}: give {shown} or less")) } else { Ok(given) }
}

fn pair<'a>(text: &'a str, form: &str) -> Result<(&'a str, &'a str), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key, value)),
        _ => Err(format!("'{text}' is not of the form {form}")),
    }
}

/// `50MiB`, `1GB`, `4096`: bytes, with units of 1000 or 1024.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let bad = || {
        format!("'{text}' is not an amount of bytes: write a number with KiB, MiB, GiB, kB, MB or GB, such as 50MiB")
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| bad())?;
    let unit: u64 = match &text[digits..] {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" | "Ki" => 1 << 10,
        "MiB" | "Mi" => 1 << 20,
        "GiB" | "Gi" => 1 << 30,
        _ => return Err(bad()),
    };
    number.checked_mul(unit).ok_or_else(bad)
}

/// `endpoint=https://s3.example.org`
pub(crate) fn mount_option(text: &str) -> Result<(String, String), String> {
    // No word of the value: it may be a secret.
    let (name, value) = pair_unseen(text, "NAME=VALUE, such as region=eu-west-1")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// `secret_access_key=./secret`
pub(crate) fn secret_file(text: &str) -> Result<(String, std::path::PathBuf), String> {
    let (name, file) = pair_unseen(text, "NAME=FILE, such as secret_access_key=./secret")?;
    Ok((name.to_owned(), file.into()))
}

fn pair_unseen<'a>(text: &'a str, form: &str) -> Result<(&'a str, &'a str), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok((key, value)),
        _ => Err(format!("it is not of the form {form}")),
    }
}

/// `lr=0.1`: the value is read as JSON where it is a number, true, false, null
/// or a quoted string, else taken as text.
pub(crate) fn param(text: &str) -> Result<(String, Value), String> {
    let (key, value) = pair(text, "name=value, such as lr=0.1")?;
    let value = match serde_json::from_str::<Value>(value) {
        Ok(Value::Array(_) | Value::Object(_)) | Err(_) => Value::String(value.to_owned()),
        Ok(scalar) => scalar,
    };
    Ok((key.to_owned(), value))
}

/// `KEY=value`.
pub(crate) fn env(text: &str) -> Result<(String, String), String> {
    let (key, value) = pair(text, "NAME=value, such as OMP_NUM_THREADS=1")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// `train=digits@1`.
pub(crate) fn input(text: &str) -> Result<(Name, VersionRef), String> {
    let (channel, dataset) = pair(text, "CHANNEL=DATASET[@VERSION], such as train=digits@1")?;
    Ok((channel.parse().map_err(|e| format!("{e}"))?, dataset.parse().map_err(|e| format!("{e}"))?))
}

/// `loss=loss: ([0-9.]+)`.
pub(crate) fn metric(text: &str) -> Result<MetricPattern, String> {
    let (name, regex) = pair(text, "NAME=REGEX, such as 'loss=loss: ([0-9.]+)'")?;
    if !regex.contains('(') {
        return Err(format!(
            "the pattern '{regex}' has no group: put parentheses around the number, such as loss: ([0-9.]+)"
        ));
    }
    Ok(MetricPattern { name: name.to_owned(), regex: regex.to_owned() })
}

/// `cpu=1,memory=1Gi`; what is not named has the default.
pub(crate) fn resources(base: Resources) -> impl Fn(&str) -> Result<Resources, String> + Clone {
    move |text| {
        let all = Resources::parse_over(base, text).map_err(|e| e.to_string())?;
        if all.cpu.milli == 0 {
            return Err("cpu must be more than 0".to_owned());
        }
        if all.memory < Resources::MEMORY_MIN {
            return Err(format!("memory must be at least {}", Resources::MEMORY_MIN));
        }
        Ok(all)
    }
}

/// Resources of which only some are named: the others are known later.
#[derive(Debug, Clone)]
pub(crate) struct PartialResources(String);

impl PartialResources {
    pub(crate) fn over(&self, base: Resources) -> Result<Resources, Invalid> {
        Resources::parse_over(base, &self.0)
    }
}

/// `cpu=1`; what is not named is filled in by [`PartialResources::over`].
pub(crate) fn partial_resources(base: Resources) -> impl Fn(&str) -> Result<PartialResources, String> + Clone {
    move |text| resources(base)(text).map(|_| PartialResources(text.to_owned()))
}

/// A job's name from its folder's name.
pub(crate) fn name_from_folder(folder: &str) -> Option<Name> {
    let mut name = String::new();
    for c in folder.chars() {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    name.truncate(48);
    name.trim_matches('-').parse().ok()
}

/// A version's number, with or without the `v` people write.
pub(crate) fn version_number(text: &str) -> Result<u32, String> {
    match text.strip_prefix('v').unwrap_or(text).parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!("'{text}' is not a version number: versions count from 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn durations() {
        let cases = [
            ("90", 90_000),
            ("90s", 90_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("30d", 2_592_000_000),
            ("250ms", 250),
            ("0s", 0),
        ];
        for (text, ms) in cases {
            assert_eq!(duration(text).unwrap().as_millis(), ms, "{text}");
        }
        for bad in ["", "s", "10x", "-1s", "1.5h", "1h30", "h1", "99999999999s", "10 m"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(seconds("250ms").is_err());
        assert_eq!(seconds("1m1s").unwrap(), 61);
        assert_eq!(seconds("0s").unwrap(), 0);
        assert_eq!(seconds_min_1("1s").unwrap(), 1);
        assert_eq!(seconds_min_1("0").unwrap_err(), "'0' is no time at all: give a second or more");
        assert!(seconds_min_1("250ms").unwrap_err().contains("whole number"));
        assert_eq!((time_limit("365d"), grace("1h")), (Ok(365 * 86_400), Ok(3_600)));
        assert_eq!(time_limit("366d").unwrap_err(), "it is longer than 365d: give 365d or less");
        assert_eq!(grace("3601").unwrap_err(), "it is longer than 1h: give 1h or less");
    }

    #[test]
    fn resources_are_filled_in_and_named_once() {
        let base = Resources::parse_over(Resources::default(), "cpu=250m,memory=256Mi").unwrap();
        assert_eq!(resources(base)("cpu=2").unwrap().to_string(), "cpu=2 memory=256Mi");
        let bad = |text| resources(base)(text).unwrap_err();
        assert_eq!(bad("cpu=1,cpu=2"), "'cpu' is named twice: name each resource once");
        assert_eq!(bad("cpu=0"), "cpu must be more than 0");
        assert_eq!(bad("memory=1Mi"), "memory must be at least 4Mi");
        let asked = partial_resources(base)("memory=1Gi").unwrap();
        let before = Resources::parse_over(base, "cpu=4,gpu=1").unwrap();
        assert_eq!(asked.over(before).unwrap().to_string(), "cpu=4 memory=1Gi gpu=1");
        assert!(partial_resources(base)("disk=1").is_err());
    }

    #[test]
    fn params_are_json_scalars_or_text() {
        let cases = [
            ("n=3", json!(3)),
            ("lr=1e-3", json!(0.001)),
            ("on=true", json!(true)),
            ("x=null", json!(null)),
            ("q=\"3\"", json!("3")),
            ("s=a=b", json!("a=b")),
            ("l=[1,2]", json!("[1,2]")),
            ("e=", json!("")),
        ];
        for (text, value) in cases {
            assert_eq!(param(text).unwrap().1, value, "{text}");
        }
        assert!(param("=3").is_err());
        assert!(param("lr").unwrap_err().contains("name=value"));
    }

    #[test]
    fn inputs_and_metrics() {
        let (channel, dataset) = input("train=digits@2").unwrap();
        assert_eq!((channel.as_str(), dataset.to_string()), ("train", "digits@2".into()));
        assert_eq!(input("train=digits").unwrap().1.to_string(), "digits@latest");
        assert!(input("Train=digits").unwrap_err().contains("'Train' is not a name"));
        assert!(input("digits").is_err());
        assert_eq!(metric("loss=a=(.*)").unwrap().regex, "a=(.*)");
        assert!(metric("loss=abc").unwrap_err().contains("no group"));
    }

    #[test]
    fn folders_give_names() {
        let of = |s| name_from_folder(s).map(|n| n.to_string());
        assert_eq!(of("My Project_2"), Some("my-project-2".into()));
        assert_eq!(of("--"), None);
        assert_eq!(of("数字"), None);
        assert_eq!(of(&"x".repeat(80)).unwrap().len(), 48);
    }

    proptest! {
        #[test]
        fn no_word_panics(text in "\\PC{0,20}") {
            let _ = duration(&text);
            let _ = param(&text);
            let _ = input(&text);
            let _ = metric(&text);
            let _ = name_from_folder(&text);
            let _ = version_number(&text);
            let _ = resources(Resources::default())(&text);
        }

        #[test]
        fn every_duration_is_read_as_written(d in 0u32..400, h in 0u32..24, m in 0u32..60, s in 0u32..60) {
            let text = format!("{d}d{h}h{m}m{s}s");
            let want = u64::from(d) * 86_400 + u64::from(h) * 3600 + u64::from(m) * 60 + u64::from(s);
            prop_assert_eq!(seconds(&text).unwrap(), want);
        }

        #[test]
        fn params_keep_any_text(key in "[a-z]{1,8}", value in "[a-zA-Z ._=-]{0,20}") {
            let (k, v) = param(&format!("{key}={value}")).unwrap();
            prop_assert_eq!(k, key);
            if let Value::String(text) = v {
                prop_assert_eq!(text, value);
            } else {
                prop_assert!(["true", "false", "null"].contains(&value.trim()));
            }
        }
    }
}
