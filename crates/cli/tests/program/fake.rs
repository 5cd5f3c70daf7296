//! A server that says what a test wants it to say, when it wants it. It stands
//! in for a real one only where that cannot be brought to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use muonic_types::{ErrorBody, ErrorCode};
use serde::Serialize;

const NAME: &str = "x-muonic-server: fake\r\n";

type Writing = Box<dyn FnOnce(&mut dyn Write) + Send>;

/// What a request is answered with; a stream is written as the test goes on.
pub enum Answer {
    Json(u16, Vec<u8>),
    /// As another program would answer.
    Foreign(u16, &'static str),
    Stream(Writing),
}

pub fn json(value: &impl Serialize) -> Answer {
    Answer::Json(200, serde_json::to_vec(value).unwrap())
}

pub fn error(code: ErrorCode, message: &str) -> Answer {
    Answer::Json(code.status(), serde_json::to_vec(&ErrorBody::new(code, message)).unwrap())
}

pub struct Fake {
    pub url: String,
    /// `GET /api/v1/status` and so on, each with its `authorization`.
    seen: Arc<Mutex<Vec<(String, String)>>>,
}

impl Fake {
    /// Answers each request with what `answer` makes of its method and path,
    /// as long as the test runs.
    pub fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (seen, answer) = (Arc::<Mutex<Vec<_>>>::default(), Arc::new(answer));
        std::thread::spawn({
            let seen = seen.clone();
            move || {
                for stream in listener.incoming().flatten() {
                    let (seen, answer) = (seen.clone(), answer.clone());
                    std::thread::spawn(move || serve(stream, &seen, &*answer));
                }
            }
        });
        Self { url, seen }
    }

    pub fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(request, _)| request.clone()).collect()
    }

    pub fn keys(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(_, key)| key.clone()).collect()
    }
}

/// One request, one answer, then the connection closes.
fn serve(mut stream: TcpStream, seen: &Mutex<Vec<(String, String)>>, answer: &dyn Fn(&str) -> Answer) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let request = line.rsplit_once(' ')?.0.to_owned();
    let (mut length, mut key) = (0, String::new());
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            None => break,
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().ok()?,
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => key = value.to_owned(),
            Some(_) => {}
        }
    }
    reader.take(length).read_to_end(&mut Vec::new()).ok()?;
    seen.lock().unwrap().push((request.clone(), key));
    match answer(&request) {
        Answer::Json(status, body) => {
            let length = body.len();
            let head = format!("HTTP/1.1 {status} x\r\n{NAME}content-length: {length}\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).ok()?;
            stream.write_all(&body).ok()?;
        }
        Answer::Foreign(status, body) => {
            write!(stream, "HTTP/1.1 {status} x\r\nconnection: close\r\n\r\n{body}").ok()?;
        }
        Answer::Stream(write) => {
            write!(stream, "HTTP/1.1 200 x\r\n{NAME}connection: close\r\n\r\n").ok()?;
            write(&mut stream);
        }
    }
    stream.shutdown(Shutdown::Both).ok()
}

/// Opened once; those who wait for it go on then.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub fn is_open(&self) -> bool {
        *self.0.0.lock().unwrap()
    }

    pub fn wait(&self) {
        let (open, opened) = &*self.0;
        let waited = opened.wait_timeout_while(open.lock().unwrap(), Duration::from_secs(30), |open| !*open).unwrap();
        assert!(!waited.1.timed_out(), "nobody opened the gate");
    }
}
