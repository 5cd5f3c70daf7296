//! From JSON to a policy, with the checks that S3 makes when one is put.

use serde_json::{Map, Value};

use super::condition::Condition;
use super::principal::Principals;
use super::{Effect, OneOf, POLICY_BYTES_MAX, Policy, Statement};
use crate::wildcard::Pattern;
use crate::{Error, Result};

const ARN: &str = "arn:aws:s3:::";

pub(super) fn malformed(sentence: impl Into<String>) -> Error {
    Error::MalformedPolicy(sentence.into())
}

pub(super) fn policy(text: &str, bucket: &str) -> Result<Policy> {
    if text.len() > POLICY_BYTES_MAX {
        return Err(malformed(format!("the policy has {} bytes; at most {POLICY_BYTES_MAX} are allowed", text.len())));
    }
    let value = crate::json::parse(text.as_bytes()).map_err(|e| malformed(format!("the policy is not JSON: {e}")))?;
    let Value::Object(fields) = value else { return Err(malformed("the policy must be a JSON object")) };
    known(&fields, &["Version", "Id", "Statement"], "policy")?;
    let variables = match fields.get("Version") {
        None => false,
        Some(Value::String(v)) if v == "2008-10-17" => false,
        Some(Value::String(v)) if v == "2012-10-17" => true,
        Some(_) => return Err(malformed("Version must be \"2012-10-17\" or \"2008-10-17\"")),
    };
    text_field(&fields, "Id", "policy")?;
    let statements = match fields.get("Statement") {
        Some(Value::Array(list)) if !list.is_empty() => list.iter().collect(),
        Some(one @ Value::Object(_)) => vec![one],
        Some(Value::Array(_)) | None => return Err(malformed("missing required field Statement, or it is empty")),
        Some(_) => return Err(malformed("Statement must be an object or a list of objects")),
    };
    let mut sids = std::collections::BTreeSet::new();
    let mut out = Vec::with_capacity(statements.len());
    for (n, value) in statements.into_iter().enumerate() {
        let place = format!("Statement {}", n + 1);
        let Value::Object(fields) = value else { return Err(malformed(format!("{place} must be an object"))) };
        if let Some(sid) = text_field(fields, "Sid", &place)?
            && !sid.is_empty()
            && !sids.insert(sid)
        {
            return Err(malformed(format!("{place}: the Sid {sid:?} is there twice")));
        }
        out.push(statement(fields, &place, bucket, variables)?);
    }
    Ok(Policy { statements: out })
}

const FIELDS: &[&str] =
    &["Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"];

fn statement(fields: &Map<String, Value>, place: &str, bucket: &str, variables: bool) -> Result<Statement> {
    known(fields, FIELDS, place)?;
    let effect = match fields.get("Effect") {
        Some(Value::String(s)) if s == "Allow" => Effect::Allow,
        Some(Value::String(s)) if s == "Deny" => Effect::Deny,
        None => return Err(malformed(format!("{place}: missing required field Effect"))),
        Some(_) => return Err(malformed(format!("{place}: invalid effect; write \"Allow\" or \"Deny\""))),
    };
    let principals = one_of(fields, "Principal", "NotPrincipal", place, Principals::parse)?;
    if effect == Effect::Allow && matches!(principals, OneOf::AllBut(_)) {
        return Err(malformed(format!("{place}: NotPrincipal is for the effect Deny; it would allow all others")));
    }
    let actions = one_of(fields, "Action", "NotAction", place, |v, place| {
        one_or_many(v, place)?.iter().map(|a| action(a, place)).collect()
    })?;
    let resources = one_of(fields, "Resource", "NotResource", place, |v, place| {
        one_or_many(v, place)?.iter().map(|r| resource(r, place, bucket, variables)).collect()
    })?;
    let conditions = match fields.get("Condition") {
        None => Vec::new(),
        Some(value) => Condition::parse(value, &format!("{place}.Condition"), variables)?,
    };
    Ok(Statement { effect, principals, actions, resources, conditions })
}

fn action(text: &str, place: &str) -> Result<Pattern> {
    let lower = text.to_ascii_lowercase();
    let valid = lower == "*"
        || lower.strip_prefix("s3:").is_some_and(|name| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '*' || c == '?')
        });
    if !valid {
        return Err(malformed(format!("{place}: the policy has an invalid action {text:?}; actions begin with s3:")));
    }
    Ok(Pattern::plain(&lower))
}

fn resource(text: &str, place: &str, bucket: &str, variables: bool) -> Result<Pattern> {
    let invalid = || {
        malformed(format!(
            "{place}: the policy has an invalid resource {text:?}; write {ARN}{bucket} or {ARN}{bucket}/ and a pattern"
        ))
    };
    if text != "*" {
        let name = text.strip_prefix(ARN).ok_or_else(invalid)?;
        let own = name.split('/').next().unwrap_or_default();
        // A variable in the bucket's name could only stand for this bucket.
        let whole = variables && own.contains("${");
        if !whole && !Pattern::plain(own).matches_plain(bucket) {
            return Err(invalid());
        }
    }
    Ok(if variables { Pattern::with_variables(text, true) } else { Pattern::plain(text) })
}

/// Exactly one of two fields must be there.
fn one_of<T>(
    fields: &Map<String, Value>,
    these: &str,
    all_but: &str,
    place: &str,
    parse: impl Fn(&Value, &str) -> Result<T>,
) -> Result<OneOf<T>> {
    match (fields.get(these), fields.get(all_but)) {
        (Some(value), None) => Ok(OneOf::These(parse(value, &format!("{place}.{these}"))?)),
        (None, Some(value)) => Ok(OneOf::AllBut(parse(value, &format!("{place}.{all_but}"))?)),
        (None, None) => Err(malformed(format!("{place}: missing required field {these}"))),
        (Some(_), Some(_)) => Err(malformed(format!("{place}: {these} and {all_but} exclude each other"))),
    }
}

/// A text or a list of texts that is not empty.
pub(super) fn one_or_many(value: &Value, place: &str) -> Result<Vec<String>> {
    let wrong = || malformed(format!("{place} must be a text or a list of texts that is not empty"));
    match value {
        Value::String(s) => Ok(vec![s.clone()]),
        Value::Array(list) if !list.is_empty() => {
            list.iter().map(|v| v.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
        }
        _ => Err(wrong()),
    }
}

fn known(fields: &Map<String, Value>, names: &[&str], place: &str) -> Result<()> {
    match fields.keys().find(|k| !names.contains(&k.as_str())) {
        None => Ok(()),
        Some(name) => Err(malformed(format!("{place}: unknown field {name:?}"))),
    }
}

fn text_field<'a>(fields: &'a Map<String, Value>, name: &str, place: &str) -> Result<Option<&'a str>> {
    match fields.get(name) {
        None => Ok(None),
        Some(Value::String(s)) => Ok(Some(s)),
        Some(_) => Err(malformed(format!("{place}: {name} must be a text"))),
    }
}
