//! Patterns with `*` and `?`, and with policy variables (`${aws:username}`).
//!
//! Matching remembers one place to go back to, that after the last `*`, so it
//! takes at most pattern times text steps, never more.

use crate::iam::Context;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// Any characters, also none.
    Any,
    One,
    Char(char),
    Variable {
        key: String,
        default: Option<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    tokens: Vec<Token>,
}

impl Pattern {
    /// Without variables.
    pub fn plain(text: &str) -> Self {
        Self { tokens: text.chars().map(wild).collect() }
    }

    /// With variables; `wildcards` off takes `*` and `?` for themselves.
    /// `${*}`, `${?}` and `${$}` stand for the character.
    pub fn with_variables(text: &str, wildcards: bool) -> Self {
        let one = |c| if wildcards { wild(c) } else { Token::Char(c) };
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            tokens.extend(rest[..at].chars().map(one));
            let Some(len) = rest[at..].find('}') else {
                rest = &rest[at..];
                break;
            };
            tokens.push(variable(&rest[at + 2..at + len]));
            rest = &rest[at + len + 1..];
        }
        tokens.extend(rest.chars().map(one));
        Self { tokens }
    }

    /// Every character for itself.
    pub fn literal(text: &str) -> Self {
        Self { tokens: text.chars().map(Token::Char).collect() }
    }

    pub fn has_wildcards(&self) -> bool {
        self.tokens.iter().any(|t| matches!(t, Token::Any | Token::One))
    }

    pub fn has_variables(&self) -> bool {
        self.tokens.iter().any(|t| matches!(t, Token::Variable { .. }))
    }

    /// Their keys, as written.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.tokens.iter().filter_map(|t| match t {
            Token::Variable { key, .. } => Some(key.as_str()),
            _ => None,
        })
    }

    /// Puts the values of variables in; `None` where one has no value.
    pub fn resolve(&self, context: &Context) -> Option<Vec<Token>> {
        let mut out = Vec::with_capacity(self.tokens.len());
        for token in &self.tokens {
            match token {
                Token::Variable { key, default } => {
                    let value = context.one(key).or(default.as_deref())?;
                    out.extend(value.chars().map(Token::Char));
                }
                other => out.push(other.clone()),
            }
        }
        Some(out)
    }

    /// A variable without a value matches nothing.
    pub fn matches(&self, text: &str, context: &Context) -> bool {
        if self.has_variables() {
            self.resolve(context).is_some_and(|tokens| matches(&tokens, text))
        } else {
            matches(&self.tokens, text)
        }
    }

    /// For patterns without variables; those match nothing.
    pub fn matches_plain(&self, text: &str) -> bool {
        matches(&self.tokens, text)
    }
}

fn wild(c: char) -> Token {
    match c {
        '*' => Token::Any,
        '?' => Token::One,
        c => Token::Char(c),
    }
}

fn variable(inside: &str) -> Token {
    match inside {
        "*" => Token::Char('*'),
        "?" => Token::Char('?'),
        "$" => Token::Char('$'),
        _ => {
            let (key, default) = match inside.split_once(',') {
                Some((key, default)) => {
                    let default = default.trim();
                    (key, Some(default.strip_prefix('\'').and_then(|d| d.strip_suffix('\'')).unwrap_or(default)))
                }
                None => (inside, None),
            };
            Token::Variable { key: key.trim().to_owned(), default: default.map(str::to_owned) }
        }
    }
}

/// Whether the whole text matches. Variables match nothing.
pub(crate) fn matches(pattern: &[Token], text: &str) -> bool {
    let (mut p, mut rest) = (0, text);
    // After the last `*`: its place in the pattern, and where in the text what follows it was tried.
    let mut back: Option<(usize, &str)> = None;
    loop {
        let mut chars = rest.chars();
        let next = chars.next();
        match (pattern.get(p), next) {
            (Some(Token::Any), _) => {
                p += 1;
                back = Some((p, rest));
                continue;
            }
            (Some(Token::One), Some(_)) => {
                p += 1;
                rest = chars.as_str();
                continue;
            }
            (Some(Token::Char(want)), Some(c)) if *want == c => {
                p += 1;
                rest = chars.as_str();
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        let Some((after, tried)) = back else { return false };
        let mut chars = tried.chars();
        if chars.next().is_none() {
            return false;
        }
        rest = chars.as_str();
        p = after;
        back = Some((after, rest));
    }
}

/// For matching that ignores case; the text must be lower case too.
pub(crate) fn lower(tokens: Vec<Token>) -> Vec<Token> {
    let lower = |token| match token {
        Token::Char(c) => c.to_lowercase().map(Token::Char).collect(),
        other => vec![other],
    };
    tokens.into_iter().flat_map(lower).collect()
}
