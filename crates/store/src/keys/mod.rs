//! The keys that wrap data keys. Each extent has a data key of its own; it is
//! kept beside the extent, wrapped by a key that only a provider knows. So
//! rotation wraps data keys again and touches no data.
//!
//! A key has versions. The newest wraps; older ones only unwrap, until they
//! are retired.

mod envelope;
mod file;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod local;
#[cfg(test)]
mod tests;

use std::fmt;

use muonic_ports::object_store::Result;
use muonic_types::store::EncryptionKey;

pub(crate) use envelope::{open as open_envelope, random, seal as seal_envelope};
pub use local::LocalKeys;

/// The key by name that is used where none is named.
pub const DEFAULT_KEY: &str = "default";

/// The key that one extent is encrypted with.
#[derive(Clone, PartialEq, Eq)]
pub struct DataKey(pub [u8; 32]);

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(..)")
    }
}

/// Wraps and unwraps data keys. `name` is `None` for the store's own key.
/// `context` is bound to what is wrapped: another context does not unwrap it.
///
/// Errors: `NoSuchEncryptionKey` where there is no such name; `Store` for a
/// version that is not there, for wrapped bytes that are damaged, and where
/// the provider cannot be reached (`Unavailable`), or what was asked for cannot
/// be (`Conflict`).
pub trait KeyProvider: Send + Sync {
    /// Wraps with the newest version, and says which that is.
    fn wrap(&self, name: Option<&str>, data_key: &DataKey, context: &[u8]) -> Result<(u32, Vec<u8>)>;

    fn unwrap(&self, name: Option<&str>, version: u32, wrapped: &[u8], context: &[u8]) -> Result<DataKey>;

    /// The newest version.
    fn current(&self, name: Option<&str>) -> Result<u32>;

    /// All keys with their versions, the store's own first, then by name. May
    /// block, as all below.
    fn list(&self) -> Result<Vec<EncryptionKey>>;

    /// Makes a key by name.
    fn create(&self, name: &str) -> Result<EncryptionKey>;

    /// Adds a version, which wraps from now on, and answers its number.
    fn rotate(&self, name: Option<&str>) -> Result<u32>;

    /// Removes a version for good; the newest stays. What it still wraps
    /// cannot be opened again, but for what this process may have begun to
    /// read: the caller has wrapped everything anew.
    fn retire(&self, name: Option<&str>, version: u32) -> Result<()>;

    /// Whether it answers from memory. If not, it is called where it may block.
    fn is_local(&self) -> bool {
        false
    }
}
