//! A package that needs no network, and the call under test.

use std::path::Path;

use muonic_python::{Environment, Error, Request, ensure};

const WHEEL: &str = "tinypkg-1.0-py3-none-any.whl";

/// A wheel is a zip file; the smallest one is made by Python itself. Answers
/// how a file in the same folder names it.
pub fn wheel(dir: &Path) -> String {
    let script = "import sys, zipfile\n\
        z = zipfile.ZipFile(sys.argv[1], 'w')\n\
        z.writestr('tinypkg.py', 'ANSWER = 42\\n')\n\
        i = 'tinypkg-1.0.dist-info/'\n\
        z.writestr(i + 'METADATA', 'Metadata-Version: 2.1\\nName: tinypkg\\nVersion: 1.0\\n')\n\
        z.writestr(i + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n\
        z.writestr(i + 'RECORD', 'tinypkg.py,,\\n' + i + 'METADATA,,\\n' + i + 'WHEEL,,\\n' + i + 'RECORD,,\\n')\n\
        z.close()\n";
    let path = dir.join(WHEEL);
    let made = std::process::Command::new("python3").args(["-c", script]).arg(&path).status().unwrap();
    assert!(made.success());
    format!("./{WHEEL}")
}

pub fn get(folder: &Path, cache: &Path, lines: &mut Vec<String>) -> Result<Environment, Error> {
    ensure(&Request { folder, cache, python: None }, &mut |l| lines.push(l.to_owned()), &|| false)
}
