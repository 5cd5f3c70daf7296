"""Models that MLflow has saved (scikit-learn, LightGBM, a class), served with
the environment that they ask for: the answers are those of MLflow itself."""

import concurrent.futures
import contextlib
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import requests

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "demo"))
from server import Server  # noqa: E402 (it lies with the demo)

BINARY = os.environ.get("MUONIC_TEST_BINARY", str(ROOT / "target" / "debug" / "muonic"))
BIN = Path(sys.executable).parent
SAVE = Path(__file__).parent / "mlflow"


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """All environments of these tests are one, built by uv in a place of their own."""
    cache = tmp_path_factory.mktemp("cache")
    return {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(cache)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory, environment) -> Path:
    out, env = tmp_path_factory.mktemp("mlflow"), {**environment, "UV_LINK_MODE": "hardlink"}
    python = out / "venv" / "bin" / "python"
    uv = [str(BIN / "uv"), "--quiet"]
    subprocess.run([*uv, "venv", "--python", sys.executable, out / "venv"], env=env, check=True)
    subprocess.run([*uv, "pip", "install", "--python", python, "-r", SAVE / "requirements.txt"], env=env, check=True)
    subprocess.run([python, SAVE / "save.py", out], check=True)
    return out


@contextlib.contextmanager
def serving(folder: Path, environment: dict[str, str]):
    command = [BINARY, "serve", str(folder), "--name", "m", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield re.search(r"http://[0-9.:]+", process.stdout.readline())[0]
        finally:
            process.terminate()


def expected(saved: Path, name: str) -> tuple[object, object]:
    known = json.loads((saved / f"{name}.json").read_text())
    return known["rows"], known["predictions"]


def invoke(url: str, body: object, kind: str = "application/json") -> requests.Response:
    data = body if isinstance(body, str) else json.dumps(body)
    return requests.post(f"{url}/invocations", data=data, headers={"content-type": kind, "accept": "application/json"}, timeout=60)


def as_csv(frame: dict) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(frame["columns"])
    writer.writerows(["" if value is None else value for value in row] for row in frame["data"])
    return out.getvalue()


def records(frame: dict) -> list[dict]:
    return [dict(zip(frame["columns"], row)) for row in frame["data"]]


def same(answer: requests.Response, predictions: object) -> None:
    assert answer.status_code == 200, answer.text
    got = answer.json()["predictions"]
    if isinstance(predictions[0], dict):
        assert got == predictions
    else:
        assert np.allclose(got, predictions, rtol=1e-12, atol=0)


def check_columns(url: str, frame: dict, predictions: object) -> None:
    """In all the forms that MLflow's scoring server takes."""
    same(invoke(url, {"dataframe_split": frame}), predictions)
    same(invoke(url, {"dataframe_split": {**frame, "index": list(range(len(frame["data"])))}}), predictions)
    turned = {"columns": [*frame["columns"][::-1], "more"], "data": [[*row[::-1], 1] for row in frame["data"]]}
    same(invoke(url, {"dataframe_split": turned}), predictions)
    same(invoke(url, {"dataframe_records": records(frame)}), predictions)
    same(invoke(url, {"instances": records(frame)}), predictions)
    same(invoke(url, {"instances": frame["data"]}), predictions)
    same(invoke(url, {"inputs": frame["data"]}), predictions)
    same(invoke(url, as_csv(frame), "text/csv"), predictions)


def infer(url: str, inputs: list[dict], at: str = "/v2/models/m/infer") -> dict:
    answer = requests.post(f"{url}{at}", json={"inputs": inputs}, timeout=60)
    assert answer.status_code == 200, answer.text
    return {output["name"]: np.array(output["data"]).reshape(output["shape"]) for output in answer.json()["outputs"]}


def columns(frame: dict, datatypes: dict[str, str]) -> list[dict]:
    rows = len(frame["data"])
    return [
        {"name": name, "datatype": datatypes.get(name, "FP64"), "shape": [rows], "data": [row[at] for row in frame["data"]]}
        for at, name in enumerate(frame["columns"])
    ]


def test_scikit_learn_by_columns(saved, environment):
    frame, predictions = expected(saved, "columns")
    with serving(saved / "columns", environment) as url:
        about = requests.get(f"{url}/v2/models/m", timeout=60).json()
        assert about["platform"] == "mlflow_pyfunc"
        assert about["inputs"] == [{"name": name, "datatype": "FP64", "shape": [-1]} for name in frame["columns"]]
        assert about["outputs"] == [{"name": "predictions", "datatype": "INT64", "shape": [-1]}]
        check_columns(url, frame, predictions)
        assert infer(url, columns(frame, {}))["predictions"].tolist() == predictions
        named = {"inputs": {name: [row[at] for row in frame["data"]] for at, name in enumerate(frame["columns"])}}
        assert invoke(url, named).json()["outputs"] == predictions
        first = {"columns": frame["columns"][1:], "data": [row[1:] for row in frame["data"]]}
        for body, status, why in [
            ({"dataframe_split": first}, 400, "the model's input 'sepal length (cm)' is missing"),
            ({"dataframe_split": frame, "params": {"a": 1}}, 501, "not implemented: params"),
            ({"instances": [[1, 2, 3, "x"]]}, 400, "row 0, 'petal width (cm)'"),
        ]:
            answer = invoke(url, body)
            assert (answer.status_code, why in answer.text) == (status, True), answer.text


def test_scikit_learn_by_an_array(saved, environment):
    rows, predictions = expected(saved, "array")
    with serving(saved / "array", environment) as url:
        about = requests.get(f"{url}/v2/models/m", timeout=60).json()
        assert about["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 4]}]
        tensor = {"name": "input", "datatype": "FP32", "shape": [len(rows), 4], "data": rows}
        assert np.allclose(infer(url, [tensor])["predictions"], predictions)
        for body in [{"instances": rows}, {"dataframe_split": {"columns": list("abcd"), "data": rows}}]:
            same(invoke(url, body), predictions)
        assert np.allclose(invoke(url, {"inputs": rows}).json()["outputs"], predictions)
        same(invoke(url, "\n".join(",".join(map(str, row)) for row in rows), "text/csv"), predictions)


def test_lightgbm_with_values_missing_and_two_workers(saved, environment):
    frame, predictions = expected(saved, "lightgbm")
    assert any(value is None for row in frame["data"] for value in row)
    with serving(saved / "lightgbm", environment) as url:
        check_columns(url, frame, predictions)

        def ask(n: int) -> None:
            row, expected = frame["data"][n % len(frame["data"])], predictions[n % len(predictions)]
            same(invoke(url, {"dataframe_split": {"columns": frame["columns"], "data": [row]}}), [expected])

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(ask, range(400)))


def test_strings_times_and_answers_in_columns(saved, environment):
    frame, predictions = expected(saved, "shop")
    datatypes = {"item": "BYTES", "at": "BYTES", "count": "INT64", "member": "BOOL"}
    with serving(saved / "shop", environment) as url:
        about = requests.get(f"{url}/v2/models/m", timeout=60).json()
        assert {port["name"]: port["datatype"] for port in about["inputs"]} == datatypes
        check_columns(url, frame, predictions)
        got = infer(url, columns(frame, datatypes))
        assert got["label"].tolist() == [row["label"] for row in predictions]
        assert got["price"].tolist() == [row["price"] for row in predictions]
        assert invoke(url, {"instances": [["tea", "no day", 1, True]]}).status_code == 422


def test_behind_an_endpoint(saved, environment, tmp_path):
    model = tmp_path / "columns"
    # As old versions of MLflow leave it.
    shutil.copytree(saved / "columns", model)
    (model / "requirements.txt").unlink()
    data = tmp_path / "data"
    env = {**environment, "MUONIC_DATA": str(data)}
    server = Server(BINARY, data, tmp_path / "log", env)

    def muonic(*args: str) -> None:
        done = subprocess.run([BINARY, *args], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + done.stdout

    server.start()
    try:
        muonic("model", "register", "iris", str(model))
        muonic("deploy", "iris@1", "--name", "iris", "--resources", "cpu=250m,memory=1Gi")
        frame, predictions = expected(saved, "columns")
        body, head = json.dumps({"dataframe_split": frame}), {"authorization": f"Bearer {server.token}"}
        url = f"{server.url}/endpoints/iris/invocations"
        same(requests.post(url, data=body, headers={**head, "content-type": "application/json"}, timeout=60), predictions)
        url = f"{server.url}/endpoints/iris/v2/models/iris/infer"
        answer = requests.post(url, json={"inputs": columns(frame, {})}, headers=head, timeout=60)
        assert answer.json()["outputs"][0]["data"] == predictions
        muonic("endpoint", "delete", "iris", "--yes")
    finally:
        server.stop()
