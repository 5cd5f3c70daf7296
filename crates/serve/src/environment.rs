//! The Python that runs a model's handler or is there for its program: the model's own requirements,
//! built once and shared by all that ask for the same.

use std::path::{Path, PathBuf};

use anyhow::Context;

/// Where the worker's Python and the programs beside it are.
pub struct Python {
    pub python: PathBuf,
    /// Goes first in the worker's `PATH`.
    pub bin: PathBuf,
}

/// `cache` holds built environments; `python` names the interpreter they are
/// built with. Takes as long as the build takes.
pub fn python_for(model: &Path, cache: &Path, python: Option<&str>) -> anyhow::Result<Python> {
    std::fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let request = muonic_python::Request { folder: model, cache, python: python.map(Path::new) };
    let made = muonic_python::ensure(&request, &mut |line| tracing::info!("{line}"), &|| false)?;
    if !made.reused {
        tracing::info!("built the Python environment {}", made.digest);
    }
    Ok(Python { python: made.python, bin: made.bin })
}

/// `None` where the model asks for no packages.
pub fn python_of(model: &Path, cache: &Path, python: Option<&str>) -> anyhow::Result<Option<Python>> {
    if !muonic_python::is_asked_for(model)? {
        return Ok(None);
    }
    python_for(model, cache, python).map(Some)
}
