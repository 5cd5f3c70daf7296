//! The dependency graph as cargo resolves it for this platform. Nothing is
//! downloaded: what is built here is here already.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<EdgeKind>,
}

#[derive(Deserialize)]
struct EdgeKind {
    /// `null` for a normal dependency, else `dev` or `build`.
    kind: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Package {
    id: String,
    pub name: String,
    pub version: String,
    /// SPDX expression.
    pub license: Option<String>,
    /// Where it comes from; absent for our own crates.
    pub source: Option<String>,
}

pub struct Graph {
    packages: BTreeMap<String, Package>,
    members: BTreeSet<String>,
    /// Edges of normal dependencies.
    normal: BTreeMap<String, Vec<String>>,
    used: BTreeSet<String>,
}

impl Graph {
    pub fn load() -> Self {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let output = Command::new(cargo)
            .args(["metadata", "--locked", "--offline", "--format-version", "1", "--filter-platform", &host()])
            .current_dir(crate::root())
            .output()
            .expect("cargo can be started");
        assert!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
        let metadata: Metadata = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
        let normal = metadata.resolve.nodes.iter().map(|node| {
            let normal = node.deps.iter().filter(|d| d.dep_kinds.iter().any(|k| k.kind.is_none()));
            (node.id.clone(), normal.map(|d| d.pkg.clone()).collect())
        });
        Self {
            normal: normal.collect(),
            used: metadata.resolve.nodes.iter().map(|n| n.id.clone()).collect(),
            members: metadata.workspace_members.into_iter().collect(),
            packages: metadata.packages.into_iter().map(|p| (p.id.clone(), p)).collect(),
        }
    }

    /// Everything that is compiled here and is not ours, with what the build
    /// and the tests need.
    pub fn foreign(&self) -> impl Iterator<Item = &Package> {
        self.packages.values().filter(|p| self.used.contains(&p.id) && !self.members.contains(&p.id))
    }

    /// Our own crates.
    pub fn ours(&self) -> impl Iterator<Item = &Package> {
        self.packages.values().filter(|p| self.members.contains(&p.id))
    }

    /// What the crate itself names as normal dependencies.
    pub fn direct(&self, name: &str) -> BTreeSet<&str> {
        self.normal[self.id(name)].iter().map(|id| self.packages[id].name.as_str()).collect()
    }

    /// All that is linked into whoever uses this crate.
    pub fn reachable(&self, name: &str) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let mut open = vec![self.id(name)];
        while let Some(id) = open.pop() {
            for next in &self.normal[id] {
                if seen.insert(next.as_str()) {
                    open.push(next);
                }
            }
        }
        seen.into_iter().map(|id| self.packages[id].name.as_str()).collect()
    }

    fn id(&self, name: &str) -> &str {
        let package = self.ours().find(|p| p.name == name);
        &package.unwrap_or_else(|| panic!("the workspace has no crate {name}: correct the rule that names it")).id
    }
}

fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|l| l.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}
