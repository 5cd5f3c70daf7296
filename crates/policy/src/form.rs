//! Policy documents of form uploads (POST): what a form that somebody signed
//! may hold. Names of fields are not case-sensitive.

use std::collections::BTreeMap;

use muonic_types::Timestamp;
use serde_json::{Map, Value};

use crate::{Error, Result};

/// Longest document, in bytes, before it is encoded.
pub const DOCUMENT_BYTES_MAX: usize = 20 * 1024;
pub const CONDITIONS_MAX: usize = 1000;

/// Fields that no condition needs to cover.
const FREE: &[&str] = &["x-amz-signature", "policy", "file", "awsaccesskeyid", "signature"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormPolicy {
    pub expiration: Timestamp,
    conditions: Vec<Condition>,
}

/// Fields in lower case, without `$`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    Equals { field: String, value: String },
    StartsWith { field: String, prefix: String },
    ContentLength { min: u64, max: u64 },
}

impl FormPolicy {
    /// From the form's field `policy`, which is base64.
    ///
    /// # Errors
    /// `InvalidPolicyDocument`.
    pub fn parse(encoded: &str) -> Result<Self> {
        if encoded.len() > DOCUMENT_BYTES_MAX * 2 {
            return Err(wrong(format!("the policy is longer than {DOCUMENT_BYTES_MAX} bytes")));
        }
        let encoded: Vec<u8> = encoded.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        let text = data_encoding::BASE64.decode(&encoded).map_err(|_| wrong("the policy is not base64"))?;
        if text.len() > DOCUMENT_BYTES_MAX {
            return Err(wrong(format!("the policy is longer than {DOCUMENT_BYTES_MAX} bytes")));
        }
        let value = crate::json::parse(&text).map_err(|e| wrong(format!("the policy is not JSON: {e}")))?;
        let Value::Object(fields) = value else { return Err(wrong("the policy must be a JSON object")) };
        let expiration = match fields.get("expiration") {
            Some(Value::String(s)) => {
                // As in S3: no space in the place of the T, and no offset but Z.
                let at = if s.ends_with('Z') && s.contains('T') { s.parse().ok() } else { None };
                at.ok_or_else(|| wrong(format!("invalid 'expiration' value {s:?}; write 2030-01-31T12:00:00Z")))?
            }
            _ => return Err(wrong("the policy is missing expiration")),
        };
        let Some(Value::Array(list)) = fields.get("conditions") else {
            return Err(wrong("the policy is missing its list of conditions"));
        };
        let mut conditions = Vec::new();
        for item in list {
            match item {
                Value::Object(pairs) => conditions.extend(exact(pairs)?),
                Value::Array(parts) => conditions.push(condition(parts)?),
                _ => return Err(wrong("a condition must be an object or a list")),
            }
            if conditions.len() > CONDITIONS_MAX {
                return Err(wrong(format!("the policy has more than {CONDITIONS_MAX} conditions")));
            }
        }
        Ok(Self { expiration, conditions })
    }

    /// Least and most bytes of the file, so that a larger one can be cut off
    /// while it comes.
    pub fn length_range(&self) -> (u64, u64) {
        let mut range = (0, u64::MAX);
        for condition in &self.conditions {
            if let Condition::ContentLength { min, max } = condition {
                range = (range.0.max(*min), range.1.min(*max));
            }
        }
        range
    }

    /// Checks all fields of a form for this bucket; `${filename}` is replaced
    /// beforehand. `length` is that of the file, in bytes.
    ///
    /// # Errors
    /// `AccessDenied`; `EntityTooLarge` and `EntityTooSmall` for the file.
    pub fn check(&self, bucket: &str, fields: &[(String, String)], length: u64, now: Timestamp) -> Result<()> {
        let denied = |what: String| Err(Error::AccessDenied(format!("invalid according to policy: {what}")));
        if now >= self.expiration {
            return denied("policy expired".to_owned());
        }
        let mut form: BTreeMap<String, &str> = BTreeMap::new();
        for (name, value) in fields {
            let name = name.to_ascii_lowercase();
            if let Some(first) = form.get(&name)
                && *first != value
            {
                return denied(format!("the form has the field {name:?} twice"));
            }
            form.insert(name, value);
        }
        // The address says which bucket; the form cannot say another one.
        if form.insert("bucket".to_owned(), bucket).is_some_and(|named| named != bucket) {
            return denied(format!("the field bucket does not name {bucket:?}"));
        }
        for condition in &self.conditions {
            match condition {
                Condition::Equals { field, value } if form.get(field) != Some(&value.as_str()) => {
                    return denied(format!("condition failed: [\"eq\", \"${field}\", {value:?}]"));
                }
                Condition::StartsWith { field, prefix } if !starts_with(field, form.get(field), prefix) => {
                    return denied(format!("condition failed: [\"starts-with\", \"${field}\", {prefix:?}]"));
                }
                _ => {}
            }
        }
        let covered = |name: &str| {
            self.conditions.iter().any(|c| match c {
                Condition::Equals { field, .. } | Condition::StartsWith { field, .. } => field == name,
                Condition::ContentLength { .. } => false,
            })
        };
        let free = |name: &str| FREE.contains(&name) || name.starts_with("x-ignore-");
        if let Some(name) = form.keys().find(|name| !free(name) && !covered(name)) {
            return denied(format!("extra input fields: {name}"));
        }
        let (min, max) = self.length_range();
        if length > max {
            return Err(Error::EntityTooLarge(format!("the file has more than {max} bytes, which its policy allows")));
        }
        if length < min {
            return Err(Error::EntityTooSmall(format!(
                "the file has less than {min} bytes, which its policy asks for"
            )));
        }
        Ok(())
    }
}

fn starts_with(field: &str, have: Option<&&str>, prefix: &str) -> bool {
    let have = have.copied().unwrap_or_default();
    // A list of content types has to fit in each of its parts.
    if field == "content-type" && have.contains(',') {
        return have.split(',').all(|part| part.trim().starts_with(prefix));
    }
    have.starts_with(prefix)
}

fn exact(pairs: &Map<String, Value>) -> Result<Vec<Condition>> {
    if pairs.is_empty() {
        return Err(wrong("a condition is empty"));
    }
    let one = |(name, value): (&String, &Value)| {
        Ok(Condition::Equals { field: field(name), value: text(value, "the value of a condition")? })
    };
    pairs.iter().map(one).collect()
}

fn condition(parts: &[Value]) -> Result<Condition> {
    let [kind, one, two] = parts else { return Err(wrong("a condition in a list has three parts")) };
    let kind = text(kind, "the kind of a condition")?.to_ascii_lowercase();
    let named = || {
        let name = text(one, "the field of a condition")?;
        if !name.starts_with('$') {
            return Err(wrong(format!("a condition names its field with a $: {name:?}")));
        }
        Ok((field(&name), text(two, "the value of a condition")?))
    };
    match kind.as_str() {
        "eq" => named().map(|(field, value)| Condition::Equals { field, value }),
        "starts-with" => named().map(|(field, prefix)| Condition::StartsWith { field, prefix }),
        "content-length-range" => {
            let bytes = |value: &Value| match value {
                Value::Number(n) => n.as_u64(),
                Value::String(s) => s.parse().ok(),
                _ => None,
            };
            match (bytes(one), bytes(two)) {
                (Some(min), Some(max)) if min <= max => Ok(Condition::ContentLength { min, max }),
                _ => Err(wrong("content-length-range needs two numbers of bytes, the smaller one first")),
            }
        }
        _ => Err(wrong(format!("there is no condition {kind:?}; use eq, starts-with or content-length-range"))),
    }
}

fn field(name: &str) -> String {
    name.strip_prefix('$').unwrap_or(name).to_ascii_lowercase()
}

fn text(value: &Value, what: &str) -> Result<String> {
    value.as_str().map(str::to_owned).ok_or_else(|| wrong(format!("{what} must be a text")))
}

fn wrong(sentence: impl Into<String>) -> Error {
    Error::InvalidPolicyDocument(format!("invalid policy: {}", sentence.into()))
}
