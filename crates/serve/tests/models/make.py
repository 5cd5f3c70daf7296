"""Makes the small ONNX models beside it: `python make.py` (needs `onnx`)."""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper as h

HERE = pathlib.Path(__file__).parent


def save(name, nodes, inputs, outputs, initializers=(), ml=False):
    opsets = [h.make_opsetid("", 17)] + ([h.make_opsetid("ai.onnx.ml", 3)] if ml else [])
    graph = h.make_graph(nodes, name, inputs, outputs, list(initializers))
    model = h.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="muonic-tests")
    onnx.checker.check_model(model)
    (HERE / f"{name}.onnx").write_bytes(model.SerializeToString())


def v(name, ty, shape):
    return h.make_tensor_value_info(name, ty, shape)


# y = x + [1, 2, 3]
save("add", [h.make_node("Add", ["x", "c"], ["y"])], [v("x", T.FLOAT, ["n", 3])], [v("y", T.FLOAT, ["n", 3])],
     [h.make_tensor("c", T.FLOAT, [3], [1, 2, 3])])

# y = 2 x, for whatever shape of two dimensions.
save("double", [h.make_node("Add", ["x", "x"], ["y"])], [v("x", T.FLOAT, [None, None])], [v("y", T.FLOAT, [None, None])])

# One output for each input, equal to it.
types = {"BOOL": T.BOOL, "UINT8": T.UINT8, "UINT16": T.UINT16, "UINT32": T.UINT32, "UINT64": T.UINT64, "INT8": T.INT8,
         "INT16": T.INT16, "INT32": T.INT32, "INT64": T.INT64, "FP16": T.FLOAT16, "FP32": T.FLOAT, "FP64": T.DOUBLE,
         "BYTES": T.STRING}
save("types", [h.make_node("Identity", [f"in_{n}"], [f"out_{n}"]) for n in types],
     [v(f"in_{n}", t, [None, None]) for n, t in types.items()],
     [v(f"out_{n}", t, [None, None]) for n, t in types.items()])

# Shapes that only the run can find not to fit.
save("matmul", [h.make_node("MatMul", ["a", "b"], ["c"])], [v("a", T.FLOAT, [None, None]), v("b", T.FLOAT, [None, None])],
     [v("c", T.FLOAT, [None, None])])

# A scalar in, a scalar out.
save("scalar", [h.make_node("Neg", ["x"], ["y"])], [v("x", T.DOUBLE, [])], [v("y", T.DOUBLE, [])])

# Turns `n` times: as slow as one likes.
body = h.make_graph(
    [h.make_node("Identity", ["go"], ["again"]), h.make_node("Add", ["sum", "one"], ["next"])], "body",
    [v("i", T.INT64, []), v("go", T.BOOL, []), v("sum", T.INT64, [])], [v("again", T.BOOL, []), v("next", T.INT64, [])],
    [h.make_tensor("one", T.INT64, [], [1])])
save("loop", [h.make_node("Loop", ["n", "", "zero"], ["turns"], body=body)], [v("n", T.INT64, [])], [v("turns", T.INT64, [])],
     [h.make_tensor("zero", T.INT64, [], [0])])

# What scikit-learn's converter makes of a linear classifier: labels and, with
# zipmap, a sequence of maps; without, a tensor of probabilities.
rng = np.random.default_rng(0)
linear = h.make_node("LinearClassifier", ["x"], ["label", "scores"], domain="ai.onnx.ml", classlabels_ints=[0, 1, 2],
                     coefficients=rng.normal(size=12).round(2).tolist(), intercepts=[0.5, 0.0, -0.5], multi_class=1,
                     post_transform="SOFTMAX")
zip_node = h.make_node("ZipMap", ["scores"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2])
x, label = v("x", T.FLOAT, [None, 4]), v("label", T.INT64, [None])
maps = h.make_value_info("maps", h.make_sequence_type_proto(h.make_map_type_proto(T.INT64, h.make_tensor_type_proto(T.FLOAT, []))))
save("classifier", [linear], [x], [label, v("scores", T.FLOAT, [None, 3])], ml=True)
save("zipmap", [linear, zip_node], [x], [label, maps], ml=True)
save("only_maps", [linear, zip_node], [x], [maps], ml=True)
