"""Calls an endpoint as any client would: Open Inference Protocol v2, JSON over HTTP."""

import http.client
import json
import threading
import time
from collections import Counter

import numpy as np

from server import Server
from show import Failure


def body(image: np.ndarray) -> bytes:
    """A request for one image."""
    pixels = [float(pixel) for pixel in image]
    tensor = {"name": "images", "shape": [1, len(pixels)], "datatype": "FP32", "data": pixels}
    return json.dumps({"inputs": [tensor]}).encode()


class Endpoint:
    """A kept-open connection to one endpoint."""

    def __init__(self, server: Server, name: str) -> None:
        self.path = f"/endpoints/{name}/v2/models/{name}/infer"
        self.headers = {"authorization": f"Bearer {server.token}", "content-type": "application/json"}
        self.connection = server.connect(timeout=30)

    def infer(self, request: bytes) -> tuple[int, dict]:
        self.connection.request("POST", self.path, request, self.headers)
        response = self.connection.getresponse()
        answer = response.read()
        return response.status, json.loads(answer)

    def close(self) -> None:
        self.connection.close()


def digit(answer: dict) -> int:
    (output,) = (o for o in answer["outputs"] if o["name"] == "label")
    return int(output["data"][0])


class Evaluation:
    """Sends every image once and compares the answers with the labels."""

    def __init__(self, server: Server, name: str, images: np.ndarray, labels: np.ndarray) -> None:
        endpoint = Endpoint(server, name)
        right, times = 0, []
        self.first: dict = {}
        for image, label in zip(images, labels):
            request = body(image)
            began = time.perf_counter()
            status, answer = endpoint.infer(request)
            times.append(time.perf_counter() - began)
            if status != 200:
                raise Failure(f"the endpoint answered {status}: {answer}")
            self.first = self.first or answer
            right += digit(answer) == int(label)
        endpoint.close()
        self.right, self.count = right, len(labels)
        self.accuracy = right / len(labels)
        self.p50_ms, self.p99_ms = (float(np.percentile(times, p)) * 1000 for p in (50, 99))


class Load:
    """Clients that send one request after the other until told to stop.

    A request fails when it is not answered with 200 and a digit; nothing is
    sent twice.
    """

    def __init__(self, server: Server, name: str, images: np.ndarray, clients: int = 2) -> None:
        self.requests = [body(image) for image in images]
        self.answered = 0
        self.failures: Counter[str] = Counter()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(server, name, n)) for n in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, server: Server, name: str, n: int) -> None:
        endpoint = Endpoint(server, name)
        while not self._stop.is_set():
            n = (n + 1) % len(self.requests)
            try:
                status, answer = endpoint.infer(self.requests[n])
                failure = None if status == 200 else f"status {status}"
                if failure is None:
                    digit(answer)
            except (OSError, ValueError, KeyError, IndexError, http.client.HTTPException) as error:
                failure = f"{type(error).__name__}: {error}"
                endpoint.close()
                endpoint = Endpoint(server, name)
            with self._lock:
                if failure is None:
                    self.answered += 1
                else:
                    self.failures[failure] += 1
            # Load, not starvation: the release runs on the same few cores.
            time.sleep(0.001)
        endpoint.close()

    @property
    def failed(self) -> int:
        return sum(self.failures.values())
