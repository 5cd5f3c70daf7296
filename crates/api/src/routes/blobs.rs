use std::ops::Range;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use muonic_services::Error;
use muonic_types::blob::{Digests, MissingBlobs, NewTree, PACK_MEDIA_TYPE, PackStored, TreeBody, TreeSummary};
use muonic_types::{Digest, ErrorCode};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::extract::{Caller, JsonBody, LargeBody, Path, StreamBody};
use crate::render::{self, Failure};
use crate::{App, Services};

/// A million files with long paths.
const TREE_BODY_MAX: usize = 512 << 20;

pub(super) fn router() -> OpenApiRouter<Arc<Services>> {
    OpenApiRouter::new()
        .routes(routes!(missing))
        .routes(routes!(put_pack))
        .routes(routes!(get_pack))
        .routes(routes!(get_blob))
        .routes(routes!(put_tree))
        .routes(routes!(get_tree))
}

/// Which of these blobs have to be sent?
#[utoipa::path(post, path = "/blobs/missing", tag = "blobs", request_body = Digests, responses((status = 200, description = "Those to send", body = MissingBlobs)))]
async fn missing(
    State(app): App,
    Caller(caller): Caller,
    JsonBody(ask): JsonBody<Digests>,
) -> Result<Json<MissingBlobs>, Failure> {
    Ok(Json(app.blobs.missing(&caller, ask).await?))
}

/// Send blobs as a pack: records of a line `sha256:<hex> <size>` and that many bytes.
#[utoipa::path(post, path = "/blobs", tag = "blobs", request_body(content = Vec<u8>, content_type = "application/octet-stream"), responses((status = 200, description = "All of them are stored durably", body = PackStored)))]
async fn put_pack(
    State(app): App,
    Caller(caller): Caller,
    headers: HeaderMap,
    StreamBody(body): StreamBody,
) -> Result<Json<PackStored>, Failure> {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    if media_type != Some(PACK_MEDIA_TYPE) {
        let e = Error::new(ErrorCode::UnsupportedMediaType, "the body must be a pack");
        return Err(Failure(e.hint(format!("send 'Content-Type: {PACK_MEDIA_TYPE}'"))));
    }
    Ok(Json(app.blobs.put_pack(&caller, body).await?))
}

/// Fetch many blobs as one pack, in the order asked for.
#[utoipa::path(post, path = "/blobs/pack", tag = "blobs", request_body = Digests, responses((status = 200, description = "A pack", body = Vec<u8>, content_type = "application/octet-stream")))]
async fn get_pack(
    State(app): App,
    Caller(caller): Caller,
    JsonBody(ask): JsonBody<Digests>,
) -> Result<Response, Failure> {
    Ok(render::stream(PACK_MEDIA_TYPE, app.blobs.get_pack(&caller, ask).await?))
}

/// Fetch one blob, or with `Range: bytes=a-b` a part of it.
#[utoipa::path(get, path = "/blobs/{digest}", tag = "blobs", params(("digest" = Digest, Path)), responses(
    (status = 200, description = "Its bytes", body = Vec<u8>, content_type = "application/octet-stream"),
    (status = 206, description = "The part asked for", body = Vec<u8>, content_type = "application/octet-stream"),
    (status = 416, description = "The range lies outside", body = muonic_types::ErrorBody)))]
async fn get_blob(
    State(app): App,
    Caller(caller): Caller,
    Path(digest): Path<Digest>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let size = app.blobs.size(&caller, &digest).await?;
    let asked = headers.get(header::RANGE).and_then(|v| v.to_str().ok()).and_then(|text| parse_range(text, size));
    match asked {
        None => {
            let (size, body) = app.blobs.get(&caller, &digest, None).await?;
            let mut response = render::stream("application/octet-stream", body);
            response.headers_mut().insert(header::CONTENT_LENGTH, size.into());
            Ok(response)
        }
        Some(Err(())) => {
            let body = Error::invalid(format!("the range lies outside of the blob's {size} bytes")).body();
            let total = format!("bytes */{size}");
            Ok((StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, total)], Json(body)).into_response())
        }
        Some(Ok(range)) => {
            let shown = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            let (_, body) = app.blobs.get(&caller, &digest, Some(range.clone())).await?;
            let mut response = render::stream("application/octet-stream", body);
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_LENGTH, (range.end - range.start).into());
            if let Ok(value) = shown.parse() {
                headers.insert(header::CONTENT_RANGE, value);
            }
            Ok(response)
        }
    }
}

/// One `bytes=` range; `None` where there is none that we serve (then the
/// whole is sent, as RFC 9110 allows), `Err` where it lies outside.
pub(crate) fn parse_range(text: &str, size: u64) -> Option<Result<Range<u64>, ()>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first.is_empty(), last.is_empty()) {
        (true, true) => return None,
        (true, false) => size.saturating_sub(last.parse().ok()?)..size,
        (false, true) => first.parse().ok()?..size,
        (false, false) => {
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            if first > last {
                return None;
            }
            first..last.saturating_add(1).min(size)
        }
    };
    Some(if range.start >= range.end { Err(()) } else { Ok(range) })
}

/// Make a tree of blobs that have been sent.
#[utoipa::path(post, path = "/trees", tag = "blobs", request_body = NewTree, responses((status = 200, description = "The tree", body = TreeSummary)))]
async fn put_tree(State(app): App, Caller(caller): Caller, body: LargeBody) -> Result<Json<TreeSummary>, Failure> {
    let place = app.blobs.place_for_tree(&caller).await?;
    let new: NewTree = body.json(TREE_BODY_MAX).await?;
    Ok(Json(app.blobs.put_tree(&caller, new, place).await?))
}

/// The files of a tree.
#[utoipa::path(get, path = "/trees/{digest}", tag = "blobs", params(("digest" = Digest, Path)), responses((status = 200, description = "The tree", body = TreeBody)))]
async fn get_tree(State(app): App, Caller(caller): Caller, Path(digest): Path<Digest>) -> Result<Response, Failure> {
    let tree = app.blobs.get_tree(&caller, &digest).await?;
    render::large_json(tree).await
}

#[cfg(test)]
mod tests {
    use super::parse_range;

    #[test]
    fn ranges() {
        assert_eq!(parse_range("bytes=0-4", 10), Some(Ok(0..5)));
        assert_eq!(parse_range("bytes=5-", 10), Some(Ok(5..10)));
        assert_eq!(parse_range("bytes=-3", 10), Some(Ok(7..10)));
        assert_eq!(parse_range("bytes=8-99", 10), Some(Ok(8..10)));
        assert_eq!(parse_range("bytes=10-", 10), Some(Err(())));
        assert_eq!(parse_range("bytes=4-2", 10), None);
        assert_eq!(parse_range("bytes=0-1,3-4", 10), None);
        assert_eq!(parse_range("lines=1-2", 10), None);
        assert_eq!(parse_range("bytes=0-18446744073709551615", 10), Some(Ok(0..10)));
    }
}
