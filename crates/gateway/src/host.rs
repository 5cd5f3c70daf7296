//! Endpoints by the name of the host: what is asked of `NAME.DOMAIN` is asked of
//! `/endpoints/NAME`.

use axum::Router;
use http::{Request, Uri, header};
use muonic_types::Name;
use tower::Service;
use tower::util::{MapRequest, ServiceExt};

/// `router`, with requests to the hosts of endpoints sent below `/endpoints/`.
/// Such a host has nothing but its endpoint.
pub fn by_host<B>(
    router: Router,
    domains: Vec<String>,
) -> MapRequest<Router, impl FnMut(Request<B>) -> Request<B> + Clone + Send + Sync + 'static>
where
    Router: Service<Request<B>>,
{
    let domains: Vec<String> =
        domains.into_iter().map(|d| format!(".{}", d.trim_matches('.').to_ascii_lowercase())).collect();
    ServiceExt::<Request<B>>::map_request(router, move |mut request: Request<B>| {
        if let Some(uri) = endpoint(&request, &domains).and_then(|name| below(&name, request.uri())) {
            *request.uri_mut() = uri;
        }
        request
    })
}

fn endpoint<B>(request: &Request<B>, domains: &[String]) -> Option<Name> {
    let host = match request.headers().get(header::HOST) {
        Some(host) => host.to_str().ok()?,
        None => request.uri().host()?,
    };
    let host = host.rsplit_once(':').map_or(host, |(host, _port)| host).trim_end_matches('.').to_ascii_lowercase();
    domains.iter().find_map(|domain| host.strip_suffix(domain.as_str())?.parse().ok())
}

fn below(name: &Name, uri: &Uri) -> Option<Uri> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    format!("/endpoints/{name}{path}").parse().ok()
}
