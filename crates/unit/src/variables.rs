//! What of the server's environment goes on to a unit.

const KEPT: [&str; 23] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "CUDA_HOME",
    "CUDA_PATH",
];

/// Whether supervisors and the users' commands alike need this variable:
/// where programs and the user's folders are, how the network is reached, and
/// where drivers lie.
pub fn is_for_all(name: &str) -> bool {
    KEPT.contains(&name) || name.starts_with("LC_")
}
