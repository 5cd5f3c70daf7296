//! What a model's folder holds, and which runtime that makes it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use muonic_types::model::{Serves, is_onnx};

#[derive(Debug, PartialEq)]
pub enum Kind {
    /// The path of the `.onnx` file.
    Onnx(PathBuf),
    /// The folder with `handler.py`.
    Handler(PathBuf),
    /// The folder with `serve.toml`.
    Program(PathBuf),
    /// The folder with `MLmodel`.
    Mlflow(PathBuf),
}

/// `path` is an `.onnx` file or a folder.
pub fn find(path: &Path) -> anyhow::Result<Kind> {
    let meta = match std::fs::metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => bail!("there is no file or folder {}", path.display()),
        other => other.with_context(|| format!("cannot read the model {}", path.display()))?,
    };
    if meta.is_file() {
        if path.file_name().and_then(|name| name.to_str()).is_some_and(is_onnx) {
            return Ok(Kind::Onnx(path.to_owned()));
        }
        bail!(
            "{} is not a model: give an .onnx file, a folder with one, handler.py, serve.toml or MLmodel, or a bundle",
            path.display()
        );
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| format!("cannot read the folder {}", path.display()))? {
        let entry = entry.with_context(|| format!("cannot read the folder {}", path.display()))?;
        if entry.path().is_file() {
            names.extend(entry.file_name().into_string());
        }
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Ok(match Serves::of(&names)? {
        Serves::Program => Kind::Program(path.to_owned()),
        Serves::Handler => Kind::Handler(path.to_owned()),
        Serves::Mlflow => Kind::Mlflow(path.to_owned()),
        Serves::Onnx(name) => Kind::Onnx(path.join(name)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_one_that_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| std::fs::write(dir.path().join(name), "").unwrap();
        assert_eq!(
            find(dir.path()).unwrap_err().to_string(),
            "the model has no .onnx file, handler.py, serve.toml or MLmodel at its top, where it has no files"
        );
        put("notes.txt");
        put("MLmodel");
        assert_eq!(find(dir.path()).unwrap(), Kind::Mlflow(dir.path().to_owned()));
        put("a.onnx");
        assert_eq!(find(dir.path()).unwrap(), Kind::Onnx(dir.path().join("a.onnx")));
        put("b.onnx");
        std::fs::remove_file(dir.path().join("MLmodel")).unwrap();
        assert_eq!(
            find(dir.path()).unwrap_err().to_string(),
            "the model has several .onnx files (a.onnx, b.onnx) and none is called model.onnx"
        );
        put("model.onnx");
        assert_eq!(find(dir.path()).unwrap(), Kind::Onnx(dir.path().join("model.onnx")));
        put("handler.py");
        assert_eq!(find(dir.path()).unwrap(), Kind::Handler(dir.path().to_owned()));
        put("serve.toml");
        assert_eq!(find(dir.path()).unwrap(), Kind::Program(dir.path().to_owned()));
        assert!(find(&dir.path().join("notes.txt")).is_err());
        assert!(find(&dir.path().join("gone")).is_err());
    }
}
