//! What a model's folder holds, and which runtime that makes it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

#[derive(Debug, PartialEq)]
pub enum Kind {
    /// The path of the `.onnx` file.
    Onnx(PathBuf),
    /// The folder with `handler.py`.
    Handler(PathBuf),
}

/// `path` is an `.onnx` file or a folder. `handler.py` wins over ONNX files,
/// which it may well load itself; of several ONNX files `model.onnx` wins.
pub fn find(path: &Path) -> anyhow::Result<Kind> {
    let meta = match std::fs::metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => bail!("there is no file or folder {}", path.display()),
        other => other.with_context(|| format!("cannot read the model {}", path.display()))?,
    };
    let is_onnx = |p: &Path| p.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"));
    if meta.is_file() {
        if is_onnx(path) {
            return Ok(Kind::Onnx(path.to_owned()));
        }
        bail!("{} is not a model: give an .onnx file, or a folder with one or with handler.py", path.display());
    }
    if path.join("handler.py").is_file() {
        return Ok(Kind::Handler(path.to_owned()));
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| format!("cannot read the folder {}", path.display()))? {
        names.push(entry.with_context(|| format!("cannot read the folder {}", path.display()))?.path());
    }
    names.sort();
    let onnx: Vec<&PathBuf> = names.iter().filter(|p| is_onnx(p) && p.is_file()).collect();
    if let Some(model) = onnx.iter().find(|p| p.file_name().is_some_and(|n| n == "model.onnx")) {
        return Ok(Kind::Onnx((*model).clone()));
    }
    match onnx.as_slice() {
        [one] => Ok(Kind::Onnx((*one).clone())),
        [] => bail!("the model has neither an .onnx file nor handler.py at its top; it has {}", list(names.iter())),
        many => {
            bail!("the model has several .onnx files ({}) and none is called model.onnx", list(many.iter().copied()))
        }
    }
}

fn list<'a>(paths: impl ExactSizeIterator<Item = &'a PathBuf>) -> String {
    let count = paths.len();
    let shown: Vec<String> =
        paths.take(10).filter_map(|p| p.file_name()).map(|n| n.to_string_lossy().into_owned()).collect();
    match count {
        0 => "no files".into(),
        n if n > shown.len() => format!("{} and {} more", shown.join(", "), n - shown.len()),
        _ => shown.join(", "),
    }
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
            "the model has neither an .onnx file nor handler.py at its top; it has no files"
        );
        put("notes.txt");
        put("a.onnx");
        assert_eq!(find(dir.path()).unwrap(), Kind::Onnx(dir.path().join("a.onnx")));
        put("b.onnx");
        assert_eq!(
            find(dir.path()).unwrap_err().to_string(),
            "the model has several .onnx files (a.onnx, b.onnx) and none is called model.onnx"
        );
        put("model.onnx");
        assert_eq!(find(dir.path()).unwrap(), Kind::Onnx(dir.path().join("model.onnx")));
        put("handler.py");
        assert_eq!(find(dir.path()).unwrap(), Kind::Handler(dir.path().to_owned()));
        assert!(find(&dir.path().join("notes.txt")).is_err());
        assert!(find(&dir.path().join("gone")).is_err());
    }
}
