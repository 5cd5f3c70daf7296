//! Who is at the other end: each request carries the peer's `SocketAddr` among
//! its extensions, where it came over TCP.

use std::net::SocketAddr;

use http::Request;
use hyper::body::Incoming;
use hyper::service::Service;

/// The service of one connection.
pub(crate) struct FromPeer<S> {
    pub service: S,
    pub peer: Option<SocketAddr>,
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for FromPeer<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, mut request: Request<Incoming>) -> S::Future {
        if let Some(peer) = self.peer {
            request.extensions_mut().insert(peer);
        }
        self.service.call(request)
    }
}
