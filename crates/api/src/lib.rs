//! The native API's door: authenticate, parse, call one service, render. Its
//! OpenAPI document is generated from these handlers; `docs/openapi.json` is
//! the committed copy.

mod auth;
mod extract;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod inference;
mod limits;
mod metrics;
mod openapi;
mod render;
mod routes;

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::InvalidHeaderValue;
use axum::middleware;
use axum::response::Response;
use muonic_ports::routes::Authenticator;
use muonic_services as services;
use muonic_types::system::SERVER_HEADER;
use tower_http::catch_panic::CatchPanicLayer;

pub use metrics::Metrics;
pub use openapi::document;

/// Everything the handlers call.
pub struct Services {
    pub keys: Arc<services::Keys>,
    pub backups: services::Backups,
    pub blobs: Arc<services::Blobs>,
    pub buckets: Arc<services::Buckets>,
    pub datasets: services::Datasets,
    pub jobs: Arc<services::Jobs>,
    pub models: services::Models,
    pub endpoints: Arc<services::Endpoints>,
    pub deferred: Arc<services::Deferred>,
    pub lineage: services::Lineage,
    pub costs: services::Costs,
    pub storage: services::Storage,
    pub system: services::System,
}

pub(crate) type App = axum::extract::State<Arc<Services>>;

/// Lets every answer name the server, for those who must not take another for
/// it.
pub fn named(router: Router, server_id: &str) -> Result<Router, InvalidHeaderValue> {
    let id = HeaderValue::from_str(server_id)?;
    Ok(router.layer(middleware::map_response(move |mut response: Response| {
        response.headers_mut().insert(SERVER_HEADER, id.clone());
        std::future::ready(response)
    })))
}

/// The whole door. `gateway` answers everything below `/endpoints/`.
pub fn router(services: Arc<Services>, metrics: Arc<Metrics>, gateway: Router) -> Router {
    let auth: Arc<dyn Authenticator> = services.keys.clone();
    let (native, _) = routes::native().split_for_parts();
    let native = native
        .fallback(render::no_such_path)
        .method_not_allowed_fallback(render::no_such_method)
        .layer(middleware::from_fn_with_state(limits::Limits::new(), limits::bound))
        .layer(middleware::from_fn_with_state(auth.clone(), auth::authenticate));
    let scrape = Router::new()
        .route("/metrics", axum::routing::get(metrics::scrape))
        .with_state(metrics.clone())
        .layer(middleware::from_fn_with_state(auth, auth::authenticate));
    Router::new()
        .nest("/api/v1", native)
        .merge(routes::open())
        .with_state(services)
        .merge(scrape)
        .fallback(render::no_such_path)
        .method_not_allowed_fallback(render::no_such_method)
        .layer(middleware::from_fn_with_state(metrics, metrics::count))
        .merge(gateway)
        .layer(CatchPanicLayer::custom(render::panicked))
}
