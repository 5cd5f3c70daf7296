//! `pylock.toml` for a pip that does not read it: the packages as pinned,
//! hashed requirement lines.

use crate::Error;

/// Requirement lines with every hash that the lock allows.
pub(crate) fn requirements(lock: &[u8]) -> Result<String, Error> {
    let bad = |why: &str| Error::Requirements(format!("pylock.toml cannot be read: {why}"));
    let text = std::str::from_utf8(lock).map_err(|e| bad(&e.to_string()))?;
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| bad(&e.to_string()))?;
    let packages = table.get("packages").and_then(|p| p.as_array()).ok_or_else(|| bad("it has no list of packages"))?;
    let mut out = String::new();
    for package in packages {
        let field = |name: &str| package.get(name).and_then(|v| v.as_str());
        let name = field("name").ok_or_else(|| bad("a package has no name"))?;
        let version = field("version").ok_or_else(|| {
            Error::Requirements(format!(
                "pylock.toml pins '{name}' to a folder, an archive or a repository, which needs uv; install uv"
            ))
        })?;
        out.push_str(&format!("{name}=={version}"));
        if let Some(marker) = field("marker") {
            out.push_str(&format!(" ; {marker}"));
        }
        let files = package.get("wheels").and_then(|w| w.as_array()).into_iter().flatten().chain(package.get("sdist"));
        let hashes: Vec<&str> = files.filter_map(|f| f.get("hashes")?.get("sha256")?.as_str()).collect();
        if hashes.is_empty() {
            return Err(bad(&format!("the package '{name}' has no sha256")));
        }
        for hash in hashes {
            out.push_str(&format!(" --hash=sha256:{hash}"));
        }
        out.push('\n');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_become_pinned_lines() {
        let lock = "lock-version = '1.0'\n[[packages]]\nname = 'six'\nversion = '1.16.0'\nmarker = \"python_version >= '3'\"\nwheels = [{ name = 'six.whl', hashes = { sha256 = 'aa' } }]\nsdist = { hashes = { sha256 = 'bb' } }\n";
        assert_eq!(
            requirements(lock.as_bytes()).unwrap(),
            "six==1.16.0 ; python_version >= '3' --hash=sha256:aa --hash=sha256:bb\n"
        );
        assert!(requirements(b"[[packages]]\nname = 'x'").unwrap_err().to_string().contains("needs uv"));
        assert!(requirements(b"packages = 1").is_err());
    }
}
