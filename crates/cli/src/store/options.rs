//! Options of a store elsewhere, for mounts and backups. Secrets are read from
//! files or from the environment: others on the machine can read command lines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};
use crate::parse;

/// Options that are secrets; each may also come from `MUONIC_STORE_<NAME>`.
const SECRETS: &[&str] =
    &["secret_access_key", "session_token", "service_account_key", "access_key", "sas_token", "client_secret"];
const SECRET_BYTES_MAX: u64 = 64 << 10;

#[derive(Debug, clap::Args)]
pub struct StoreOptions {
    /// A setting of the store: endpoint, region, access_key_id, account,
    /// anonymous and others; may be given many times
    #[arg(long = "option", value_name = "NAME=VALUE", value_parser = parse::mount_option)]
    options: Vec<(String, String)>,
    /// An option whose value is the content of a file; may be given many times
    #[arg(long = "secret-file", value_name = "NAME=FILE", value_parser = parse::secret_file)]
    secret_files: Vec<(String, PathBuf)>,
}

impl StoreOptions {
    pub(super) fn gather(&self, env: impl Fn(&str) -> Option<String>) -> Result<BTreeMap<String, String>> {
        let mut options = BTreeMap::new();
        let mut add = |name: &str, value: String| match options.insert(name.to_owned(), value) {
            None => Ok(()),
            Some(_) => Err(Failure::bad_input(format!("the option '{name}' is given twice"))),
        };
        for (name, value) in &self.options {
            if SECRETS.contains(&name.as_str()) {
                return Err(Failure::bad_input(format!("'{name}' is a secret, and others can read command lines"))
                    .hint(format!("write it to a file: --secret-file {name}=FILE")));
            }
            add(name, value.clone())?;
        }
        for (name, file) in &self.secret_files {
            add(name, read_secret(file)?)?;
        }
        for name in SECRETS {
            let variable = format!("MUONIC_STORE_{}", name.to_uppercase());
            if let Some(value) = env(&variable).filter(|value| !value.is_empty())
                && !self.secret_files.iter().any(|(given, _)| given == name)
            {
                add(name, value)?;
            }
        }
        Ok(options)
    }
}

/// A line end at the end is the editor's.
pub(super) fn read_secret(path: &Path) -> Result<String> {
    let failed = |e: &dyn std::fmt::Display| Failure::bad_input(format!("'{}' cannot be read: {e}", path.display()));
    let length = std::fs::metadata(path).map_err(|e| failed(&e))?.len();
    if length > SECRET_BYTES_MAX {
        return Err(failed(&format!("it has {length} bytes, and a secret has at most {SECRET_BYTES_MAX}")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| failed(&e))?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(Failure::bad_input(format!("'{}' is empty", path.display()))),
        secret => Ok(secret.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(options: &[(&str, &str)], secret_files: Vec<(String, PathBuf)>) -> StoreOptions {
        let options = options.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        StoreOptions { options, secret_files }
    }

    #[test]
    fn secrets_come_from_files_and_the_environment_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "hush\r\n").unwrap();
        let given = options(&[("access_key_id", "AK")], vec![("secret_access_key".into(), file.clone())]);
        let env = |name: &str| (name == "MUONIC_STORE_SESSION_TOKEN").then(|| "token".to_owned());
        let gathered = given.gather(env).unwrap();
        let expected = [("access_key_id", "AK"), ("secret_access_key", "hush"), ("session_token", "token")];
        assert_eq!(gathered, expected.map(|(n, v)| (n.to_owned(), v.to_owned())).into());

        let bare = options(&[("secret_access_key", "hush")], Vec::new()).gather(|_| None).unwrap_err();
        assert!(!bare.message.contains("hush") && bare.hint.unwrap().contains("--secret-file"));
        let twice = options(&[("region", "a"), ("region", "b")], Vec::new()).gather(|_| None).unwrap_err();
        assert!(twice.message.contains("given twice"));
        let missing = options(&[], vec![("access_key".into(), dir.path().join("none"))]).gather(|_| None).unwrap_err();
        assert!(missing.message.contains("none' cannot be read"));
        std::fs::write(&file, "\n").unwrap();
        assert!(read_secret(&file).unwrap_err().message.contains("is empty"));
    }
}
