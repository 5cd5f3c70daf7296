//! Fuzz targets: one for each parser of foreign bytes that is ours.
//!
//! A target is a function of bytes that panics where something is wrong; what
//! is checked beyond that stands beside each. `scripts/fuzz` builds and runs
//! them. Parsers that no other crate may call are reached through the module
//! `fuzzing` of their crate, which exists in this build only.
#![no_main]

mod doors;
mod nouns;
mod policy;
mod s3;

use std::sync::LazyLock;

type Target = fn(&[u8]);

/// By name: that of its folder in `seeds`.
const TARGETS: &[(&str, Target)] = &[
    ("names", nouns::names),
    ("trees", nouns::trees),
    ("bodies", nouns::bodies),
    ("bucket_policy", policy::bucket_policy),
    ("bucket_documents", policy::documents),
    ("form_policy", policy::form),
    ("tags", policy::tags),
    ("s3_heads", muonic_s3::fuzzing::head),
    ("s3_forms", muonic_s3::fuzzing::form),
    ("s3_door", s3::door),
    ("s3_signed", s3::signed),
    ("store_rows", muonic_store::fuzzing::row),
    ("store_extents", muonic_store::fuzzing::extent),
    ("store_keys", muonic_store::fuzzing::keys),
    ("store_files", muonic_store::fuzzing::files),
    ("packs", doors::packs),
    ("api_heads", doors::api_heads),
    ("inference", muonic_serve::fuzzing::request),
    ("invocations", muonic_serve::fuzzing::invocation),
    ("inference_answers", muonic_serve::fuzzing::answer),
    ("mounts", doors::mounts),
    ("backup", muonic_backup::fuzzing::snapshot),
    ("bundles", muonic_bundle::fuzzing::bundle),
    ("export", muonic_transfer::fuzzing::manifest),
    ("log_lines", muonic_shim::fuzzing::lines),
    ("requirements", muonic_python::fuzzing::requirements),
];

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("MUONIC_FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.map(|(_, target)| *target).unwrap_or_else(|| {
        let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        panic!("MUONIC_FUZZ_TARGET is '{name}'; it names one of {}", names.join(" "))
    })
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
