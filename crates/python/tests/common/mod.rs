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

/// Runs a program as a job of this environment would, and answers whether it
/// succeeded and what it said.
pub fn run(environment: &Environment, folder: &Path, line: &str) -> (bool, String) {
    let mut words = line.split(' ');
    let home = environment.bin.parent().unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths([environment.bin.clone()].into_iter().chain(std::env::split_paths(&path))).unwrap();
    // The program is looked for in the path that it gets.
    let output = std::process::Command::new("sh")
        .args(["-c", "exec \"$@\"", "sh"])
        .args(&mut words)
        .current_dir(folder)
        .env("PATH", path)
        .env("VIRTUAL_ENV", home)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

pub fn is_refused(environment: &Environment, folder: &Path, line: &str) {
    let (success, said) = run(environment, folder, line);
    assert!(!success && said.contains("so name the package in requirements.txt instead"), "{line}: {said}");
}

pub fn is_done(environment: &Environment, folder: &Path, line: &str) {
    let (success, said) = run(environment, folder, line);
    assert!(success, "{line}: {said}");
}
