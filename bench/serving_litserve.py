"""The digits by LitServe, for bench/serving_apps.py; a module of its own, since its worker imports the class."""

import litserve
import numpy as np
from serving_apps import session


class Api(litserve.LitAPI):
    def __init__(self, path: str) -> None:
        super().__init__(api_path="/v2/models/digits/infer")
        self.path = path

    def setup(self, device) -> None:
        self.model = session(self.path)

    def decode_request(self, request: dict) -> np.ndarray:
        (x,) = request["inputs"]
        return np.asarray(x["data"], np.float32).reshape(x["shape"])

    def predict(self, x: np.ndarray) -> list:
        return self.model.run(None, {"images": x})

    def encode_response(self, found: list) -> dict:
        return {"outputs": [{"shape": x.shape, "data": x.ravel().tolist()} for x in found]}


def run(path: str, port: int) -> None:
    server = litserve.LitServer(Api(path), accelerator="cpu")
    server.run(host="127.0.0.1", port=port, log_level="warning", access_log=False, generate_client_file=False)
