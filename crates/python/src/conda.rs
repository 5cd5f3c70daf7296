//! The packages that a `conda.yaml` asks of pip, as MLflow writes it: the only
//! ones of it that can be had without conda.

use crate::Error;

/// Lines of one form are read, not YAML as such: what is not understood is
/// refused.
pub(crate) fn pip_packages(text: &[u8]) -> Result<Vec<String>, Error> {
    let bad = |why: String| Error::Requirements(format!("conda.yaml {why}; keep the packages in requirements.txt"));
    let text = std::str::from_utf8(text).map_err(|_| bad("is not UTF-8".into()))?;
    let (mut is_list, mut pip) = (false, None);
    let mut packages = Vec::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some(item) = line.strip_prefix("- ").map(str::trim) else {
            is_list = line == "dependencies:";
            pip = None;
            continue;
        };
        if !is_list {
            continue;
        }
        pip = pip.filter(|outer| indent > *outer);
        let item = item.trim_matches(['\'', '"']);
        let name = item.split(['=', '<', '>', '!', ' ', '[']).next().unwrap_or(item);
        match (pip, name) {
            (Some(_), _) => packages.push(item.to_owned()),
            (None, "pip:") => pip = Some(indent),
            (None, "python" | "pip" | "setuptools" | "wheel") => {}
            (None, _) => {
                return Err(bad(format!("asks for '{name}' of conda, and only what it asks of pip can be had")));
            }
        }
    }
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pip_is_asked_for_is_found() {
        let text = b"channels:\n- conda-forge\ndependencies:\n- python=3.11.7\n- pip<=23.2.1\n- pip:\n  - mlflow==2.9.2\n  - 'scikit-learn>=1.3'\nname: mlflow-env\n";
        assert_eq!(pip_packages(text).unwrap(), ["mlflow==2.9.2", "scikit-learn>=1.3"]);
        assert_eq!(pip_packages(b"dependencies:\n  - python=3.9\n  - pip:\n      - a\n  - pip\n").unwrap(), ["a"]);
        let error = pip_packages(b"dependencies:\n- cudatoolkit=11\n").unwrap_err().to_string();
        assert!(error.starts_with("conda.yaml asks for 'cudatoolkit' of conda"), "{error}");
    }
}
