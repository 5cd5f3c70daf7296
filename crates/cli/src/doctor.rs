//! `muonic doctor`

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use muonic_types::system::{Check, CheckResult, DoctorReport, Status};

use crate::context::{Context, local_file};
use crate::failure::{Exit, Failure, Outcome};
use crate::render::screen::hanging;
use crate::render::{Screen, one_line};

/// Check that everything works, and say what to do where it does not
///
/// Works without a running server too, which is then one failed check.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic doctor")]
pub struct DoctorArgs {}

/// Nothing here asks for a version: the packages of jobs and models do.
const PYTHON_HINT: &str = "install Python 3 with its venv module, in the version that your packages need; \
    on Debian: apt-get install -y python3 python3-venv";

impl DoctorArgs {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let mut checks = vec![check("command line", CheckResult::Ok, format!("muonic {}", env!("CARGO_PKG_VERSION")))];
        if context.global.server.is_none() {
            checks.extend(data_checks(context));
        }
        let server = context.client().and_then(|client| Ok((client.status()?, client.doctor()?)));
        match server {
            Ok((status, report)) => {
                checks.push(server_check(&status));
                checks.extend(report.checks);
            }
            Err(failure) => {
                checks.push(failed("server", failure));
                checks.push(program("python3", "jobs and Python models need it", PYTHON_HINT));
            }
        }
        let report = DoctorReport { checks };
        context.show(&report, || text(&report, context.screen()))?;
        let sick = report.checks.iter().any(|c| c.result == CheckResult::Failed);
        Ok(if sick { Exit::Failed } else { Exit::Ok })
    }
}

fn check(name: &str, result: CheckResult, detail: impl Into<String>) -> Check {
    Check { name: name.to_owned(), result, detail: detail.into(), hint: None }
}

fn failed(name: &str, failure: Failure) -> Check {
    Check { hint: failure.hint, ..check(name, CheckResult::Failed, failure.message) }
}

fn server_check(status: &Status) -> Check {
    let ours = env!("CARGO_PKG_VERSION");
    let detail = format!("answers at {}, version {}", status.url, status.version);
    if status.version == ours {
        return check("server", CheckResult::Ok, detail);
    }
    let mut other = check("server", CheckResult::Warning, format!("{detail}; this command line is {ours}"));
    other.hint = Some("use the same version of muonic for the server and the command line".to_owned());
    other
}

/// The data folder as the command line sees it.
fn data_checks(context: &Context) -> Vec<Check> {
    let Some(dir) = context.global.data_dir() else { return Vec::new() };
    if !dir.exists() {
        let detail = format!("{} does not exist yet; 'muonic up' makes it", dir.display());
        return vec![check("data folder", CheckResult::Ok, detail)];
    }
    let mut checks = vec![check("data folder", CheckResult::Ok, dir.display().to_string())];
    if local_file(context.global).is_ok() {
        checks.push(mode_check(&dir.join("local.json")));
    }
    checks
}

fn mode_check(path: &Path) -> Check {
    match std::fs::metadata(path) {
        Ok(meta) if meta.mode() & 0o077 == 0 => check("local.json", CheckResult::Ok, "only its owner may read it"),
        Ok(meta) => {
            let detail =
                format!("{} holds the administrator's token and has mode {:o}", path.display(), meta.mode() & 0o777);
            let mut open = check("local.json", CheckResult::Failed, detail);
            open.hint = Some(format!("chmod 600 {}", path.display()));
            open
        }
        Err(e) => check("local.json", CheckResult::Failed, format!("{}: {e}", path.display())),
    }
}

fn program(name: &str, why: &str, hint: &str) -> Check {
    let found = std::env::var_os("PATH")
        .and_then(|path| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file()));
    match found {
        Some(path) => check(name, CheckResult::Ok, path.display().to_string()),
        None => Check { hint: Some(hint.to_owned()), ..check(name, CheckResult::Warning, format!("not found: {why}")) },
    }
}

fn text(report: &DoctorReport, screen: Screen) -> String {
    let width = report.checks.iter().map(|c| c.name.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for check in &report.checks {
        let mark = match check.result {
            CheckResult::Ok => "ok     ",
            CheckResult::Warning => "warning",
            CheckResult::Failed => "FAILED ",
        };
        let before = mark.len() + 2 + width + 2;
        let detail = hanging(screen, before, &one_line(&check.detail));
        out.push_str(&format!("{mark}  {:<width$}  {detail}\n", check.name));
        if let Some(hint) = &check.hint {
            let hint = hanging(screen, before, &one_line(&format!("hint: {hint}")));
            out.push_str(&format!("{:before$}{hint}\n", ""));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_report_names_what_is_wrong_and_what_to_do() {
        let mut bad = check("server", CheckResult::Failed, "no server is running");
        bad.hint = Some("muonic up".into());
        let report = DoctorReport { checks: vec![check("data folder", CheckResult::Ok, "/d"), bad] };
        assert_eq!(
            text(&report, Screen::PIPE),
            "ok       data folder  /d\nFAILED   server       no server is running\n                      hint: muonic up\n"
        );
    }

    #[test]
    fn a_report_is_folded_for_a_terminal() {
        let mut bad = check("python3", CheckResult::Warning, "not found: jobs and Python models need it");
        bad.hint = Some(PYTHON_HINT.into());
        let text = text(&DoctorReport { checks: vec![bad] }, Screen::terminal(50));
        assert!(text.lines().all(|line| line.len() <= 50), "{text}");
        assert!(text.starts_with("warning  python3  not found: jobs and Python\n                  models need it\n"));
    }

    #[test]
    fn a_readable_token_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("local.json");
        std::fs::write(&path, "{}").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let open = mode_check(&path);
        assert_eq!(open.result, CheckResult::Failed);
        assert!(open.detail.ends_with("mode 644"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(mode_check(&path).result, CheckResult::Ok);
    }

    #[test]
    fn a_missing_program_is_a_warning() {
        assert_eq!(program("sh", "", "").result, CheckResult::Ok);
        assert_eq!(program("no-such-program-here", "", "").result, CheckResult::Warning);
    }
}
