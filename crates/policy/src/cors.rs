//! What scripts of other origins may ask of a bucket, and what browsers are
//! told about it.

use serde::{Deserialize, Serialize};

use crate::wildcard::Pattern;
use crate::{Error, Result, first_version};

pub const RULES_MAX: usize = 100;
/// Longest configuration as it is stored, in bytes.
pub const BYTES_MAX: usize = 64 * 1024;
const METHODS: &[&str] = &["GET", "PUT", "HEAD", "POST", "DELETE"];
/// What an answer of a bucket with rules depends on.
pub const VARY: &str = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method";

/// As stored. The first rule that fits decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cors {
    #[serde(default = "first_version")]
    pub version: u32,
    pub rules: Vec<Rule>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rule {
    pub id: Option<String>,
    /// Each with at most one `*`.
    pub allowed_origins: Vec<String>,
    pub allowed_methods: Vec<String>,
    /// Each with at most one `*`; not case-sensitive.
    pub allowed_headers: Vec<String>,
    pub expose_headers: Vec<String>,
    /// How long a browser may remember the answer.
    pub max_age_seconds: Option<u32>,
}

/// Headers of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub allow_origin: String,
    /// Whether `Access-Control-Allow-Credentials: true` is sent.
    pub allow_credentials: bool,
    pub allow_methods: String,
    /// Only for preflights that ask about headers.
    pub allow_headers: Option<String>,
    pub expose_headers: Option<String>,
    pub max_age_seconds: Option<u32>,
    pub vary: &'static str,
}

impl Answer {
    /// Names and values as they are sent.
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut out = vec![("access-control-allow-origin", self.allow_origin.clone())];
        if self.allow_credentials {
            out.push(("access-control-allow-credentials", "true".to_owned()));
        }
        out.push(("access-control-allow-methods", self.allow_methods.clone()));
        out.extend(self.allow_headers.clone().map(|v| ("access-control-allow-headers", v)));
        out.extend(self.expose_headers.clone().map(|v| ("access-control-expose-headers", v)));
        out.extend(self.max_age_seconds.map(|v| ("access-control-max-age", v.to_string())));
        out.push(("vary", self.vary.to_owned()));
        out
    }
}

impl Cors {
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { version: first_version(), rules }
    }

    /// Checks what is to be put.
    ///
    /// # Errors
    /// `Malformed` for a rule without origins or methods, or too many rules;
    /// `InvalidRequest` for a value that is not allowed; `TooBig`.
    pub fn check(&self) -> Result<()> {
        if self.rules.is_empty() {
            return Err(Error::Malformed("a CORS configuration needs at least one rule".to_owned()));
        }
        if self.rules.len() > RULES_MAX {
            let count = self.rules.len();
            return Err(Error::Malformed(format!("there are {count} CORS rules; at most {RULES_MAX} are allowed")));
        }
        let bytes: usize = self.rules.iter().map(Rule::bytes).sum();
        if bytes > BYTES_MAX {
            return Err(Error::TooBig(format!("the CORS rules have {bytes} bytes; at most {BYTES_MAX} are allowed")));
        }
        let mut ids = std::collections::BTreeSet::new();
        for (n, rule) in self.rules.iter().enumerate() {
            rule.check(n + 1)?;
            if let Some(id) = &rule.id
                && !ids.insert(id)
            {
                return Err(Error::InvalidRequest(format!("two CORS rules have the id {id:?}")));
            }
        }
        Ok(())
    }

    /// For a request that is no preflight; `None` sends no CORS headers.
    pub fn match_simple(&self, origin: &str, method: &str) -> Option<Answer> {
        self.rules.iter().find_map(|rule| rule.answer(origin, method, &[]))
    }

    /// For `OPTIONS`. `headers` are those of Access-Control-Request-Headers,
    /// see [`requested_headers`]. `None` answers 403.
    pub fn match_preflight(&self, origin: &str, method: &str, headers: &[String]) -> Option<Answer> {
        self.rules.iter().find_map(|rule| rule.answer(origin, method, headers))
    }
}

/// The names in Access-Control-Request-Headers, in lower case.
pub fn requested_headers(value: &str) -> Vec<String> {
    value.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty()).collect()
}

impl Rule {
    fn bytes(&self) -> usize {
        let lists = [&self.allowed_origins, &self.allowed_methods, &self.allowed_headers, &self.expose_headers];
        lists.into_iter().flatten().map(String::len).sum::<usize>() + self.id.as_ref().map_or(0, String::len)
    }

    fn check(&self, n: usize) -> Result<()> {
        let invalid = |what: String| Err(Error::InvalidRequest(format!("CORS rule {n}: {what}")));
        if self.allowed_origins.is_empty() || self.allowed_methods.is_empty() {
            return Err(Error::Malformed(format!("CORS rule {n} needs an AllowedOrigin and an AllowedMethod")));
        }
        if self.id.as_ref().is_some_and(|id| id.chars().count() > 255) {
            return invalid("its ID is longer than 255 characters".to_owned());
        }
        if let Some(method) = self.allowed_methods.iter().find(|m| !METHODS.contains(&m.as_str())) {
            return invalid(format!("found unsupported HTTP method in CORS config: {method:?}"));
        }
        for (field, list) in [("AllowedOrigin", &self.allowed_origins), ("AllowedHeader", &self.allowed_headers)] {
            for value in list {
                if value.matches('*').count() > 1 {
                    return invalid(format!("{field} {value:?} can not have more than one wildcard"));
                }
                if value.is_empty() || !sendable(value) {
                    return invalid(format!("{field} {value:?} is empty or cannot stand in a header"));
                }
            }
        }
        match self.expose_headers.iter().find(|h| h.is_empty() || h.contains('*') || !sendable(h)) {
            Some(header) => invalid(format!("ExposeHeader {header:?} must be the name of a header")),
            None => Ok(()),
        }
    }

    fn answer(&self, origin: &str, method: &str, headers: &[String]) -> Option<Answer> {
        let allowed = self.allowed_origins.iter().find(|o| one_star(o, origin))?;
        if !self.allowed_methods.iter().any(|m| m == method) || !sendable(origin) {
            return None;
        }
        let header = |name: &String| {
            sendable(name)
                && self.allowed_headers.iter().any(|h| one_star(&h.to_ascii_lowercase(), &name.to_ascii_lowercase()))
        };
        if !headers.iter().all(header) {
            return None;
        }
        let any = allowed == "*";
        let joined = |list: &[String]| (!list.is_empty()).then(|| list.join(", "));
        Some(Answer {
            allow_origin: if any { "*".to_owned() } else { origin.to_owned() },
            allow_credentials: !any,
            allow_methods: self.allowed_methods.join(", "),
            allow_headers: joined(headers),
            expose_headers: joined(&self.expose_headers),
            max_age_seconds: self.max_age_seconds,
            vary: VARY,
        })
    }
}

/// `*` for any text; `?` is itself.
fn one_star(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) if !after.contains('*') => {
            text.len() >= before.len() + after.len() && text.starts_with(before) && text.ends_with(after)
        }
        // Stored by others than `check`.
        Some(_) => Pattern::plain(pattern).matches_plain(text),
    }
}

fn sendable(text: &str) -> bool {
    text.bytes().all(|b| (0x20..0x7f).contains(&b))
}
