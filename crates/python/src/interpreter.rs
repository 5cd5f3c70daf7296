//! Which Python there is, asked of itself once: version managers put slow
//! scripts in `PATH`, so the answer is kept for as long as the program asked
//! does not change.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use muonic_types::Hasher;
use serde::{Deserialize, Serialize};

use crate::Error;

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

pub(crate) fn resolve(wanted: Option<&Path>, cache: &Path) -> Result<Interpreter, Error> {
    let program = match wanted {
        Some(path) if path.components().count() > 1 => path.to_owned(),
        Some(name) => in_path(name).ok_or_else(|| missing(format!("'{}' is not in PATH", name.display())))?,
        None => ["python3", "python"]
            .iter()
            .find_map(|name| in_path(Path::new(name)))
            .ok_or_else(|| missing("there is no python3 in PATH".into()))?,
    };
    let about = fs::metadata(&program).map_err(|e| missing(format!("{}: {e}", program.display())))?;
    let mut key = Hasher::new();
    for part in [program.as_os_str(), env::var_os("PYENV_VERSION").unwrap_or_default().as_os_str()] {
        key.update(part.as_bytes());
        key.update(&[0]);
    }
    key.update(format!("{} {} {}", about.mtime(), about.mtime_nsec(), about.size()).as_bytes());
    let kept = cache.join("python").join(format!("{}.json", key.finish().hex()));
    if let Some(known) = fs::read(&kept).ok().and_then(|bytes| serde_json::from_slice::<Interpreter>(&bytes).ok())
        && known.executable.exists()
    {
        return Ok(known);
    }
    let found = ask(&program)?;
    // Only a cache: where it cannot be kept it is asked again.
    let _ = keep(&kept, &found);
    Ok(found)
}

fn ask(program: &Path) -> Result<Interpreter, Error> {
    let mut command = Command::new(program);
    crate::run::unblock_signals(&mut command);
    let output = command
        .args(["-I", "-c", QUESTION])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| missing(format!("{} does not start: {e}", program.display())))?;
    let answer =
        serde_json::from_slice::<Interpreter>(&output.stdout).ok().filter(|i| !i.executable.as_os_str().is_empty());
    answer.filter(|_| output.status.success()).ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        missing(format!("{} does not work: {}", program.display(), said.trim().chars().take(300).collect::<String>()))
    })
}

fn keep(path: &Path, found: &Interpreter) -> std::io::Result<()> {
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
        fs::write(kept[0].path(), serde_json::to_vec(&told).unwrap()).unwrap();
        assert_eq!(resolve(None, cache.path()).unwrap(), told);
    }

    #[test]
    fn no_python_is_told_with_a_hint() {
        let cache = tempfile::tempdir().unwrap();
        let error = resolve(Some(Path::new("/nowhere/python3")), cache.path()).unwrap_err().to_string();
        assert!(error.contains("/nowhere/python3") && error.contains("install python3"), "{error}");
        let error = resolve(Some(Path::new("/bin/false")), cache.path()).unwrap_err().to_string();
        assert!(error.contains("does not work"), "{error}");
    }
}
