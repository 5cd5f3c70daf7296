"""A pipeline of scikit-learn, exported by skl2onnx: columns of two types in,
names of classes and probabilities out."""

import numpy as np
import requests
import tritonclient.http as triton
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from served import Reference, served


def test_a_pipeline_answers_as_scikit_learn_does(tmp_path):
    wine = load_wine()
    numbers = wine.data.astype(np.float32)
    # One column as words, which the protocol has as BYTES.
    strength = np.where(numbers[:, :1] > 13, "strong", "light").astype(object)
    rows = np.concatenate([numbers[:, 1:], strength], axis=1)
    names = wine.target_names[wine.target]
    train, test, train_names, test_names = train_test_split(rows, names, random_state=0)
    columns = ColumnTransformer([("numbers", "passthrough", slice(0, 12)), ("strength", OneHotEncoder(), [12])])
    pipeline = make_pipeline(columns, RandomForestClassifier(50, random_state=0)).fit(train, train_names)

    types = [("numbers", FloatTensorType([None, 12])), ("strength", StringTensorType([None, 1]))]
    exported = to_onnx(pipeline, initial_types=types, options={"zipmap": False})
    model = tmp_path / "wine.onnx"
    model.write_bytes(exported.SerializeToString())

    with served(model, "wine") as url:
        inputs = [triton.InferInput("numbers", [len(test), 12], "FP32"), triton.InferInput("strength", [len(test), 1], "BYTES")]
        given = {"numbers": test[:, :12].astype(np.float32), "strength": test[:, 12:]}
        for tensor in inputs:
            tensor.set_data_from_numpy(given[tensor.name()])
        answer = triton.InferenceServerClient(url).infer("wine", inputs)
        labels = answer.as_numpy("label").astype(str)
        probabilities = answer.as_numpy("probabilities")

        # The same by rows with names, as MLflow's clients send them.
        asked = {"inputs": {name: array.tolist() for name, array in given.items()}}
        scored = requests.post(f"http://{url}/invocations", json=asked, timeout=60)
        assert scored.ok, scored.text

    assert (labels == pipeline.predict(test)).all() and (labels == test_names).mean() > 0.9
    assert np.abs(probabilities - pipeline.predict_proba(test)).max() < 1e-5
    expected = Reference(model)(**given)
    assert (labels == expected[0]).all() and np.abs(probabilities - expected[1]).max() < 1e-6
    assert scored.json()["outputs"]["label"] == labels.tolist()
