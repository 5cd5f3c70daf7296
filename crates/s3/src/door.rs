//! The door around s3s: it screens requests, guards bodies and makes sure
//! that a fault of the client is not answered as one of the server.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, EXPECT, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use jiff::Timestamp;
use muonic_ports::routes::Authenticator;
use muonic_services::Buckets;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError, S3Error, s3_error};

use crate::access::Access;
use crate::body::{guarded, pieces, to_s3s};
use crate::dates::parse_http_date;
use crate::errors::{FAULT, not_implemented, sentence};
use crate::lenient::Lenient;
use crate::ops::Ops;
use crate::screen::screen;
use crate::sums::{Declared, Verdict, checked};
use crate::{cors, form, post, unmeasured, v2};

/// Largest XML body: a thousand keys of the greatest length, escaped.
const XML_BYTES_MAX: usize = 8 << 20;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

/// The S3 door as a service for hyper. Cheap to clone.
#[derive(Clone)]
pub struct Door {
    s3: S3Service,
    access: Access,
    requests: Arc<AtomicU64>,
}

impl Door {
    pub(crate) fn new(buckets: Arc<Buckets>, auth: Arc<dyn Authenticator>) -> Self {
        let mut config = S3Config::default();
        config.xml_max_body_size = XML_BYTES_MAX;
        let mut builder = S3ServiceBuilder::new(Ops::new(buckets.clone()));
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        let inner = S3ServiceBuilder::new(Ops::new(buckets.clone())).build();
        let access = Access { auth, buckets };
        builder.set_auth(access.clone());
        builder.set_access(access.clone());
        builder.set_route(Lenient { access: access.clone(), inner });
        let started = u64::try_from(Timestamp::now().as_microsecond()).unwrap_or_default();
        Self { s3: builder.build(), access, requests: Arc::new(AtomicU64::new(started)) }
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, HttpError> {
        let expects = request.headers().contains_key(EXPECT);
        let is_empty = request.body().is_end_stream();
        let id = self.requests.fetch_add(1, Ordering::Relaxed);
        let (parts, incoming) = request.into_parts();
        // A preflight that is refused says nothing of origins.
        let asked = if parts.method == Method::OPTIONS { None } else { cors::Asked::of(&parts) };
        let mut response = match self.pass(parts, incoming).await {
            Ok(response) => response?,
            Err(refused) => rendered(refused),
        };
        if let Some(asked) = asked {
            asked.tell(&self.access.buckets, &mut response).await;
        }
        let id = format!("{id:016X}");
        let is_error = response.status().is_client_error() || response.status().is_server_error();
        if is_error {
            name_request(&mut response, &id);
        }
        // The answer may have come in the place of `100 Continue`. The botocore in awscli keeps the
        // status of such an answer for the next one on the connection, so there must be none.
        if expects && (is_empty || is_error) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Ok(id) = HeaderValue::try_from(id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        Ok(response)
    }

    async fn pass(&self, parts: Parts, incoming: Incoming) -> Result<Result<Response<Body>, HttpError>, S3Error> {
        let now = Timestamp::now();
        if parts.method == Method::OPTIONS {
            return Ok(Ok(cors::preflight(&self.access.buckets, &parts).await?));
        }
        screen(&parts, now)?;
        if parts.method == Method::POST
            && let Some(boundary) = parts.headers.get(CONTENT_TYPE).and_then(|v| form::boundary(v.to_str().ok()?))
        {
            // s3s would hold the file in memory.
            return Ok(Ok(post::upload(&self.access, parts, pieces(incoming), &boundary?, now).await?));
        }
        let mut parts = dated(parts);
        v2::with_slash(&self.access, &mut parts);
        let method = parts.method.clone();
        let wants_attributes = method == Method::GET && has_query(&parts, "attributes");
        let (body, verdict) = if takes_xml(&parts) && !incoming.is_end_stream() {
            if is_chunked(&parts.headers) {
                return Err(not_implemented("aws-chunked bodies of requests other than PutObject"));
            }
            let mut declared = Declared::from_headers(&parts.headers)?;
            if has_query(&parts, "uploadId") {
                // The sum that completes an upload is that of the object.
                declared = declared.without_sum();
            }
            let (stream, verdict) = checked(pieces(incoming), declared);
            (to_s3s(stream), Some(verdict))
        } else {
            if method == Method::PUT {
                unmeasured::mark(&mut parts);
            }
            (guarded(incoming), None)
        };
        let response = self.s3.call(Request::from_parts(parts, body)).await;
        Ok(response.map(|response| {
            let response = settled(response, &method, verdict);
            if wants_attributes { with_plain_etag(response) } else { response }
        }))
    }
}

/// Whether s3s reads the body itself, as XML: all that is sent to a bucket, and
/// what is sent to an object beside its bytes.
fn takes_xml(parts: &Parts) -> bool {
    let key = parts.uri.path().trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
    match parts.method {
        Method::POST => true,
        Method::PUT if key.is_empty() => true,
        Method::PUT => parts.uri.query().is_some_and(|query| {
            let names = form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
            names.into_iter().any(|name| matches!(&*name, "tagging" | "acl" | "retention" | "legal-hold"))
        }),
        _ => false,
    }
}

/// Says in the body of an error too which request it is about, and in a
/// sentence what is wrong where s3s knows the code alone.
fn name_request(response: &mut Response<Body>, id: &str) {
    const END: &str = "</Error>";
    let Some(body) = response.body().bytes() else { return };
    let Some(body) = std::str::from_utf8(&body).ok().and_then(|body| body.strip_suffix(END)) else { return };
    let code = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    let message = match code {
        Some(code) if !body.contains("<Message>") => format!("<Message>{}</Message>", sentence(code)),
        _ => String::new(),
    };
    let named = format!("{body}{message}<RequestId>{id}</RequestId>{END}");
    response.headers_mut().remove(CONTENT_LENGTH);
    *response.body_mut() = Body::from(named);
}

fn has_query(parts: &Parts, name: &str) -> bool {
    parts.uri.query().is_some_and(|query| form_urlencoded::parse(query.as_bytes()).any(|(n, _)| n == name))
}

/// A signature of version 4 may rest on `Date`; s3s looks for `x-amz-date`,
/// which adds nothing to what is signed.
fn dated(mut parts: Parts) -> Parts {
    if parts.headers.contains_key(AUTHORIZATION) && !parts.headers.contains_key("x-amz-date") {
        let date = parts.headers.get(DATE).and_then(|date| parse_http_date(date.to_str().ok()?));
        let date = date.map(|date| date.strftime("%Y%m%dT%H%M%SZ").to_string());
        let is_v4 = parts.headers.get(AUTHORIZATION).is_some_and(|value| value.as_bytes().starts_with(b"AWS4-"));
        if let (true, Some(Ok(date))) = (is_v4, date.map(HeaderValue::try_from)) {
            parts.headers.insert("x-amz-date", date);
        }
    }
    parts
}

/// The ETag in the answer of GetObjectAttributes has no quotes; s3s sets them.
fn with_plain_etag(mut response: Response<Body>) -> Response<Body> {
    let body = response.body().bytes();
    let Some(text) = body.as_deref().and_then(|body| std::str::from_utf8(body).ok()) else { return response };
    if let Some((before, rest)) = text.split_once("<ETag>")
        && let Some((etag, after)) = rest.split_once("</ETag>")
    {
        let etag = etag.replace("&quot;", "").replace('"', "");
        let plain = format!("{before}<ETag>{etag}</ETag>{after}");
        response.headers_mut().remove(CONTENT_LENGTH);
        *response.body_mut() = Body::from(plain);
    }
    response
}

fn is_chunked(headers: &HeaderMap) -> bool {
    headers.get("x-amz-content-sha256").is_some_and(|v| v.as_bytes().starts_with(b"STREAMING-"))
}

/// Corrects what s3s has no other way to say. It answers 500 where an XML body
/// breaks off or does not match, which is the client's fault; and 200 to the
/// HEAD of a range.
fn settled(mut response: Response<Body>, method: &Method, verdict: Option<Verdict>) -> Response<Body> {
    if *method == Method::HEAD && response.headers().contains_key(CONTENT_RANGE) && response.status() == StatusCode::OK
    {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    let ours = response.headers_mut().remove(FAULT).is_some();
    if response.status() != StatusCode::INTERNAL_SERVER_ERROR || ours || !matches!(*method, Method::POST | Method::PUT)
    {
        return response;
    }
    match verdict.map(|verdict| verdict.take()) {
        Some(Some(refused)) => rendered(refused),
        Some(None) => rendered(s3_error!(
            InvalidRequest,
            "the body broke off, or is not what x-amz-content-sha256 and the length announce"
        )),
        None => response,
    }
}

fn rendered(error: S3Error) -> Response<Body> {
    error.to_http_response().unwrap_or_else(|e| {
        tracing::error!(error = %e, "an error could not be rendered");
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

impl hyper::service::Service<Request<Incoming>> for Door {
    type Response = Response<Body>;
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Box::pin(self.clone().answer(request))
    }
}
