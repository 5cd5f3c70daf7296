//! A store that speaks just enough HTTP, with faults on demand. It stands in
//! for the server only where a real one cannot be made to misbehave.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use muonic_client::Client;
use muonic_types::blob::{
    Digests, MissingBlobs, NewTree, PackStored, TreeBody, TreeSummary, pack_head, parse_pack_head,
};
use muonic_types::{Digest, ErrorBody, ErrorCode, Tree};
use serde::Serialize;

/// What to do instead of answering properly, once.
pub enum Fault {
    /// Close the connection after reading the request's head.
    Drop,
    /// Answer this code.
    Answer(ErrorCode),
    /// Send this many bytes of the right body, then close.
    Cut(usize),
    /// Flip a bit of the first blob sent.
    Flip,
}

type Hook = Box<dyn Fn(&str) + Send>;

#[derive(Default)]
pub struct State {
    pub blobs: HashMap<Digest, Vec<u8>>,
    /// Faults by path, first come first served.
    pub faults: BTreeMap<&'static str, VecDeque<Fault>>,
    /// `POST /api/v1/blobs` and so on, in order.
    pub requests: Vec<String>,
    /// How many digests each pack was asked for.
    pub asked: Vec<usize>,
    /// Called with the path of each request.
    pub hook: Option<Hook>,
}

pub struct Fake {
    pub state: Arc<Mutex<State>>,
    url: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (state, stop) = (Arc::new(Mutex::new(State::default())), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (state, stop) = (state.clone(), stop.clone());
            move || {
                let mut serving = Vec::new();
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let state = state.clone();
                    serving.push(std::thread::spawn(move || serve(stream.unwrap(), &state)));
                }
                for thread in serving {
                    thread.join().unwrap();
                }
            }
        });
        Self { state, url, stop, thread: Some(thread) }
    }

    pub fn client(&self) -> Client {
        Client::new(&self.url, "key.secret")
    }

    pub fn fault(&self, path: &'static str, fault: Fault) {
        self.state.lock().unwrap().faults.entry(path).or_default().push_back(fault);
    }

    /// Puts blobs and a tree of them there.
    pub fn hold(&self, tree: &Tree, contents: &[&[u8]]) -> Digest {
        let mut state = self.state.lock().unwrap();
        for bytes in contents {
            state.blobs.insert(Digest::of(bytes), bytes.to_vec());
        }
        state.blobs.insert(tree.digest(), tree.encode());
        tree.digest()
    }

    pub fn count(&self, request: &str) -> usize {
        self.state.lock().unwrap().requests.iter().filter(|r| *r == request).count()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().unwrap();
        }
    }
}

/// One request, one answer, then the connection closes.
fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let Some((method, path, chunked, length)) = head(&mut reader) else { return };
    let fault = {
        let mut state = state.lock().unwrap();
        state.requests.push(format!("{method} {path}"));
        state.faults.get_mut(path.as_str()).and_then(VecDeque::pop_front)
    };
    if matches!(fault, Some(Fault::Drop)) {
        let _ = stream.shutdown(Shutdown::Both);
        return;
    }
    let Some(body) = body(&mut reader, chunked, length) else { return };
    if let Some(hook) = &state.lock().unwrap().hook {
        hook(&path);
    }
    let (status, mut answer) = match &fault {
        Some(Fault::Answer(code)) => error(*code),
        _ => answer(&method, &path, &body, &mut state.lock().unwrap()),
    };
    if matches!(fault, Some(Fault::Flip)) {
        let at = answer.iter().position(|b| *b == b'\n').unwrap() + 1;
        answer[at] ^= 1;
    }
    let head = format!(
        "HTTP/1.1 {status} x\r\nx-muonic-server: fake\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.len()
    );
    if let Some(Fault::Cut(at)) = fault {
        answer.truncate(at);
    }
    let mut stream = stream;
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&answer));
    let _ = stream.shutdown(Shutdown::Both);
}

fn head(reader: &mut impl BufRead) -> Option<(String, String, bool, usize)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.replace("%3A", ":"));
    let (mut chunked, mut length) = (false, 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            return Some((method, path, chunked, length));
        }
        chunked |= line == "transfer-encoding: chunked";
        if let Some(n) = line.strip_prefix("content-length:") {
            length = n.trim().parse().ok()?;
        }
    }
}

fn body(reader: &mut impl BufRead, chunked: bool, length: usize) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if !chunked {
        reader.take(length as u64).read_to_end(&mut body).ok()?;
        return Some(body);
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

fn json(value: &impl Serialize) -> (u16, Vec<u8>) {
    (200, serde_json::to_vec(value).unwrap())
}

fn error(code: ErrorCode) -> (u16, Vec<u8>) {
    (code.status(), serde_json::to_vec(&ErrorBody::new(code, "as the test wants it")).unwrap())
}

fn answer(method: &str, path: &str, body: &[u8], state: &mut State) -> (u16, Vec<u8>) {
    match (method, path) {
        ("POST", "/api/v1/blobs/missing") => {
            let asked: Digests = serde_json::from_slice(body).unwrap();
            json(&MissingBlobs {
                missing: asked.digests.into_iter().filter(|d| !state.blobs.contains_key(d)).collect(),
            })
        }
        ("POST", "/api/v1/blobs") => store(body, state),
        ("POST", "/api/v1/blobs/pack") => {
            let asked: Digests = serde_json::from_slice(body).unwrap();
            state.asked.push(asked.digests.len());
            let mut pack = Vec::new();
            for digest in asked.digests {
                let bytes = &state.blobs[&digest];
                pack.extend_from_slice(pack_head(&digest, bytes.len() as u64).as_bytes());
                pack.extend_from_slice(bytes);
            }
            (200, pack)
        }
        ("POST", "/api/v1/trees") => {
            let new: NewTree = serde_json::from_slice(body).unwrap();
            let tree = Tree::new(new.entries).unwrap();
            if tree.entries().iter().any(|e| !state.blobs.contains_key(&e.digest)) {
                return error(ErrorCode::MissingBlobs);
            }
            json(&TreeSummary { digest: tree.digest(), files: tree.entries().len() as u64, bytes: tree.bytes() })
        }
        ("GET", path) => {
            let digest: Digest = path.strip_prefix("/api/v1/trees/").unwrap().parse().unwrap();
            match state.blobs.get(&digest) {
                None => error(ErrorCode::NotFound),
                Some(bytes) => json(&TreeBody { digest, entries: Tree::decode(bytes).unwrap().entries().to_vec() }),
            }
        }
        _ => error(ErrorCode::NotFound),
    }
}

fn store(mut pack: &[u8], state: &mut State) -> (u16, Vec<u8>) {
    let mut stored = PackStored { blobs: 0, bytes: 0 };
    while !pack.is_empty() {
        let at = pack.iter().position(|b| *b == b'\n').unwrap();
        let (digest, size) = parse_pack_head(&pack[..at]).unwrap();
        let (bytes, rest) = pack[at + 1..].split_at(size as usize);
        if Digest::of(bytes) != digest {
            return error(ErrorCode::ChecksumMismatch);
        }
        state.blobs.insert(digest, bytes.to_vec());
        stored.blobs += 1;
        stored.bytes += size;
        pack = rest;
    }
    json(&stored)
}
