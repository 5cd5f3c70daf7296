//! Doors for fuzz targets; see `fuzz/`.

use muonic_types::job::{MetricPattern, is_metric_name};

use crate::metrics::{Finder, Lines};

/// A size of pieces, a pattern up to a line's end, and then the output of a
/// command: its lines are the same however it is cut, and what is found in
/// them the server takes.
pub fn lines(data: &[u8]) {
    let Some((piece, rest)) = data.split_first() else { return };
    let (pattern, output) = rest.split_at(rest.iter().position(|byte| *byte == b'\n').unwrap_or(0).min(64));
    let cut = |size: usize| {
        let (mut lines, mut all) = (Lines::default(), Vec::new());
        output.chunks(size).for_each(|piece| lines.push(piece, |line| all.push(line.to_owned())));
        lines.finish(|line| all.push(line.to_owned()));
        all
    };
    let whole = cut(output.len().max(1));
    assert_eq!(whole, cut(usize::from(*piece) + 1));
    let regex = String::from_utf8_lossy(pattern).into_owned();
    let (finder, _) = Finder::new(&[MetricPattern { name: "m".to_owned(), regex }]);
    for found in whole.iter().flat_map(|line| finder.find(line)) {
        assert!(found.value.is_finite() && is_metric_name(&found.name), "{found:?}");
    }
}
