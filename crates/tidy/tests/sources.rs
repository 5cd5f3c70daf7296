//! What must not stand in a file.

use muonic_tidy::sources;

/// A longer file has more than one purpose.
const LINES_MAX: usize = 600;

#[test]
fn no_source_file_is_long() {
    let long: Vec<String> = sources::code()
        .iter()
        .map(|s| (s.text.lines().count(), &s.path))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "longer than {LINES_MAX} lines; split by purpose:\n{}", long.join("\n"));
}

#[test]
fn nothing_unfinished_is_left() {
    // Written in two parts, or this file would find itself.
    let marks = [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("dbg", "!("), concat!("FIX", "ME")];
    let left: Vec<String> =
        sources::code().iter().flat_map(|s| s.lines_where(|line| marks.iter().any(|m| line.contains(m)))).collect();
    assert!(
        left.is_empty(),
        "finish it, or answer 'not implemented: NAME' and say so in the documents:\n{}",
        left.join("\n")
    );
}

#[test]
fn no_test_is_switched_off() {
    let mark = concat!("#[", "ignore");
    let off: Vec<String> = sources::code().iter().flat_map(|s| s.lines_where(|line| line.contains(mark))).collect();
    assert!(
        off.is_empty(),
        "a test that does not run proves nothing: mend it, or make it ask for MUONIC_TEST_LONG:\n{}",
        off.join("\n")
    );
}

#[test]
fn no_path_of_one_machine_is_written_down() {
    let found: Vec<String> = sources::all()
        .iter()
        .filter(|s| s.path != "Cargo.lock")
        .flat_map(|s| s.lines_where(names_someones_folder))
        .collect();
    assert!(
        found.is_empty(),
        "paths that exist on one machine only; use a relative path or a temporary folder:\n{}",
        found.join("\n")
    );
}

/// True for a line with an absolute path below a home folder or the like,
/// such as `HOME/ann/x` with the real name of the folder of homes.
fn names_someones_folder(line: &str) -> bool {
    ["home", "Users", "root", "work"].iter().any(|folder| {
        let path = format!("/{folder}/");
        line.match_indices(&path).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + path.len()..].chars().next();
            let starts = before.is_none_or(|c| c.is_whitespace() || "\"'`=:(<,".contains(c));
            starts && after.is_some_and(|c| c.is_alphanumeric() || c == '.' || c == '_')
        })
    })
}

#[test]
fn folders_of_people_are_recognised() {
    let path = |folder: &str| format!("/{folder}/ann/project");
    assert!(names_someones_folder(&format!("cd {}", path("home"))));
    assert!(names_someones_folder(&format!("let p = \"{}\";", path("Users"))));
    assert!(!names_someones_folder(&format!("DIR{}", path("work"))));
    assert!(!names_someones_folder("DIR/work/{code,input}"));
}

#[test]
fn the_deciders_have_no_clock_and_do_no_io() {
    let marks =
        ["std::fs", "std::net", "std::process", "std::thread", "std::env", "SystemTime", "Instant", "Timestamp::now"];
    let found: Vec<String> = ["crates/scheduler/src/", "crates/policy/src/", "crates/simulate/src/"]
        .iter()
        .flat_map(|folder| sources::rust_below(folder))
        .flat_map(|s| {
            s.lines_where(|line| !line.trim_start().starts_with("//") && marks.iter().any(|m| line.contains(m)))
        })
        .collect();
    assert!(
        found.is_empty(),
        "scheduler, policy and simulator work from their arguments: time and facts are handed to them:\n{}",
        found.join("\n")
    );
}

#[test]
fn every_rust_file_of_a_library_says_what_it_is_for() {
    let silent: Vec<String> = sources::code()
        .iter()
        .filter(|s| s.path.starts_with("crates/") && s.path.contains("/src/") && s.path.ends_with("/lib.rs"))
        .filter(|s| !s.text.trim_start().starts_with("//!"))
        .map(|s| s.path.clone())
        .collect();
    assert!(silent.is_empty(), "begin with a //! header: purpose, place, invariants:\n{}", silent.join("\n"));
}
