//! Sizes, times and money as people read them.

use jiff::Timestamp;
use muonic_types::Resources;

/// `512 B`, `1.2 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be rounded to 1024.0 of the smaller unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `350ms`, `4.2s`, `3m05s`, `2h03m`, `3d04h`.
pub(crate) fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    if seconds < 0.9995 {
        return format!("{:.0}ms", seconds * 1000.0);
    }
    if seconds < 59.95 {
        return format!("{seconds:.1}s");
    }
    let whole = seconds.round() as u64;
    let (days, hours, minutes, secs) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}m{secs:02}s"),
        (0, _) => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

/// `cpu=2 memory=21.2Gi`: what a machine has is seldom a round number.
pub(crate) fn resources(r: &Resources) -> String {
    let exact = r.to_string();
    if r.memory.bytes < 1 << 30 || r.memory.bytes.is_multiple_of(1 << 30) {
        return exact;
    }
    exact.replace(&format!("memory={}", r.memory), &format!("memory={:.1}Gi", r.memory.gib()))
}

/// Seconds from one instant to a later one.
pub(crate) fn between(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

/// `5s ago`, `3d ago`: one unit is enough in a table.
pub(crate) fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", about(between(then, now)))
}

/// One unit: `5s`, `12m`, `3h`, `9d`.
pub(crate) fn about(seconds: f64) -> String {
    let s = seconds.max(0.0) as u64;
    match s {
        0..60 => format!("{s}s"),
        60..3600 => format!("{}m", s / 60),
        3600..172_800 => format!("{}h", s / 3600),
        _ => format!("{}d", s / 86_400),
    }
}

/// `2026-11-03 12:00:05 UTC`.
pub(crate) fn instant(t: Timestamp) -> String {
    t.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Dollars; small sums keep digits that say something.
pub(crate) fn usd(amount: f64) -> String {
    usd_with(amount, usd_digits(amount))
}

fn usd_digits(amount: f64) -> usize {
    match amount {
        0.0 | 0.995.. => 2,
        0.001.. => 4,
        0.000_001.. => 6,
        // Prices are in billionths.
        _ => 9,
    }
}

/// What is not nothing does not look like it.
fn usd_with(amount: f64, digits: usize) -> String {
    let least = 10f64.powi(-(digits as i32));
    if amount > 0.0 && amount < least / 2.0 { format!("<${least:.digits$}") } else { format!("${amount:.digits$}") }
}

/// One precision for a column, so that the points are in one line. Beside
/// large sums nobody looks for millionths.
fn usd_column_digits(amounts: &[f64]) -> usize {
    let most = amounts.iter().map(|amount| usd_digits(*amount)).max().unwrap_or(2);
    match amounts.iter().copied().fold(0.0, f64::max) {
        0.995.. => most.min(4),
        0.001.. => most.min(6),
        _ => most,
    }
}

/// Sums of one column.
pub(crate) fn usd_column(amounts: impl IntoIterator<Item = f64>) -> impl Iterator<Item = String> {
    let amounts: Vec<f64> = amounts.into_iter().collect();
    let digits = usd_column_digits(&amounts);
    amounts.into_iter().map(move |amount| usd_with(amount, digits))
}

/// Sums of one column, and the total that the shown ones add up to.
pub(crate) fn usd_total(amounts: &[f64]) -> (Vec<String>, String) {
    // Summed from 0.0: the sum of nothing is -0.0.
    let sum = |amounts: &mut dyn Iterator<Item = f64>| amounts.fold(0.0, |sum, amount| sum + amount);
    let total = sum(&mut amounts.iter().copied());
    let digits = usd_column_digits(&[amounts, &[total]].concat());
    let scale = 10f64.powi(digits as i32);
    let shown = sum(&mut amounts.iter().map(|amount| (amount * scale).round()));
    let lines = amounts.iter().map(|amount| usd_with(*amount, digits)).collect();
    (lines, usd_with(if shown == 0.0 { total } else { shown / scale }, digits))
}

/// `1 file`, `2 files`.
pub(crate) fn count(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// A measured value: at most six digits that count.
pub(crate) fn number(value: f64) -> String {
    if value.is_finite() && value != 0.0 && !(1e-4..1e15).contains(&value.abs()) {
        return format!("{value:.5e}");
    }
    let text = format!("{value:.6}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (314_572_800, "300.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn resources_are_rounded_for_people() {
        let of = |text: &str| resources(&Resources::parse_over(Resources::default(), text).unwrap());
        assert_eq!(of("cpu=2,memory=22748851809"), "cpu=2 memory=21.2Gi");
        assert_eq!(of("cpu=2,memory=21694Mi"), "cpu=2 memory=21.2Gi");
        assert_eq!(of("cpu=1,memory=512Mi,gpu=1"), "cpu=1 memory=512Mi gpu=1");
    }

    #[test]
    fn durations() {
        let cases = [
            (-1.0, "0ms"),
            (0.35, "350ms"),
            (0.9999, "1.0s"),
            (4.24, "4.2s"),
            (59.96, "1m00s"),
            (185.0, "3m05s"),
            (7_380.0, "2h03m"),
            (273_600.0, "3d04h"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn ages_and_instants() {
        let then: Timestamp = "2026-11-03T12:00:00Z".parse().unwrap();
        let at = |s: i64| Timestamp::from_second(then.as_second() + s).unwrap();
        assert_eq!(ago(then, at(5)), "5s ago");
        assert_eq!(ago(then, at(-5)), "0s ago");
        assert_eq!(ago(then, at(725)), "12m ago");
        assert_eq!(ago(then, at(100_000)), "27h ago");
        assert_eq!(ago(then, at(9 * 86_400)), "9d ago");
        assert_eq!(instant(then), "2026-11-03 12:00:00 UTC");
    }

    #[test]
    fn money_and_numbers() {
        let money = [(0.0, "$0.00"), (0.000_012_3, "$0.000012"), (0.0042, "$0.0042"), (12.5, "$12.50")];
        for (amount, text) in money {
            assert_eq!(usd(amount), text);
        }
        assert_eq!(usd(0.000_000_4), "$0.000000400");
        assert_eq!(usd(1e-12), "<$0.000000001");
        let column = |amounts: &[f64]| usd_column(amounts.iter().copied()).collect::<Vec<_>>();
        assert_eq!(column(&[0.0, 0.0042, 0.000_012]), ["$0.000000", "$0.004200", "$0.000012"]);
        assert_eq!(column(&[0.0, 12.5]), ["$0.00", "$12.50"]);
        assert_eq!(column(&[12.5, 0.000_012]), ["$12.5000", "<$0.0001"]);
        assert_eq!(column(&[0.0042, 0.000_000_2]), ["$0.004200", "<$0.000001"]);
        assert_eq!(column(&[]), [""; 0]);
        let (lines, total) = usd_total(&[0.000_272_6, 0.000_021_6, 0.000_008_6]);
        assert_eq!(lines, ["$0.000273", "$0.000022", "$0.000009"]);
        assert_eq!(total, "$0.000304", "what is shown adds up");
        assert_eq!(usd_total(&[]), (vec![], "$0.00".to_owned()));
        let numbers =
            [(0.5, "0.5"), (0.972_222_2, "0.972222"), (3.0, "3"), (1e-7, "1.00000e-7"), (120.0, "120"), (0.0, "0")];
        for (value, text) in numbers {
            assert_eq!(number(value), text);
        }
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(0, "file"), "0 files");
    }
}
