//! `muonic deploy`

use muonic_client::Error;
use muonic_types::endpoint::{Endpoint, NewEndpoint, RESOURCES};
use muonic_types::{Name, VersionRef};
use serde_json::Value;

use super::size::Size;
use super::{Waiting, show, wait};
use crate::context::Context;
use crate::failure::{Exit, Outcome};
use crate::predict::{self, Body};
use crate::render::screen::hanging;
use crate::render::{Screen, one_line, quoted};

/// Serve a model version at a stable address
///
/// Waits until it answers, then prints how to call it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  muonic deploy digits@1
  muonic deploy digits@champion --name digits-eu --replicas 2 --resources cpu=1,memory=1Gi
  muonic deploy digits --replicas 0..4 --concurrency 8")]
pub struct DeployArgs {
    /// The model, with @VERSION or @ALIAS, or the latest without
    model: VersionRef,
    /// The endpoint's name; the model's name without
    #[arg(long)]
    name: Option<Name>,
    #[command(flatten)]
    size: Size,
    #[command(flatten)]
    waiting: Waiting,
}

/// Where the text begins behind a label.
const LABEL: usize = 11;

impl DeployArgs {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let name = self.name.unwrap_or_else(|| self.model.name.clone());
        let revision = self.size.revision(self.model, || Ok(RESOURCES))?;
        let endpoint = client.endpoint_create(&NewEndpoint { name, revision })?;
        let endpoint = wait::until_served(context, endpoint, &self.waiting)?;
        if self.waiting.detach {
            context.show(&endpoint, || format!("{}\n", show::line(&endpoint)))?;
            return Ok(Exit::Ok);
        }
        // Only for the example: the endpoint serves whatever this answers.
        let asked = if context.json() { None } else { Some(client.endpoint_metadata(&endpoint.name)) };
        context.show(&endpoint, || match asked {
            Some(answer) if is_of_a_program(&answer) => program_text(&endpoint, client.url(), &token_place(context)),
            answer => {
                let metadata = answer.and_then(|answer| answer.ok());
                ready_text(&endpoint, client.url(), metadata.as_ref(), &token_place(context), context.screen())
            }
        })?;
        Ok(Exit::Ok)
    }
}

fn token_place(context: &Context) -> String {
    let given = context.global.server.is_some() || context.global.token.is_some();
    match context.global.data_dir() {
        Some(dir) if !given => format!("the administrator's is \"token\" in {}", dir.join("local.json").display()),
        _ => "the one you use now will do".to_owned(),
    }
}

/// Whether what was asked for its metadata does not know what that is: a
/// program that speaks something else.
fn is_of_a_program(answer: &muonic_client::Result<Value>) -> bool {
    match answer {
        Ok(metadata) => metadata.get("platform").is_none() && metadata.get("inputs").is_none(),
        Err(Error::Api { status, .. }) => matches!(status, 400..=499) && *status != 429,
        Err(Error::Protocol { .. }) => true,
        Err(_) => false,
    }
}

fn program_text(endpoint: &Endpoint, server: &str, token: &str) -> String {
    format!(
        "{line}
  url      {server}{path}/…, where its program says
  token    {token}
           for callers: muonic key create NAME --role invoker
",
        line = show::line(endpoint),
        path = endpoint.path,
    )
}

/// Words are folded for a terminal; what is copied from it (addresses and
/// commands) is not.
fn ready_text(endpoint: &Endpoint, server: &str, metadata: Option<&Value>, token: &str, screen: Screen) -> String {
    let url = format!("{server}{}/v2/models/{}/infer", endpoint.path, endpoint.name);
    let words = |text: &str| hanging(screen, LABEL, &one_line(text));
    let takes = metadata.and_then(predict::inputs).map(|text| format!("  takes    {}\n", words(&text)));
    let takes = takes.unwrap_or_default();
    let token = words(token);
    let (input, request) = predict::example(metadata);
    let (input, input_holds) = argument(input, "input.json", words);
    let (request, request_holds) = argument(request, "request.json", words);
    format!(
        "{line}
  url      {url}
{takes}  try      muonic predict {name} {input}
{input_holds}  curl     curl -s {url} -H \"Authorization: Bearer $MUONIC_TOKEN\" \
        -H 'Content-Type: application/json' -d {request}
{request_holds}  token    {token}
           for callers: muonic key create NAME --role invoker
",
        line = show::line(endpoint),
        name = endpoint.name,
    )
}

/// A body as a word for a shell, and where that names a file, a line about it.
fn argument(body: Body, file: &str, words: impl Fn(&str) -> String) -> (String, String) {
    match body {
        Body::Json(text) => (quoted(&text), String::new()),
        Body::File(holds) => {
            (quoted(&format!("@{file}")), format!("           {}\n", words(&format!("{file}: {holds}"))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::endpoint;
    use super::*;
    use muonic_types::endpoint::EndpointState;
    use serde_json::json;

    #[test]
    fn a_deployment_says_how_to_call_it_and_prints_no_secret() {
        let metadata = json!({"name": "digits", "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]});
        let text =
            ready_text(&endpoint(EndpointState::Ready), "http://h:1", Some(&metadata), "it is there", Screen::PIPE);
        assert_eq!(
            text,
            "digits is ready: digits@1, revision 1, 1/1 replicas ready
  url      http://h:1/endpoints/digits/v2/models/digits/infer
  takes    x FP32 [any, 2]
  try      muonic predict digits '[[0,0]]'
  curl     curl -s http://h:1/endpoints/digits/v2/models/digits/infer -H \"Authorization: Bearer $MUONIC_TOKEN\" -H 'Content-Type: application/json' -d '{\"inputs\":[{\"data\":[0,0],\"datatype\":\"FP32\",\"name\":\"x\",\"shape\":[1,2]}]}'
  token    it is there
           for callers: muonic key create NAME --role invoker
"
        );
    }

    #[test]
    fn a_program_is_told_from_a_model() {
        let refused = |status, code| Err(Error::Api { status, body: muonic_types::ErrorBody::new(code, "no") });
        let none = Error::Protocol { url: "u".into(), reason: "it is not JSON".into() };
        for program in [Ok(json!({"detail": "x"})), refused(404, muonic_types::ErrorCode::NotFound), Err(none)] {
            assert!(is_of_a_program(&program));
        }
        let busy = || refused(503, muonic_types::ErrorCode::Unavailable);
        for model in [Ok(json!({"platform": "onnx_rten"})), Ok(json!({"inputs": []})), busy()] {
            assert!(!is_of_a_program(&model));
        }
        assert_eq!(
            program_text(&endpoint(EndpointState::Ready), "http://h:1", "it is there").lines().nth(1),
            Some("  url      http://h:1/endpoints/digits/…, where its program says")
        );
    }

    #[test]
    fn words_are_folded_for_a_terminal_and_commands_are_not() {
        let metadata = json!({"inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, 64]}]});
        let ready = endpoint(EndpointState::Ready);
        let text = ready_text(&ready, "http://h:1", Some(&metadata), "it is there", Screen::terminal(64));
        for line in text.lines().filter(|line| !line.contains("http")) {
            assert!(line.chars().count() <= 64, "{line}");
        }
        assert!(text.contains("-d @request.json\n"), "{text}");
        assert!(text.contains("such as [[0, 0, …]]\n"), "{text}");
    }

    #[test]
    fn files_are_described_where_an_example_would_be_long() {
        let lines = |metadata: Option<Value>| {
            let text = ready_text(&endpoint(EndpointState::Ready), "http://h:1", metadata.as_ref(), "", Screen::PIPE);
            let about_files = text.lines().filter(|line| line.contains(".json"));
            about_files.map(|line| line.rsplit("json' ").next().unwrap().to_owned() + "\n").collect::<String>()
        };
        let metadata = json!({"name": "digits", "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, 64]}]});
        assert_eq!(
            lines(Some(metadata)),
            "  try      muonic predict digits @input.json
           input.json: rows of 64 numbers, such as [[0, 0, …]]
-d @request.json
           request.json: {\"inputs\": [{\"name\": \"images\", \"shape\": [1, 64], \"datatype\": \"FP32\", \"data\": [0, 0, …]}]}
"
        );
        assert_eq!(
            lines(None),
            "  try      muonic predict digits @input.json
           input.json: a request of the Open Inference Protocol v2
-d @request.json
           request.json: a request of the Open Inference Protocol v2
"
        );
    }
}
