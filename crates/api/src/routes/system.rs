use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::http::header;
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use muonic_types::system::{DoctorReport, Status};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::extract::Caller;
use crate::render::Failure;
use crate::{App, Services};

pub(super) fn router() -> OpenApiRouter<Arc<Services>> {
    OpenApiRouter::new().routes(routes!(status)).routes(routes!(doctor))
}

pub(super) fn open() -> Router<Arc<Services>> {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/api/openapi.json", get(|| async { ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.clone()) }))
}

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let text = crate::document().to_json().unwrap_or_default();
    Bytes::from(text)
});

async fn ready(State(app): App) -> Result<&'static str, Failure> {
    app.system.ready().await?;
    Ok("ready\n")
}

/// The server, what it has and what it holds.
#[utoipa::path(get, path = "/status", tag = "operation", responses((status = 200, description = "Now", body = Status)))]
async fn status(State(app): App, Caller(caller): Caller) -> Result<Json<Status>, Failure> {
    Ok(Json(app.system.status(&caller).await?))
}

/// Checks of the server and its machine.
#[utoipa::path(get, path = "/doctor", tag = "operation", responses((status = 200, description = "The checks", body = DoctorReport)))]
async fn doctor(State(app): App, Caller(caller): Caller) -> Result<Json<DoctorReport>, Failure> {
    Ok(Json(app.system.doctor(&caller).await?))
}
