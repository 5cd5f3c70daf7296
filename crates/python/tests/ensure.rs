//! Real environments from packages that need no network.

use std::cell::Cell;
use std::fs;

use muonic_python::{Environment, Error, Request, ensure};

mod common;

use common::{get, is_done, is_refused, wheel};

#[test]
fn an_environment_is_built_once_and_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let (code, cache) = (dir.path().join("code"), dir.path().join("a cache"));
    fs::create_dir(&code).unwrap();
    let plain = get(&code, &cache, &mut Vec::new()).unwrap();
    assert!(plain.python.is_absolute() && plain.reused);

    let wheel = wheel(&code);
    fs::write(code.join("requirements.txt"), format!("--no-index\n{wheel}\n")).unwrap();
    let mut lines = Vec::new();
    let built = get(&code, &cache, &mut lines).unwrap();
    assert!(!built.reused && built.digest != plain.digest);
    assert!(lines.iter().any(|l| l.contains("tinypkg")), "{lines:?}");
    let answer = std::process::Command::new(&built.python)
        .args(["-c", "import tinypkg; print(tinypkg.ANSWER)"])
        .output()
        .unwrap();
    assert_eq!(answer.stdout, b"42\n");

    let mut lines = Vec::new();
    let again = get(&code, &cache, &mut lines).unwrap();
    assert_eq!(again, Environment { reused: true, ..built.clone() });
    assert!(lines.is_empty());

    // A job leaves it as it is, and may make one of its own.
    for line in ["pip install", "pip3 install --upgrade", "python -m pip install --target mine"] {
        is_refused(&built, &code, &format!("{line} --no-index {wheel}"));
    }
    is_refused(&built, &code, "pip uninstall --yes tinypkg");
    is_done(&built, &code, "pip list");
    is_done(&built, &code, "python -c import\ttinypkg");
    is_done(&built, &code, "python -m venv mine");
    is_done(&built, &code, &format!("mine/bin/pip install --no-index {wheel}"));

    // One whose interpreter is gone is of no use to anybody.
    let home = built.bin.parent().unwrap();
    fs::remove_file(&built.python).unwrap();
    std::os::unix::fs::symlink("/nowhere/python3", &built.python).unwrap();
    assert!(!get(&code, &cache, &mut Vec::new()).unwrap().reused);

    // Without its mark it is what an interrupted build left.
    fs::remove_file(home.join("complete")).unwrap();
    fs::write(home.join("half"), "").unwrap();
    assert!(!get(&code, &cache, &mut Vec::new()).unwrap().reused);
    assert!(!home.join("half").exists());
}

#[test]
fn a_failed_build_says_why_and_keeps_its_log() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("requirements.txt"), "--no-index\nno-such-package-here==9\n").unwrap();
    let cache = dir.path().join("cache");
    let error = get(dir.path(), &cache, &mut Vec::new()).unwrap_err();
    let Error::Build { log, tail, .. } = &error else { panic!("{error}") };
    assert!(tail.contains("no-such-package-here"), "{tail}");
    assert!(fs::read_to_string(log).unwrap().contains("no-such-package-here"));
    assert!(!log.with_extension("").exists());
}

#[test]
fn a_build_is_cancelled_with_all_it_started() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("requirements.txt"), "--no-index\nx==9\n").unwrap();
    let cache = dir.path().join("cache");
    let asked = Cell::new(0);
    let request = Request { folder: dir.path(), cache: &cache, python: None };
    let cancelled = || {
        asked.set(asked.get() + 1);
        true
    };
    let error = ensure(&request, &mut |_| (), &cancelled).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert!(asked.get() > 0);
}
