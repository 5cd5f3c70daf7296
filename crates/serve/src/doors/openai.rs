//! OpenAI's API, as far as the model can answer it: `/v1/models` and, for
//! models of texts with their tokenizer beside them, `/v1/embeddings`.
//!
//! Source: "API Reference" (OpenAI), and what its Python client sends.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use muonic_types::{ERROR_CODE_HEADER, ErrorCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{InFlight, clip};
use crate::embed::{Embedder, base64};
use crate::failure::Failure;
use crate::replica::Replica;

/// Texts of one request, as OpenAI bounds them.
const TEXTS_MAX: usize = 2048;
/// Texts, and tokens with padding, that are run at once.
const RUN_TEXTS: usize = 32;
const RUN_TOKENS: usize = 16 << 10;

pub(super) fn router() -> Router<Arc<Replica>> {
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{*model}", get(model))
        .route("/v1/embeddings", post(embeddings))
        .route("/v1/{*rest}", any(async |Path(rest): Path<String>| Refused(unknown(&rest))))
}

fn unknown(path: &str) -> Failure {
    let what = match path {
        "chat/completions" => "chat completions: this replica serves no language model".to_owned(),
        "completions" => "completions: this replica serves no language model".to_owned(),
        other => format!("/v1/{}", clip(other)),
    };
    Failure::new(ErrorCode::NotImplemented, format!("not implemented: {what}"))
}

/// A failure in OpenAI's form.
struct Refused(Failure);

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Failure { code, message } = self.0;
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = if status.is_server_error() { "server_error" } else { "invalid_request_error" };
        let code_text = serde_json::to_value(code).unwrap_or_default();
        let error = json!({ "message": message, "type": kind, "param": null, "code": code_text });
        let mut response = (status, axum::Json(json!({ "error": error }))).into_response();
        if let Some(code) = code_text.as_str().and_then(|code| HeaderValue::from_str(code).ok()) {
            response.headers_mut().insert(ERROR_CODE_HEADER, code);
        }
        if code.is_transient() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

fn description(replica: &Replica) -> Value {
    json!({ "id": replica.name, "object": "model", "created": 0, "owned_by": "muonic" })
}

async fn models(State(replica): State<Arc<Replica>>) -> impl IntoResponse {
    axum::Json(json!({ "object": "list", "data": [description(&replica)] }))
}

async fn model(State(replica): State<Arc<Replica>>, Path(model): Path<String>) -> Result<impl IntoResponse, Refused> {
    check(&replica, &model)?;
    Ok(axum::Json(description(&replica)))
}

fn check(replica: &Replica, model: &str) -> Result<(), Failure> {
    if model == replica.name {
        return Ok(());
    }
    let (asked, here) = (clip(model), &replica.name);
    Err(Failure::new(ErrorCode::NotFound, format!("there is no model '{asked}' here; there is '{here}'")))
}

#[derive(Deserialize)]
struct Asked {
    model: String,
    input: Input,
    #[serde(default)]
    encoding_format: Format,
    dimensions: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Float,
    Base64,
}

async fn embeddings(State(replica): State<Arc<Replica>>, headers: HeaderMap, body: Body) -> Response {
    let began = Instant::now();
    let counted = InFlight::new(&replica);
    let answer = embed(&replica, &headers, body).await.unwrap_or_else(|failure| Refused(failure).into_response());
    replica.metrics.answered(answer.status().as_u16(), began.elapsed());
    drop(counted);
    answer
}

async fn embed(replica: &Arc<Replica>, headers: &HeaderMap, body: Body) -> Result<Response, Failure> {
    let Some(embedder) = replica.embedder.clone() else {
        return Err(Failure::new(
            ErrorCode::NotImplemented,
            "not implemented: embeddings of this model: it takes no tokens, or has no tokenizer.json beside it",
        ));
    };
    let arrived = replica.arrive(headers, body).await?;
    let asked: Asked = serde_json::from_slice(arrived.bytes())
        .map_err(|e| Failure::bad(format!("the body is not a request for embeddings: {e}")))?;
    check(replica, &asked.model)?;
    let texts = {
        let (embedder, input) = (Arc::clone(&embedder), asked.input);
        crate::replica::blocking(move || tokens(&embedder, input)).await??
    };
    // Those of about one length together: the longest makes all as long.
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|at| texts[*at].len());
    let mut vectors: Vec<Vec<f32>> = vec![Vec::new(); texts.len()];
    let mut arrived = arrived;
    let mut rest = order.as_slice();
    while let Some(first) = rest.first() {
        let fits = |n: &usize| *n * texts[rest[*n - 1]].len() <= RUN_TOKENS;
        let count = (1..=rest.len().min(RUN_TEXTS)).take_while(fits).last().unwrap_or(1);
        let (now, later) = rest.split_at(count);
        let rows: Vec<&[u32]> = now.iter().map(|at| texts[*at].as_slice()).collect();
        let inputs = embedder.inputs(&rows)?;
        arrived.charge(replica, rows.len() * texts[*first].len().max(1) * 8 * inputs.len())?;
        let (outputs, back) = replica.run_for(arrived, inputs).await?;
        arrived = back;
        for (at, vector) in now.iter().zip(embedder.vectors(&outputs, &rows)?) {
            vectors[*at] = vector;
        }
        rest = later;
    }
    let size = vectors.first().map_or(0, Vec::len);
    if let Some(dimensions) = asked.dimensions.filter(|dimensions| *dimensions != size) {
        return Err(Failure::new(
            ErrorCode::NotImplemented,
            format!("not implemented: {dimensions} dimensions; the model's vectors have {size}"),
        ));
    }
    let prompt: usize = texts.iter().map(Vec::len).sum();
    let data = vectors.iter().enumerate().map(|(index, vector)| {
        let embedding = match asked.encoding_format {
            Format::Float => json!(vector),
            Format::Base64 => json!(base64(vector)),
        };
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    });
    let answer = json!({
        "object": "list",
        "data": data.collect::<Vec<_>>(),
        "model": replica.name,
        "usage": { "prompt_tokens": prompt, "total_tokens": prompt },
    });
    Ok(axum::Json(answer).into_response())
}

fn tokens(embedder: &Embedder, input: Input) -> Result<Vec<Vec<u32>>, Failure> {
    let of_texts = |texts: Vec<String>| {
        let each = texts.iter().enumerate().map(|(at, text)| match text.is_empty() {
            true => Err(Failure::bad(format!("input {at} is an empty text"))),
            false => embedder.tokens(text),
        });
        each.collect::<Result<Vec<_>, _>>()
    };
    let texts = match input {
        Input::Text(text) => of_texts(vec![text])?,
        Input::Texts(texts) => of_texts(texts)?,
        Input::Tokens(tokens) => vec![tokens],
        Input::ManyTokens(tokens) => tokens,
    };
    if texts.is_empty() || texts.len() > TEXTS_MAX {
        return Err(Failure::bad(format!("there are {} inputs; 1 to {TEXTS_MAX} are taken", texts.len())));
    }
    for (at, tokens) in texts.iter().enumerate() {
        let (count, most) = (tokens.len(), embedder.tokens_max());
        if count == 0 || count > most {
            return Err(Failure::bad(format!("input {at} has {count} tokens; the model takes 1 to {most}")));
        }
    }
    Ok(texts)
}
