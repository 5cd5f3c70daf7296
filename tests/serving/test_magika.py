"""Magika, which tells what kind of file some bytes are, asked in JSON."""

import concurrent.futures
import json
from pathlib import Path

import numpy as np
import pytest
import requests

from served import BINARY, MODELS, ROOT, Reference, served

FOLDER = MODELS / "magika" / "models" / "standard_v3_3"
MODEL = FOLDER / "model.onnx"
LABELS = json.loads((FOLDER / "config.min.json").read_text())["target_labels_space"]
EDGE, PADDING, BLOCK = 1024, 256, 4096
FILES = {
    BINARY: "elf",
    MODEL: "onnx",
    MODELS / "pyannote/audio/sample/sample.wav": "wav",
    ROOT / "Cargo.toml": "toml",
    ROOT / "README.md": "markdown",
    ROOT / "crates/muonic/src/main.rs": "rust",
    ROOT / "docs/openapi.json": "json",
    ROOT / "examples/speech/speech.py": "python",
    ROOT / "scripts/setup": "shell",
}


def features(path: str | Path) -> np.ndarray:
    """The first and the last bytes, white space left out, as the model takes them."""
    with open(path, "rb") as file:
        head = file.read(BLOCK).lstrip()[:EDGE]
        file.seek(max(0, Path(path).stat().st_size - BLOCK))
        tail = file.read(BLOCK).rstrip()[-EDGE:]
    row = np.full(2 * EDGE, PADDING, np.int32)
    row[: len(head)] = list(head)
    row[2 * EDGE - len(tail) :] = list(tail)
    return row


def ask(url: str, rows: np.ndarray) -> np.ndarray:
    tensor = {"name": "bytes", "datatype": "INT32", "shape": list(rows.shape), "data": rows.ravel().tolist()}
    answer = requests.post(f"http://{url}/v2/models/magika/infer", json={"inputs": [tensor]}, timeout=60)
    assert answer.ok, answer.text
    (output,) = answer.json()["outputs"]
    assert (output["name"], output["datatype"]) == ("target_label", "FP32")
    return np.array(output["data"], np.float32).reshape(output["shape"])


@pytest.fixture(scope="module")
def url():
    with served(MODEL, "magika") as url:
        yield url


def test_files_are_told_apart(url):
    rows = np.stack([features(path) for path in FILES])
    scores = ask(url, rows)
    assert [LABELS[n] for n in scores.argmax(1)] == list(FILES.values())
    assert scores.max(1).min() > 0.8
    assert np.abs(scores - Reference(MODEL)(bytes=rows)[0]).max() < 1e-5


def test_many_at_once_get_their_own(url):
    rows = np.stack([features(path) for path in FILES])
    expected = Reference(MODEL)(bytes=rows)[0]

    def off(n: int) -> float:
        at = n % len(rows)
        return np.abs(ask(url, rows[at : at + 1])[0] - expected[at]).max()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert max(pool.map(off, range(64))) < 1e-5


def test_a_file_is_known_without_onnxruntime():
    rows = features(ROOT / "Cargo.toml")[None]
    with served(MODEL, "magika", "rten") as url:
        scores = ask(url, rows)
    assert LABELS[scores[0].argmax()] == "toml"
    assert np.abs(scores - Reference(MODEL)(bytes=rows)[0]).max() < 1e-5
