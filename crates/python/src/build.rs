//! Building an environment once.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use muonic_types::Digest;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::run::Step;
use crate::source::{Kind, Source};
use crate::{Error, Interpreter, Request, interpreter, pylock, shared};

/// How often the lock of another build is tried.
const LOCK_POLL: Duration = Duration::from_millis(50);

pub(crate) fn path(cache: &Path, digest: &Digest) -> PathBuf {
    cache.join("envs").join(digest.hex())
}

/// True where it was there.
pub(crate) fn ensure(
    request: &Request<'_>,
    source: &Source,
    interpreter: &Interpreter,
    digest: &Digest,
    progress: &mut dyn FnMut(&str),
    cancelled: &dyn Fn() -> bool,
) -> Result<bool, Error> {
    let folder = path(request.cache, digest);
    if is_usable(&folder) {
        return Ok(true);
    }
    let envs = request.cache.join("envs");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&envs).map_err(Error::file(&envs))?;
    let _lock = lock(&folder.with_extension("lock"), progress, cancelled)?;
    if is_usable(&folder) {
        return Ok(true);
    }
    // What an interrupted build left, or an interpreter that is gone.
    match fs::remove_dir_all(&folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::file(&folder)(e)),
        _ => (),
    }
    let log_path = folder.with_extension("log");
    let mut log = File::create(&log_path).map_err(Error::file(&log_path))?;
    let mut step = Step { log: &mut log, log_path: &log_path, progress, cancelled };
    let built = install(request, source, interpreter, digest, &folder, &mut step);
    if let Err(e) = built {
        let _ = fs::remove_dir_all(&folder);
        return Err(e);
    }
    finish(&envs, &folder).map_err(Error::file(&folder))?;
    Ok(false)
}

/// Whether it is whole and its interpreter is still there, which it refers to
/// by a link. Asking that to run would cost every job as much as a start of
/// Python.
fn is_usable(folder: &Path) -> bool {
    folder.join("complete").exists() && folder.join("bin").join("python").exists()
}

/// The mark is written only once every file that was installed is durable.
fn finish(envs: &Path, folder: &Path) -> io::Result<()> {
    shared::protect(folder, interpreter::in_path(Path::new("uv")).as_deref())?;
    nix::unistd::syncfs(File::open(folder)?)?;
    File::create(folder.join("complete"))?.sync_all()?;
    File::open(folder)?.sync_all()?;
    File::open(envs)?.sync_all()
}

fn lock(path: &Path, progress: &mut dyn FnMut(&str), cancelled: &dyn Fn() -> bool) -> Result<Flock<File>, Error> {
    let open = || OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let mut file = open().map_err(Error::file(path))?;
    let mut told = false;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EWOULDBLOCK)) => file = back,
            Err((_, errno)) => return Err(Error::file(path)(errno.into())),
        }
        if !told {
            progress("waiting for another job that builds the same Python environment");
            told = true;
        }
        if cancelled() {
            return Err(Error::Cancelled);
        }
        std::thread::sleep(LOCK_POLL);
    }
}

fn install(
    request: &Request<'_>,
    source: &Source,
    interpreter: &Interpreter,
    digest: &Digest,
    folder: &Path,
    step: &mut Step<'_>,
) -> Result<(), Error> {
    let uv = interpreter::in_path(Path::new("uv"));
    let by = if uv.is_some() { "uv" } else { "pip" };
    step.say(&format!(
        "building the Python environment {} by {by} with Python {}",
        digest.short(),
        interpreter.version
    ));
    match &uv {
        Some(uv) => {
            let mut command = Command::new(uv);
            command.args(["venv", "--no-project", "--python"]).arg(&interpreter.executable).arg(folder);
            step.run("uv venv", command)?;
        }
        None => {
            let mut command = Command::new(&interpreter.executable);
            command.args(["-m", "venv"]).arg(folder);
            step.run("python -m venv (on Debian it needs the package python3-venv)", command)?;
        }
    }
    let python = folder.join("bin").join("python");
    let installer = |uv: &Option<PathBuf>| match uv {
        Some(uv) => {
            let mut command = Command::new(uv);
            command.args(["pip", "install", "--compile-bytecode", "--python"]).arg(&python);
            (command, "uv pip install")
        }
        None => {
            let mut command = Command::new(&python);
            command.args([
                "-m",
                "pip",
                "install",
                "--no-input",
                "--disable-pip-version-check",
                "--progress-bar",
                "off",
            ]);
            (command, "pip install")
        }
    };
    let (mut command, name) = installer(&uv);
    command.current_dir(request.folder);
    match (&source.kind, &uv) {
        (Kind::Requirements, _) => {
            command.args(["-r", "requirements.txt"]);
        }
        (Kind::PyLock, Some(_)) => {
            command.args(["-r", "pylock.toml"]);
        }
        (Kind::PyLock, None) => {
            let lock = request.folder.join("pylock.toml");
            let lines = pylock::requirements(&fs::read(&lock).map_err(Error::file(&lock))?)?;
            let list = folder.join("pylock-requirements.txt");
            fs::write(&list, lines).map_err(Error::file(&list))?;
            command.args(["--no-deps", "--require-hashes", "-r"]).arg(&list);
        }
        (Kind::UvLock, Some(uv)) => {
            command = Command::new(uv);
            command.args(["sync", "--frozen", "--no-install-project", "--no-dev", "--compile-bytecode", "--python"]);
            command.arg(&python).env("UV_PROJECT_ENVIRONMENT", folder).current_dir(request.folder);
        }
        (Kind::UvLock, None) => {
            return Err(Error::Requirements(
                "uv.lock can be installed only by uv, which is not in PATH; install uv, or keep the locked versions in pylock.toml or requirements.txt".into(),
            ));
        }
        (Kind::Project { dependencies } | Kind::Conda { dependencies }, _) => {
            // An argument that begins with a dash would be taken for an option.
            if let Some(odd) = dependencies.iter().find(|d| d.trim_start().starts_with('-')) {
                let by = if matches!(source.kind, Kind::Conda { .. }) { "conda.yaml" } else { "pyproject.toml" };
                return Err(Error::Requirements(format!("{by} names the dependency '{odd}', which is none")));
            }
            command.args(dependencies);
        }
    }
    step.run(name, command)
}
