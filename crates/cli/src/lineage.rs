//! `muonic lineage`

use std::str::FromStr;

use muonic_types::lineage::{LineageKind, LineageNode, NodeKind};
use serde_json::Value;

use crate::context::Context;
use crate::failure::{Exit, Outcome};
use crate::render::screen::wrap;
use crate::render::{Screen, human, one_line, shell};

/// However deep, so much of a label stands in a line.
const LABEL_MIN: usize = 24;

/// Show what a thing was made from, all the way down
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  muonic lineage endpoint/digits
  muonic lineage model/digits@1
  muonic lineage job/train-1")]
pub struct LineageArgs {
    /// endpoint/NAME, model/NAME[@VERSION], job/ID or dataset/NAME[@VERSION]
    #[arg(value_name = "KIND/NAME")]
    thing: Thing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Thing {
    kind: LineageKind,
    name: String,
}

impl FromStr for Thing {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let bad = || format!("'{s}' is not KIND/NAME: write endpoint/NAME, model/NAME, job/ID or dataset/NAME");
        let (kind, name) = s.split_once('/').ok_or_else(bad)?;
        let kind = match kind {
            "endpoint" => LineageKind::Endpoint,
            "model" => LineageKind::Model,
            "job" => LineageKind::Job,
            "dataset" => LineageKind::Dataset,
            _ => return Err(bad()),
        };
        if name.is_empty() || name.contains('/') { Err(bad()) } else { Ok(Self { kind, name: name.to_owned() }) }
    }
}

impl LineageArgs {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let node = context.client()?.lineage(self.thing.kind, &self.thing.name)?;
        context.show(&node, || draw(&node, context.screen()))?;
        Ok(Exit::Ok)
    }
}

fn draw(node: &LineageNode, screen: Screen) -> String {
    let mut out = String::new();
    entry(node, ["", ""], screen, &mut out);
    branches(&node.made_from, "", screen, &mut out);
    out
}

/// A node's line, or lines where the terminal is too narrow for one.
fn entry(node: &LineageNode, [first, others]: [&str; 2], screen: Screen, out: &mut String) {
    let text = label(node, screen);
    let stem = if node.made_from.is_empty() { "    " } else { "│   " };
    let before = first.chars().count();
    let lines = match screen.indented(before + stem.chars().count()).width() {
        Some(width) if text.chars().count() > width + stem.chars().count() => wrap(&text, width.max(LABEL_MIN)),
        _ => vec![text],
    };
    for (at, line) in lines.iter().enumerate() {
        let lead = if at == 0 { first.to_owned() } else { format!("{others}{stem}") };
        out.push_str(&format!("{lead}{line}\n"));
    }
}

fn branches(nodes: &[LineageNode], indent: &str, screen: Screen, out: &mut String) {
    for (at, node) in nodes.iter().enumerate() {
        let last = at + 1 == nodes.len();
        let (mark, deeper) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        let deeper = format!("{indent}{deeper}");
        entry(node, [&format!("{indent}{mark}"), &deeper], screen, out);
        branches(&node.made_from, &deeper, screen, out);
    }
}

fn label(node: &LineageNode, screen: Screen) -> String {
    let kind = match node.kind {
        NodeKind::Endpoint => "endpoint",
        NodeKind::Revision => "revision",
        NodeKind::ModelVersion => "model",
        NodeKind::Attempt => "attempt",
        NodeKind::Code => "code",
        NodeKind::Environment => "environment",
        NodeKind::DatasetVersion => "dataset",
        NodeKind::Params => "params",
    };
    let mut text = kind.to_owned();
    // Where a hash is all there is to name it by, it is shown once.
    let named_by_hash = node.digest.is_some_and(|d| node.id == d.short() || node.id == d.to_string());
    if node.kind != NodeKind::Params && !named_by_hash {
        text.push_str(&format!(" {}", node.id));
    }
    if let Some(digest) = node.digest {
        text.push_str(&format!("  {}", screen.digest(&digest)));
    }
    for (key, value) in &node.detail {
        if let Some(value) = detail(key, value) {
            text.push_str(&format!("  {value}"));
        }
    }
    one_line(&text)
}

/// One fact about a node, short.
fn detail(key: &str, value: &Value) -> Option<String> {
    match (key, value) {
        (_, Value::Null) => None,
        ("bytes", Value::Number(n)) => n.as_u64().map(human::size),
        ("files", Value::Number(n)) => n.as_u64().map(|n| human::count(n, "file")),
        ("command", Value::Array(words)) => {
            let words: Vec<_> = words.iter().map(plain).collect();
            Some(format!("$ {}", shell::command(&words)))
        }
        ("metrics", Value::Object(all)) => {
            let all: Vec<_> = all
                .iter()
                .map(|(name, v)| format!("{name}={}", v.as_f64().map_or_else(|| plain(v), human::number)))
                .collect();
            Some(all.join("  "))
        }
        (key, Value::String(text)) if key.ends_with("_at") => {
            let instant = text.parse().map(human::instant).unwrap_or_else(|_| text.clone());
            Some(format!("{} {instant}", key.trim_end_matches("_at")))
        }
        (key, value) => Some(format!("{key}={}", plain(value))),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muonic_types::Digest;
    use serde_json::json;

    fn node(
        kind: NodeKind,
        id: &str,
        digest: Option<Digest>,
        detail: Value,
        made_from: Vec<LineageNode>,
    ) -> LineageNode {
        let Value::Object(detail) = detail else { panic!("detail must be an object") };
        LineageNode { kind, id: id.into(), digest, detail, made_from }
    }

    #[test]
    fn a_chain_is_drawn_as_a_tree() {
        let empty = Digest::of(b"");
        let hex = empty.to_string();
        let code = node(NodeKind::Code, &empty.short(), Some(empty), json!({}), vec![]);
        let data = node(
            NodeKind::DatasetVersion,
            "digits@1",
            Some(empty),
            json!({"channel": "train", "files": 2, "bytes": 2048}),
            vec![],
        );
        let params = node(NodeKind::Params, "params", None, json!({"c": 1.5, "kernel": "rbf"}), vec![]);
        let attempt = node(
            NodeKind::Attempt,
            "train-1.1",
            None,
            json!({"command": ["python", "train.py"], "finished_at": "2026-11-03T12:00:00Z"}),
            vec![code, data, params],
        );
        let model = node(
            NodeKind::ModelVersion,
            "digits@1",
            Some(empty),
            json!({"metrics": {"accuracy": 0.9722222}}),
            vec![attempt],
        );
        let revision = node(NodeKind::Revision, "digits/1", None, json!({"state": "active"}), vec![model.clone()]);
        let endpoint = node(NodeKind::Endpoint, "digits", None, json!({}), vec![revision, model]);
        let below = |indent: &str| {
            format!(
                "{indent}└─ attempt train-1.1  $ python train.py  finished 2026-11-03 12:00:00 UTC
{indent}   ├─ code  {hex}
{indent}   ├─ dataset digits@1  {hex}  2.0 KiB  channel=train  2 files
{indent}   └─ params  c=1.5  kernel=rbf
"
            )
        };
        assert_eq!(
            draw(&endpoint, Screen::PIPE),
            format!(
                "endpoint digits
├─ revision digits/1  state=active
│  └─ model digits@1  {hex}  accuracy=0.972222
{}└─ model digits@1  {hex}  accuracy=0.972222
{}",
                below("│     "),
                below("   ")
            )
        );
    }

    #[test]
    fn things() {
        assert_eq!(
            "model/digits@1".parse::<Thing>().unwrap(),
            Thing { kind: LineageKind::Model, name: "digits@1".into() }
        );
        for bad in ["digits", "model/", "models/x", "model/a/b", ""] {
            assert!(bad.parse::<Thing>().is_err(), "{bad}");
        }
    }
}
