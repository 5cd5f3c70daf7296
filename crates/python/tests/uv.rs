//! Environments built by the real uv, which `./test` installs.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{get, is_done, is_refused, wheel};

fn uv_folder() -> PathBuf {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build/venv/bin/python");
    let python = std::env::var_os("MUONIC_TEST_PYTHON").map_or(venv, PathBuf::from);
    let folder = python.parent().expect("a folder").to_owned();
    assert!(folder.join("uv").exists(), "{} has no uv: run ./test, which sets it up", folder.display());
    std::path::absolute(folder).expect("a folder")
}

/// uv is found in the path, which a running test cannot change: the same test
/// runs again in a process whose path begins with uv's folder.
#[test]
fn uv_builds_from_requirements_and_from_its_lock() {
    let path = std::env::var_os("PATH").expect("a path");
    if std::env::split_paths(&path).next() != Some(uv_folder()) {
        let longer = std::env::join_paths([uv_folder()].into_iter().chain(std::env::split_paths(&path)));
        let again = Command::new(std::env::current_exe().expect("this program"))
            .args(["--nocapture", "--exact", "uv_builds_from_requirements_and_from_its_lock"])
            .env("PATH", longer.expect("a path"))
            .status()
            .expect("it starts");
        return assert!(again.success());
    }
    let dir = tempfile::tempdir().unwrap();
    let (code, cache) = (dir.path().join("code"), dir.path().join("cache"));
    fs::create_dir(&code).unwrap();
    let wheel = wheel(&code);
    fs::write(code.join("requirements.txt"), format!("--no-index\n{wheel}\n")).unwrap();
    check(&code, &cache, " by uv with ");

    fs::remove_file(code.join("requirements.txt")).unwrap();
    let project = format!(
        "[project]\nname = 'p'\nversion = '1'\nrequires-python = '>=3.11'\ndependencies = ['tinypkg']\n\
         [tool.uv.sources]\ntinypkg = {{ path = '{wheel}' }}\n"
    );
    fs::write(code.join("pyproject.toml"), project).unwrap();
    let locked = Command::new("uv").args(["lock", "--offline"]).current_dir(&code).status().expect("uv starts");
    assert!(locked.success() && code.join("uv.lock").exists());
    check(&code, &cache, "tinypkg");
}

fn check(code: &Path, cache: &Path, word: &str) {
    let mut lines = Vec::new();
    let built = get(code, cache, &mut lines).unwrap_or_else(|e| panic!("{e}\n{lines:?}"));
    assert!(!built.reused && lines.iter().any(|l| l.contains(word)), "{lines:?}");
    let answer = Command::new(&built.python).args(["-c", "import tinypkg; print(tinypkg.ANSWER)"]).output().unwrap();
    assert_eq!(answer.stdout, b"42\n", "{answer:?}");
    assert!(get(code, cache, &mut Vec::new()).unwrap().reused);
    // A job leaves it as it is, and may make one of its own.
    let wheel = wheel(code);
    for line in ["uv pip install", "uv --quiet pip install", "pip install", "python -m pip install"] {
        is_refused(&built, code, &format!("{line} --no-index {wheel}"));
    }
    is_refused(&built, code, &format!("uv pip install --python {} --no-index {wheel}", built.python.display()));
    is_refused(&built, code, "uv pip uninstall tinypkg");
    is_done(&built, code, "uv --version");
    is_done(&built, code, "uv venv --clear mine");
    is_done(&built, code, &format!("uv pip install --python mine/bin/python --no-index {wheel}"));
    is_done(&built, code, "python -c import\ttinypkg");
}
