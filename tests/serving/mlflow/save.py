"""Trains real models and saves each as MLflow does: save.py FOLDER. Beside each
lies `expected.json`: rows, and what MLflow's own scoring gives for them."""

import json
import os
import sys
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
import lightgbm  # noqa: E402
import mlflow.lightgbm  # noqa: E402
import mlflow.pyfunc  # noqa: E402
import mlflow.sklearn  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from mlflow.models import infer_signature  # noqa: E402
from sklearn.datasets import load_iris  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402

OUT = Path(sys.argv[1])
NEEDS = {"pip_requirements": str(Path(__file__).with_name("requirements.txt"))}


class Shop(mlflow.pyfunc.PythonModel):
    """Of strings, times, whole numbers and booleans; two columns for an answer."""

    def predict(self, context, model_input, params=None):
        price = np.where(model_input["member"], 0.9, 1.0) * model_input["count"]
        day = model_input["at"].dt.day_name()
        return pd.DataFrame({"label": model_input["item"].str.upper() + " on " + day, "price": price})


def save(name: str, sample: pd.DataFrame | np.ndarray) -> None:
    answer = mlflow.pyfunc.load_model(str(OUT / name)).predict(sample)
    frame = isinstance(sample, pd.DataFrame)
    rows = json.loads(sample.to_json(orient="split", index=False, date_format="iso")) if frame else sample.tolist()
    predictions = answer.to_dict("records") if isinstance(answer, pd.DataFrame) else np.asarray(answer).tolist()
    (OUT / f"{name}.json").write_text(json.dumps({"rows": rows, "predictions": predictions}))


def main() -> None:
    iris = load_iris(as_frame=True)
    x, y = iris.data, iris.target
    model = LogisticRegression(max_iter=500).fit(x, y)
    kind = {"serialization_format": "cloudpickle", **NEEDS}
    mlflow.sklearn.save_model(model, str(OUT / "columns"), signature=infer_signature(x, model.predict(x)), **kind)
    save("columns", x[::10])

    array = x.to_numpy().astype("float32")
    model = LogisticRegression(max_iter=500).fit(array, y)
    signature = infer_signature(array, model.predict_proba(array))
    mlflow.sklearn.save_model(model, str(OUT / "array"), signature=signature, pyfunc_predict_fn="predict_proba", **kind)
    save("array", array[::10])

    # A row without a value is one that this model takes.
    sparse = x.mask(np.random.default_rng(0).random(x.shape) < 0.2)
    data = lightgbm.Dataset(sparse, y)
    booster = lightgbm.train({"objective": "multiclass", "num_class": 3, "verbose": -1, "seed": 1}, data, 30)
    signature = infer_signature(x, booster.predict(x))
    metadata = {"muonic": {"workers": 2, "batches": True}}
    mlflow.lightgbm.save_model(booster, str(OUT / "lightgbm"), signature=signature, metadata=metadata, **NEEDS)
    save("lightgbm", sparse[::10])

    orders = pd.DataFrame(
        {
            "item": ["tea", "a, \"b\"", ""],
            "at": pd.to_datetime(["2024-02-29T10:00:00", "2024-03-01T00:00:00", "2025-01-01T23:59:59"]),
            "count": np.array([1, 2, 3], "int64"),
            "member": [True, False, True],
        }
    )
    signature = infer_signature(orders, Shop().predict(None, orders))
    mlflow.pyfunc.save_model(str(OUT / "shop"), python_model=Shop(), signature=signature, **NEEDS)
    save("shop", orders)


main()
