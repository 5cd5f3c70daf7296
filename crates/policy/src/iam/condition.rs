//! Conditions: an operator, a key, values. All conditions of a statement must
//! hold; of the values of one, any.

use core::net::IpAddr;

use serde_json::Value;

use super::Context;
use super::parse::malformed;
use super::request::normal;
use super::values::{Network, arn_like, boolean, date, number};
use crate::wildcard::{Pattern, matches};
use crate::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    String { like: bool, ignore_case: bool },
    Numeric(Order),
    Date(Order),
    Bool,
    Ip,
    Arn,
    Null,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Equal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    /// The key has one value; of more, any.
    Single,
    ForAll,
    ForAny,
}

#[derive(Debug, Clone)]
pub(super) struct Condition {
    pub operator: Operator,
    pub negated: bool,
    pub set: Set,
    pub if_exists: bool,
    pub key: String,
    /// As written, with variables marked.
    pub values: Vec<Pattern>,
    /// As written.
    pub texts: Vec<String>,
}

fn operator(name: &str) -> Option<(Operator, bool)> {
    let string = |like, ignore_case| Operator::String { like, ignore_case };
    Some(match name {
        "StringEquals" => (string(false, false), false),
        "StringNotEquals" => (string(false, false), true),
        "StringEqualsIgnoreCase" => (string(false, true), false),
        "StringNotEqualsIgnoreCase" => (string(false, true), true),
        "StringLike" => (string(true, false), false),
        "StringNotLike" => (string(true, false), true),
        "NumericEquals" => (Operator::Numeric(Order::Equal), false),
        "NumericNotEquals" => (Operator::Numeric(Order::Equal), true),
        "NumericLessThan" => (Operator::Numeric(Order::Less), false),
        "NumericLessThanEquals" => (Operator::Numeric(Order::LessEqual), false),
        "NumericGreaterThan" => (Operator::Numeric(Order::Greater), false),
        "NumericGreaterThanEquals" => (Operator::Numeric(Order::GreaterEqual), false),
        "DateEquals" => (Operator::Date(Order::Equal), false),
        "DateNotEquals" => (Operator::Date(Order::Equal), true),
        "DateLessThan" => (Operator::Date(Order::Less), false),
        "DateLessThanEquals" => (Operator::Date(Order::LessEqual), false),
        "DateGreaterThan" => (Operator::Date(Order::Greater), false),
        "DateGreaterThanEquals" => (Operator::Date(Order::GreaterEqual), false),
        "Bool" => (Operator::Bool, false),
        "IpAddress" => (Operator::Ip, false),
        "NotIpAddress" => (Operator::Ip, true),
        "ArnEquals" | "ArnLike" => (Operator::Arn, false),
        "ArnNotEquals" | "ArnNotLike" => (Operator::Arn, true),
        "Null" => (Operator::Null, false),
        _ => return None,
    })
}

impl Condition {
    /// The conditions of one statement.
    pub fn parse(value: &Value, place: &str, variables: bool) -> Result<Vec<Self>> {
        let Value::Object(operators) = value else { return Err(malformed(format!("{place} must be an object"))) };
        let mut out = Vec::new();
        for (name, keys) in operators {
            let place = format!("{place}.{name}");
            let (set, rest) = match name.split_once(':') {
                Some(("ForAllValues", rest)) => (Set::ForAll, rest),
                Some(("ForAnyValue", rest)) => (Set::ForAny, rest),
                _ => (Set::Single, name.as_str()),
            };
            let (base, if_exists) = match rest.strip_suffix("IfExists") {
                Some(base) => (base, true),
                None => (rest, false),
            };
            if base == "BinaryEquals" {
                return Err(Error::NotImplemented("the condition operator BinaryEquals"));
            }
            let (operator, negated) =
                operator(base).ok_or_else(|| malformed(format!("{place}: invalid condition type {name:?}")))?;
            if operator == Operator::Null && (if_exists || set != Set::Single) {
                return Err(malformed(format!("{place}: Null takes neither IfExists nor a set")));
            }
            let Value::Object(keys) = keys else { return Err(malformed(format!("{place} must be an object"))) };
            for (key, values) in keys {
                let place = format!("{place}.{key}");
                let texts = texts(values, &place)?;
                check_key(key, &place)?;
                for text in &texts {
                    check_value(operator, text, variables)
                        .ok_or_else(|| malformed(format!("{place}: {text:?} is not a value for {base}")))?;
                }
                let values = texts.iter().map(|t| pattern(operator, t, variables)).collect();
                out.push(Self { operator, negated, set, if_exists, key: normal(key), values, texts });
            }
        }
        Ok(out)
    }

    pub fn holds(&self, context: &Context) -> bool {
        let have = context.values(&self.key);
        if self.operator == Operator::Null {
            return self.texts.iter().any(|t| boolean(t) == Some(have.is_empty()));
        }
        if have.is_empty() {
            return match self.set {
                _ if self.if_exists => true,
                Set::ForAll => true,
                Set::ForAny => false,
                Set::Single => self.negated,
            };
        }
        let one = |value: &String| self.any_value(value, context) != self.negated;
        match self.set {
            Set::ForAll => have.iter().all(one),
            Set::ForAny => have.iter().any(one),
            Set::Single if self.negated => have.iter().all(one),
            Set::Single => have.iter().any(one),
        }
    }

    /// Whether a value of the request matches any of the policy's.
    fn any_value(&self, have: &str, context: &Context) -> bool {
        self.values.iter().zip(&self.texts).any(|(want, text)| match self.operator {
            Operator::String { ignore_case: true, .. } => want
                .resolve(context)
                .is_some_and(|tokens| matches(&crate::wildcard::lower(tokens), &have.to_lowercase())),
            Operator::String { .. } => want.matches(have, context),
            Operator::Arn => want.resolve(context).is_some_and(|tokens| arn_like(&tokens, have)),
            Operator::Numeric(order) => ordered(order, number(have), number(text)),
            Operator::Date(order) => ordered(order, date(have), date(text)),
            Operator::Bool => boolean(text).is_some_and(|b| boolean(have) == Some(b)),
            Operator::Ip => match (have.trim().parse::<IpAddr>(), Network::parse(text)) {
                (Ok(ip), Some(network)) => network.contains(ip),
                _ => false,
            },
            Operator::Null => false,
        })
    }
}

fn ordered<T: PartialOrd>(order: Order, have: Option<T>, want: Option<T>) -> bool {
    let (Some(have), Some(want)) = (have, want) else { return false };
    match order {
        Order::Equal => have == want,
        Order::Less => have < want,
        Order::LessEqual => have <= want,
        Order::Greater => have > want,
        Order::GreaterEqual => have >= want,
    }
}

fn pattern(operator: Operator, text: &str, variables: bool) -> Pattern {
    let wildcards = matches!(operator, Operator::String { like: true, .. } | Operator::Arn);
    match (variables, wildcards) {
        (true, _) => Pattern::with_variables(text, wildcards),
        (false, true) => Pattern::plain(text),
        (false, false) => Pattern::literal(text),
    }
}

fn texts(value: &Value, place: &str) -> Result<Vec<String>> {
    let one = |value: &Value| match value {
        Value::String(s) => Ok(s.clone()),
        Value::Number(n) => Ok(n.to_string()),
        Value::Bool(b) => Ok(b.to_string()),
        _ => Err(malformed(format!("{place} must be a text, a number, true or false, or a list of them"))),
    };
    match value {
        Value::Array(list) if list.is_empty() => Err(malformed(format!("{place}: the list is empty"))),
        Value::Array(list) => list.iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}

fn check_key(key: &str, place: &str) -> Result<()> {
    let lower = key.to_ascii_lowercase();
    if ["s3:", "aws:"].iter().any(|p| lower.strip_prefix(p).is_some_and(|name| !name.is_empty())) {
        return Ok(());
    }
    Err(malformed(format!("{place}: the policy has an invalid condition key; keys begin with s3: or aws:")))
}

fn check_value(operator: Operator, text: &str, variables: bool) -> Option<()> {
    match operator {
        Operator::String { .. } => Some(()),
        Operator::Numeric(_) => number(text).map(drop),
        Operator::Date(_) => date(text).map(drop),
        Operator::Bool | Operator::Null => boolean(text).map(drop),
        Operator::Ip => Network::parse(text).map(drop),
        Operator::Arn => (text == "*" || (text.starts_with("arn:") && text.splitn(6, ':').count() == 6) || {
            variables && text.starts_with("${")
        })
        .then_some(()),
    }
}
