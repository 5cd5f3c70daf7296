//! Tags of objects and buckets: what is a valid set, and the header that
//! carries one.

use std::collections::BTreeMap;

use crate::{Error, Result};

pub const OBJECT_TAGS_MAX: usize = 10;
pub const BUCKET_TAGS_MAX: usize = 50;
/// Longest key and value, in UTF-16 units, as S3 counts them.
pub const KEY_MAX: usize = 128;
pub const VALUE_MAX: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Object,
    Bucket,
}

/// Checks pairs and makes them a set.
///
/// # Errors
/// `InvalidTag` for too many, for a key or value that is not allowed and for a
/// key that is there twice.
pub fn set(of: Of, pairs: impl IntoIterator<Item = (String, String)>) -> Result<BTreeMap<String, String>> {
    let (max, what) = match of {
        Of::Object => (OBJECT_TAGS_MAX, "object"),
        Of::Bucket => (BUCKET_TAGS_MAX, "bucket"),
    };
    let mut out = BTreeMap::new();
    for (n, (key, value)) in pairs.into_iter().enumerate() {
        if n == max {
            return Err(Error::InvalidTag(format!("{what} tags cannot be greater than {max}")));
        }
        check(&key, &value)?;
        if out.contains_key(&key) {
            return Err(Error::InvalidTag(format!("cannot provide multiple tags with the same key {key:?}")));
        }
        out.insert(key, value);
    }
    Ok(out)
}

fn check(key: &str, value: &str) -> Result<()> {
    let invalid = |sentence: String| Err(Error::InvalidTag(sentence));
    if key.is_empty() {
        return invalid("a tag has an empty key".to_owned());
    }
    if key.encode_utf16().count() > KEY_MAX {
        return invalid(format!("a tag's key is longer than {KEY_MAX} characters"));
    }
    if value.encode_utf16().count() > VALUE_MAX {
        return invalid(format!("the value of the tag {key:?} is longer than {VALUE_MAX} characters"));
    }
    if key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:")) {
        return invalid(format!("the tag {key:?}: system tags (aws:) cannot be set by a request"));
    }
    match key.chars().chain(value.chars()).find(|c| !allowed(*c)) {
        Some(c) => invalid(format!(
            "the tag {key:?} has the character {c:?}; allowed are letters, digits, spaces and + - = . _ : / @"
        )),
        None => Ok(()),
    }
}

fn allowed(c: char) -> bool {
    // Letters of many scripts are written with marks that are no letters themselves.
    c.is_alphanumeric()
        || "+-=._:/@".contains(c)
        || (c.is_whitespace() && !c.is_control())
        || (!c.is_ascii() && !c.is_control())
}

/// The value of `x-amz-tagging`: pairs as in a query, such as `a=1&b=2`.
///
/// # Errors
/// `Invalid` where it is not that; else as [`set`].
pub fn parse_header(text: &str) -> Result<BTreeMap<String, String>> {
    let mut pairs = Vec::new();
    for part in text.split('&').filter(|part| !part.is_empty()) {
        if pairs.len() > OBJECT_TAGS_MAX {
            break;
        }
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        pairs.push((decode(key)?, decode(value)?));
    }
    set(Of::Object, pairs)
}

/// How [`parse_header`] reads it back.
pub fn header(tags: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = tags.iter().map(|(k, v)| format!("{}={}", encode(k), encode(v))).collect();
    pairs.join("&")
}

fn decode(text: &str) -> Result<String> {
    let wrong = || Error::Invalid("x-amz-tagging must be URL-encoded pairs such as a=1&b=2".to_owned());
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut hex = || char::from(bytes.next()?).to_digit(16);
                match (hex(), hex()) {
                    (Some(high), Some(low)) => (high * 16 + low) as u8,
                    _ => return Err(wrong()),
                }
            }
            other => other,
        });
    }
    String::from_utf8(out).map_err(|_| wrong())
}

fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
