"""The servers of bench/serving.py, on loopback ports, and the load on them."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

from measure import ROOT, Bench
from peers import READY_TIMEOUT_S, Peer, free_port
from serving_models import Model, Request, as_json

PYTHON = ROOT / "build" / "bench" / "serving" / "bin" / "python"
APPS = Path(__file__).with_name("serving_apps.py")
GENERATOR = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "muonic-bench"


class Replica(Peer):
    """`muonic serve`, by itself."""

    def __init__(self, bench: Bench, model: Model, threads: int | None = None) -> None:
        self.name = f"serve-{model.name}"
        super().__init__(bench.folder)
        self.bench, self.model = bench, model
        self.threads = [] if threads is None else ["--threads", str(threads)]

    def command(self) -> list[str]:
        path, name = str(self.model.path), self.model.name
        return [self.bench.binary, "serve", path, "--name", name, "--port", str(self.port), *self.threads]

    def ready(self) -> bool:
        return answers(self.endpoint + "/v2/health/ready")

    def timed_start(self) -> float:
        """Seconds from its start until it says that it is ready, asked every 2 ms."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        log = subprocess.DEVNULL
        began = time.perf_counter()
        self.process = subprocess.Popen(self.command(), stdin=log, stdout=log, stderr=log, start_new_session=True)
        while not self.ready():
            if self.process.poll() is not None or time.perf_counter() - began > READY_TIMEOUT_S:
                raise RuntimeError(f"{self.name} does not start")
            time.sleep(0.002)
        return time.perf_counter() - began


class App(Peer):
    """One of bench/serving_apps.py."""

    def __init__(self, bench: Bench, name: str, kind: str, model: Model, workers: int = 1) -> None:
        self.name = name
        super().__init__(bench.folder)
        self.kind, self.model, self.workers = kind, model, workers

    def missing(self) -> str | None:
        if not PYTHON.exists():
            return "bench/serving-requirements.txt is not installed"
        known = subprocess.run([PYTHON, "-c", f"import {self.kind}"], capture_output=True, text=True, check=False)
        return None if known.returncode == 0 else known.stderr.strip().splitlines()[-1][:200]

    def command(self) -> list[str]:
        path = str(self.model.path)
        return [str(PYTHON), str(APPS), self.kind, path, "--port", str(self.port), "--workers", str(self.workers)]

    def stop(self) -> None:
        """With the workers that outlive it."""
        super().stop()
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def ready(self) -> bool:
        """Some listen before they can answer."""
        asked = as_json(self.folder, self.model)
        return answers(self.endpoint + asked.path, asked.body.read_bytes())


def answers(url: str, body: bytes | None = None) -> bool:
    try:
        request = urllib.request.Request(url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=2) as answer:
            answer.read()
            return True
    except (OSError, http.client.HTTPException):
        return False


def bare(model: Model, folder: Path, seconds: float, batch: int = 1) -> float:
    """Calls a second of onnxruntime in a loop, in a process of its own."""
    inputs = folder / f"{model.name}.npz"
    command = [str(PYTHON), str(APPS), "bare", str(model.path), str(inputs), "--batch", str(batch), "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the loop around onnxruntime failed: {done.stderr[-300:]}")
    return float(done.stdout)


def post(address: str, request: Request, connections: int, seconds: float, *more: str, refusals: bool = False) -> dict:
    """One run of the load generator; fails where an answer was no success, unless refusals are what is measured."""
    command = load(address, request, connections, seconds, *more)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip()[:300] or f"the generator ended with {done.returncode}")
    found = json.loads(done.stdout)
    if found["errors"] and not refusals:
        raise RuntimeError(f"{found['errors']} errors, {found['ops']} successes: {found.get('error', '')[:300]}")
    return found


def load(address: str, request: Request, connections: int, seconds: float, *more: str) -> list[str]:
    headers = [f"--header={header}" for header in request.headers]
    kind = ["--grpc"] if request.grpc else []
    size = ["--connections", str(connections), "--seconds", str(seconds)]
    return [str(GENERATOR), "post", "--url", address + request.path, "--body", str(request.body), *headers, *kind, *size, *more]


def rate(found: dict) -> float:
    return found["ops"] / found["seconds"] if found["seconds"] else 0.0
