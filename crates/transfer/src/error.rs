//! What ends an export or an import before its end.

use std::io;
use std::path::{Path, PathBuf};

use muonic_ports::object_store;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder that cannot be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{}, line {line}: {what}", path.display())]
    Manifest { path: PathBuf, line: u64, what: String },
    /// The store refuses, or cannot go on.
    #[error("{what}: {source}")]
    Store { what: String, source: object_store::Error },
}

impl Error {
    pub(crate) fn store(what: String) -> impl FnOnce(object_store::Error) -> Self {
        |source| Self::Store { what, source }
    }
}

/// For `map_err`.
pub(crate) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::File { doing, path, source }
}
