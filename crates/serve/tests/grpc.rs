//! Real ONNX models over gRPC: a real server, another's client, and a sentence
//! for each thing that is wrong with a call.

mod common;
#[allow(dead_code)]
#[path = "../src/doors/grpc/messages.rs"]
mod messages;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use common::{model, serve_path};
use http::uri::PathAndQuery;
use messages::*;
use muonic_serve::{Limits, Listener, serve};
use tokio::sync::{mpsc, oneshot};
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

/// Ends with the test.
struct Server {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

async fn start(name: &str, limits: Limits) -> Server {
    let router = serve_path(&model(name), limits).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(serve(Listener::Tcp(listener), router, Duration::from_secs(5), async {
        let _ = stopped.await;
    }));
    Server { address, _stop: stop }
}

struct Client(Grpc<Channel>);

fn path(method: &str) -> PathAndQuery {
    format!("/inference.GRPCInferenceService/{method}").parse().unwrap()
}

impl Client {
    async fn of(server: &Server) -> Self {
        let channel = Channel::from_shared(format!("http://{}", server.address)).unwrap().connect().await.unwrap();
        Self(Grpc::new(channel).max_decoding_message_size(64 << 20).max_encoding_message_size(256 << 20))
    }

    async fn call<A, B>(&mut self, method: &str, message: A) -> Result<B, Status>
    where
        A: prost::Message + Default + Send + Sync + 'static,
        B: prost::Message + Default + Send + Sync + 'static,
    {
        self.ask(method, Request::new(message)).await
    }

    async fn ask<A, B>(&mut self, method: &str, request: Request<A>) -> Result<B, Status>
    where
        A: prost::Message + Default + Send + Sync + 'static,
        B: prost::Message + Default + Send + Sync + 'static,
    {
        self.0.ready().await.unwrap();
        let codec = ProstCodec::<A, B>::default();
        self.0.unary(request, path(method), codec).await.map(tonic::Response::into_inner)
    }

    async fn infer(&mut self, request: ModelInferRequest) -> Result<ModelInferResponse, Status> {
        self.call("ModelInfer", request).await
    }

    /// What is wrong with a request, in words.
    async fn refused(&mut self, request: ModelInferRequest) -> (Code, String) {
        let status = self.infer(request).await.unwrap_err();
        (status.code(), status.message().to_owned())
    }
}

fn m() -> ModelRequest {
    ModelRequest { name: "m".into(), version: String::new() }
}

fn floats(values: &[f32]) -> Bytes {
    values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>().into()
}

fn input(name: &str, datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor { name: name.into(), datatype: datatype.into(), shape: shape.into(), ..Default::default() }
}

/// A request to add.onnx.
fn x(shape: &[i64], values: &[f32]) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "m".into(),
        inputs: vec![input("x", "FP32", shape)],
        raw_input_contents: vec![floats(values)],
        ..Default::default()
    }
}

fn parameter(value: Parameter) -> InferParameter {
    InferParameter { parameter_choice: Some(value) }
}

#[tokio::test]
async fn adds_whichever_way_the_values_come() {
    let server = start("add.onnx", Limits::default()).await;
    let mut client = Client::of(&server).await;
    let mut request = x(&[2, 3], &[1.0, 2.0, 3.0, 4.5, 5.0, -6.0]);
    request.id = "abc".into();
    request.model_version = "7".into();
    let raw = client.infer(request.clone()).await.unwrap();
    assert_eq!((raw.model_name.as_str(), raw.model_version.as_str(), raw.id.as_str()), ("m", "7", "abc"));
    let output = InferOutputTensor { name: "y".into(), datatype: "FP32".into(), shape: vec![2, 3] };
    assert_eq!(raw.outputs, [output]);
    assert_eq!(raw.raw_output_contents, [floats(&[2.0, 4.0, 6.0, 5.5, 7.0, -3.0])]);

    let mut typed = request.clone();
    typed.raw_input_contents.clear();
    typed.inputs[0].contents =
        Some(InferTensorContents { fp32_contents: vec![1.0, 2.0, 3.0, 4.5, 5.0, -6.0], ..Default::default() });
    assert_eq!(client.infer(typed).await.unwrap(), raw);

    request.outputs = vec![InferRequestedOutputTensor { name: "y".into(), ..Default::default() }];
    assert_eq!(client.infer(request).await.unwrap(), raw);
    assert_eq!(client.infer(x(&[0, 3], &[])).await.unwrap().outputs[0].shape, [0, 3]);

    // A length would hide what follows the message.
    client.0.ready().await.unwrap();
    let codec = ProstCodec::<_, ModelInferResponse>::default();
    let answer = client.0.unary(Request::new(x(&[0, 3], &[])), path("ModelInfer"), codec).await.unwrap();
    assert!(answer.metadata().get("content-length").is_none(), "{answer:?}");
    assert_eq!(answer.metadata().get("grpc-status").unwrap(), "0");

    // HTTP/1.1 at the same port.
    let mut plain = tokio::net::TcpStream::connect(server.address).await.unwrap();
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    plain.write_all(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    plain.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("{\"live\":true}"), "{answer}");
}

#[tokio::test]
async fn every_datatype_survives() {
    let server = start("types.onnx", Limits::default()).await;
    let mut client = Client::of(&server).await;
    let all: [(&str, &[u8]); 13] = [
        ("BOOL", &[1, 0]),
        ("UINT8", &[255, 0]),
        ("UINT16", &[255, 255, 1, 0]),
        ("UINT32", &[255, 255, 255, 255, 1, 0, 0, 0]),
        ("UINT64", &[255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 0, 0, 0, 0, 0, 0]),
        ("INT8", &[255, 127]),
        ("INT16", &[255, 255, 1, 0]),
        ("INT32", &[255, 255, 255, 255, 1, 0, 0, 0]),
        ("INT64", &[255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 0, 0, 0, 0, 0, 0]),
        ("FP16", &[0, 0x3c, 0, 0xc0]),
        ("FP32", &[0, 0, 128, 63, 0, 0, 0, 0]),
        ("FP64", &[0, 0, 0, 0, 0, 0, 240, 63, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("BYTES", &[2, 0, 0, 0, b'a', b'b', 0, 0, 0, 0]),
    ];
    let mut request = ModelInferRequest { model_name: "m".into(), ..Default::default() };
    for (name, bytes) in all {
        request.inputs.push(input(&format!("in_{name}"), name, &[1, 2]));
        request.raw_input_contents.push(Bytes::from_static(bytes));
    }
    let answer = client.infer(request).await.unwrap();
    for (name, bytes) in all {
        let at = answer.outputs.iter().position(|o| o.name == format!("out_{name}")).unwrap();
        assert_eq!((answer.outputs[at].datatype.as_str(), &answer.raw_output_contents[at][..]), (name, bytes));
    }
}

#[tokio::test]
async fn says_what_it_is() {
    let server = start("add.onnx", Limits::default()).await;
    let mut client = Client::of(&server).await;
    assert!(client.call::<_, ServerLiveResponse>("ServerLive", Empty {}).await.unwrap().live);
    assert!(client.call::<_, ReadyResponse>("ServerReady", Empty {}).await.unwrap().ready);
    assert!(client.call::<_, ReadyResponse>("ModelReady", m()).await.unwrap().ready);
    let about: ServerMetadataResponse = client.call("ServerMetadata", Empty {}).await.unwrap();
    assert_eq!(about.name, "muonic");
    let about: ModelMetadataResponse = client.call("ModelMetadata", m()).await.unwrap();
    let tensor = |name: &str| TensorMetadata { name: name.into(), datatype: "FP32".into(), shape: vec![-1, 3] };
    assert_eq!((about.inputs, about.outputs), (vec![tensor("x")], vec![tensor("y")]));
    assert_eq!((about.platform.as_str(), about.versions), ("onnx_onnxv1", vec!["7".to_owned()]));
    let config: ModelConfigResponse = client.call("ModelConfig", m()).await.unwrap();
    let config = config.config.unwrap();
    assert_eq!((config.input[0].data_type, config.input[0].dims.as_slice()), (11, &[3][..]));
    assert_eq!((config.max_batch_size, config.backend.as_str()), (256, "onnx"));
    let index: RepositoryIndexResponse =
        client.call("RepositoryIndex", RepositoryIndexRequest::default()).await.unwrap();
    assert_eq!((index.models[0].name.as_str(), index.models[0].state.as_str()), ("m", "READY"));

    client.infer(x(&[2, 3], &[0.0; 6])).await.unwrap();
    client.infer(x(&[1, 3], &[0.0; 2])).await.unwrap_err();
    for request in [m(), ModelRequest::default()] {
        let statistics: ModelStatisticsResponse = client.call("ModelStatistics", request).await.unwrap();
        let statistics = &statistics.model_stats[0];
        assert_eq!((statistics.inference_count, statistics.execution_count), (2, 1));
        let stages = statistics.inference_stats.as_ref().unwrap();
        assert_eq!(stages.success.as_ref().map(|s| s.count), Some(1));
        assert_eq!(stages.fail.as_ref().map(|s| s.count), Some(1));
        assert_eq!(statistics.batch_stats[0].batch_size, 2);
    }

    for method in ["ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"] {
        for (name, version) in [("other", ""), ("m", "8")] {
            let request = ModelRequest { name: name.into(), version: version.into() };
            let status = client.call::<_, Empty>(method, request).await.unwrap_err();
            assert_eq!(status.code(), Code::NotFound, "{method}: {status}");
            assert!(status.message().starts_with("there is no "), "{status}");
        }
    }
    for method in [
        "RepositoryModelLoad",
        "RepositoryModelUnload",
        "SystemSharedMemoryRegister",
        "CudaSharedMemoryStatus",
        "TraceSetting",
        "LogSettings",
        "Nothing",
    ] {
        let status = client.call::<_, Empty>(method, Empty {}).await.unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented, "{status}");
        assert!(status.message().contains(method), "{status}");
    }
}

#[tokio::test]
async fn a_wrong_request_is_told_what_is_wrong() {
    let server = start("add.onnx", Limits::default()).await;
    let mut client = Client::of(&server).await;
    let good = x(&[1, 3], &[1.0; 3]);
    type Spoil = fn(&mut ModelInferRequest);
    let cases: [(Spoil, Code, &str); 22] = [
        (|r| r.model_name = "ö%".into(), Code::NotFound, "there is no model 'ö%' here; there is 'm'"),
        (|r| r.model_version = "8".into(), Code::NotFound, "there is no version '8'"),
        (|r| r.raw_input_contents[0].truncate(11), Code::InvalidArgument, "has 11 bytes of binary data"),
        (|r| r.raw_input_contents.push(Bytes::new()), Code::InvalidArgument, "raw_input_contents has 2 items"),
        (|r| r.raw_input_contents.clear(), Code::InvalidArgument, "has 0 elements; its shape [1, 3] asks for 3"),
        (|r| r.inputs.clear(), Code::InvalidArgument, "raw_input_contents has 1 items"),
        (|r| r.inputs[0].contents = Some(InferTensorContents::default()), Code::InvalidArgument, "has both contents"),
        (|r| r.inputs[0].shape = vec![-1, 3], Code::InvalidArgument, "has shape [-1, 3]"),
        (|r| r.inputs[0].shape = vec![i64::MAX, 3], Code::InvalidArgument, "fit in memory"),
        (|r| r.inputs[0].shape = vec![1 << 40, 3], Code::InvalidArgument, "has 12 bytes of binary data"),
        (|r| r.inputs[0].shape = vec![3], Code::InvalidArgument, "has shape [3]; the model wants [-1,3]"),
        (|r| r.inputs[0].shape = vec![1; 1000], Code::InvalidArgument, "more than 32 dimensions"),
        (|r| r.inputs[0].datatype = "FP8".into(), Code::InvalidArgument, "unknown datatype 'FP8'"),
        (|r| r.inputs[0].datatype = "BF16".into(), Code::Unimplemented, "not implemented: BF16"),
        (|r| r.inputs[0].name = "z".into(), Code::InvalidArgument, "the model has no input 'z'"),
        (|r| r.id = "x".repeat(5000), Code::InvalidArgument, "the id is longer"),
        (
            |r| r.outputs = vec![InferRequestedOutputTensor { name: "q".into(), ..Default::default() }],
            Code::InvalidArgument,
            "the model has no output 'q'",
        ),
        (
            |r| {
                r.inputs.push(r.inputs[0].clone());
                r.raw_input_contents.push(r.raw_input_contents[0].clone());
            },
            Code::InvalidArgument,
            "input 'x' stands twice",
        ),
        (
            |r| _ = r.parameters.insert("sequence_id".into(), parameter(Parameter::Int64(4))),
            Code::Unimplemented,
            "not implemented: sequences",
        ),
        (
            |r| _ = r.parameters.insert("timeout".into(), parameter(Parameter::Int64(-4))),
            Code::InvalidArgument,
            "the parameter 'timeout' is not a number",
        ),
        (
            |r| {
                _ = r.inputs[0]
                    .parameters
                    .insert("shared_memory_region".into(), parameter(Parameter::String("a".into())))
            },
            Code::Unimplemented,
            "not implemented: shared memory",
        ),
        (
            |r| {
                r.raw_input_contents.clear();
                r.inputs[0].contents = Some(InferTensorContents { fp64_contents: vec![1.0; 3], ..Default::default() });
            },
            Code::InvalidArgument,
            "has values in fp64_contents; those of FP32 belong in fp32_contents",
        ),
    ];
    for (spoil, code, words) in cases {
        let mut request = good.clone();
        spoil(&mut request);
        let (got, why) = client.refused(request).await;
        assert_eq!(got, code, "{why}");
        assert!(why.contains(words), "{words}: {why}");
    }
    // Bytes that are no such message, and small ones that would become large.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Odd {
        #[prost(bytes = "vec", repeated, tag = "5")]
        inputs: Vec<Vec<u8>>,
        #[prost(uint32, tag = "1")]
        model_name: u32,
    }
    let odd = |inputs, model_name| Odd { inputs, model_name };
    for (message, code, words) in [
        (odd(vec![vec![0xff; 3]], 0), Code::InvalidArgument, "the message is not an inference request"),
        (odd(vec![vec![0x0a, 0x7f]], 0), Code::InvalidArgument, "ends within a field"),
        (odd(vec![], 5), Code::InvalidArgument, "the message is not an inference request"),
        (odd(vec![Vec::new(); 1 << 20], 0), Code::ResourceExhausted, "takes"),
        (odd(vec![Vec::new(); 2000], 0), Code::NotFound, "there is no model ''"),
    ] {
        let status = client.call::<_, ModelInferResponse>("ModelInfer", message).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(words), "{words}: {status}");
    }
    client.infer(good).await.unwrap();
}

#[tokio::test]
async fn limits_hold() {
    let limits = Limits { body_bytes_max: 1000, ..Limits::default() };
    let server = start("add.onnx", limits).await;
    let mut client = Client::of(&server).await;
    let (code, why) = client.refused(x(&[100, 3], &[0.0; 300])).await;
    assert_eq!((code, why.as_str()), (Code::ResourceExhausted, "the body is larger than 1000 bytes"));
    client.infer(x(&[10, 3], &[0.0; 30])).await.unwrap();

    let server = start("loop.onnx", Limits::default()).await;
    let mut client = Client::of(&server).await;
    let long = ModelInferRequest {
        model_name: "m".into(),
        inputs: vec![input("n", "INT64", &[])],
        raw_input_contents: vec![Bytes::copy_from_slice(&i64::MAX.to_le_bytes())],
        ..Default::default()
    };
    let mut told = long.clone();
    told.parameters.insert("timeout".into(), parameter(Parameter::Int64(200_000)));
    let (code, why) = client.refused(told).await;
    assert_eq!(
        (code, why.as_str()),
        (Code::DeadlineExceeded, "the model did not answer within the request's own time limit")
    );
    // The header is heard by the server too: the model is free again.
    let mut request = Request::new(long);
    request.set_timeout(Duration::from_millis(200));
    client.ask::<_, ModelInferResponse>("ModelInfer", request).await.unwrap_err();
    let mut short = Request::new(ModelInferRequest {
        model_name: "m".into(),
        inputs: vec![input("n", "INT64", &[])],
        raw_input_contents: vec![Bytes::copy_from_slice(&3i64.to_le_bytes())],
        ..Default::default()
    });
    short.set_timeout(Duration::from_secs(20));
    client.ask::<_, ModelInferResponse>("ModelInfer", short).await.unwrap();
}

#[tokio::test]
async fn a_stream_answers_in_order_and_survives_errors() {
    let server = start("add.onnx", Limits { body_bytes_max: 1000, ..Limits::default() }).await;
    let mut client = Client::of(&server).await;
    let (requests, received) = mpsc::channel(4);
    client.0.ready().await.unwrap();
    let codec = ProstCodec::<ModelInferRequest, ModelStreamInferResponse>::default();
    let received = tokio_stream::wrappers::ReceiverStream::new(received);
    let call = client.0.streaming(Request::new(received), path("ModelStreamInfer"), codec);
    tokio::spawn(async move {
        for at in 0..200u16 {
            let mut request = x(&[1, 3], &[f32::from(at); 3]);
            request.id = at.to_string();
            match at {
                5 => request.model_name = "other".into(),
                6 => request = x(&[100, 3], &[0.0; 300]),
                7 => {
                    _ = request
                        .parameters
                        .insert("triton_enable_empty_final_response".into(), parameter(Parameter::Bool(true)))
                }
                _ => {}
            }
            requests.send(request).await.unwrap();
        }
    });
    let mut answers = call.await.unwrap().into_inner();
    for at in 0..200u16 {
        let answer = answers.message().await.unwrap().unwrap();
        match at {
            5 => assert_eq!(answer.error_message, "there is no model 'other' here; there is 'm'"),
            6 => assert_eq!(answer.error_message, "the body is larger than 1000 bytes"),
            _ => {
                let answer = answer.infer_response.unwrap();
                assert_eq!(answer.id, at.to_string());
                let at_1 = f32::from(at) + 1.0;
                assert_eq!(answer.raw_output_contents, [floats(&[at_1, at_1 + 1.0, at_1 + 2.0])]);
                let says_final =
                    answer.parameters.get("triton_final_response") == Some(&parameter(Parameter::Bool(true)));
                assert_eq!(says_final, at == 7);
            }
        }
    }
    assert!(answers.message().await.unwrap().is_none());
}
