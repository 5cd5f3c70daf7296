"""The examples run as their own README says, without a server."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx.reference
import pytest

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "examples" / "digits"


def run(script: str, *args: str, **env: str) -> str:
    command = [sys.executable, str(DIGITS / script), *args]
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("digits")
    run("prepare.py", "--out", str(out), "--seed", "7")
    return out


def train(data: Path, out: Path, hps: dict, test: bool = True) -> str:
    env = {"SM_CHANNEL_TRAIN": str(data / "train"), "SM_MODEL_DIR": str(out), "SM_OUTPUT_DATA_DIR": str(out)}
    if test:
        env["SM_CHANNEL_TEST"] = str(data / "test")
    return run("train.py", **env, SM_HPS=json.dumps(hps))


def test_same_seed_same_bytes(data, tmp_path):
    run("prepare.py", "--out", str(tmp_path), "--seed", "7")
    for name in ["train/images.npy", "train/labels.npy", "test/images.npy", "test/labels.npy"]:
        assert (tmp_path / name).read_bytes() == (data / name).read_bytes()


def test_split_is_by_example(data):
    train_images, test_images = (np.load(data / part / "images.npy") for part in ["train", "test"])
    assert (len(train_images), len(test_images)) == (1347, 450)
    held_out = {row.tobytes() for row in test_images}
    assert not any(row.tobytes() in held_out for row in train_images)


def test_epochs_are_printed_as_metrics(data, tmp_path):
    lines = train(data, tmp_path, {"epochs": 3}).splitlines()
    pairs = re.compile(r"(\w+=-?[0-9.]+)( \w+=-?[0-9.]+)*")
    metrics = [line for line in lines if pairs.fullmatch(line)]
    assert [line.split()[0] for line in metrics] == ["epoch=1", "epoch=2", "epoch=3"] + metrics[3:]
    assert metrics[3].startswith("test_accuracy=")


def test_training_reads_no_held_out_image(data, tmp_path):
    assert "test_accuracy" not in train(data, tmp_path / "a", {"epochs": 2}, test=False)
    train(data, tmp_path / "b", {"epochs": 2}, test=True)
    assert (tmp_path / "a" / "model.onnx").read_bytes() == (tmp_path / "b" / "model.onnx").read_bytes()


def test_the_onnx_model_agrees_with_the_script_and_more_training_is_better(data, tmp_path):
    images = np.load(data / "test" / "images.npy").astype(np.float32)
    labels = np.load(data / "test" / "labels.npy")
    accuracies = []
    for name, hps in [("weak", {}), ("better", {"hidden": 96, "epochs": 40})]:
        out = tmp_path / name
        train(data, out, hps)
        model = onnx.reference.ReferenceEvaluator(str(out / "model.onnx"))
        label, probabilities = model.run(["label", "probabilities"], {"images": images})
        assert probabilities.shape == (450, 10)
        said = json.loads((out / "metrics.json").read_text())["test_accuracy"]
        assert abs(float((label == labels).mean()) - said) <= 1 / len(labels)
        accuracies.append(said)
    weak, better = accuracies
    assert weak > 0.8 and better > weak


def test_handler_names_the_nearest_colour():
    folder = ROOT / "examples" / "handler"
    spec = importlib.util.spec_from_file_location("handler", folder / "handler.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    out = module.Handler(str(folder)).predict({"rgb": [[250, 10, 10], [0, 0, 0]]})
    assert out["name"] == ["red", "black"]
    assert out["distance"][1] == 0.0
