//! Doors for fuzz targets; see `fuzz/`.

use bytes::Bytes;
use data_encoding::BASE64;
use futures_util::stream;
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, DATE, EXPECT, HOST, IF_MATCH, IF_NONE_MATCH, RANGE, TRANSFER_ENCODING,
};
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use memchr::memmem;
use ring::hmac;

use crate::body::Pieces;
use crate::form::{Fields, Form};
use crate::sums::Declared;
use crate::{cors, dates, draft, facts, form, lenient, post, screen, sse, unmeasured, v2};

/// `METHOD URI`, then a header a line.
fn parse(data: &[u8]) -> Option<Parts> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let (method, uri) = std::str::from_utf8(lines.next()?).ok()?.split_once(' ')?;
    let mut request = http::Request::builder().method(method).uri(uri);
    for line in lines {
        let at = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (HeaderName::from_bytes(&line[..at]).ok()?, HeaderValue::from_bytes(&line[at + 1..]).ok()?);
        request = request.header(name, value);
    }
    Some(request.body(()).ok()?.into_parts().0)
}

/// Whatever reads the head of a request. What signed it does not stay in it.
pub fn head(data: &[u8]) {
    let Some(mut parts) = parse(data) else { return };
    let now = Timestamp::from_second(1_800_000_000).expect("a time");
    let _ = screen::screen(&parts, now);
    let headers = &parts.headers;
    let _ = draft::draft(headers).map(|draft| draft.new.headers.len());
    let _ = Declared::from_headers(headers).map(|declared| declared.algorithm());
    for prefix in [sse::SSE, "x-amz-copy-source-server-side-encryption"] {
        if let Ok(Some(sent)) = sse::customer_key(headers, prefix) {
            assert_eq!(BASE64.decode(sent.md5.as_bytes()).map(|md5| md5.len()), Ok(16));
        }
    }
    for name in [&IF_MATCH, &IF_NONE_MATCH] {
        let _ = (draft::etags(headers, name), lenient::is_one_tag(headers, name));
    }
    let _ = (lenient::is_range(headers), headers.contains_key(RANGE));
    if let Some(rest) = lenient::unsigned(&parts.uri) {
        let query = rest.query().unwrap_or_default();
        for (name, _) in form_urlencoded::parse(query.as_bytes()) {
            assert!(!name.to_ascii_lowercase().starts_with("x-amz-"), "{rest}");
        }
    }
    for key in ["aws:referer", "s3:prefix", "s3:requestobjecttagkeys", "s3:requestobjecttag/a", "s3:x-amz-copy-source"]
    {
        let _ = facts::values(headers, &parts.uri, None, key);
    }
    for value in headers.values() {
        let text = String::from_utf8_lossy(value.as_bytes());
        if let Some(at) = dates::parse_http_date(&text) {
            let _ = (dates::http_date(at), dates::to_dto(at));
        }
        let _ = form::boundary(&text);
    }
    let _ = (cors::Asked::of(&parts), post::bucket(parts.uri.path()));
    if let Some((_, _, expires)) = v2::signature(&parts) {
        let _ = v2::string_to_sign(&parts, "/b/", expires.as_deref());
    }
    unmeasured::mark(&mut parts);
}

/// The bytes of a request that is signed: its head as [`head`] takes it, an
/// empty line, and its body.
pub fn signed(data: &[u8], id: &str, secret: &str) -> Option<Vec<u8>> {
    let at = memmem::find(data, b"\n\n").unwrap_or(data.len());
    let body = data.get(at + 2..).unwrap_or_default();
    let mut parts = parse(&data[..at])?;
    for name in [AUTHORIZATION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING] {
        parts.headers.remove(name);
    }
    parts.headers.remove("x-amz-date");
    parts.headers.insert(DATE, HeaderValue::try_from(dates::http_date(Timestamp::now())).ok()?);
    let path = parts.uri.path();
    let slash = if path.len() > 1 && !path[1..].contains('/') { "/" } else { "" };
    let text = v2::string_to_sign(&parts, &format!("{path}{slash}"), None);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
    let signature = BASE64.encode(hmac::sign(&key, text.as_bytes()).as_ref());
    let mut request =
        format!("{} {} HTTP/1.1\r\nhost: h\r\nauthorization: AWS {id}:{signature}\r\n", parts.method, parts.uri);
    request.push_str(&format!("content-length: {}\r\n", body.len()));
    let mut request = request.into_bytes();
    for (name, value) in &parts.headers {
        request.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body);
    Some(request)
}

async fn read(body: &[u8], piece: usize) -> Option<(Fields, Vec<u8>)> {
    let pieces: Vec<_> = body.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let pieces: Pieces = Box::pin(stream::iter(pieces));
    let mut form = Form::new(pieces, "B");
    let fields = form.fields().await.ok()?;
    let mut file = Vec::new();
    while let Some(piece) = form.file().await.ok()? {
        file.extend_from_slice(&piece);
    }
    Some((fields, file))
}

/// A size of pieces, then a form with the boundary `B`: it is read alike
/// however it is cut.
pub fn form(data: &[u8]) {
    let Some((piece, body)) = data.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let whole = runtime.block_on(read(body, body.len().max(1)));
    let cut = runtime.block_on(read(body, usize::from(*piece) + 1));
    let shown = |read: &Option<(Fields, Vec<u8>)>| format!("{read:?}");
    assert_eq!(shown(&whole), shown(&cut));
    let Some((fields, _)) = whole else { return };
    let Ok(headers) = post::headers(&fields) else { return };
    let _ = draft::draft(&headers).map(|draft| draft.new.tags.len());
}
