//! What a command has at hand: the options, the server, the two streams.

use std::cell::OnceCell;
use std::io::{ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;

use muonic_client::Client;
use muonic_types::system::LocalFile;
use muonic_types::{ErrorCode, Timestamp};
use serde::Serialize;

use crate::failure::{Exit, Failure, Result};
use crate::global::{Global, OutputFormat};
use crate::render::screen::folded;
use crate::render::{Screen, clean};

pub(crate) struct Context<'a> {
    pub global: &'a Global,
    client: OnceCell<Client>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(global: &'a Global) -> Self {
        Self { global, client: OnceCell::new() }
    }

    pub(crate) fn json(&self) -> bool {
        self.global.output == OutputFormat::Json
    }

    /// The server: as named by flag or environment, else the one on this machine.
    pub(crate) fn client(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let (url, token) = find(self.global)?;
        Ok(self.client.get_or_init(|| Client::new(&url, &token)))
    }

    /// A failure with what is known here of its cause.
    pub(crate) fn explained(&self, failure: Failure) -> Failure {
        let named = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.trim().is_empty());
        let from_file = !named(&self.global.server) && !named(&self.global.token);
        match self.global.data_dir() {
            Some(dir) if from_file && failure.code == Some(ErrorCode::Unauthenticated) => failure.hint(format!(
                "the key came from {}: restart 'muonic up', which writes a valid one there",
                dir.join("local.json").display()
            )),
            _ => failure,
        }
    }

    /// The server, once it has answered to the key: before long work, so that
    /// a wrong address or key is told at once and not after hashing gigabytes.
    pub(crate) fn live_client(&self) -> Result<&Client> {
        let client = self.client()?;
        client.status()?;
        Ok(client)
    }

    /// Where results are written to.
    pub(crate) fn screen(&self) -> Screen {
        screen_of(std::io::stdout())
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// Writes a result: as JSON, or as text where that is asked for.
    pub(crate) fn show<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) -> Result<()> {
        if self.json() { self.show_json(value) } else { out(clean(&text()).as_bytes()) }
    }

    pub(crate) fn show_json<T: Serialize>(&self, value: &T) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(value)
            .map_err(|e| Failure::new(Exit::Failed, format!("the answer cannot be written as JSON: {e}")))?;
        text.push(b'\n');
        out(&text)
    }
}

/// A value as one line of JSON, of many that follow each other.
pub(crate) fn json_line<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map(|text| text + "\n")
        .map_err(|e| Failure::new(Exit::Failed, format!("the answer cannot be written as JSON: {e}")))
}

/// Writes a result to stdout. That its reader has gone away (`| head`) is not
/// a failure, and does not change how the command ends.
pub(crate) fn out(bytes: &[u8]) -> Result<()> {
    write(bytes).map(drop)
}

/// Writes what a command does nothing but read. Once its reader has gone away
/// the program just ends, as others do.
pub(crate) fn pour(bytes: &[u8]) -> Result<()> {
    match write(bytes)? {
        Reader::Here => Ok(()),
        Reader::Gone => std::process::exit(Exit::Ok as i32),
    }
}

enum Reader {
    Here,
    Gone,
}

fn write(bytes: &[u8]) -> Result<Reader> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(Reader::Here),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(e) => Err(Failure::new(Exit::Failed, format!("cannot write the result: {e}"))),
    }
}

fn screen_of(stream: impl IsTerminal + AsFd) -> Screen {
    if !stream.is_terminal() {
        return Screen::PIPE;
    }
    terminal_size::terminal_size_of(stream).map_or(Screen::PIPE, |(columns, _)| Screen::terminal(columns.0.into()))
}

/// A note in words alone, folded for a terminal: nobody copies it.
pub(crate) fn tell(line: impl AsRef<str>) {
    note(folded(screen_of(std::io::stderr()), line.as_ref()));
}

/// One line for people, on stderr.
pub(crate) fn note(line: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr(), "{}", clean(line.as_ref()));
}

/// Whether a person watches stderr.
pub(crate) fn on_terminal() -> bool {
    std::io::stderr().is_terminal()
}

fn find(global: &Global) -> Result<(String, String)> {
    let server = global.server.clone().filter(|s| !s.is_empty());
    match (server, given_token(global)?) {
        (Some(server), Some(token)) => Ok((checked(&server)?, token)),
        (Some(server), None) => {
            checked(&server)?;
            Err(Failure::new(Exit::NotAllowed, format!("no key is given for the server {server}")).hint(
                "set MUONIC_TOKEN to a token; an administrator makes one with: muonic key create NAME --role member",
            ))
        }
        (None, token) => {
            let local = local_file(global)?;
            Ok((local.url, token.unwrap_or(local.token)))
        }
    }
}

/// Files that tokens are kept in end with a line end, which is not theirs.
fn given_token(global: &Global) -> Result<Option<String>> {
    let token = global.token.as_deref().map(str::trim).filter(|token| !token.is_empty());
    match token {
        // No word of the token: it is a secret.
        Some(token) if !token.bytes().all(|c| c.is_ascii_graphic()) => {
            Err(Failure::bad_input("MUONIC_TOKEN holds a character that no token has, such as a space or a line end")
                .hint("set it to the token alone: <id>.<secret>"))
        }
        token => Ok(token.map(str::to_owned)),
    }
}

fn checked(server: &str) -> Result<String> {
    let after = server.strip_prefix("http://").or_else(|| server.strip_prefix("https://"));
    match after {
        Some(rest) if !rest.trim_matches('/').is_empty() && !rest.contains(char::is_whitespace) => {
            Ok(server.to_owned())
        }
        _ => Err(Failure::bad_input(format!("'{server}' is not a server's address"))
            .hint("write it with its scheme and port, such as http://127.0.0.1:7070")),
    }
}

/// What the server on this machine left for its clients.
pub(crate) fn local_file(global: &Global) -> Result<LocalFile> {
    let dir = global.data_dir().ok_or_else(|| {
        Failure::bad_input("no home folder is known, so the data folder is not either")
            .hint("name it with --data or MUONIC_DATA")
    })?;
    read_local(&dir.join("local.json"))
}

fn read_local(path: &Path) -> Result<LocalFile> {
    let shown = path.display();
    let text = std::fs::read(path).map_err(|e| match e.kind() {
        ErrorKind::NotFound => {
            Failure::new(Exit::Unavailable, format!("no server is running on this machine: there is no {shown}"))
                .hint("start one with 'muonic up', or name one with MUONIC_SERVER and MUONIC_TOKEN")
        }
        ErrorKind::PermissionDenied => Failure::new(Exit::NotAllowed, format!("{shown} may not be read by this user"))
            .hint("run as the user who started the server, or set MUONIC_SERVER and MUONIC_TOKEN"),
        _ => Failure::new(Exit::Unavailable, format!("{shown} cannot be read: {e}")),
    })?;
    let local: LocalFile = serde_json::from_slice(&text).map_err(|e| {
        Failure::new(Exit::Unavailable, format!("{shown} is not what a server writes: {e}"))
            .hint("start the server again: 'muonic up' writes the file anew")
    })?;
    if local.version == 1 {
        Ok(local)
    } else {
        Err(Failure::new(Exit::Unavailable, format!("{shown} was written by another version of muonic"))
            .hint("use the same version of muonic for the server and the command line"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global(server: Option<&str>, token: Option<&str>, data: &Path) -> Global {
        let own = |s: Option<&str>| s.map(str::to_owned);
        Global { server: own(server), token: own(token), data: Some(data.to_owned()), ..Global::default() }
    }

    const LOCAL: &str = r#"{"version":1,"url":"http://127.0.0.1:7070","s3_url":"http://127.0.0.1:7071",
        "key_id":"MKABCDEFGHIJKLMNOPQR","secret":"s","token":"MKABCDEFGHIJKLMNOPQR.s","pid":1}"#;

    #[test]
    fn flags_win_then_the_local_file() {
        let dir = tempfile::tempdir().unwrap();
        let missing = find(&global(None, None, dir.path())).unwrap_err();
        assert_eq!(missing.exit, Exit::Unavailable);
        assert!(missing.hint.unwrap().contains("muonic up"));

        std::fs::write(dir.path().join("local.json"), LOCAL).unwrap();
        let local = find(&global(None, None, dir.path())).unwrap();
        assert_eq!(local, ("http://127.0.0.1:7070".into(), "MKABCDEFGHIJKLMNOPQR.s".into()));
        assert_eq!(find(&global(None, Some("t"), dir.path())).unwrap().1, "t");
        assert_eq!(
            find(&global(Some("http://h:1"), Some("t"), dir.path())).unwrap(),
            ("http://h:1".into(), "t".into())
        );
    }

    #[test]
    fn half_an_address_is_refused_with_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(find(&global(Some("http://h:1"), None, dir.path())).unwrap_err().exit, Exit::NotAllowed);
        for bad in ["h:1", "ftp://h", "http://", "http://a b"] {
            assert_eq!(find(&global(Some(bad), Some("t"), dir.path())).unwrap_err().exit, Exit::BadInput, "{bad}");
        }
    }

    #[test]
    fn a_token_is_trimmed_and_what_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let of = |token| find(&global(Some("http://h:1"), Some(token), dir.path()));
        assert_eq!(of(" MK1.s\r\n").unwrap().1, "MK1.s");
        assert_eq!(of(" \n").unwrap_err().message, "no key is given for the server http://h:1");
        for bad in ["MK1.\u{1b}[1m", "MK1.a\nb", "MK1.\u{fffd}", "MK1 s"] {
            let failure = of(bad).unwrap_err();
            assert_eq!(failure.exit, Exit::BadInput, "{bad:?}");
            assert!(failure.message.starts_with("MUONIC_TOKEN holds") && !failure.message.contains("MK1"));
        }
    }

    #[test]
    fn a_damaged_or_newer_local_file_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("local.json");
        std::fs::write(&path, "{").unwrap();
        assert!(read_local(&path).unwrap_err_message().contains("is not what a server writes"));
        std::fs::write(&path, LOCAL.replace("\"version\":1", "\"version\":9")).unwrap();
        assert!(read_local(&path).unwrap_err_message().contains("another version"));
    }

    trait Message {
        fn unwrap_err_message(self) -> String;
    }

    impl Message for Result<LocalFile> {
        fn unwrap_err_message(self) -> String {
            match self {
                Err(failure) => failure.message,
                Ok(_) => panic!("expected a failure"),
            }
        }
    }
}
