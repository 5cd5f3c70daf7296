//! Metrics in log lines.
//!
//! A line made only of `name=number` pairs, separated by spaces or commas, is
//! a set of metrics; `step`, `epoch` or `iteration` among them gives the step.
//! The user's own patterns are searched in every line.

use memchr::{memchr, memchr2};
use muonic_types::job::{METRIC_NAME_BYTES_MAX, MetricPattern, is_metric_name};
use regex::{Regex, RegexBuilder};

/// Longer lines are searched only so far.
const LINE_BYTES_MAX: usize = 16 << 10;
/// Bound on the size of a user's compiled pattern.
const PATTERN_BYTES_MAX: usize = 1 << 20;
const STEP_NAMES: [&str; 4] = ["step", "global_step", "epoch", "iteration"];

#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub name: String,
    /// Where the line gives one.
    pub step: Option<i64>,
    pub value: f64,
}

impl Found {
    /// Not a number and infinity have no place in JSON and make no metric, nor
    /// does a name that the server would refuse.
    pub fn new(name: &str, step: Option<i64>, value: f64) -> Option<Self> {
        (value.is_finite() && is_metric_name(name)).then(|| Self { name: name.to_owned(), step, value })
    }
}

pub struct Finder {
    patterns: Vec<(String, Regex)>,
}

impl Finder {
    /// Patterns that do not compile are left out and told.
    pub fn new(patterns: &[MetricPattern]) -> (Self, Vec<String>) {
        let mut troubles = Vec::new();
        let compiled = patterns.iter().filter_map(|p| {
            let built = RegexBuilder::new(&p.regex).size_limit(PATTERN_BYTES_MAX).build();
            built
                .map(|r| (p.name.clone(), r))
                .map_err(|e| troubles.push(format!("the pattern of the metric '{}' is not used: {e}", p.name)))
                .ok()
        });
        let patterns = compiled.collect();
        (Self { patterns }, troubles)
    }

    pub fn find(&self, line: &str) -> Vec<Found> {
        let mut found = Vec::new();
        if let Some(pairs) = pairs(line) {
            let step =
                STEP_NAMES.iter().find_map(|s| pairs.iter().find(|(name, _)| name == s)).map(|(_, step)| *step as i64);
            for (name, value) in pairs.into_iter().filter(|(name, _)| !STEP_NAMES.contains(name)) {
                found.extend(Found::new(name, step, value));
            }
        }
        for (name, regex) in &self.patterns {
            let Some(captures) = regex.captures(line) else { continue };
            let Some(value) = captures.get(1).or(captures.get(0)).and_then(|m| m.as_str().trim().parse().ok()) else {
                continue;
            };
            found.extend(Found::new(name, None, value));
        }
        found
    }
}

/// What stands before `=` in a line; users name their patterns more freely.
fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    name.len() <= METRIC_NAME_BYTES_MAX
        && chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ':' | '@'))
}

/// The pairs of a line that is made of nothing else.
fn pairs(line: &str) -> Option<Vec<(&str, f64)>> {
    // Most lines are none; this looks fastest.
    memchr(b'=', line.as_bytes())?;
    let mut pairs = Vec::new();
    for part in line.split([' ', '\t', ',']).filter(|p| !p.is_empty()) {
        let (name, value) = part.split_once('=')?;
        if !is_name(name) {
            return None;
        }
        pairs.push((name, value.parse().ok()?));
    }
    (!pairs.is_empty()).then_some(pairs)
}

/// Cuts a stream of bytes into lines; a carriage return ends one too, as
/// progress bars use it.
#[derive(Default)]
pub struct Lines {
    part: Vec<u8>,
}

impl Lines {
    pub fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        let mut rest = bytes;
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            self.keep(&rest[..end]);
            self.finish(&mut each);
            rest = &rest[end + 1..];
        }
        self.keep(rest);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX - self.part.len();
        self.part.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    pub fn finish(&mut self, mut each: impl FnMut(&str)) {
        let text = String::from_utf8_lossy(&self.part);
        let text = text.trim();
        if !text.is_empty() {
            each(text);
        }
        self.part.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(lines: &[&str]) -> Vec<(String, Option<i64>, f64)> {
        let finder = Finder::new(&[MetricPattern { name: "test acc".into(), regex: "Accuracy: ([0-9.]+)%".into() }]).0;
        lines.iter().flat_map(|l| finder.find(l)).map(|f| (f.name, f.step, f.value)).collect()
    }

    #[test]
    fn pairs_and_patterns_are_found() {
        assert_eq!(
            all(&["epoch=3 loss=0.5, val/acc=9e-1"]),
            [("loss".into(), Some(3), 0.5), ("val/acc".into(), Some(3), 0.9)]
        );
        assert_eq!(all(&["loss=1", "loss=2"]), [("loss".into(), None, 1.0), ("loss".into(), None, 2.0)]);
        assert_eq!(all(&["test Accuracy: 97.5% done"]), [("test acc".into(), None, 97.5)]);
        for none in ["epoch 1: loss=2", "a=b", "loss=nan", "x==1", "=1", "", "epoch=1", "2x=1"] {
            assert_eq!(all(&[none]), [], "{none}");
        }
    }

    #[test]
    fn a_bad_pattern_is_told_and_the_rest_works() {
        let patterns = [
            MetricPattern { name: "a".into(), regex: "(".into() },
            MetricPattern { name: "b".into(), regex: "b(.)".into() },
        ];
        let (finder, troubles) = Finder::new(&patterns);
        assert!(troubles[0].contains("'a'"));
        assert_eq!(finder.find("b7").len(), 1);
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_give_the_same_lines(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 0usize..400) {
            let lines = |pieces: &[&[u8]]| {
                let (mut out, mut lines) = (Vec::new(), Lines::default());
                for piece in pieces { lines.push(piece, |l| out.push(l.to_owned())); }
                lines.finish(|l| out.push(l.to_owned()));
                out
            };
            let cut = cut.min(bytes.len());
            prop_assert_eq!(lines(&[&bytes]), lines(&[&bytes[..cut], &bytes[cut..]]));
        }

        #[test]
        fn every_value_found_is_finite_and_named(line in "\\PC{0,80}") {
            let finder = Finder::new(&[]).0;
            for f in finder.find(&line) {
                prop_assert!(f.value.is_finite() && is_name(&f.name));
            }
        }

        #[test]
        fn what_was_printed_is_read(step in -5i64..1000, value in -1e12f64..1e12) {
            let found = Finder::new(&[]).0.find(&format!("step={step} m={value}"));
            prop_assert_eq!(found, vec![Found { name: "m".into(), step: Some(step), value }]);
        }
    }
}
