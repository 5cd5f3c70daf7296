//! Parts of answers that many operations share.

use muonic_ports::object_store::{Algorithm, ChecksumType, Encryption, RetentionMode, VersionId};
use muonic_services::buckets::{Expiry, canonical_id};
use s3s::dto;

use crate::dates::http_date;

/// Sets the one field of the five that fits the sum.
macro_rules! set_sum {
    ($output:expr, $sum:expr) => {
        if let Some((algorithm, value)) = $sum {
            let value = Some(value);
            match algorithm {
                muonic_ports::object_store::Algorithm::Crc32 => $output.checksum_crc32 = value,
                muonic_ports::object_store::Algorithm::Crc32c => $output.checksum_crc32c = value,
                muonic_ports::object_store::Algorithm::Crc64Nvme => $output.checksum_crc64nvme = value,
                muonic_ports::object_store::Algorithm::Sha1 => $output.checksum_sha1 = value,
                muonic_ports::object_store::Algorithm::Sha256 => $output.checksum_sha256 = value,
            }
        }
    };
}

/// Sets the four fields that say how bytes are encrypted.
macro_rules! set_encryption {
    ($output:expr, $encryption:expr) => {{
        let shown = $crate::render::Sealed::from($encryption);
        $output.server_side_encryption = shown.sse;
        $output.ssekms_key_id = shown.kms_key;
        $output.sse_customer_algorithm = shown.customer_algorithm;
        $output.sse_customer_key_md5 = shown.customer_key_md5;
    }};
}

pub(crate) use {set_encryption, set_sum};

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Sealed {
    pub sse: Option<dto::ServerSideEncryption>,
    pub kms_key: Option<String>,
    pub customer_algorithm: Option<String>,
    pub customer_key_md5: Option<String>,
}

impl From<&Encryption> for Sealed {
    fn from(encryption: &Encryption) -> Self {
        let sse = |name| Some(dto::ServerSideEncryption::from_static(name));
        match encryption {
            Encryption::None => Self::default(),
            Encryption::Store => Self { sse: sse(dto::ServerSideEncryption::AES256), ..Self::default() },
            Encryption::Named(key) => {
                let kms_key = Some(key.clone());
                Self { sse: sse(dto::ServerSideEncryption::AWS_KMS), kms_key, ..Self::default() }
            }
            Encryption::Customer { key_md5 } => Self {
                customer_algorithm: Some("AES256".to_owned()),
                customer_key_md5: Some(key_md5.clone()),
                ..Self::default()
            },
        }
    }
}

pub(crate) fn checksum_type(kind: ChecksumType) -> dto::ChecksumType {
    dto::ChecksumType::from_static(match kind {
        ChecksumType::FullObject => dto::ChecksumType::FULL_OBJECT,
        ChecksumType::Composite => dto::ChecksumType::COMPOSITE,
    })
}

pub(crate) fn checksum_algorithm(algorithm: Algorithm) -> dto::ChecksumAlgorithm {
    dto::ChecksumAlgorithm::from_static(match algorithm {
        Algorithm::Crc32 => "CRC32",
        Algorithm::Crc32c => "CRC32C",
        Algorithm::Crc64Nvme => "CRC64NVME",
        Algorithm::Sha1 => "SHA1",
        Algorithm::Sha256 => "SHA256",
    })
}

pub(crate) fn retention_mode(mode: RetentionMode) -> &'static str {
    match mode {
        RetentionMode::Governance => "GOVERNANCE",
        RetentionMode::Compliance => "COMPLIANCE",
    }
}

/// The id of a version, where the bucket has more than one.
pub(crate) fn version(id: VersionId) -> Option<String> {
    if id.is_null() { None } else { Some(id.0) }
}

pub(crate) fn version_of(id: Option<String>) -> Option<VersionId> {
    id.map(VersionId)
}

/// The value of `x-amz-expiration`.
pub(crate) fn expiration(expiry: Option<Expiry>) -> Option<String> {
    expiry.map(|Expiry { rule, at }| {
        let rule = form_urlencoded::byte_serialize(rule.as_bytes()).collect::<String>();
        format!("expiry-date=\"{}\", rule-id=\"{rule}\"", http_date(at))
    })
}

pub(crate) fn owner(project: &str) -> dto::Owner {
    dto::Owner { id: Some(canonical_id(project)), display_name: Some(project.to_owned()) }
}

/// Remembers the owner it was last asked for: a page of keys has mostly one.
#[derive(Default)]
pub(crate) struct Owners(Option<dto::Owner>);

impl Owners {
    pub(crate) fn of(&mut self, project: &str) -> dto::Owner {
        match &self.0 {
            Some(known) if known.display_name.as_deref() == Some(project) => known.clone(),
            _ => self.0.insert(owner(project)).clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_have_canonical_ids() {
        let mut owners = Owners::default();
        let first = owners.of("default");
        assert_eq!(first.display_name.as_deref(), Some("default"));
        assert_eq!(first.id.as_ref().map(String::len), Some(64));
        assert_eq!(owners.of("default"), first);
        assert_ne!(owners.of("other").id, first.id);
    }

    #[test]
    fn encryption_is_shown_as_s3_names_it() {
        assert_eq!(Sealed::from(&Encryption::None), Sealed::default());
        let kms = Sealed::from(&Encryption::Named("k".to_owned()));
        assert_eq!((kms.sse.unwrap().as_str(), kms.kms_key.as_deref()), ("aws:kms", Some("k")));
        let customer = Sealed::from(&Encryption::Customer { key_md5: "m".to_owned() });
        assert_eq!((customer.sse, customer.customer_key_md5.as_deref()), (None, Some("m")));
    }
}
