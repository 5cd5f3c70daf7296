"""Makes an ONNX model folder of a BERT sentence encoder's safetensors.

    python export.py FROM TO

FROM is the folder of a sentence-transformers model (config.json,
model.safetensors, tokenizer.json, …); TO gets model.onnx beside the files that
say how texts become tokens and tokens a vector. `muonic serve TO` then answers
/v1/embeddings. Needs numpy and onnx, no torch.
"""

import json
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

DTYPES = {"F32": np.float32, "F16": np.float16, "I64": np.int64}
KEPT = ["config.json", "modules.json", "sentence_bert_config.json", "tokenizer.json", "1_Pooling/config.json"]
OPSET = 17
# Lets LayerNormalization and Gelu be what they are in the float32 original.
IR_VERSION = 8


def weights(path: Path) -> dict[str, np.ndarray]:
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    head = json.loads(data[8 : 8 + length])
    found = {}
    for name, entry in head.items():
        if name != "__metadata__":
            begin, end = (8 + length + at for at in entry["data_offsets"])
            found[name] = np.frombuffer(data[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return found


class Graph:
    """ONNX nodes as they are added; each answers the name of its output."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.weights, self.nodes, self.initializers, self.known = weights, [], [], {}

    def add(self, op: str, *inputs: str, **attributes) -> str:
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(h.make_node(op, list(inputs), [name], **attributes))
        return name

    def value(self, value, dtype) -> str:
        array = np.asarray(value, dtype)
        key = (array.tobytes(), str(array.dtype), array.shape)
        if key not in self.known:
            self.known[key] = f"c{len(self.known)}"
            self.initializers.append(numpy_helper.from_array(array, self.known[key]))
        return self.known[key]

    def weight(self, name: str, turn: bool = False) -> str:
        array = self.weights[name]
        if name not in self.known:
            self.known[name] = name
            self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array.T) if turn else array, name))
        return name

    def dense(self, x: str, name: str) -> str:
        return self.add("Add", self.add("MatMul", x, self.weight(f"{name}.weight", turn=True)), self.weight(f"{name}.bias"))

    def norm(self, x: str, name: str, epsilon: float) -> str:
        scale, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.add("LayerNormalization", x, scale, bias, axis=-1, epsilon=epsilon)

    def gelu(self, x: str) -> str:
        half, one = self.value(0.5, np.float32), self.value(1.0, np.float32)
        erf = self.add("Erf", self.add("Mul", x, self.value(np.sqrt(0.5), np.float32)))
        return self.add("Mul", self.add("Mul", x, half), self.add("Add", erf, one))


def encoder(config: dict, weights: dict[str, np.ndarray]) -> onnx.ModelProto:
    if config["model_type"] != "bert" or config["hidden_act"] != "gelu":
        raise SystemExit(f"not a BERT with gelu: {config['model_type']}, {config['hidden_act']}")
    g = Graph(weights)
    heads, hidden, epsilon = config["num_attention_heads"], config["hidden_size"], config["layer_norm_eps"]
    size = hidden // heads

    shape = g.add("Shape", "input_ids")
    length = g.add("Gather", shape, g.value(1, np.int64), axis=0)
    positions = g.add("Range", g.value(0, np.int64), length, g.value(1, np.int64))
    words = g.add("Gather", g.weight("embeddings.word_embeddings.weight"), "input_ids", axis=0)
    kinds = g.add("Gather", g.weight("embeddings.token_type_embeddings.weight"), "token_type_ids", axis=0)
    places = g.add("Gather", g.weight("embeddings.position_embeddings.weight"), positions, axis=0)
    x = g.norm(g.add("Add", g.add("Add", words, kinds), places), "embeddings.LayerNorm", epsilon)

    # 0 where a token counts, very small where it is padding.
    mask = g.add("Cast", "attention_mask", to=T.FLOAT)
    mask = g.add("Sub", mask, g.value(1.0, np.float32))
    mask = g.add("Mul", mask, g.value(1e9, np.float32))
    mask = g.add("Unsqueeze", mask, g.value([1, 2], np.int64))

    def split(x: str, name: str, order: list[int]) -> str:
        parted = g.add("Reshape", g.dense(x, name), g.value([0, 0, heads, size], np.int64))
        return g.add("Transpose", parted, perm=order)

    for n in range(config["num_hidden_layers"]):
        of = f"encoder.layer.{n}"
        query = split(x, f"{of}.attention.self.query", [0, 2, 1, 3])
        key = split(x, f"{of}.attention.self.key", [0, 2, 3, 1])
        value = split(x, f"{of}.attention.self.value", [0, 2, 1, 3])
        scores = g.add("Mul", g.add("MatMul", query, key), g.value(1 / np.sqrt(size), np.float32))
        share = g.add("Softmax", g.add("Add", scores, mask), axis=-1)
        seen = g.add("Transpose", g.add("MatMul", share, value), perm=[0, 2, 1, 3])
        seen = g.add("Reshape", seen, g.value([0, 0, hidden], np.int64))
        seen = g.dense(seen, f"{of}.attention.output.dense")
        x = g.norm(g.add("Add", seen, x), f"{of}.attention.output.LayerNorm", epsilon)
        wide = g.gelu(g.dense(x, f"{of}.intermediate.dense"))
        x = g.norm(g.add("Add", g.dense(wide, f"{of}.output.dense"), x), f"{of}.output.LayerNorm", epsilon)
    g.nodes.append(h.make_node("Identity", [x], ["last_hidden_state"]))

    names = ["input_ids", "attention_mask", "token_type_ids"]
    inputs = [h.make_tensor_value_info(name, T.INT64, ["batch", "length"]) for name in names]
    outputs = [h.make_tensor_value_info("last_hidden_state", T.FLOAT, ["batch", "length", hidden])]
    graph = h.make_graph(g.nodes, "encoder", inputs, outputs, g.initializers)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="muonic")
    onnx.checker.check_model(model)
    return model


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit("usage: python export.py FROM TO")
    source, target = map(Path, sys.argv[1:])
    config = json.loads((source / "config.json").read_text())
    target.mkdir(parents=True, exist_ok=True)
    onnx.save(encoder(config, weights(source / "model.safetensors")), target / "model.onnx")
    for name in KEPT:
        if (source / name).is_file():
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / name, target / name)


if __name__ == "__main__":
    main()
