//! The body of a form upload (multipart/form-data, RFC 7578): its fields, and
//! then the file as a stream, which must come last.
//!
//! Invariants: what is held in memory is bounded, whatever is sent; the file
//! is never held.

use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;
use memchr::memmem;
use s3s::{S3Result, s3_error};

use crate::body::{Pieces, broken};

/// Most bytes of all that stands before the file, as in S3.
const FIELDS_BYTES_MAX: usize = 64 << 10;
const FIELDS_MAX: usize = 200;

/// Reads a form piece by piece.
pub(crate) struct Form {
    pieces: Pieces,
    held: BytesMut,
    /// `\r\n--` and the boundary.
    mark: Vec<u8>,
    ended: bool,
}

/// What stands before the file.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    /// In the order they came.
    pub all: Vec<(String, String)>,
    pub file_name: String,
    pub file_type: Option<String>,
}

impl Fields {
    /// The value of a field; names are not case-sensitive.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

fn malformed(what: &str) -> s3s::S3Error {
    s3_error!(MalformedPOSTRequest, "the form is not well-formed multipart/form-data: {what}")
}

/// The boundary, if the body is a form.
pub(crate) fn boundary(content_type: &str) -> Option<S3Result<String>> {
    let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let named = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"').to_owned())
    });
    match named {
        Some(boundary) if (1..=200).contains(&boundary.len()) => Some(Ok(boundary)),
        _ => Some(Err(malformed("its Content-Type has no boundary"))),
    }
}

impl Form {
    pub fn new(pieces: Pieces, boundary: &str) -> Self {
        // As if a line had ended before the first boundary.
        let held = BytesMut::from(&b"\r\n"[..]);
        Self { pieces, held, mark: format!("\r\n--{boundary}").into_bytes(), ended: false }
    }

    async fn more(&mut self) -> S3Result<()> {
        match self.pieces.next().await {
            Some(Ok(piece)) => {
                self.held.extend_from_slice(&piece);
                Ok(())
            }
            Some(Err(e)) => Err(broken(&*e)),
            None => Err(s3_error!(IncompleteBody, "the form ended before it was complete")),
        }
    }

    /// All up to `end`, which is dropped.
    async fn until(&mut self, end: &[u8], left: &mut usize) -> S3Result<BytesMut> {
        loop {
            if let Some(at) = memmem::find(&self.held, end) {
                let found = self.held.split_to(at);
                self.held.advance(end.len());
                *left = left.checked_sub(found.len() + end.len()).ok_or_else(too_long)?;
                return Ok(found);
            }
            if self.held.len() > *left {
                return Err(too_long());
            }
            self.more().await?;
        }
    }

    /// Reads up to the first byte of the file.
    pub async fn fields(&mut self) -> S3Result<Fields> {
        let mut fields = Fields::default();
        let mut left = FIELDS_BYTES_MAX;
        let mark = self.mark.clone();
        self.until(&mark, &mut left).await?;
        loop {
            let rest = self.until(b"\r\n", &mut left).await?;
            if rest.starts_with(b"--") {
                return Err(s3_error!(InvalidArgument, "the form has no field 'file'"));
            }
            // The headers of a part may be none; then the line ends at once.
            self.held = prefixed(b"\r\n", &self.held);
            left += 2;
            let head = self.until(b"\r\n\r\n", &mut left).await?;
            let part = Part::parse(&head)?;
            if part.name.eq_ignore_ascii_case("file") {
                fields.file_name = part.file_name.unwrap_or_default();
                fields.file_type = part.content_type;
                return Ok(fields);
            }
            if fields.all.len() == FIELDS_MAX {
                return Err(too_long());
            }
            let value = self.until(&mark, &mut left).await?;
            let value = String::from_utf8(value.to_vec()).map_err(|_| malformed("a field is not UTF-8"))?;
            fields.all.push((part.name, value));
        }
    }

    /// The next piece of the file; `None` at its end.
    pub async fn file(&mut self) -> S3Result<Option<Bytes>> {
        loop {
            if self.ended {
                return Ok(None);
            }
            if let Some(at) = memmem::find(&self.held, &self.mark) {
                self.ended = true;
                return Ok(Some(self.held.split_to(at).freeze()));
            }
            // The end of what is held may be the beginning of the mark.
            let sure = self.held.len().saturating_sub(self.mark.len() - 1);
            if sure > 0 {
                return Ok(Some(self.held.split_to(sure).freeze()));
            }
            self.more().await?;
        }
    }
}

fn too_long() -> s3s::S3Error {
    s3_error!(MaxPostPreDataLengthExceededError, "the fields before the file have more than 64 KiB, or are too many")
}

fn prefixed(before: &[u8], rest: &[u8]) -> BytesMut {
    let mut all = BytesMut::with_capacity(before.len() + rest.len());
    all.extend_from_slice(before);
    all.extend_from_slice(rest);
    all
}

struct Part {
    name: String,
    file_name: Option<String>,
    content_type: Option<String>,
}

impl Part {
    fn parse(head: &[u8]) -> S3Result<Self> {
        let head = std::str::from_utf8(head).map_err(|_| malformed("the header of a part is not UTF-8"))?;
        let mut part = Self { name: String::new(), file_name: None, content_type: None };
        for line in head.split("\r\n").filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or_else(|| malformed("a header of a part has no colon"))?;
            if name.trim().eq_ignore_ascii_case("content-type") {
                part.content_type = Some(value.trim().to_owned());
            }
            if name.trim().eq_ignore_ascii_case("content-disposition") {
                for (name, value) in parameters(value) {
                    match name.to_ascii_lowercase().as_str() {
                        "name" => part.name = value,
                        "filename" => part.file_name = Some(value),
                        _ => {}
                    }
                }
            }
        }
        if part.name.is_empty() { Err(malformed("a part has no name")) } else { Ok(part) }
    }
}

/// `form-data; name="a"; filename="b;c"`: values may be quoted, and `\"` stand
/// in them.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((name, after)) = rest.split_once('=') {
        let mut value = String::new();
        let after = after.trim_start();
        if let Some(quoted) = after.strip_prefix('"') {
            let mut chars = quoted.char_indices();
            let mut end = quoted.len();
            while let Some((at, c)) = chars.next() {
                match c {
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    '\\' if quoted[at + 1..].starts_with('"') => {
                        chars.next();
                        value.push('"');
                    }
                    c => value.push(c),
                }
            }
            rest = quoted[end..].split_once(';').map_or("", |(_, rest)| rest);
        } else {
            let (plain, next) = after.split_once(';').unwrap_or((after, ""));
            value.push_str(plain.trim());
            rest = next;
        }
        found.push((name.trim().to_owned(), value));
    }
    found
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use proptest::prelude::*;

    use super::*;

    fn form(body: &[u8], piece: usize) -> Form {
        let pieces: Vec<_> = body.chunks(piece.max(1)).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        Form::new(Box::pin(stream::iter(pieces)), "B")
    }

    fn read(body: &[u8], piece: usize) -> S3Result<(Fields, Vec<u8>)> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut form = form(body, piece);
            let fields = form.fields().await?;
            let mut file = Vec::new();
            while let Some(piece) = form.file().await? {
                file.extend_from_slice(&piece);
            }
            Ok((fields, file))
        })
    }

    fn body(file: &[u8]) -> Vec<u8> {
        let mut body = b"--B\r\nContent-Disposition: form-data; name=\"Key\"\r\n\r\na/${filename}\r\n\
            --B\r\ncontent-disposition: form-data; name=x-amz-meta-a\r\n\r\n\r\n\
            --B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"b;\\\"c\\\".txt\"\r\n\
            Content-Type: text/plain\r\n\r\n"
            .to_vec();
        body.extend_from_slice(file);
        body.extend_from_slice(b"\r\n--B--\r\n");
        body
    }

    proptest! {
        #[test]
        fn a_form_is_read_whole_however_it_is_cut(file in prop::collection::vec(any::<u8>(), 0..300), piece in 1_usize..80) {
            prop_assume!(memmem::find(&file, b"\r\n--B").is_none());
            let (fields, found) = read(&body(&file), piece).unwrap();
            prop_assert_eq!(found, file);
            prop_assert_eq!(fields.get("key"), Some("a/${filename}"));
            prop_assert_eq!(fields.get("x-amz-meta-a"), Some(""));
            prop_assert_eq!(fields.file_name, "b;\"c\".txt");
            prop_assert_eq!(fields.file_type.as_deref(), Some("text/plain"));
        }

        #[test]
        fn nothing_makes_it_panic(noise in prop::collection::vec(any::<u8>(), 0..300), cut in 0_usize..200) {
            let _ = read(&noise, 7);
            let whole = body(b"x");
            prop_assert!(read(&whole[..cut.min(whole.len() - 5)], 7).is_err());
            let _ = parameters(&String::from_utf8_lossy(&noise));
        }
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut long = b"--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n".to_vec();
        long.resize(FIELDS_BYTES_MAX * 2, b'a');
        assert_eq!(read(&long, 1000).unwrap_err().code().as_str(), "MaxPostPreDataLengthExceededError");
        assert_eq!(boundary("Multipart/Form-Data; Boundary=\"x y\"").unwrap().unwrap(), "x y");
        assert!(boundary("multipart/form-data").unwrap().is_err());
        assert!(boundary("application/xml").is_none());
    }
}
