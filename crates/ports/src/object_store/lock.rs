//! Object lock: whether a version may be removed, and retention changed.
//! Pure; backends ask it inside the step that makes the change.

use muonic_types::Timestamp;

use super::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetentionMode {
    /// Those who may bypass it can shorten and remove it.
    Governance,
    /// Nobody can, until it ends.
    Compliance,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    pub mode: RetentionMode,
    pub until: Timestamp,
}

/// Who wants to change something that may be locked, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockGuard {
    pub now: Timestamp,
    /// The caller asked to bypass governance, and may.
    pub bypass: bool,
}

impl LockGuard {
    /// Refuses the removal of a version that is locked.
    pub fn may_remove(self, retention: Option<Retention>, legal_hold: bool) -> Result<()> {
        if legal_hold {
            return Err(Error::LegalHold);
        }
        match retention {
            Some(r) if r.until > self.now && !(self.bypass && r.mode == RetentionMode::Governance) => {
                Err(Error::Retained(r.mode))
            }
            _ => Ok(()),
        }
    }

    /// Refuses to change a retention that still holds, but to a longer one of
    /// the same mode. Compliance in the place of governance takes away a right
    /// of those who may bypass it, so it needs that right.
    pub fn may_retain(self, old: Option<Retention>, new: Option<Retention>) -> Result<()> {
        let Some(old) = old.filter(|r| r.until > self.now) else { return Ok(()) };
        if old.mode == RetentionMode::Governance && self.bypass {
            return Ok(());
        }
        match new {
            Some(new) if new.until >= old.until && new.mode == old.mode => Ok(()),
            _ => Err(Error::Retained(old.mode)),
        }
    }
}
