"""`muonic serve` of one model at a free port, by either runtime, and what
onnxruntime says in Python."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
import tritonclient.http as triton

ROOT = Path(__file__).resolve().parents[2]
BINARY = os.environ.get("MUONIC_TEST_BINARY", str(ROOT / "target" / "debug" / "muonic"))
MODELS = ROOT / "build" / "models"
MODELS_LONG = ROOT / "build" / "models-long"
LONG = "MUONIC_TEST_LONG" in os.environ
# The library that MUONIC_ONNXRUNTIME names, and the built-in runtime. A debug
# build of the latter is a hundred times slower: it gets short inputs only.
RUNTIMES = {"onnxruntime": [], "rten": ["--onnxruntime", "none"]}


@contextmanager
def served(model: Path, name: str, runtime: str = "onnxruntime") -> Iterator[str]:
    """Answers HOST:PORT."""
    command = [BINARY, "serve", str(model), "--name", name, "--port", "0", *RUNTIMES[runtime]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = re.search(r"http://([0-9.:]+)", process.stdout.readline())[1]
            platform = triton.InferenceServerClient(url).get_model_metadata(name)["platform"]
            assert platform == {"onnxruntime": "onnx_onnxv1", "rten": "onnx_rten"}[runtime]
            yield url
        finally:
            process.terminate()


class Reference:
    """The same file in this process."""

    def __init__(self, model: Path) -> None:
        self.session = onnxruntime.InferenceSession(str(model))

    def __call__(self, **inputs: np.ndarray) -> list[np.ndarray]:
        return self.session.run(None, inputs)


def furthest(one: np.ndarray, other: np.ndarray) -> float:
    assert one.shape == other.shape and one.dtype == other.dtype
    return float(np.abs(one - other).max())
