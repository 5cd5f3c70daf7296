//! The registry: models, their immutable versions with lineage, aliases.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::blob::TreeSummary;
use crate::{AttemptId, Digest, Invalid, Name, Timestamp};

/// A model version's number together with its model's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct ModelVersionId {
    pub name: Name,
    /// Counts from 1.
    pub version: u32,
}

impl std::fmt::Display for ModelVersionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

/// What of a model's files is served. This is the one place that decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves<'a> {
    /// The program that [`SERVE_FILE`] at the top names.
    Program,
    /// The `handler.py` at the top.
    Handler,
    /// This `.onnx` file at the top.
    Onnx(&'a str),
    /// What MLflow has saved, by its `MLmodel` at the top.
    Mlflow,
}

/// Says by which program a model is served, and when that is well.
pub const SERVE_FILE: &str = "serve.toml";

const FILES_NAMED_MAX: usize = 10;

impl<'a> Serves<'a> {
    /// `files` are the names of the files at a model's top; folders do not
    /// count. `serve.toml` wins over `handler.py`, and that over ONNX files:
    /// each may well use what comes after it. Of several ONNX files
    /// `model.onnx` wins, and one that MLflow has saved is served as such.
    pub fn of(files: &[&'a str]) -> Result<Self, Invalid> {
        if files.contains(&SERVE_FILE) {
            return Ok(Self::Program);
        }
        if files.contains(&"handler.py") {
            return Ok(Self::Handler);
        }
        let onnx: Vec<&str> = files.iter().copied().filter(|name| is_onnx(name)).collect();
        match onnx.as_slice() {
            [one] => Ok(Self::Onnx(one)),
            many if many.contains(&"model.onnx") => Ok(Self::Onnx("model.onnx")),
            _ if files.contains(&"MLmodel") => Ok(Self::Mlflow),
            [] => Err(Invalid::new(format!(
                "the model has no .onnx file, handler.py, serve.toml or MLmodel at its top, where it has {}",
                list(files)
            ))),
            many => Err(Invalid::new(format!(
                "the model has several .onnx files ({}) and none is called model.onnx",
                list(many)
            ))),
        }
    }

    /// Of all paths of a model's tree.
    pub fn of_tree(paths: impl Iterator<Item = &'a str>) -> Result<Self, Invalid> {
        Self::of(&paths.filter(|path| !path.contains('/')).collect::<Vec<_>>())
    }
}

pub fn is_onnx(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(stem, end)| !stem.is_empty() && end.eq_ignore_ascii_case("onnx"))
}

fn list(names: &[&str]) -> String {
    let mut names = names.to_vec();
    names.sort_unstable();
    let shown = names.iter().take(FILES_NAMED_MAX).map(|name| name.escape_debug().to_string());
    let shown = shown.collect::<Vec<_>>().join(", ");
    match names.len() {
        0 => "no files".to_owned(),
        n if n > FILES_NAMED_MAX => format!("{shown} and {} more", n - FILES_NAMED_MAX),
        _ => shown,
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Model {
    pub name: Name,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Alias to version number.
    pub aliases: BTreeMap<String, u32>,
    pub latest: ModelVersion,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelVersion {
    pub name: Name,
    pub version: u32,
    pub tree: TreeSummary,
    pub source: ModelSource,
    /// Last value of each metric of the job that made it.
    pub metrics: BTreeMap<String, f64>,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Where a model version came from; recorded as it happens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ModelSource {
    /// Uploaded by a person.
    Upload,
    /// Made by an attempt of a job.
    Attempt {
        attempt: AttemptId,
        code: Option<Digest>,
        environment: Option<Digest>,
        inputs: BTreeMap<Name, SourceDataset>,
        #[schema(value_type = BTreeMap<String, Object>)]
        params: BTreeMap<String, serde_json::Value>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SourceDataset {
    pub name: Name,
    pub version: u32,
    pub digest: Digest,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewModelVersion {
    /// Digest of a tree made with `POST /api/v1/trees`.
    pub tree: Digest,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetAlias {
    #[schema(minimum = 1)]
    pub version: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    pub models: Vec<Model>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct ModelVersionList {
    /// Newest first.
    pub versions: Vec<ModelVersion>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[&str]) -> Result<String, String> {
        Serves::of_tree(files.iter().copied()).map(|s| format!("{s:?}")).map_err(|e| e.0)
    }

    #[test]
    fn the_one_that_is_meant_is_served() {
        assert_eq!(of(&["b.onnx", "handler.py"]), Ok("Handler".into()));
        assert_eq!(of(&["b.onnx", "handler.py", "serve.toml"]), Ok("Program".into()));
        assert_eq!(of(&["a.ONNX", "notes"]), Ok("Onnx(\"a.ONNX\")".into()));
        assert_eq!(of(&["a.onnx", "model.onnx"]), Ok("Onnx(\"model.onnx\")".into()));
        assert_eq!(of(&["MLmodel", "model.pkl"]), Ok("Mlflow".into()));
        assert_eq!(of(&["MLmodel", "model.onnx"]), Ok("Onnx(\"model.onnx\")".into()));
        assert_eq!(of(&["MLmodel", "handler.py"]), Ok("Handler".into()));
        assert_eq!(
            of(&["b.onnx", "a.onnx"]),
            Err("the model has several .onnx files (a.onnx, b.onnx) and none is called model.onnx".into())
        );
    }

    #[test]
    fn what_lies_below_the_top_does_not_count() {
        let neither = "the model has no .onnx file, handler.py, serve.toml or MLmodel at its top, where it has ";
        assert_eq!(of(&[]), Err(format!("{neither}no files")));
        assert_eq!(of(&["src/handler.py", "src/m.onnx", ".onnx"]), Err(format!("{neither}.onnx")));
        let many: Vec<String> = (10..22).map(|n| format!("f{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(of(&many).unwrap_err().ends_with("f18, f19 and 2 more"));
    }
}
