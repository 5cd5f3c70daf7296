//! Which statement makes a bucket public.

use super::condition::{Condition, Operator, Set};
use super::values::Network;
use super::{Effect, OneOf, Statement};

/// Keys whose fixed values narrow a statement to callers who are known.
const NARROWING: &[&str] = &[
    "aws:principalaccount",
    "aws:principalarn",
    "aws:principalorgid",
    "aws:principalorgpaths",
    "aws:sourceaccount",
    "aws:sourcearn",
    "aws:sourceowner",
    "aws:sourcevpc",
    "aws:sourcevpce",
    "aws:userid",
    "aws:username",
    "s3:dataaccesspointaccount",
    "s3:dataaccesspointarn",
];

pub(super) fn is_public(statement: &Statement) -> bool {
    let everybody = match &statement.principals {
        OneOf::These(principals) => principals.everybody(),
        OneOf::AllBut(_) => true,
    };
    statement.effect == Effect::Allow && everybody && !statement.conditions.iter().any(narrows)
}

/// Whether the condition holds only for callers of fixed kinds.
fn narrows(condition: &Condition) -> bool {
    // These hold also where the key is not there.
    if condition.negated || condition.if_exists || condition.set == Set::ForAll {
        return false;
    }
    match condition.operator {
        Operator::Ip => {
            condition.key == "aws:sourceip"
                && condition.texts.iter().all(|t| Network::parse(t).is_some_and(|n| !n.is_broad()))
        }
        Operator::String { .. } | Operator::Arn => {
            NARROWING.contains(&condition.key.as_str())
                && condition.values.iter().all(|v| !v.has_wildcards() && !v.has_variables())
        }
        _ => false,
    }
}
