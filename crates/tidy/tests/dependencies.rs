//! What we may build upon, and which room may know which.

use std::sync::LazyLock;

use muonic_tidy::graph::Graph;
use muonic_tidy::licence;

static GRAPH: LazyLock<Graph> = LazyLock::new(Graph::load);

/// Licences that ask for no more than to be named.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that must not come in, and why.
const BANNED: &[(&str, &str)] = &[
    ("aws-lc-rs", "there is one TLS stack, ring: switch off the default features of the crate that brings it"),
    ("aws-lc-sys", "there is one TLS stack, ring: switch off the default features of the crate that brings it"),
    ("openssl", "there is one TLS stack, ring: choose a rustls feature of the crate that brings it"),
    ("openssl-sys", "there is one TLS stack, ring: choose a rustls feature of the crate that brings it"),
    ("native-tls", "there is one TLS stack, ring: choose a rustls feature of the crate that brings it"),
    ("cmake", "gcc is the only native tool a build may need"),
    ("bindgen", "it needs libclang, and gcc is the only native tool a build may need"),
];

#[test]
fn every_licence_is_permissive() {
    let refused: Vec<String> = GRAPH
        .foreign()
        .filter(|p| !p.license.as_ref().is_some_and(|l| licence::permits(l, &|name| LICENCES.contains(&name))))
        .map(|p| format!("{} {}: {}", p.name, p.version, p.license.as_deref().unwrap_or("no licence named")))
        .collect();
    assert!(
        refused.is_empty(),
        "licences not on the list in crates/tidy/tests/dependencies.rs; do without the crate, or add the licence if it is permissive:\n{}",
        refused.join("\n")
    );
}

#[test]
fn no_banned_crate_is_built() {
    let banned: Vec<String> = GRAPH
        .foreign()
        .filter_map(|p| BANNED.iter().find(|(name, _)| *name == p.name))
        .map(|(name, why)| format!("{name}: {why} (cargo tree -i {name} shows which crate brings it)"))
        .collect();
    assert!(banned.is_empty(), "crates that must not be built:\n{}", banned.join("\n"));
}

#[test]
fn every_dependency_comes_from_the_registry() {
    let elsewhere: Vec<String> = GRAPH
        .foreign()
        .filter(|p| !p.source.as_ref().is_some_and(|s| s.starts_with("registry+") || s.starts_with("sparse+")))
        .map(|p| {
            format!("{} {}: {}", p.name, p.version, p.source.as_deref().unwrap_or("a folder outside the workspace"))
        })
        .collect();
    assert!(elsewhere.is_empty(), "use released crates only:\n{}", elsewhere.join("\n"));
}

/// `crate_name` and all it links must not hold any of `forbidden`.
fn knows_nothing_of(crate_name: &str, forbidden: &[&str], instead: &str) {
    let reachable = GRAPH.reachable(crate_name);
    let found: Vec<&&str> = forbidden.iter().filter(|name| reachable.contains(**name)).collect();
    assert!(found.is_empty(), "{crate_name} must not depend on {found:?}, not even through others: {instead}");
}

#[test]
fn types_know_none_of_ours() {
    let ours: Vec<&str> = GRAPH.ours().map(|p| p.name.as_str()).filter(|name| *name != "muonic-types").collect();
    knows_nothing_of("muonic-types", &ours, "types are the lowest room");
}

#[test]
fn types_do_no_io() {
    knows_nothing_of("muonic-types", &["tokio", "axum", "sqlx", "hyper"], "types are plain data");
}

#[test]
fn ports_know_only_types() {
    let ours: Vec<&str> = GRAPH.ours().map(|p| p.name.as_str()).collect();
    let others: Vec<&str> = ours.into_iter().filter(|n| !["muonic-types", "muonic-ports"].contains(n)).collect();
    knows_nothing_of("muonic-ports", &others, "a port belongs to its consumers; backends depend on it");
}

#[test]
fn the_scheduler_depends_on_types_only() {
    let direct = GRAPH.direct("muonic-scheduler");
    assert!(
        direct.iter().all(|name| *name == "muonic-types"),
        "the scheduler decides from its arguments alone and may depend on muonic-types only, but names {direct:?}: hand it what it needs as values"
    );
}

#[test]
fn the_simulator_knows_the_scheduler_only() {
    let known = ["muonic-types", "muonic-scheduler", "muonic-simulate"];
    let others: Vec<&str> = GRAPH.ours().map(|p| p.name.as_str()).filter(|ours| !known.contains(ours)).collect();
    knows_nothing_of("muonic-simulate", &others, "it drives the deciders, with a trace in the server's place");
}

#[test]
fn the_policy_depends_on_types_and_parsers_only() {
    let allowed = ["muonic-types", "serde", "serde_json", "jiff", "data-encoding"];
    let direct = GRAPH.direct("muonic-policy");
    assert!(
        direct.iter().all(|name| allowed.contains(name)),
        "the policy decides from its arguments alone and may depend on {allowed:?} only, but names {direct:?}: hand it what it needs as values"
    );
}

#[test]
fn services_know_no_door_and_no_backend() {
    knows_nothing_of(
        "muonic-services",
        &[
            "axum",
            "hyper",
            "sqlx",
            "s3s",
            "object_store",
            "muonic-metastore",
            "muonic-store",
            "muonic-mounts",
            "muonic-backup",
            "muonic-engine-local",
            "muonic-api",
        ],
        "services see ports; doors translate, and the composition root hands over backends",
    );
}

#[test]
fn the_gateway_asks_no_database() {
    knows_nothing_of(
        "muonic-gateway",
        &["sqlx", "muonic-metastore", "muonic-store", "muonic-services"],
        "routes reach the gateway by watch; no request may wait for the metastore",
    );
}

#[test]
fn doors_see_services_only() {
    for door in ["muonic-api", "muonic-s3"] {
        knows_nothing_of(
            door,
            &["sqlx", "muonic-metastore", "muonic-store", "muonic-mounts", "muonic-backup", "muonic-engine-local"],
            "a door authenticates, parses, calls one service and renders",
        );
    }
}

#[test]
fn the_command_line_sees_the_client_only() {
    knows_nothing_of(
        "muonic-cli",
        &["tokio", "axum", "sqlx", "muonic-ports", "muonic-services", "muonic-metastore", "muonic-store", "muonic-api"],
        "the CLI is a client of the public API and has no private door",
    );
}

#[test]
fn shims_and_replicas_know_nothing_of_the_server() {
    for unit in ["muonic-shim", "muonic-serve"] {
        knows_nothing_of(
            unit,
            &["sqlx", "muonic-services", "muonic-metastore", "muonic-store", "muonic-api", "muonic-engine-local"],
            "a unit speaks to the server through muonic-client, wherever it runs",
        );
    }
}

#[test]
fn mounts_and_transfer_know_ports_only() {
    for name in ["muonic-mounts", "muonic-transfer"] {
        let known = ["muonic-types", "muonic-ports", name];
        let others: Vec<&str> = GRAPH.ours().map(|p| p.name.as_str()).filter(|ours| !known.contains(ours)).collect();
        knows_nothing_of(name, &others, "it is handed the embedded store as a port");
    }
}

#[test]
fn backends_know_nothing_of_those_who_use_them() {
    for backend in ["muonic-metastore", "muonic-store", "muonic-mounts", "muonic-backup", "muonic-engine-local"] {
        knows_nothing_of(
            backend,
            &["axum", "muonic-services", "muonic-api", "muonic-gateway"],
            "a backend sees the ports it implements",
        );
    }
}
