//! The HTTP client under the S3 one, which takes answers as servers give
//! them: some send the range that was asked for under the status 200.

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

#[derive(Debug)]
pub(crate) struct Lenient;

impl HttpConnector for Lenient {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(LenientClient(ReqwestConnector::default().connect(options)?)))
    }
}

#[derive(Debug)]
struct LenientClient(HttpClient);

#[async_trait]
impl HttpService for LenientClient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let ranged = request.headers().contains_key("range");
        let mut response = self.0.execute(request).await?;
        // The header says which bytes they are; that it is those asked for is
        // checked further up.
        if ranged && response.status().as_u16() == 200 && response.headers().contains_key("content-range") {
            *response.status_mut() = http::StatusCode::PARTIAL_CONTENT;
        }
        Ok(response)
    }
}
