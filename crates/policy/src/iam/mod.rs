//! Bucket policies: documents in IAM's JSON grammar, as S3 takes them.
//!
//! A policy is parsed once into statements with patterns made ready, then
//! asked about requests. Deny wins; silence is not consent.

mod condition;
mod parse;
mod principal;
mod public;
mod request;
mod values;

use std::collections::BTreeSet;

pub use principal::Caller;
pub use request::{Context, Request};

use crate::wildcard::Pattern;
use condition::Condition;
use principal::Principals;

/// Longest policy, in bytes.
pub const POLICY_BYTES_MAX: usize = 20 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Allow,
    Deny,
    /// No statement speaks of the request.
    Silent,
}

/// A valid policy of one bucket. The text it came from is what is stored and
/// given back.
#[derive(Debug, Clone)]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Allow,
    Deny,
}

#[derive(Debug, Clone)]
struct Statement {
    effect: Effect,
    principals: OneOf<Principals>,
    actions: OneOf<Vec<Pattern>>,
    resources: OneOf<Vec<Pattern>>,
    conditions: Vec<Condition>,
}

/// `Action` or `NotAction`, and so on.
#[derive(Debug, Clone)]
enum OneOf<T> {
    These(T),
    AllBut(T),
}

impl<T> OneOf<T> {
    fn holds(&self, matches: impl Fn(&T) -> bool) -> bool {
        match self {
            Self::These(t) => matches(t),
            Self::AllBut(t) => !matches(t),
        }
    }

    fn inner(&self) -> &T {
        match self {
            Self::These(t) | Self::AllBut(t) => t,
        }
    }
}

impl Policy {
    /// Parses and validates the policy for a bucket.
    ///
    /// # Errors
    /// `MalformedPolicy` with what is wrong and where; `NotImplemented` for a
    /// condition operator that is not there.
    pub fn parse(text: &str, bucket: &str) -> crate::Result<Self> {
        parse::policy(text, bucket)
    }

    pub fn evaluate(&self, request: &Request<'_>) -> Decision {
        let action = request.action.to_ascii_lowercase();
        let mut decision = Decision::Silent;
        for statement in &self.statements {
            if decision == Decision::Allow && statement.effect == Effect::Allow {
                continue;
            }
            if statement.covers(request, &action) {
                match statement.effect {
                    Effect::Deny => return Decision::Deny,
                    Effect::Allow => decision = Decision::Allow,
                }
            }
        }
        decision
    }

    /// Whether it lets everybody in, as S3 defines public: an allow for all
    /// principals that no condition narrows to fixed values.
    pub fn is_public(&self) -> bool {
        self.statements.iter().any(public::is_public)
    }

    /// Keys, in lower case up to a `/`, that conditions and variables ask about, so that those can be
    /// refused that no request ever carries: a deny that depends on such a
    /// key would deny nothing.
    pub fn condition_keys(&self) -> BTreeSet<String> {
        let conditions = self.statements.iter().flat_map(|s| &s.conditions);
        let patterns = self.statements.iter().flat_map(|s| s.resources.inner());
        let patterns = patterns.chain(conditions.clone().flat_map(|c| &c.values));
        let mut keys: BTreeSet<String> = patterns.flat_map(Pattern::variables).map(request::normal).collect();
        keys.extend(conditions.map(|c| c.key.clone()));
        keys
    }
}

impl Statement {
    fn covers(&self, request: &Request<'_>, action: &str) -> bool {
        let gains = self.effect == Effect::Allow && matches!(self.principals, OneOf::These(_));
        self.actions.holds(|patterns| patterns.iter().any(|p| p.matches_plain(action)))
            && self.principals.holds(|p| p.names(request.caller, gains))
            && self.resources.holds(|patterns| patterns.iter().any(|p| p.matches(request.resource, request.context)))
            && self.conditions.iter().all(|c| c.holds(request.context))
    }
}
