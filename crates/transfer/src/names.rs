//! Keys as paths. A key that is a path of its own keeps it; any other gets a
//! name that is made of it, always the same. Pure.

use data_encoding::HEXLOWER;
use md5::{Digest, Md5};

/// Longest name of a file or folder.
const NAME_BYTES_MAX: usize = 255;
/// Of an escaped key that can be read in its name.
const SHOWN_BYTES_MAX: usize = 120;

/// Whether a key can be a path below a folder, and come back from it.
pub(crate) fn is_path(key: &str) -> bool {
    !key.is_empty()
        && !key.contains('\0')
        && key.split('/').all(|part| !matches!(part, "" | "." | "..") && part.len() <= NAME_BYTES_MAX)
}

/// A name for a key that can be no path: what can be shown of it, and its MD5,
/// so that no two keys have the same.
pub(crate) fn escaped(key: &str) -> String {
    let mut name = String::new();
    for byte in key.bytes() {
        if name.len() >= SHOWN_BYTES_MAX {
            break;
        }
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(byte as char),
            b'.' if !name.is_empty() => name.push('.'),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    format!("{name}-{}", HEXLOWER.encode(&Md5::digest(key)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_paths_are_paths() {
        for key in ["a", "a/b", "a b/ü", ".hidden", "..."] {
            assert!(is_path(key), "{key}");
        }
        let long = "x".repeat(256);
        for key in ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a/.", "nul\0", &long] {
            assert!(!is_path(key), "{key:?}");
        }
        assert!(escaped("../etc").starts_with("%2E.%2Fetc-") && escaped("/a").starts_with("%2Fa-"));
    }

    proptest! {
        #[test]
        fn escaped_names_are_names_and_differ(a in ".{0,200}", b in ".{0,200}") {
            let name = escaped(&a);
            prop_assert!(is_path(&name) && !name.contains('/') && !name.starts_with('.'));
            prop_assert_eq!(a == b, name == escaped(&b));
        }
    }
}
