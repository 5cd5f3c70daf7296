use std::fmt;

/// A key that the customer sends with each request (SSE-C). It is never kept.
#[derive(Clone, PartialEq, Eq)]
pub struct CustomerKey {
    pub key: [u8; 32],
}

impl fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomerKey(..)")
    }
}

/// How a new object is to be encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NewEncryption {
    /// With the store's own key (SSE-S3).
    #[default]
    Store,
    /// With a key by name (SSE-KMS); `None` is the default one.
    Named(Option<String>),
    Customer(CustomerKey),
}

/// How a version is encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Encryption {
    #[default]
    None,
    Store,
    /// The key's name.
    Named(String),
    /// Base64 of the MD5 of the customer's key, as S3 names such keys.
    Customer {
        key_md5: String,
    },
}
