//! A supervisor for tests: takes the lock, begins, and does what the launch
//! setting `do` says. It leaves a line in the file named by `trace` each time
//! its program runs.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, ExitCode, Stdio};

use muonic_unit::Folder;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(_), Some(flag), Some(path)) = (args.next(), args.next(), args.next()) else { return ExitCode::from(2) };
    if flag != "--unit" {
        return ExitCode::from(2);
    }
    run(&Folder::new(path)).unwrap_or_else(|e| {
        let _ = writeln!(std::io::stderr(), "{e}");
        ExitCode::FAILURE
    })
}

fn run(folder: &Folder) -> std::io::Result<ExitCode> {
    let launch = folder.read_launch()?;
    let Some(_lock) = folder.try_lock()? else { return Ok(ExitCode::SUCCESS) };
    if folder.is_done() || !folder.begin()? {
        return Ok(ExitCode::SUCCESS);
    }
    folder.write_pid()?;
    let setting = |name: &str| launch.settings.get(name).cloned().unwrap_or_default();
    // The line names the process that a test looks for.
    let mut program = Command::new("sh");
    program.args(["-c", &setting("do")]).stdin(Stdio::null());
    let mut child = program.spawn()?;
    let mut trace = OpenOptions::new().append(true).create(true).open(setting("trace"))?;
    writeln!(trace, "{} {}", std::process::id(), child.id())?;
    let status = child.wait()?;
    Ok(ExitCode::from(status.code().unwrap_or(1) as u8))
}
