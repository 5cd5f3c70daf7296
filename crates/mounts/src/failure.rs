//! What a store answered, in our terms and without secrets.
//!
//! Invariant: no text of a foreign error leaves this module before the
//! secrets of the mount and the query strings of URLs are taken out of it.

use std::error::Error as _;
use std::io;

use muonic_ports::object_store::Error;

const TEXT_MAX: usize = 300;

/// Speaks of one mounted store.
#[derive(Clone)]
pub(crate) struct Voice {
    /// The mount's URL.
    pub place: String,
    pub secrets: Vec<String>,
}

impl Voice {
    /// What the store said, shortened, for people.
    pub fn detail(&self, error: &object_store::Error) -> String {
        let text = chain(error);
        self.clean(&message(&text).unwrap_or_else(|| plain(&text)))
    }

    fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.secrets.iter().filter(|s| s.len() >= 4) {
            text = text.replace(secret.as_str(), "***");
        }
        let words = text.split_whitespace().map(|word| match word.split_once('?') {
            Some((before, after)) if before.contains("://") => {
                format!("{before}{}", if after.ends_with(')') { ")" } else { "" })
            }
            _ => word.to_owned(),
        });
        let mut text = words.collect::<Vec<_>>().join(" ");
        if let Some((at, _)) = text.char_indices().nth(TEXT_MAX) {
            text.truncate(at);
            text.push('…');
        }
        text
    }

    pub fn unavailable(&self, what: &str) -> Error {
        Error::Store(muonic_ports::Error::Unavailable(format!("the mounted store {} {what}", self.place)))
    }

    /// For answers that mean the same whatever was asked.
    pub fn error(&self, error: object_store::Error) -> Error {
        use object_store::Error as E;
        let detail = self.detail(&error);
        match (&error, status(&chain(&error))) {
            (E::NotFound { .. }, _) | (E::Generic { .. }, Some(404)) => {
                Error::Store(muonic_ports::Error::NotFound(format!(
                    "what the mount names is not in {}: {detail}; is the bucket or folder still there?",
                    self.place
                )))
            }
            (E::PermissionDenied { .. } | E::Unauthenticated { .. }, _) | (E::Generic { .. }, Some(401 | 403)) => self
                .unavailable(&format!("refuses the credentials of this mount ({detail}); mount it again with others")),
            (E::NotSupported { .. } | E::NotImplemented { .. }, _) | (E::Generic { .. }, Some(501)) => {
                Error::NotSupported("this, in a mounted bucket of its kind")
            }
            (E::InvalidPath { .. }, _) => Error::NotSupported("a key of this form in a mounted bucket"),
            (E::Precondition { .. } | E::AlreadyExists { .. }, _) => Error::PreconditionFailed("the condition"),
            _ => self.of_disk(&error, &detail),
        }
    }

    fn of_disk(&self, error: &object_store::Error, detail: &str) -> Error {
        use io::ErrorKind as K;
        match disk_error(error) {
            Some(K::StorageFull | K::QuotaExceeded) => Error::Store(muonic_ports::Error::DiskFull),
            Some(K::ReadOnlyFilesystem | K::PermissionDenied) => {
                Error::Store(muonic_ports::Error::ReadOnly(format!("{} may not be changed: {detail}", self.place)))
            }
            Some(K::NotADirectory | K::IsADirectory | K::DirectoryNotEmpty) => {
                Error::NotSupported("a key that is also a folder of other keys, in a mounted folder")
            }
            Some(K::InvalidFilename) => Error::NotSupported("a key this long in a mounted folder"),
            _ => self.unavailable(&format!("cannot be reached or does not answer as it should: {detail}")),
        }
    }

    /// An error of a stream of bytes.
    pub fn io(&self, error: object_store::Error) -> io::Error {
        io::Error::other(format!("the mounted store {} broke off: {}", self.place, self.detail(&error)))
    }
}

/// The error and its causes, where those say more.
fn chain(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

/// The HTTP status; the client keeps it to itself but in words.
fn status(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

fn disk_error(error: &object_store::Error) -> Option<io::ErrorKind> {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>().filter(|io| io.raw_os_error().is_some()) {
            return Some(io.kind());
        }
        cause = inner.source();
    }
    None
}

/// What was asked and what became of it, without the client's account of its
/// tries.
fn plain(text: &str) -> String {
    let Some((_, asking)) = text.rsplit_once("Error performing ") else { return text.to_owned() };
    match (asking.split_once(" in "), asking.split_once(" - ")) {
        (Some((asked, _)), Some((_, why))) => {
            format!("{asked}: {}", why.trim_start_matches("HTTP error: error sending request: "))
        }
        _ => asking.to_owned(),
    }
}

/// What an error document of S3 or Azure says, if the text holds one. Azure's
/// message has lines about the request below what it says.
fn message(text: &str) -> Option<String> {
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once(&format!("</{name}>"))?.0.to_owned())
    };
    let code = element("Code")?;
    let said = element("Message").and_then(|message| message.lines().next().map(str::to_owned));
    Some(said.map_or(code.clone(), |said| format!("{code}: {said}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_queries_are_taken_out() {
        let voice = Voice { place: "s3://data".to_owned(), secrets: vec!["hush-hush".to_owned()] };
        let source = "error sending request for url (https://x/y?sig=abc%3D&se=1) with hush-hush";
        let said = voice.detail(&object_store::Error::Generic { store: "S3", source: source.into() });
        assert!(!said.contains("sig") && !said.contains("hush"), "{said}");
        assert!(said.contains("(https://x/y)"), "{said}");
    }

    #[test]
    fn error_documents_are_read() {
        let text = "status 403: <Error><Code>AccessDenied</Code><Message>No.</Message><Key>k</Key></Error>";
        assert_eq!(message(text).as_deref(), Some("AccessDenied: No."));
        assert_eq!(message("no document"), None);
        let azures = "<Error><Code>Gone</Code><Message>It is gone.\nRequestId:1\nTime:2</Message></Error>";
        assert_eq!(message(azures).as_deref(), Some("Gone: It is gone."));
    }

    #[test]
    fn tries_are_not_counted_to_people() {
        let text = "Generic GCS error: Error performing list request: Error performing GET http://x/c in 568.8ms, after 3 retries, \
                    max_retries: 3, retry_timeout: 30s - HTTP error: error sending request: client error (Connect): refused";
        assert_eq!(plain(text), "GET http://x/c: client error (Connect): refused");
        let once =
            "Error performing PUT http://x/c/k in 4ms - Server returned non-2xx status code: 400 Bad Request: no";
        assert_eq!(plain(once), "PUT http://x/c/k: Server returned non-2xx status code: 400 Bad Request: no");
        assert_eq!(plain("something else"), "something else");
    }
}
