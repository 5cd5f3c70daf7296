//! How alike two answers to the same request are.

use http::{HeaderMap, StatusCode};
use serde_json::Value;

/// Numbers that differ by no more, relative to their size, count as close.
const CLOSE: f64 = 1e-4;
/// Fields that say who answered, or when, and not what.
const OF_THE_ANSWERER: [&str; 5] = ["model_name", "model_version", "id", "created", "model"];

pub struct Answer<'a> {
    pub status: StatusCode,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Likeness {
    /// But for who answered.
    Same,
    Close,
    Different,
}

/// Also answers the largest difference of two numbers at the same place.
pub fn compare(one: &Answer<'_>, two: &Answer<'_>) -> (Likeness, f64) {
    if one.status != two.status {
        return (Likeness::Different, 0.0);
    }
    let (one, two) = (tensors(one), tensors(two));
    if one == two {
        return (Likeness::Same, 0.0);
    }
    let parsed = |body: &[u8]| serde_json::from_slice::<Value>(body).ok();
    let (Some(one), Some(two)) = (parsed(one), parsed(two)) else { return (Likeness::Different, 0.0) };
    let mut difference = 0.0;
    let likeness = values(&one, &two, true, &mut difference);
    (likeness, difference)
}

/// Of an answer of the Open Inference Protocol with binary tensors these, as
/// its head says who answered.
fn tensors<'a>(answer: &Answer<'a>) -> &'a [u8] {
    let head = answer.headers.get("inference-header-content-length").and_then(|v| v.to_str().ok()?.parse().ok());
    head.and_then(|head: usize| answer.body.get(head..)).unwrap_or(answer.body)
}

fn values(one: &Value, two: &Value, top: bool, difference: &mut f64) -> Likeness {
    let all = |likenesses: &mut dyn Iterator<Item = Likeness>| likenesses.max().unwrap_or(Likeness::Same);
    match (one, two) {
        (Value::Number(a), Value::Number(b)) => {
            let (Some(a), Some(b)) = (a.as_f64(), b.as_f64()) else { return Likeness::Different };
            let apart = (a - b).abs();
            *difference = difference.max(apart);
            match apart {
                0.0 => Likeness::Same,
                _ if apart <= CLOSE * a.abs().max(b.abs()).max(1.0) => Likeness::Close,
                _ => Likeness::Different,
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            all(&mut a.iter().zip(b).map(|(a, b)| values(a, b, false, difference)))
        }
        (Value::Object(a), Value::Object(b)) if a.len() == b.len() => {
            let counts = |name: &&String| !(top && OF_THE_ANSWERER.contains(&name.as_str()));
            all(&mut a.keys().filter(counts).map(|name| match (a.get(name), b.get(name)) {
                (Some(a), Some(b)) => values(a, b, false, difference),
                _ => Likeness::Different,
            }))
        }
        _ if one == two => Likeness::Same,
        _ => Likeness::Different,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(one: &str, two: &str) -> (Likeness, f64) {
        let headers = HeaderMap::new();
        let answer = |body| Answer { status: StatusCode::OK, headers: &headers, body };
        compare(&answer(one.as_bytes()), &answer(two.as_bytes()))
    }

    #[test]
    fn answers_are_same_close_or_different() {
        assert_eq!(of("abc", "abc"), (Likeness::Same, 0.0));
        assert_eq!(of("abc", "abd").0, Likeness::Different);
        let named = |version: &str, data: &str| {
            format!(r#"{{"model_version": "{version}", "outputs": [{{"name": "y", "data": {data}}}]}}"#)
        };
        assert_eq!(of(&named("1", "[1, 2]"), &named("2", "[1, 2.0]")), (Likeness::Same, 0.0));
        let (likeness, difference) = of(&named("1", "[1, 2]"), &named("2", "[1, 2.0001]"));
        assert!(likeness == Likeness::Close && (difference - 1e-4).abs() < 1e-9, "{difference}");
        assert_eq!(of(&named("1", "[1, 2]"), &named("2", "[1, 2.5]")), (Likeness::Different, 0.5));
        assert_eq!(of(&named("1", "[1, 2]"), &named("2", "[1]")).0, Likeness::Different);
        assert_eq!(of(r#"{"a": {"id": 1}}"#, r#"{"a": {"id": 2}}"#).0, Likeness::Different);
    }

    #[test]
    fn of_binary_answers_the_tensors_count() {
        let mut headers = HeaderMap::new();
        headers.insert("inference-header-content-length", "2".parse().unwrap());
        let answer = |body| Answer { status: StatusCode::OK, headers: &headers, body };
        assert_eq!(compare(&answer(b"abTENSOR"), &answer(b"cdTENSOR")).0, Likeness::Same);
        assert_eq!(compare(&answer(b"abTENSOR"), &answer(b"abTENSO2")).0, Likeness::Different);
        headers.insert("inference-header-content-length", "99".parse().unwrap());
        let answer = |body| Answer { status: StatusCode::OK, headers: &headers, body };
        assert_eq!(compare(&answer(b"ab"), &answer(b"ab")).0, Likeness::Same);
    }
}
