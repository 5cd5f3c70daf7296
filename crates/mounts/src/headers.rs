//! Content headers and user metadata, between S3's names and the store's.

use std::collections::BTreeMap;

use muonic_ports::object_store::{Error, NewEncryption, NewObject, Result};
use object_store::{Attribute, Attributes};

use crate::backend::Kind;

pub(crate) const META: &str = "x-amz-meta-";

/// Refuses what no mounted store keeps, before anything is sent.
pub(crate) fn refuse_what_is_not_kept(kind: Kind, new: &NewObject) -> Result<()> {
    if !new.tags.is_empty() {
        return Err(Error::NotSupported("tags in a mounted bucket"));
    }
    if new.acl.is_some() {
        return Err(Error::NotSupported("access lists of objects in a mounted bucket"));
    }
    if new.retention.is_some() || new.legal_hold {
        return Err(Error::NotSupported("object lock in a mounted bucket"));
    }
    if new.encryption != NewEncryption::Store {
        return Err(Error::NotSupported("encryption with keys of one's own in a mounted bucket"));
    }
    attributes(kind, &new.headers).map(drop)
}

pub(crate) fn attributes(kind: Kind, headers: &BTreeMap<String, String>) -> Result<Attributes> {
    let mut attributes = Attributes::new();
    for (name, value) in headers {
        let attribute = match name.as_str() {
            // Clients guess and send it unasked; folders have no place for it.
            "content-type" if !kind.keeps_headers() => continue,
            _ if !kind.keeps_headers() => {
                return Err(Error::NotSupported("user metadata and content headers in a mounted folder"));
            }
            "content-type" => Attribute::ContentType,
            "content-encoding" => Attribute::ContentEncoding,
            "content-language" => Attribute::ContentLanguage,
            "content-disposition" => Attribute::ContentDisposition,
            "cache-control" => Attribute::CacheControl,
            name => match name.strip_prefix(META) {
                Some(key) if !key.is_empty() => Attribute::Metadata(key.to_owned().into()),
                _ => return Err(Error::NotSupported("a content header of this name in a mounted bucket")),
            },
        };
        let plain = |text: &str| text.bytes().all(|b| (b' '..=b'~').contains(&b));
        if !plain(name) || !plain(value) {
            return Err(Error::NotSupported("headers that are not ASCII in a mounted bucket"));
        }
        attributes.insert(attribute, value.clone().into());
    }
    Ok(attributes)
}

pub(crate) fn headers(attributes: &Attributes) -> BTreeMap<String, String> {
    let named = attributes.iter().filter_map(|(attribute, value)| {
        let name = match attribute {
            Attribute::ContentType => "content-type".to_owned(),
            Attribute::ContentEncoding => "content-encoding".to_owned(),
            Attribute::ContentLanguage => "content-language".to_owned(),
            Attribute::ContentDisposition => "content-disposition".to_owned(),
            Attribute::CacheControl => "cache-control".to_owned(),
            Attribute::Metadata(key) => format!("{META}{}", key.to_lowercase()),
            _ => return None,
        };
        Some((name, value.to_string()))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back() {
        let given: BTreeMap<String, String> =
            [("content-type", "text/plain"), ("cache-control", "no-store"), ("x-amz-meta-a", "b c")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into();
        assert_eq!(headers(&attributes(Kind::S3, &given).expect("kept")), given);
        assert!(attributes(Kind::File, &given).is_err());
        for (name, value) in [("x-amz-meta-a", "ü"), ("x-amz-meta-a", "a\nb"), ("expires", "0"), ("x-amz-meta-", "x")]
        {
            let given = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            assert!(attributes(Kind::S3, &given).is_err(), "{name}");
        }
    }
}
