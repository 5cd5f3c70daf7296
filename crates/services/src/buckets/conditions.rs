//! The conditions of a read (RFC 9110, section 13). Those of writes are
//! decided in the store, in the step of the change.

use muonic_ports::object_store::{self, EtagMatch, ObjectVersion};
use muonic_types::Timestamp;

use super::{Error, Result};

#[derive(Debug, Clone, Default)]
pub struct Conditions {
    pub if_match: Option<EtagMatch>,
    pub if_none_match: Option<EtagMatch>,
    pub if_modified_since: Option<Timestamp>,
    pub if_unmodified_since: Option<Timestamp>,
}

impl Conditions {
    /// In this order; times only where no tag is given. `NotModified` where
    /// the caller has it already.
    pub fn check(&self, object: &ObjectVersion) -> Result<()> {
        self.check_named(object, ["If-Match", "If-Unmodified-Since"])?;
        if self.is_known(object) {
            return Err(Error::NotModified(Box::new(object.clone())));
        }
        Ok(())
    }

    /// For the source of a copy, where all failures are the same.
    pub fn check_source(&self, object: &ObjectVersion) -> Result<()> {
        self.check_named(object, ["x-amz-copy-source-if-match", "x-amz-copy-source-if-unmodified-since"])?;
        if self.is_known(object) {
            let name = "x-amz-copy-source-if-none-match or x-amz-copy-source-if-modified-since";
            return Err(object_store::Error::PreconditionFailed(name).into());
        }
        Ok(())
    }

    fn check_named(&self, object: &ObjectVersion, [tag, time]: [&'static str; 2]) -> Result<()> {
        let failed = match (&self.if_match, self.if_unmodified_since) {
            (Some(wanted), _) if !wanted.matches(&object.etag) => tag,
            (None, Some(since)) if object.modified_at.as_second() > since.as_second() => time,
            _ => return Ok(()),
        };
        Err(object_store::Error::PreconditionFailed(failed).into())
    }

    fn is_known(&self, object: &ObjectVersion) -> bool {
        match (&self.if_none_match, self.if_modified_since) {
            (Some(had), _) => had.matches(&object.etag),
            // To the second, as HTTP says times.
            (None, Some(since)) => object.modified_at.as_second() <= since.as_second(),
            (None, None) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use muonic_ports::object_store::{Encryption, VersionId};

    use super::*;

    fn object() -> ObjectVersion {
        ObjectVersion {
            bucket: "b".to_owned(),
            key: "k".to_owned(),
            version: VersionId::null(),
            latest: true,
            is_delete_marker: false,
            size: 1,
            etag: "e".to_owned(),
            modified_at: Timestamp::from_millisecond(10_500).expect("a time"),
            headers: Default::default(),
            tags: Default::default(),
            owner: String::new(),
            acl: None,
            encryption: Encryption::None,
            retention: None,
            legal_hold: false,
            sum: None,
            parts: 0,
            content: 0,
        }
    }

    fn at(second: i64) -> Option<Timestamp> {
        Some(Timestamp::from_second(second).expect("a time"))
    }

    fn tag(tag: &str) -> Option<EtagMatch> {
        Some(EtagMatch::Tags(vec![tag.to_owned()]))
    }

    #[test]
    fn tags_count_before_times() {
        let none = Conditions::default();
        let is_known = |c: Conditions| matches!(c.check(&object()), Err(Error::NotModified(_)));
        let fails = |c: Conditions| matches!(c.check(&object()), Err(Error::Store(_)));
        assert!(none.check(&object()).is_ok());
        assert!(fails(Conditions { if_match: tag("x"), ..none.clone() }));
        assert!(Conditions { if_match: Some(EtagMatch::Any), ..none.clone() }.check(&object()).is_ok());
        assert!(is_known(Conditions { if_none_match: Some(EtagMatch::Any), ..none.clone() }));
        assert!(fails(Conditions { if_unmodified_since: at(9), ..none.clone() }));
        assert!(Conditions { if_unmodified_since: at(10), ..none.clone() }.check(&object()).is_ok());
        assert!(is_known(Conditions { if_modified_since: at(10), ..none.clone() }));
        assert!(Conditions { if_modified_since: at(9), ..none.clone() }.check(&object()).is_ok());
        assert!(Conditions { if_match: tag("e"), if_unmodified_since: at(1), ..none.clone() }.check(&object()).is_ok());
        let both = Conditions { if_none_match: tag("x"), if_modified_since: at(99), ..none };
        assert!(both.check(&object()).is_ok());
        let source = Conditions { if_none_match: tag("e"), ..Conditions::default() };
        assert!(matches!(source.check_source(&object()), Err(Error::Store(_))));
    }
}
