//! Following a log to its end, across restarts of the server: it is read
//! again from the byte after the last one seen.

use std::borrow::Cow;
use std::io::{IsTerminal, Read};
use std::time::Duration;

use muonic_client::Client;

use crate::context::{out, pour};
use crate::failure::Result;
use crate::link::{Link, Outage, ask};
use crate::render::Strip;

/// Between the end of a stream and the next question, so that a server which
/// closes streams early is not asked in a tight loop.
const PAUSE: Duration = Duration::from_millis(100);

/// A log that may still grow.
pub(crate) trait Source {
    /// The bytes from `offset`; with `follow`, as long as the server keeps the stream open.
    fn open(&self, client: &Client, offset: u64, follow: bool) -> muonic_client::Result<Box<dyn Read + Send>>;
    /// Nothing will be added any more.
    fn ended(&self, client: &Client) -> muonic_client::Result<bool>;
}

/// Passes the whole log to `sink`, until it has ended.
pub(crate) fn follow(link: &Link, source: &impl Source, sink: &mut Sink) -> Result<()> {
    let mut offset = 0;
    let mut outage = Outage::default();
    loop {
        // Asked before reading: what was written before the end is read.
        let ended = ask(link, |client| source.ended(client))?;
        match source.open(&link.client(), offset, !ended) {
            Err(error) => {
                outage.wait(link, error)?;
                continue;
            }
            Ok(reader) => {
                outage.over();
                if pass(reader, &mut offset, sink)? && ended {
                    return sink.finish();
                }
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// What there is of a log now.
pub(crate) fn print(reader: impl Read, sink: &mut Sink) -> Result<()> {
    let mut offset = 0;
    if !pass(reader, &mut offset, sink)? {
        return Err(crate::failure::Failure::new(
            crate::Exit::Unavailable,
            "the connection broke in the middle of the log",
        )
        .hint("run the command again"));
    }
    sink.finish()
}

/// True where the stream came to its regular end.
fn pass(mut reader: impl Read, offset: &mut u64, sink: &mut Sink) -> Result<bool> {
    let mut buf = vec![0; 64 << 10];
    loop {
        match reader.read(&mut buf) {
            Ok(0) => return Ok(true),
            Ok(n) => {
                sink.write(&buf[..n])?;
                *offset += n as u64;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return Ok(false),
        }
    }
}

/// Where log bytes go. A pipe gets them as they are.
pub(crate) enum Sink {
    /// Stdout, where the log is all that is asked for.
    Stdout(Option<Strip>),
    /// Stdout, on the way to a result that is told whoever reads the log.
    OnTheWay(Option<Strip>),
    /// Beside a result that is JSON.
    Stderr(Option<Strip>),
    /// Each line as a JSON object `{"line": …}` on stdout.
    JsonLines(Vec<u8>),
    #[cfg(test)]
    Memory(std::sync::Arc<std::sync::Mutex<Vec<u8>>>),
}

/// A longer line is cut into several objects.
const LINE_MAX: usize = 1 << 20;

impl Sink {
    pub(crate) fn stdout() -> Self {
        Self::Stdout(strip_for(&std::io::stdout()))
    }

    pub(crate) fn on_the_way() -> Self {
        Self::OnTheWay(strip_for(&std::io::stdout()))
    }

    pub(crate) fn stderr() -> Self {
        Self::Stderr(strip_for(&std::io::stderr()))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Stdout(strip) => pour(&shown(strip, bytes)),
            Self::OnTheWay(strip) => out(&shown(strip, bytes)),
            Self::Stderr(strip) => {
                // Nothing depends on what people see beside a result.
                let _ = std::io::Write::write_all(&mut std::io::stderr(), &shown(strip, bytes));
                Ok(())
            }
            Self::JsonLines(rest) => {
                rest.extend_from_slice(bytes);
                let mut text = Vec::new();
                let mut start = 0;
                while let Some(at) = rest[start..].iter().position(|b| *b == b'\n') {
                    json_line(&rest[start..start + at], &mut text);
                    start += at + 1;
                }
                rest.drain(..start);
                if rest.len() > LINE_MAX {
                    json_line(rest, &mut text);
                    rest.clear();
                }
                pour(&text)
            }
            #[cfg(test)]
            Self::Memory(all) => {
                all.lock().unwrap().extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    fn finish(&mut self) -> Result<()> {
        match self {
            Self::JsonLines(rest) if !rest.is_empty() => {
                let mut text = Vec::new();
                json_line(rest, &mut text);
                rest.clear();
                pour(&text)
            }
            _ => Ok(()),
        }
    }
}

fn strip_for(stream: &impl IsTerminal) -> Option<Strip> {
    stream.is_terminal().then(Strip::default)
}

fn shown<'a>(strip: &mut Option<Strip>, bytes: &'a [u8]) -> Cow<'a, [u8]> {
    match strip {
        Some(strip) => strip.pass(bytes).into(),
        None => bytes.into(),
    }
}

fn json_line(line: &[u8], out: &mut Vec<u8>) {
    let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
    out.extend_from_slice(serde_json::json!({"line": line}).to_string().as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;
    use crate::global::Global;
    use muonic_client::Error;
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    /// Streams that break where the script says.
    struct Flaky {
        text: &'static [u8],
        /// How many bytes the next stream brings, and whether it then ends well.
        script: Mutex<VecDeque<Option<(usize, bool)>>>,
    }

    struct Part(Vec<u8>, bool);

    impl Read for Part {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            let n = self.0.len().min(buf.len());
            buf[..n].copy_from_slice(&self.0[..n]);
            self.0.drain(..n);
            if n == 0 && !self.1 { Err(std::io::Error::other("reset")) } else { Ok(n) }
        }
    }

    impl Source for Flaky {
        fn open(&self, _: &Client, offset: u64, _: bool) -> muonic_client::Result<Box<dyn Read + Send>> {
            let rest = &self.text[offset as usize..];
            match self.script.lock().unwrap().pop_front() {
                Some(None) => Err(Error::Connection { url: "u".into(), reason: "refused".into() }),
                Some(Some((n, well))) => Ok(Box::new(Part(rest[..n.min(rest.len())].to_vec(), well))),
                None => Ok(Box::new(Part(rest.to_vec(), true))),
            }
        }

        fn ended(&self, _: &Client) -> muonic_client::Result<bool> {
            Ok(self.script.lock().unwrap().is_empty())
        }
    }

    #[test]
    fn a_broken_stream_goes_on_where_it_stopped() {
        let global = Global { server: Some("http://127.0.0.1:9".into()), token: Some("t".into()), ..Global::default() };
        let link = Link::new(&Context::new(&global)).ok().unwrap();
        let script = [Some((5, false)), None, Some((1, true)), Some((0, false))].into();
        let source = Flaky { text: b"one\ntwo\nthree\n", script: Mutex::new(script) };
        let all = Arc::new(Mutex::new(Vec::new()));
        follow(&link, &source, &mut Sink::Memory(all.clone())).ok().unwrap();
        assert_eq!(*all.lock().unwrap(), source.text);
    }

    #[test]
    fn lines_become_json() {
        let mut text = Vec::new();
        json_line(b"a \"b\"\r", &mut text);
        json_line(b"\xff", &mut text);
        assert_eq!(text, "{\"line\":\"a \\\"b\\\"\"}\n{\"line\":\"\u{fffd}\"}\n".as_bytes());
    }
}
