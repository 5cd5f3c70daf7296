//! Requests that are answered later, into a bucket.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Invalid, Name, Timestamp};

/// A request whose answer is written to a bucket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAsyncRequest {
    /// Below the endpoint's own path, with its query: `/invocations`, or
    /// `/v2/models/NAME/infer`.
    #[schema(min_length = 1, max_length = 2048)]
    pub path: String,
    #[serde(default = "json")]
    pub content_type: String,
    /// The media type that is wanted; what the model prefers where nothing is said.
    #[serde(default)]
    pub accept: Option<String>,
    /// The request's body as JSON, up to 256 KiB; else `input`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub body: Option<serde_json::Value>,
    /// The object that is the request's body.
    #[serde(default)]
    pub input: Option<ObjectAt>,
    /// Where the answer goes.
    pub output: ObjectAt,
    /// An address (`http://` or `https://`) that gets the request, as it is
    /// shown here, by POST once it has ended.
    #[serde(default)]
    pub callback: Option<String>,
}

/// An object in a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectAt {
    pub bucket: String,
    #[schema(min_length = 1, max_length = 1024)]
    pub key: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AsyncState {
    /// It will be tried, perhaps again.
    Queued,
    /// The answer is in the bucket.
    Done,
    /// The endpoint refused it, or did not answer however often it was tried.
    Failed,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AsyncRequest {
    pub id: u64,
    pub endpoint: Name,
    pub path: String,
    pub output: ObjectAt,
    pub state: AsyncState,
    /// How often it was tried.
    pub tries: u32,
    /// Of the endpoint's last answer.
    pub status: Option<u16>,
    /// Why it failed, or why it is tried again.
    pub reason: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AsyncRequestList {
    /// Newest first, at most 100.
    pub requests: Vec<AsyncRequest>,
    /// Ask again with `before` for older ones.
    pub next: Option<u64>,
}

fn json() -> String {
    "application/json".to_owned()
}

pub const ASYNC_BODY_BYTES_MAX: usize = 256 << 10;
const PATH_BYTES_MAX: usize = 2048;
const HEADER_BYTES_MAX: usize = 256;

impl NewAsyncRequest {
    /// The error is a sentence.
    pub fn check(&self) -> Result<(), Invalid> {
        let visible = |text: &str| text.bytes().all(|c| c.is_ascii_graphic());
        if !self.path.starts_with('/') || self.path.len() > PATH_BYTES_MAX || !visible(&self.path) {
            return Err(Invalid(format!(
                "path: must begin with '/', have at most {PATH_BYTES_MAX} bytes and no blanks, such as /invocations"
            )));
        }
        for (name, value) in [("content_type", Some(&self.content_type)), ("accept", self.accept.as_ref())] {
            let printable = |text: &String| text.bytes().all(|c| (b' '..=b'~').contains(&c));
            if value.is_some_and(|v| v.is_empty() || v.len() > HEADER_BYTES_MAX || !printable(v)) {
                return Err(Invalid(format!("{name}: is not a media type")));
            }
        }
        match (&self.body, &self.input) {
            (Some(_), Some(_)) | (None, None) => {
                return Err(Invalid("one of body and input is needed, and not both".into()));
            }
            (Some(body), None) if body.to_string().len() > ASYNC_BODY_BYTES_MAX => {
                return Err(Invalid(format!(
                    "body: has more than {ASYNC_BODY_BYTES_MAX} bytes; put it in a bucket, and name it as input"
                )));
            }
            _ => {}
        }
        match &self.callback {
            Some(url) if !is_http(url) => Err(Invalid("callback: must be an address such as https://host/path".into())),
            _ => Ok(()),
        }
    }
}

fn is_http(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        && url.len() <= PATH_BYTES_MAX
        && url.bytes().all(|c| c.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_asked_is_refused() {
        let of = |text: &str| serde_json::from_str::<NewAsyncRequest>(text).unwrap().check();
        let output = r#""output": {"bucket": "b", "key": "k"}"#;
        of(&format!(r#"{{"path": "/invocations", "body": {{}}, {output}, "callback": "http://h:1/x"}}"#)).unwrap();
        for wrong in [
            format!(r#"{{"path": "invocations", "body": {{}}, {output}}}"#),
            format!(r#"{{"path": "/a b", "body": {{}}, {output}}}"#),
            format!(r#"{{"path": "/", {output}}}"#),
            format!(r#"{{"path": "/", "body": 1, "input": {{"bucket": "b", "key": "k"}}, {output}}}"#),
            format!(r#"{{"path": "/", "body": 1, "content_type": "a\nb", {output}}}"#),
            format!(r#"{{"path": "/", "body": 1, "callback": "ftp://x", {output}}}"#),
            format!(r#"{{"path": "/", "body": 1, "callback": "http:///x", {output}}}"#),
            format!(r#"{{"path": "/", "body": "{}", {output}}}"#, "x".repeat(ASYNC_BODY_BYTES_MAX)),
        ] {
            assert!(of(&wrong).is_err(), "{wrong:.100}");
        }
    }
}
