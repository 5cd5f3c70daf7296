//! Who is meant by `Principal`.

use serde_json::Value;

use super::parse::{malformed, one_or_many};
use crate::Result;

/// Who makes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller<'a> {
    Anonymous,
    Key {
        /// The project, by name; in ARNs it stands for the account.
        account: &'a str,
        /// In ARNs: the user's name.
        user: &'a str,
        /// The canonical user id of the project.
        canonical: &'a str,
        /// Whether it takes part in what is allowed to its whole project. A
        /// deny of the project always reaches it.
        by_account: bool,
    },
}

#[derive(Debug, Clone, Default)]
pub(super) struct Principals {
    everybody: bool,
    accounts: Vec<String>,
    /// Account and user.
    users: Vec<(String, String)>,
    canonical: Vec<String>,
    /// Services and identity providers; no caller of ours is one.
    foreign: bool,
}

impl Principals {
    pub fn parse(value: &Value, place: &str) -> Result<Self> {
        let mut out = Self::default();
        match value {
            Value::String(s) if s == "*" => out.everybody = true,
            Value::Object(kinds) if !kinds.is_empty() => {
                for (kind, value) in kinds {
                    let names = one_or_many(value, &format!("{place}.{kind}"))?;
                    for name in names {
                        out.add(kind, &name, place)?;
                    }
                }
            }
            _ => {
                return Err(malformed(format!(
                    "{place}: invalid principal; write \"*\" or an object such as {{\"AWS\": \"arn:aws:iam::PROJECT:root\"}}"
                )));
            }
        }
        Ok(out)
    }

    fn add(&mut self, kind: &str, name: &str, place: &str) -> Result<()> {
        let invalid = || malformed(format!("{place}: invalid principal in policy: {name:?}"));
        match kind {
            "AWS" if name == "*" => self.everybody = true,
            "AWS" => match name.strip_prefix("arn:") {
                None if is_name(name) => self.accounts.push(name.to_owned()),
                None => return Err(invalid()),
                Some(arn) => {
                    let parts: Vec<&str> = arn.splitn(5, ':').collect();
                    let [partition, "iam", "", account, what] = parts[..] else { return Err(invalid()) };
                    if !partition.starts_with("aws") {
                        return Err(invalid());
                    }
                    match what.strip_prefix("user/") {
                        // An account without a name is that of a user known by its name alone.
                        Some(user) if is_user(user) && (account.is_empty() || is_name(account)) => {
                            self.users.push((account.to_owned(), user.to_owned()));
                        }
                        None if what == "root" && is_name(account) => self.accounts.push(account.to_owned()),
                        _ => return Err(invalid()),
                    }
                }
            },
            "CanonicalUser" if is_name(name) => self.canonical.push(name.to_owned()),
            "Service" | "Federated" if !name.is_empty() && name != "*" => self.foreign = true,
            "Service" | "Federated" | "CanonicalUser" => return Err(invalid()),
            _ => {
                return Err(malformed(format!(
                    "{place}: unknown kind of principal {kind:?}; there are AWS, CanonicalUser, Service and Federated"
                )));
            }
        }
        Ok(())
    }

    /// `allows`: whether the caller would gain by being named.
    pub fn names(&self, caller: Caller<'_>, allows: bool) -> bool {
        if self.everybody {
            return true;
        }
        let Caller::Key { account, user, canonical, by_account } = caller else { return false };
        let project = || self.accounts.iter().any(|a| a == account) || self.canonical.iter().any(|c| c == canonical);
        self.users.iter().any(|(a, u)| (a.is_empty() || a == account) && last(u) == user)
            || (by_account || !allows) && project()
    }

    pub fn everybody(&self) -> bool {
        self.everybody
    }
}

/// The name of a user without its path.
fn last(user: &str) -> &str {
    user.rsplit('/').next().unwrap_or(user)
}

fn is_user(user: &str) -> bool {
    user.split('/').all(is_name)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 128 && name.chars().all(|c| c.is_ascii_alphanumeric() || "_+=,.@-$".contains(c))
}
