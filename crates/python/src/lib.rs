//! Python environments by content: what a folder asks for is hashed together
//! with the interpreter, built once into a cache and used by everyone who
//! asks for the same.
//!
//! ```text
//! CACHE/envs/<hex>/           the environment, built at its final path
//! CACHE/envs/<hex>/complete   written last, durably: without it the folder
//!                             is what an interrupted build left
//! CACHE/envs/<hex>.lock       held while it is built
//! CACHE/envs/<hex>.log        what the build printed
//! CACHE/python/<hex>.json     interpreters found before
//! ```
//!
//! Nothing is installed into one afterwards: `shared` sees to that.
//!
//! Nothing here knows jobs or servers; it only runs `uv`, or Python's own
//! `venv` and `pip`.

mod build;
mod conda;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod interpreter;
mod local;
mod pylock;
mod requirements;
mod run;
mod shared;
mod source;

use std::io;
use std::path::{Path, PathBuf};

use muonic_types::{Digest, Hasher};

pub use interpreter::Interpreter;

/// Changes whenever environments are built differently from the same input.
const FORMAT: &str = "muonic-python 2";

/// What to make an environment for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Folder with `requirements.txt`, or `pyproject.toml` and perhaps a
    /// lock, or `conda.yaml` beside MLflow's `MLmodel`, or none of these.
    pub folder: &'a Path,
    /// Where environments are kept.
    pub cache: &'a Path,
    /// The interpreter to build with; `python3` of `PATH` without.
    pub python: Option<&'a Path>,
}

/// A place to run Python in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Over the requirements and the interpreter.
    pub digest: Digest,
    /// Folder of its programs, to go first in `PATH`.
    pub bin: PathBuf,
    pub python: PathBuf,
    /// It was there already.
    pub reused: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "no Python was found: {reason}; install python3 and python3-venv, or name an interpreter in the server's setting python.interpreter"
    )]
    NoPython { reason: String },
    /// The folder asks for something that cannot be had.
    #[error("{0}")]
    Requirements(String),
    #[error("the Python environment could not be built: {step} {how}; the whole log is in {}\n{tail}", log.display())]
    Build { step: String, how: String, log: PathBuf, tail: String },
    #[error("the build of the Python environment was cancelled")]
    Cancelled,
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
}

impl Error {
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}

/// Whether the folder asks for any packages. Without, [`ensure`] answers the
/// plain interpreter.
pub fn has_requirements(folder: &Path) -> Result<bool, Error> {
    Ok(source::kind(folder)?.is_some())
}

/// Whether the folder asks for packages.
pub fn is_asked_for(folder: &Path) -> Result<bool, Error> {
    Ok(source::kind(folder)?.is_some())
}

/// Gives the environment that the folder asks for, building it where it is
/// not there yet. `progress` gets each line that the build prints;
/// `cancelled` is asked several times a second.
pub fn ensure(
    request: &Request<'_>,
    progress: &mut dyn FnMut(&str),
    cancelled: &dyn Fn() -> bool,
) -> Result<Environment, Error> {
    let interpreter = interpreter::resolve(request.python, request.cache)?;
    let Some(source) = source::find(request.folder)? else {
        let bin = interpreter.executable.parent().unwrap_or(Path::new("/usr/bin")).to_owned();
        let digest = digest_of(&interpreter, &[]);
        return Ok(Environment { digest, bin, python: interpreter.executable, reused: true });
    };
    let digest = digest_of(&interpreter, &source.parts);
    let reused = build::ensure(request, &source, &interpreter, &digest, progress, cancelled)?;
    let bin = build::path(request.cache, &digest).join("bin");
    Ok(Environment { digest, python: bin.join("python"), bin, reused })
}

/// Every field with its length before it, so that no two inputs look alike.
fn digest_of(interpreter: &Interpreter, parts: &[Vec<u8>]) -> Digest {
    let mut hasher = Hasher::new();
    let about = [FORMAT, &interpreter.implementation, &interpreter.version, &interpreter.platform];
    // An environment refers to its interpreter by path.
    let path = interpreter.executable.as_os_str().as_encoded_bytes();
    let about = about.into_iter().map(str::as_bytes).chain([path]);
    for part in about.chain(parts.iter().map(Vec::as_slice)) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finish()
}
