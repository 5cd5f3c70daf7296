//! SageMaker's contract for containers: `GET /ping` and `POST /invocations`,
//! which MLflow's scoring server has too.
//!
//! Sources: "Use Your Own Inference Code with Hosting Services" (AWS), and
//! "Inference Server Specification" (MLflow).

mod csv;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod json;
mod npy;
mod table;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use muonic_types::ErrorCode;

use super::protocol::{self, Protocol};
use super::{InFlight, content_type};
use crate::failure::Failure;
use crate::oip::request::PRIORITY_DEFAULT;
use crate::replica::{Asked, Form, Replica};
use crate::tensor::{Data, DataType, Port, Tensor};

const CUSTOM_ATTRIBUTES: HeaderName = HeaderName::from_static("x-amzn-sagemaker-custom-attributes");
/// What requests ask for that we do not do.
const REFUSED: [(&str, &str); 2] = [
    ("x-amzn-sagemaker-target-model", "several models behind one endpoint (X-Amzn-SageMaker-Target-Model)"),
    ("x-amzn-sagemaker-enable-explanations", "explanations (X-Amzn-SageMaker-Enable-Explanations)"),
];

pub(super) fn router() -> Router<Arc<Replica>> {
    Router::new().route("/ping", get(ping)).route("/invocations", post(invocations))
}

async fn ping(State(replica): State<Arc<Replica>>) -> Result<impl IntoResponse, Failure> {
    replica.ready()?;
    Ok(axum::Json(serde_json::json!({})))
}

async fn invocations(State(replica): State<Arc<Replica>>, headers: HeaderMap, body: Body) -> Response {
    let began = Instant::now();
    let counted = InFlight::new(&replica);
    let mut answer = answer(&replica, &headers, body).await.unwrap_or_else(IntoResponse::into_response);
    if let Some(attributes) = headers.get(CUSTOM_ATTRIBUTES) {
        answer.headers_mut().insert(CUSTOM_ATTRIBUTES, attributes.clone());
    }
    replica.metrics.answered(answer.status().as_u16(), began.elapsed());
    drop(counted);
    answer
}

async fn answer(replica: &Arc<Replica>, headers: &HeaderMap, body: Body) -> Result<Response, Failure> {
    if let Some((_, what)) = REFUSED.iter().find(|(name, _)| headers.contains_key(*name)) {
        return Err(Failure::new(ErrorCode::NotImplemented, format!("not implemented: {what}")));
    }
    let sent = content_type(headers);
    // Triton's way to send the protocol's binary tensors through SageMaker.
    if let Some(rest) = sent.strip_prefix("application/vnd.sagemaker-triton.binary+json") {
        let length = rest.split(';').find_map(|p| p.trim().strip_prefix("json-header-size=")?.parse().ok());
        let length = length.ok_or_else(|| Failure::bad("the content type has no json-header-size"))?;
        return protocol::exchange(replica, headers, body, Protocol { json_length: Some(length) }).await;
    }
    let sent = Media::sent(&sent)?;
    let wanted = Media::wanted(headers, sent)?;
    let answer = replica.exchange(headers, body, Invocation { sent, wanted }).await?;
    let mut response = answer.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(wanted.name()));
    Ok(response)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Media {
    Json,
    Csv,
    Npy,
}

const NAMES: [(Media, &str); 3] =
    [(Media::Json, "application/json"), (Media::Csv, "text/csv"), (Media::Npy, "application/x-npy")];

impl Media {
    fn name(self) -> &'static str {
        NAMES.iter().find(|(media, _)| *media == self).map_or("application/json", |(_, name)| name)
    }

    fn of(name: &str) -> Option<Self> {
        let name = name.split(';').next().unwrap_or_default().trim();
        NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(media, _)| *media)
    }

    fn sent(name: &str) -> Result<Self, Failure> {
        if name.is_empty() {
            return Ok(Self::Json);
        }
        Self::of(name).ok_or_else(|| {
            Failure::new(
                ErrorCode::UnsupportedMediaType,
                format!(
                    "the content type '{}' is not understood; send application/json, text/csv or application/x-npy",
                    super::clip(name)
                ),
            )
        })
    }

    /// The first that is accepted and that we have; what was sent where all is.
    fn wanted(headers: &HeaderMap, sent: Self) -> Result<Self, Failure> {
        let accepted: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
        let mut each = accepted.iter().flat_map(|v| v.split(',')).map(str::trim).filter(|v| !v.is_empty()).peekable();
        if each.peek().is_none() {
            return Ok(sent);
        }
        let any = |name: &str| matches!(name.split(';').next().map(str::trim), Some("*/*" | "application/*"));
        each.find_map(|name| if any(name) { Some(sent) } else { Self::of(name) }).ok_or_else(|| {
            Failure::bad(
                "none of the accepted types can be given; accept application/json, text/csv or application/x-npy",
            )
        })
    }
}

struct Invocation {
    sent: Media,
    wanted: Media,
}

struct Written(Bytes);

impl AsRef<Bytes> for Written {
    fn as_ref(&self) -> &Bytes {
        &self.0
    }
}

impl Form for Invocation {
    /// The shape of the answer in JSON.
    type Plan = json::Style;
    type Written = Written;

    fn read(
        &self,
        replica: &Replica,
        body: &Bytes,
        charge: &mut dyn FnMut(usize) -> Result<(), Failure>,
    ) -> Result<Asked<json::Style>, Failure> {
        let ports = replica.runtime.inputs();
        let cost = |datatype| replica.runtime.element_cost(datatype);
        let is_table = replica.runtime.is_table();
        let (inputs, plan) = match self.sent {
            Media::Json => json::read(body, ports, is_table, &cost, charge)?,
            Media::Csv if is_table => {
                (table::from_csv(body, ports.unwrap_or(&[]), &cost, charge)?, json::Style::Predictions)
            }
            Media::Csv => (vec![csv::read(body, only(ports)?, &cost, charge)?], json::Style::Predictions),
            Media::Npy => (vec![npy::read(body, only(ports)?, &cost, charge)?], json::Style::Predictions),
        };
        if let Some(ports) = ports
            && let Some(missing) = ports.iter().find(|port| !inputs.iter().any(|input| input.name == port.name))
        {
            return Err(Failure::bad(format!("the model's input '{}' is missing", missing.name)));
        }
        Ok(Asked { inputs, priority: PRIORITY_DEFAULT, timeout: None, plan })
    }

    fn bytes_max(&self, outputs: &[Tensor], _: &json::Style) -> usize {
        // Brackets and a name with each row, at most.
        let more: usize = outputs.iter().map(|o| elements(o).saturating_mul(4 + o.shape.len() + o.name.len())).sum();
        crate::oip::response::bytes_max(outputs, &crate::oip::request::Wanted::All { binary: false })
            .saturating_add(more)
    }

    fn write(&self, replica: &Replica, outputs: Vec<Tensor>, style: json::Style) -> Result<Written, Failure> {
        let written = match self.wanted {
            Media::Json => json::write(replica, &outputs, style)?,
            Media::Csv => csv::write(only_output(&outputs)?)?,
            Media::Npy => npy::write(only_output(&outputs)?)?,
        };
        Ok(Written(written.into()))
    }
}

fn elements(tensor: &Tensor) -> usize {
    crate::tensor::elements(&tensor.shape).unwrap_or(0)
}

/// The one input of a model; its name alone where the model does not say.
fn only(ports: Option<&[Port]>) -> Result<Option<&Port>, Failure> {
    match ports {
        None => Ok(None),
        Some([one]) => Ok(Some(one)),
        Some(many) => {
            Err(Failure::bad(format!("the model has {} inputs; name them: {}", many.len(), json::example(many))))
        }
    }
}

fn only_output(outputs: &[Tensor]) -> Result<&Tensor, Failure> {
    match outputs {
        [one] => Ok(one),
        many => {
            Err(Failure::bad(format!("the model has {} outputs, which only application/json has room for", many.len())))
        }
    }
}

/// Name and datatype of an input that the model says nothing about.
const UNNAMED: &str = "input";

/// A tensor of this shape for a port, which it must fit; one row where it lacks
/// only the first dimension.
fn shaped(port: Option<&Port>, shape: Vec<i64>, what: &str) -> Result<Vec<i64>, Failure> {
    let Some(port) = port else { return Ok(shape) };
    let fits = |shape: &[i64]| {
        shape.len() == port.shape.len() && port.shape.iter().zip(shape).all(|(want, got)| *want < 0 || want == got)
    };
    if fits(&shape) {
        return Ok(shape);
    }
    let row: Vec<i64> = std::iter::once(1).chain(shape.iter().copied()).collect();
    if fits(&row) {
        return Ok(row);
    }
    let (got, want) = (crate::oip::check::shape(&shape), crate::oip::check::shape(&port.shape));
    Err(Failure::bad(format!("{what} has shape {got}; the model's input '{}' wants {want}", port.name)))
}

fn tensor(port: Option<&Port>, datatype: DataType, shape: Vec<i64>, data: Data) -> Result<Tensor, Failure> {
    let name = port.map_or(UNNAMED, |port| &port.name).to_owned();
    Tensor::new(name, datatype, shape, data).map_err(Failure::bad)
}
