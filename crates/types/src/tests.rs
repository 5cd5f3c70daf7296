//! Properties of what is parsed at the edge.

use proptest::prelude::*;

use crate::*;

proptest! {
    #[test]
    fn parsing_never_panics(s in "\\PC{0,80}") {
        let _ = s.parse::<Name>();
        let _ = s.parse::<JobId>();
        let _ = s.parse::<AttemptId>();
        let _ = s.parse::<ReplicaId>();
        let _ = s.parse::<UnitId>();
        let _ = s.parse::<KeyId>();
        let _ = s.parse::<Digest>();
        let _ = s.parse::<VersionRef>();
        let _ = s.parse::<FilePath>();
        let _ = s.parse::<Cpu>();
        let _ = s.parse::<Memory>();
        let _ = Resources::parse_over(Resources::default(), &s);
        let _ = Tree::decode(s.as_bytes());
        let _ = blob::parse_pack_head(s.as_bytes());
    }

    #[test]
    fn ids_take_apart_what_they_were_made_of(name in "[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?", n in 1u32..999_999_999, m in 1u32..1000) {
        let name: Name = name.parse().unwrap();
        let job = JobId::new(&name, n);
        prop_assert_eq!(job.to_string().parse::<JobId>().unwrap(), job.clone());
        prop_assert_eq!(job.name(), name.clone());
        let attempt = AttemptId::new(&job, m);
        prop_assert_eq!((attempt.job(), attempt.number()), (job, m));
        prop_assert_eq!(attempt.to_string().parse::<AttemptId>().unwrap(), attempt.clone());
        let replica = ReplicaId::new(&name, n, m);
        prop_assert_eq!((replica.endpoint(), replica.revision()), (name, n));
        for unit in [UnitId::Task(attempt), UnitId::Replica(replica)] {
            prop_assert_eq!(unit.to_string().parse::<UnitId>().unwrap(), unit);
        }
    }

    #[test]
    fn amounts_survive_a_round_trip(milli in 0u64..1_000_000_000, bytes in 0u64..(1 << 50)) {
        prop_assert_eq!(Cpu::milli(milli).to_string().parse::<Cpu>().unwrap().milli, milli);
        prop_assert_eq!(Memory { bytes }.to_string().parse::<Memory>().unwrap().bytes, bytes);
    }

    #[test]
    fn trees_survive_a_round_trip(paths in prop::collection::btree_set("[a-zA-Z0-9é _.\"\\\\-]{1,12}x", 0..20), size in 0u64..1000) {
        let entries: Vec<Entry> = paths.iter().map(|p| Entry {
            path: p.parse().unwrap(), size, digest: Digest::of(p.as_bytes()), executable: size % 2 == 0,
        }).collect();
        let tree = Tree::new(entries).unwrap();
        prop_assert_eq!(Tree::decode(&tree.encode()).unwrap(), tree);
    }
}

#[test]
fn a_resource_is_named_once() {
    let twice = Resources::parse_over(Resources::default(), "cpu=1,memory=1Gi cpu=2").unwrap_err();
    assert_eq!(twice.0, "'cpu' is named twice: name each resource once");
}

#[test]
fn amounts_read_numbers_and_text() {
    let r: Resources = serde_json::from_str(r#"{"cpu": 0.5, "memory": "1Gi", "gpu": 2}"#).unwrap();
    assert_eq!((r.cpu, r.memory, r.gpu), (Cpu::milli(500), Memory::mib(1024), 2));
    assert!(serde_json::from_str::<Resources>(r#"{"cpu": -1}"#).is_err());
    assert!(serde_json::from_str::<Resources>(r#"{"cpus": 1}"#).is_err());
}

#[test]
fn paths_that_leave_the_tree_are_refused() {
    for bad in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", "a\0b", "a\nb"] {
        assert!(bad.parse::<FilePath>().is_err(), "{bad:?}");
    }
    let entry = |p: &str| Entry { path: p.parse().unwrap(), size: 0, digest: Digest::of(b""), executable: false };
    assert!(Tree::new(vec![entry("a"), entry("a")]).is_err());
    assert!(Tree::new(vec![entry("a"), entry("a-b"), entry("a/b")]).is_err());
}

#[test]
fn a_job_with_a_key_nobody_knows_is_refused() {
    let good = r#"{"name": "t", "command": ["true"], "request_token": "x"}"#;
    assert!(serde_json::from_str::<job::NewJob>(good).is_ok());
    let typo = r#"{"name": "t", "command": ["true"], "priorty": 1}"#;
    assert!(serde_json::from_str::<job::NewJob>(typo).is_err());
    let typo = r#"{"name": "e", "model": "m@1", "replica": 1}"#;
    assert!(serde_json::from_str::<endpoint::NewEndpoint>(typo).is_err());
}

#[test]
fn lists_of_values_are_no_objects() {
    fn refused<T: serde::de::DeserializeOwned>(text: &str) {
        let error = serde_json::from_str::<T>(text).err().unwrap_or_else(|| panic!("{text} was read")).to_string();
        assert!(error.contains("invalid type: sequence, expected an object"), "{text}: {error}");
    }
    refused::<job::NewJob>(r#"{"name": "t", "command": ["true"], "resources": ["1", "1Gi", 0]}"#);
    refused::<job::NewJob>(r#"{"name": "t", "command": ["true"], "metrics": [["loss", "loss=(.*)"]]}"#);
    refused::<endpoint::NewEndpoint>(r#"{"name": "e", "model": "m@1", "resources": ["1", "1Gi", 0]}"#);
    refused::<task::NewMetricPoints>(r#"{"first": 0, "points": [["loss", 0, 1.0, "2026-01-01T00:00:00Z"]]}"#);
    refused::<task::ExitReport>(r#"{"exit": ["code", 0]}"#);
    let digest = Digest::of(b"");
    refused::<blob::NewTree>(&format!(r#"{{"entries": [["a", 0, "{digest}"]]}}"#));
    refused::<Object<blob::NewTree>>(r#"[[]]"#);
    let none = r#"{"name": "e", "model": "m@1", "resources": null}"#;
    assert!(serde_json::from_str::<endpoint::NewEndpoint>(none).is_ok_and(|e| e.revision.resources.is_none()));
}
