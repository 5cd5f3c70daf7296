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
    let same = python.is_none().then(|| saved_with(model)).flatten();
    let python = python.map(PathBuf::from).or(same);
    let request = muonic_python::Request { folder: model, cache, python: python.as_deref() };
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

/// The Python that a model was saved with, as MLflow notes it, where it is in
/// `PATH`: what was pickled in one minor version may not be read in another.
fn saved_with(model: &Path) -> Option<PathBuf> {
    let text = std::fs::read_to_string(model.join("python_env.yaml")).ok()?;
    let version = text.lines().find_map(|line| line.strip_prefix("python:"))?.trim().trim_matches(['\'', '"']);
    let mut numbers = version.split('.').map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return None };
    let name = format!("python{major}.{minor}");
    let found = std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(&name)).find(|p| p.is_file());
    if found.is_none() {
        tracing::warn!("the model was saved with Python {major}.{minor}; there is no {name} in PATH");
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_python_that_a_model_was_saved_with_is_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let saved = |text: &str| {
            std::fs::write(dir.path().join("python_env.yaml"), text).unwrap();
            saved_with(dir.path())
        };
        assert_eq!(saved("python: 3.1.0\nbuild_dependencies:\n- pip\n"), None);
        assert_eq!(saved("python: ../x.1"), None);
        assert_eq!(saved(""), None);
    }
}
