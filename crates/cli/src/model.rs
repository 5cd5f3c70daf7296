//! `muonic model`

use std::path::{Path, PathBuf};

use muonic_client::UploadRules;
use muonic_types::model::{Model, ModelSource, ModelVersion, Serves};
use muonic_types::{Name, Timestamp, VersionRef};

use crate::context::{Context, note};
use crate::data::sent;
use crate::failure::{Exit, Failure, Outcome};
use crate::parse;
use crate::progress::Bar;
use crate::render::page::INDENT;
use crate::render::{Page, Screen, Table, human};

#[derive(Debug, clap::Subcommand)]
pub enum ModelCommand {
    Ls(LsArgs),
    Show(ShowArgs),
    Register(RegisterArgs),
    Alias(AliasArgs),
}

/// List models
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic model ls")]
pub struct LsArgs {}

/// Show a model with its versions, or one version
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  muonic model show digits
  muonic model show digits@champion")]
pub struct ShowArgs {
    /// The model's name; with @VERSION or @ALIAS only that version
    model: String,
}

/// Upload a folder or a file as the next version of a model
///
/// A model folder holds one .onnx file, a handler.py with a class Handler, a
/// serve.toml that names a program, or what MLflow has saved; empty folders are
/// not kept.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic model register digits ./model.onnx")]
pub struct RegisterArgs {
    /// The model's name
    name: Name,
    /// A folder, taken whole, or one file
    path: PathBuf,
}

/// Point an alias at a version, or remove it
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  muonic model alias digits champion 2
  muonic model alias digits champion --delete")]
pub struct AliasArgs {
    /// The model's name
    name: Name,
    /// The alias, such as champion
    alias: Name,
    /// The version's number
    #[arg(
        value_name = "VERSION",
        value_parser = parse::version_number,
        required_unless_present = "delete",
        conflicts_with = "delete"
    )]
    number: Option<u32>,
    /// Remove the alias
    #[arg(long)]
    delete: bool,
}

impl ModelCommand {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Ls(_) => ls(context),
            Self::Show(args) => args.run(context),
            Self::Register(args) => args.run(context),
            Self::Alias(args) => args.run(context),
        }
    }
}

fn ls(context: &Context) -> Outcome {
    let list = context.client()?.models()?;
    if list.models.is_empty() && !context.json() {
        note(
            "there are no models yet; make one with: muonic job run --model NAME … or muonic model register NAME PATH",
        );
        return Ok(Exit::Ok);
    }
    context.show(&list, || ls_text(&list.models, context.now(), context.screen()))?;
    Ok(Exit::Ok)
}

fn ls_text(models: &[Model], now: Timestamp, screen: Screen) -> String {
    let mut table = Table::new(screen, ["NAME", ">LATEST", ">SIZE", "MADE", "FROM", "ALIASES"]);
    for model in models {
        table.row([
            model.name.to_string(),
            model.latest.version.to_string(),
            human::size(model.latest.tree.bytes),
            human::ago(model.latest.created_at, now),
            source(&model.latest.source),
            aliases(model, None),
        ]);
    }
    table.render()
}

fn source(source: &ModelSource) -> String {
    match source {
        ModelSource::Upload => "upload".to_owned(),
        ModelSource::Attempt { attempt, .. } => attempt.to_string(),
    }
}

/// `champion=2 old=1`, or only the names of those that point at one version.
fn aliases(model: &Model, version: Option<u32>) -> String {
    let of = |(alias, number): (&String, &u32)| match version {
        None => Some(format!("{alias}={number}")),
        Some(wanted) => (wanted == *number).then(|| alias.clone()),
    };
    model.aliases.iter().filter_map(of).collect::<Vec<_>>().join(" ")
}

impl ShowArgs {
    fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        if self.model.contains('@') {
            let version = client.model_version(&self.model.parse::<VersionRef>()?)?;
            context.show(&version, || version_text(&version, context.screen()))?;
            return Ok(Exit::Ok);
        }
        let name: Name = self.model.parse()?;
        let model = client.model(&name)?;
        let versions = client.model_versions(&name)?.versions;
        let both = serde_json::json!({"model": model, "versions": versions});
        context.show(&both, || model_text(&model, &versions, context.now(), context.screen()))?;
        Ok(Exit::Ok)
    }
}

fn model_text(model: &Model, versions: &[ModelVersion], now: Timestamp, screen: Screen) -> String {
    let mut table = Table::new(screen.indented(INDENT), ["VERSION", "ALIASES", ">SIZE", "MADE", "FROM", "METRICS"]);
    for version in versions {
        table.row([
            version.version.to_string(),
            aliases(model, Some(version.version)),
            human::size(version.tree.bytes),
            human::ago(version.created_at, now),
            source(&version.source),
            metrics(version),
        ]);
    }
    let aliases = Some(aliases(model, None)).filter(|a| !a.is_empty());
    Page::new(screen, &model.name)
        .line("created", human::instant(model.created_at))
        .maybe("aliases", aliases)
        .section("versions", &table.render())
        .text()
}

fn metrics(version: &ModelVersion) -> String {
    version
        .metrics
        .iter()
        .map(|(name, value)| format!("{name}={}", human::number(*value)))
        .collect::<Vec<_>>()
        .join(" ")
}

fn version_text(version: &ModelVersion, screen: Screen) -> String {
    let page = Page::new(screen, format!("{}@{}", version.name, version.version))
        .line("digest", screen.digest(&version.tree.digest))
        .line("size", format!("{} in {}", human::size(version.tree.bytes), human::count(version.tree.files, "file")))
        .line("created", human::instant(version.created_at));
    let page = match &version.source {
        ModelSource::Upload => page.line("made from", "upload"),
        ModelSource::Attempt { attempt, code, environment, inputs, params } => {
            let mut page = page
                .line("made by", attempt)
                .maybe("code", code.map(|d| screen.digest(&d)))
                .maybe("environment", environment.map(|d| screen.digest(&d)));
            for (channel, data) in inputs {
                page = page.line(
                    "input",
                    format!("{channel}={}@{}  {}", data.name, data.version, screen.digest(&data.digest)),
                );
            }
            let params: Vec<_> = params.iter().map(|(k, v)| format!("{k}={v}")).collect();
            page.maybe("params", Some(params.join(" ")).filter(|p| !p.is_empty()))
        }
    };
    page.maybe("metrics", Some(metrics(version)).filter(|m| !m.is_empty())).text()
}

impl RegisterArgs {
    fn run(self, context: &Context) -> Outcome {
        let client = context.live_client()?;
        let uploaded = client.tree_upload(&self.path, UploadRules::Everything, &Bar::new())?;
        if uploaded.tree.files == 0 {
            return Err(Failure::bad_input(format!("'{}' holds no files", self.path.display()))
                .hint("a model has at least one file"));
        }
        let version = client.model_register(&self.name, uploaded.tree.digest)?;
        context.show(&version, || {
            format!(
                "{}@{}  {}  {}\n{}\n",
                version.name,
                version.version,
                human::size(version.tree.bytes),
                context.screen().digest(&version.tree.digest),
                sent(&uploaded)
            )
        })?;
        if let Some(why) = not_served(&self.path) {
            note(format!("note: {}@{} cannot be deployed: {why}", version.name, version.version));
        }
        Ok(Exit::Ok)
    }
}

/// Why a replica would find no model there. What cannot be read now is not judged.
fn not_served(path: &Path) -> Option<String> {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let files: Vec<String> = match path.is_dir() {
        true => std::fs::read_dir(path)
            .ok()?
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.is_file())
            .filter_map(|p| name(&p))
            .collect(),
        false => name(path).into_iter().collect(),
    };
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    Serves::of(&files).err().map(|why| why.0)
}

impl AliasArgs {
    fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let model = match self.number {
            Some(version) => client.model_set_alias(&self.name, &self.alias, version)?,
            None => client.model_delete_alias(&self.name, &self.alias)?,
        };
        context.show(&model, || match self.number {
            Some(version) => format!("{}@{} is {}@{version}\n", self.name, self.alias, self.name),
            None => format!("{}@{} is removed\n", self.name, self.alias),
        })?;
        Ok(Exit::Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muonic_types::Digest;
    use muonic_types::blob::TreeSummary;
    use muonic_types::model::SourceDataset;

    fn version(number: u32, source: ModelSource) -> ModelVersion {
        ModelVersion {
            name: "digits".parse().unwrap(),
            version: number,
            tree: TreeSummary { digest: Digest::of(b""), files: 1, bytes: 4096 },
            source,
            metrics: [("accuracy".to_owned(), 0.972_222)].into(),
            created_at: "2026-11-03T12:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn what_can_be_served_has_a_model_at_its_top() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str| std::fs::write(dir.path().join(name), "").unwrap();
        std::fs::create_dir(dir.path().join("x.onnx")).unwrap();
        put("weights.bin");
        put("x.onnx/model.onnx");
        for path in [dir.path(), &dir.path().join("weights.bin")] {
            assert!(not_served(path).unwrap().ends_with("MLmodel at its top, where it has weights.bin"), "{path:?}");
        }
        assert_eq!(not_served(&dir.path().join("x.onnx/model.onnx")), None);
        put("handler.py");
        assert_eq!(not_served(dir.path()), None);
    }

    fn trained() -> ModelSource {
        let data = SourceDataset { name: "digits".parse().unwrap(), version: 1, digest: Digest::of(b"d") };
        ModelSource::Attempt {
            attempt: "train-1.1".parse().unwrap(),
            code: Some(Digest::of(b"c")),
            environment: None,
            inputs: [("train".parse().unwrap(), data)].into(),
            params: [("c".to_owned(), serde_json::json!(1.5))].into(),
        }
    }

    #[test]
    fn pages() {
        let now = "2026-11-03T13:00:00Z".parse().unwrap();
        let versions = [version(2, trained()), version(1, ModelSource::Upload)];
        let model = Model {
            name: "digits".parse().unwrap(),
            created_at: "2026-11-03T12:00:00Z".parse().unwrap(),
            aliases: [("champion".to_owned(), 1)].into(),
            latest: versions[0].clone(),
        };
        assert_eq!(
            ls_text(std::slice::from_ref(&model), now, Screen::PIPE),
            "NAME    LATEST     SIZE  MADE    FROM       ALIASES\n\
             digits       2  4.0 KiB  1h ago  train-1.1  champion=1\n"
        );
        assert_eq!(
            model_text(&model, &versions, now, Screen::PIPE),
            "digits
  created       2026-11-03 12:00:00 UTC
  aliases       champion=1

versions
  VERSION  ALIASES      SIZE  MADE    FROM       METRICS
  2                  4.0 KiB  1h ago  train-1.1  accuracy=0.972222
  1        champion  4.0 KiB  1h ago  upload     accuracy=0.972222
"
        );
        let page = version_text(&versions[0], Screen::PIPE);
        assert!(page.contains("  made by       train-1.1\n"), "{page}");
        assert!(page.contains("  input         train=digits@1  sha256:"), "{page}");
        assert!(page.contains("  params        c=1.5\n  metrics       accuracy=0.972222\n"), "{page}");
        assert!(!page.contains("environment"), "{page}");
    }
}
