//! Which Python there is, asked of itself once: version managers put slow
//! scripts in `PATH`, so the answer is kept for as long as the program asked
//! does not change.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use muonic_types::Hasher;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::run::answer;

const QUESTION: &str = "import sys, sysconfig, json, platform; print(json.dumps({'executable': sys.executable, \
    'version': platform.python_version(), 'implementation': sys.implementation.name, 'platform': sysconfig.get_platform()}))";

/// A Python interpreter, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interpreter {
    pub executable: PathBuf,
    /// Such as `3.11.7`.
    pub version: String,
    /// Such as `cpython`.
    pub implementation: String,
    /// Such as `linux-x86_64`.
    pub platform: String,
}

/// What is known of a program that was asked.
#[derive(Serialize, Deserialize)]
struct Kept {
    interpreter: Interpreter,
    /// Of the executable that the interpreter named.
    stamp: String,
}

/// Longest wait for an interpreter to describe itself.
const ANSWER_MAX: Duration = Duration::from_secs(30);

pub(crate) fn resolve(wanted: Option<&Path>, cache: &Path) -> Result<Interpreter, Error> {
    let program = match wanted {
        Some(path) if path.components().count() > 1 => path.to_owned(),
        Some(name) => in_path(name).ok_or_else(|| missing(format!("'{}' is not in PATH", name.display())))?,
        None => ["python3", "python"]
            .iter()
            .find_map(|name| in_path(Path::new(name)))
            .ok_or_else(|| missing("there is no python3 in PATH".into()))?,
    };
    fs::metadata(&program).map_err(|e| missing(format!("{}: {e}", program.display())))?;
    let mut key = Hasher::new();
    for part in [program.as_os_str(), env::var_os("PYENV_VERSION").unwrap_or_default().as_os_str()] {
        key.update(part.as_bytes());
        key.update(&[0]);
    }
    key.update(stamp(&program).unwrap_or_default().as_bytes());
    let kept = cache.join("python").join(format!("{}.json", key.finish().hex()));
    // A script may name another program, which may have been replaced.
    if let Some(known) = fs::read(&kept).ok().and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok())
        && stamp(&known.interpreter.executable).is_some_and(|now| now == known.stamp)
    {
        return Ok(known.interpreter);
    }
    let found = ask(&program, ANSWER_MAX)?;
    // Only a cache: where it cannot be kept it is asked again.
    if let Some(stamp) = stamp(&found.executable) {
        let _ = keep(&kept, &Kept { interpreter: found.clone(), stamp });
    }
    Ok(found)
}

/// What changes when a program is replaced.
fn stamp(program: &Path) -> Option<String> {
    let about = fs::metadata(program).ok()?;
    Some(format!("{} {} {} {}", about.ino(), about.mtime(), about.mtime_nsec(), about.size()))
}

fn ask(program: &Path, limit: Duration) -> Result<Interpreter, Error> {
    let mut command = Command::new(program);
    command.args(["-I", "-c", QUESTION]);
    let output = answer(command, limit).map_err(|e| match e.kind() {
        io::ErrorKind::TimedOut => missing(format!("{} does not work: {e}", program.display())),
        _ => missing(format!("{} does not start: {e}", program.display())),
    })?;
    let described =
        serde_json::from_slice::<Interpreter>(&output.stdout).ok().filter(|i| !i.executable.as_os_str().is_empty());
    described.filter(|_| output.status.success()).ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        missing(format!("{} does not work: {}", program.display(), said.trim().chars().take(300).collect::<String>()))
    })
}

fn keep(path: &Path, found: &Kept) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    fs::File::create(&temporary)?.write_all(&serde_json::to_vec(found)?)?;
    fs::rename(&temporary, path)
}

fn missing(reason: String) -> Error {
    Error::NoPython { reason }
}

/// The first executable of this name in `PATH`.
pub(crate) fn in_path(name: &Path) -> Option<PathBuf> {
    let path: OsString = env::var_os("PATH")?;
    env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(name))
        .find(|program| fs::metadata(program).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interpreter_is_asked_once() {
        let cache = tempfile::tempdir().unwrap();
        let first = resolve(None, cache.path()).unwrap();
        assert!(first.executable.is_absolute() && first.version.starts_with('3'));
        let kept: Vec<_> = fs::read_dir(cache.path().join("python")).unwrap().flatten().collect();
        assert_eq!(kept.len(), 1);
        // What is kept is believed.
        let told = Interpreter { version: "3.99.0".into(), ..first };
        let stamp = stamp(&told.executable).unwrap();
        fs::write(kept[0].path(), serde_json::to_vec(&Kept { interpreter: told.clone(), stamp }).unwrap()).unwrap();
        assert_eq!(resolve(None, cache.path()).unwrap(), told);
        // Unless the program behind it is another one now.
        let stamp = "0 0 0 0".to_owned();
        fs::write(kept[0].path(), serde_json::to_vec(&Kept { interpreter: told.clone(), stamp }).unwrap()).unwrap();
        assert_ne!(resolve(None, cache.path()).unwrap(), told);
    }

    #[test]
    fn an_interpreter_that_does_not_answer_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("python3");
        fs::write(&program, "#!/bin/sh\nsleep 1000\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let error = ask(&program, Duration::from_millis(100)).unwrap_err().to_string();
        assert!(error.contains("does not work: no answer within"), "{error}");
    }

    #[test]
    fn no_python_is_told_with_a_hint() {
        let cache = tempfile::tempdir().unwrap();
        let error = resolve(Some(Path::new("/nowhere/python3")), cache.path()).unwrap_err().to_string();
        assert!(error.contains("/nowhere/python3") && error.contains("install python3"), "{error}");
        assert!(error.ends_with("in the server's setting python.interpreter"), "{error}");
        let error = resolve(Some(Path::new("/bin/false")), cache.path()).unwrap_err().to_string();
        assert!(error.contains("does not work"), "{error}");
    }
}
