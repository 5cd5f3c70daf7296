//! Names that people choose and ids that the server gives.

use std::fmt;
use std::str::FromStr;

use crate::Invalid;
use crate::digest::clip;
use crate::serde_str::{serde_as_str, string_schema};

fn is_label(s: &str, max: usize) -> bool {
    let b = s.as_bytes();
    !b.is_empty()
        && b.len() <= max
        && b.iter().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-')
        && b[0] != b'-'
        && b[b.len() - 1] != b'-'
}

macro_rules! string_type {
    ($(#[$doc:meta])* $t:ident, $name:literal, $pattern:literal, $example:literal, $about:literal, |$s:ident| $valid:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $t(String);

        impl $t {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $t {
            type Err = Invalid;
            fn from_str($s: &str) -> Result<Self, Invalid> {
                if $valid {
                    Ok(Self($s.to_owned()))
                } else {
                    Err(Invalid::new(format!("'{}' is not {}", clip($s), $rule)))
                }
            }
        }

        serde_as_str!($t);
        string_schema!($t, $name, Some($pattern), $example, $about);
    };
}

string_type!(
    /// A name that people give to a dataset, model, endpoint or job:
    /// 1 to 48 of `a-z 0-9 -`, a letter or digit at both ends (a DNS label,
    /// with room for the number that ids append).
    Name,
    "Name",
    "^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$",
    "digits",
    "A name: 1 to 48 of a-z, 0-9 and -, with a letter or digit at both ends",
    |s| is_label(s, 48),
    "a name: use 1 to 48 of a-z, 0-9 and '-', with a letter or digit at both ends"
);

string_type!(
    /// A project; `default` exists from the first start.
    ProjectId,
    "ProjectId",
    "^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$",
    "default",
    "A project's name",
    |s| is_label(s, 48),
    "a project: use 1 to 48 of a-z, 0-9 and '-', with a letter or digit at both ends"
);

string_type!(
    /// A job's id: its name, `-`, and a number that counts the jobs of that name.
    JobId,
    "JobId",
    "^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?-[0-9]{1,9}$",
    "train-1",
    "A job: its name, a dash and its number",
    |s| is_label(s, 60) && numbered(s, '-'),
    "a job id such as train-1"
);

string_type!(
    /// One try of a job: the job's id, `.`, and the attempt's number from 1.
    AttemptId,
    "AttemptId",
    "^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?-[0-9]{1,9}\\.[0-9]{1,9}$",
    "train-1.1",
    "An attempt: its job, a dot and its number",
    |s| s.rsplit_once('.').is_some_and(|(job, _)| job.parse::<JobId>().is_ok()) && numbered(s, '.'),
    "an attempt id such as train-1.1"
);

string_type!(
    /// One process that serves a revision: endpoint, `.`, revision, `.`, a number.
    ReplicaId,
    "ReplicaId",
    "^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?(\\.(0|[1-9][0-9]{0,8})){2}$",
    "digits.1.1",
    "A replica: its endpoint, revision and number",
    |s| {
        let mut parts = s.split('.');
        parts.next().is_some_and(|n| n.parse::<Name>().is_ok())
            && s.matches('.').count() == 2
            && parts.all(|n| {
                (1..=9).contains(&n.len()) && n.bytes().all(|c| c.is_ascii_digit()) && (n.len() == 1 || !n.starts_with('0'))
            })
    },
    "a replica id such as digits.1.1"
);

string_type!(
    /// An access key id: `MK` and 18 of `A-Z 2-7`. Not secret.
    KeyId,
    "KeyId",
    "^MK[A-Z2-7]{18}$",
    "MKABCDEFGHIJKLMNOPQR",
    "An access key id",
    |s| s.len() == 20 && s.starts_with("MK") && s.bytes().skip(2).all(|c| c.is_ascii_uppercase() || (b'2'..=b'7').contains(&c)),
    "an access key id: MK and 18 of A-Z and 2-7"
);

fn numbered(s: &str, at: char) -> bool {
    s.rsplit_once(at).is_some_and(|(head, n)| {
        !head.is_empty() && !n.is_empty() && n.len() <= 9 && n.bytes().all(|c| c.is_ascii_digit())
    })
}

impl ProjectId {
    /// The project that exists from the first start.
    pub fn default_project() -> Self {
        Self("default".into())
    }
}

impl JobId {
    pub fn new(name: &Name, number: u32) -> Self {
        Self(format!("{name}-{number}"))
    }
}

impl AttemptId {
    pub fn new(job: &JobId, number: u32) -> Self {
        Self(format!("{job}.{number}"))
    }

    pub fn job(&self) -> JobId {
        JobId(self.0.rsplit_once('.').expect("checked at construction").0.to_owned())
    }

    pub fn number(&self) -> u32 {
        self.0.rsplit_once('.').and_then(|(_, n)| n.parse().ok()).expect("checked at construction")
    }
}

impl JobId {
    /// The name whose jobs this one counts among.
    pub fn name(&self) -> Name {
        Name(self.0.rsplit_once('-').expect("checked at construction").0.to_owned())
    }
}

impl ReplicaId {
    pub fn new(endpoint: &Name, revision: u32, number: u32) -> Self {
        Self(format!("{endpoint}.{revision}.{number}"))
    }

    pub fn endpoint(&self) -> Name {
        Name(self.0.split('.').next().expect("checked at construction").to_owned())
    }

    pub fn revision(&self) -> u32 {
        self.0.split('.').nth(1).and_then(|n| n.parse().ok()).expect("checked at construction")
    }
}

impl KeyId {
    /// An id from 12 random bytes (of which 90 bits are used).
    pub fn from_random(bytes: &[u8; 12]) -> Self {
        let text = data_encoding::BASE32_NOPAD.encode(bytes);
        Self(format!("MK{}", &text[..18]))
    }
}

/// What an engine launches: a task of an attempt, or a replica. The text is
/// also a safe file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnitId {
    Task(AttemptId),
    Replica(ReplicaId),
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(id) => write!(f, "task.{id}"),
            Self::Replica(id) => write!(f, "replica.{id}"),
        }
    }
}

impl FromStr for UnitId {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        match s.split_once('.') {
            Some(("task", id)) => Ok(Self::Task(id.parse()?)),
            Some(("replica", id)) => Ok(Self::Replica(id.parse()?)),
            _ => Err(Invalid::new(format!("'{}' is not a unit id", clip(s)))),
        }
    }
}

serde_as_str!(UnitId);

/// Which version of a name is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum VersionSelector {
    Number(u32),
    Latest,
    /// An alias such as `champion` (models only).
    Alias(Name),
}

impl fmt::Display for VersionSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::Latest => f.write_str("latest"),
            Self::Alias(a) => write!(f, "{a}"),
        }
    }
}

impl FromStr for VersionSelector {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        if s == "latest" {
            return Ok(Self::Latest);
        }
        if !s.is_empty() && s.bytes().all(|c| c.is_ascii_digit()) {
            return match s.parse::<u32>() {
                Ok(n) if n > 0 => Ok(Self::Number(n)),
                _ => Err(Invalid::new(format!("'{}' is not a version: versions count from 1", clip(s)))),
            };
        }
        s.parse()
            .map(Self::Alias)
            .map_err(|_| Invalid::new(format!("'{}' is not a version: use a number, 'latest' or an alias", clip(s))))
    }
}

serde_as_str!(VersionSelector);
string_schema!(
    VersionSelector,
    "VersionSelector",
    Some("^([1-9][0-9]{0,8}|[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?)$"),
    "latest",
    "A version: a number, latest, or an alias"
);

/// `name@version`; without `@version` the latest is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct VersionRef {
    pub name: Name,
    pub version: VersionSelector,
}

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

impl FromStr for VersionRef {
    type Err = Invalid;
    fn from_str(s: &str) -> Result<Self, Invalid> {
        match s.split_once('@') {
            Some((name, version)) => Ok(Self { name: name.parse()?, version: version.parse()? }),
            None => Ok(Self { name: s.parse()?, version: VersionSelector::Latest }),
        }
    }
}

serde_as_str!(VersionRef);
string_schema!(
    VersionRef,
    "VersionRef",
    Some("^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?(@([1-9][0-9]{0,8}|[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?))?$"),
    "digits@1",
    "name@version, where version is a number, latest, or an alias"
);
