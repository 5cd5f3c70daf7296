"""Other ways to serve the models of bench/serving.py, each as its own documentation shows it, run by
the Python of bench/serving-requirements.txt:

    serving_apps.py bare MODEL INPUTS --batch N --seconds S     onnxruntime in a loop; prints calls a second
    serving_apps.py fastapi|litserve|kserve|pytriton MODEL --port PORT

MODEL is model.onnx of the digits, or for fastapi a folder with handler.py. All but LitServe answer the Open
Inference Protocol's JSON; none logs requests.
"""

import argparse
import importlib.util
import os
import socket
import time
from pathlib import Path

import numpy as np


def session(path: str):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def bare(args: argparse.Namespace) -> None:
    model = session(args.model)
    inputs = {name: np.repeat(x, args.batch, axis=0) for name, x in np.load(args.inputs).items()}
    for _ in range(20):
        model.run(None, inputs)
    calls, began = 0, time.perf_counter()
    while (span := time.perf_counter() - began) < args.seconds:
        for _ in range(10):
            model.run(None, inputs)
        calls += 10
    print(calls / span)


def fastapi(args: argparse.Namespace) -> None:
    import uvicorn

    os.environ["BENCH_MODEL"] = args.model
    uvicorn.run("serving_apps:fastapi_app", factory=True, host="127.0.0.1", port=args.port, workers=args.workers,
                log_level="warning", access_log=False)  # fmt: skip


def fastapi_app():
    """Reads and writes JSON with orjson, and runs the model on the event loop: the least that FastAPI costs."""
    import orjson
    from fastapi import FastAPI, Request, Response

    path = os.environ["BENCH_MODEL"]
    app = FastAPI()
    if path.endswith(".onnx"):
        model = session(path)
        names = [output.name for output in model.get_outputs()]

        def infer(inputs: list[dict]) -> list[dict]:
            feeds = {x["name"]: np.asarray(x["data"], np.float32).reshape(x["shape"]) for x in inputs}
            found = zip(names, model.run(None, feeds), strict=True)
            return [{"name": n, "shape": x.shape, "datatype": x.dtype.name, "data": x.ravel().tolist()} for n, x in found]
    else:
        spec = importlib.util.spec_from_file_location("handler", Path(path) / "handler.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        handler = module.Handler(path)

        def infer(inputs: list[dict]) -> list[dict]:
            rows = {x["name"]: np.asarray(x["data"]).reshape(x["shape"]).tolist() for x in inputs}
            found = handler.predict(rows).items()
            return [{"name": n, "shape": [len(x)], "datatype": "FP64", "data": x} for n, x in found]

    @app.post("/v2/models/{name}/infer")
    async def answer(name: str, request: Request) -> Response:
        asked = orjson.loads(await request.body())
        outputs = {"model_name": name, "outputs": infer(asked["inputs"])}
        return Response(orjson.dumps(outputs), media_type="application/json")

    return app


def litserve(args: argparse.Namespace) -> None:
    import serving_litserve

    serving_litserve.run(args.model, args.port)


def kserve(args: argparse.Namespace) -> None:
    import kserve
    from kserve.utils.utils import get_predict_response

    class Digits(kserve.Model):
        def __init__(self) -> None:
            super().__init__("digits")
            self.model = session(args.model)
            self.ready = True

        def predict(self, payload, headers=None):
            found = self.model.run(None, {"images": payload.inputs[0].as_numpy()})
            return get_predict_response(payload, found[1], self.name)

    server = kserve.ModelServer(http_port=args.port, workers=1, enable_grpc=False, access_log_format=None)
    server.start([Digits()])


def pytriton(args: argparse.Namespace) -> None:
    from pytriton.decorators import batch
    from pytriton.model_config import ModelConfig, Tensor
    from pytriton.triton import Triton, TritonConfig

    model = session(args.model)

    @batch
    def infer(images: np.ndarray) -> list:
        label, probabilities = model.run(None, {"images": images})
        return [label.reshape(-1, 1), probabilities]

    config = TritonConfig(http_address="127.0.0.1", http_port=args.port, grpc_address="127.0.0.1", grpc_port=free_port(),
                          allow_metrics=False, log_verbose=0)  # fmt: skip
    inputs = [Tensor(name="images", dtype=np.float32, shape=(64,))]
    outputs = [Tensor(name="label", dtype=np.int64, shape=(1,)), Tensor(name="probabilities", dtype=np.float32, shape=(10,))]
    with Triton(config=config) as triton:
        triton.bind("digits", infer, inputs, outputs, config=ModelConfig(max_batch_size=64))
        triton.serve()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["bare", "fastapi", "litserve", "kserve", "pytriton"])
    parser.add_argument("model")
    parser.add_argument("inputs", nargs="?")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    globals()[args.kind](args)


if __name__ == "__main__":
    main()
