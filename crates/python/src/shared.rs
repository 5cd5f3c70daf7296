//! An environment is used by every job that asks for the same packages, so
//! installing into it from within one must fail, and say what to do instead.
//!
//! File modes would not stop root, and hinder who removes the data folder.
//! What stops pip and uv is what they read or how they are found; who walks
//! around that does so on purpose.

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// pip takes it for a requirement and quotes it, so it has no punctuation that
/// a requirement could have.
const WORDS: &str = "This Python environment is shared by all jobs that ask for the same packages and stays as it is, so name the package in requirements.txt instead";
/// What pip reads before it changes anything.
const REASON: &str = "shared-environment.txt";

/// For an environment in `home` that is whole, before it is marked so.
pub(crate) fn protect(home: &Path, uv: Option<&Path>) -> io::Result<()> {
    for entry in fs::read_dir(home.join("lib"))? {
        let packages = entry?.path().join("site-packages");
        if packages.is_dir() && !packages.join("pip").exists() {
            without_pip(home, &packages)?;
        }
    }
    fs::write(home.join(REASON), format!("{WORDS}\n"))?;
    // By address, since pip splits values at spaces.
    let reason: String = home.join(REASON).as_os_str().as_bytes().iter().map(|b| escaped(*b)).collect();
    let settings = format!("[install]\nconstraint = file://{reason}\n[uninstall]\nrequirement = file://{reason}\n");
    fs::write(home.join("pip.conf"), settings)?;
    let own = home.join("bin").join("uv");
    let kept = home.join("bin").join("uv-itself");
    match uv {
        _ if own.exists() => {
            fs::rename(&own, &kept)?;
            guard_uv(home, &own, &kept)
        }
        Some(uv) => guard_uv(home, &own, uv),
        None => Ok(()),
    }
}

/// Without a pip here the next one in `PATH` would install somewhere else.
fn without_pip(home: &Path, packages: &Path) -> io::Result<()> {
    fs::create_dir(packages.join("pip"))?;
    fs::write(packages.join("pip").join("__main__.py"), format!("import sys\nsys.exit('{WORDS}')\n"))?;
    for name in ["pip", "pip3"] {
        program(&home.join("bin").join(name), format!("#!/bin/sh\necho '{WORDS}' >&2\nexit 1\n").into_bytes())?;
    }
    Ok(())
}

/// uv reads nothing in an environment that could stop it.
fn guard_uv(home: &Path, at: &Path, uv: &Path) -> io::Result<()> {
    let (home, uv) = (quoted(home), quoted(uv));
    let text = [
        b"#!/bin/sh\n# Leaves the shared environment as it is; all else goes on to uv.\nhome=" as &[u8],
        &home,
        b"\ncase \" $* \" in\n*\" pip install \"*|*\" pip uninstall \"*|*\" pip sync \"*)\n",
        b"    case \" $* \" in\n    *\"$home/\"*) here=yes ;;\n",
        b"    *\" --python\"*|*\" -p \"*|*\" --target\"*|*\" --prefix\"*|*\" --system \"*) here=no ;;\n",
        b"    *) if [ \"${VIRTUAL_ENV:-}\" = \"$home\" ]; then here=yes; else here=no; fi ;;\n    esac\n",
        b"    if [ $here = yes ]; then echo '",
        WORDS.as_bytes(),
        b"' >&2; exit 1; fi ;;\nesac\nexec ",
        &uv,
        b" \"$@\"\n",
    ];
    program(at, text.concat())
}

fn program(path: &Path, text: Vec<u8>) -> io::Result<()> {
    // What is there may be linked to from a cache of uv.
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => (),
    }
    let mut file = fs::File::create(path)?;
    file.write_all(&text)?;
    file.set_permissions(fs::Permissions::from_mode(0o755))
}

/// A word for a shell.
fn quoted(path: &Path) -> Vec<u8> {
    let text = path.to_path_buf().into_os_string().into_vec();
    let inner = text.iter().flat_map(|b| if *b == b'\'' { b"'\\''".to_vec() } else { vec![*b] });
    [b'\''].into_iter().chain(inner).chain([b'\'']).collect()
}

/// A byte of a path in an address.
fn escaped(byte: u8) -> String {
    match byte {
        b'/' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
        b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    }
}
