"""Walks the loop: data, resources, training, registry, deployment, operation.

Started by ./demo. Every command is shown as it is run; what must hold is
checked over the API, and the exit status is 1 where something did not.
"""

import argparse
import http.client
import json
import os
import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from client import Evaluation, Load
from server import Server
from show import Failure, Show

ROOT = Path(__file__).resolve().parents[2]
ASK = "cpu=1,memory=1Gi"
SERVE = "cpu=250m,memory=512Mi"
INPUTS = ["--input", "train=digits@1", "--input", "test=digits-heldout@1"]
BETTER = ["--param", "hidden=96", "--param", "epochs=40"]
RELEASE_TIMEOUT_S = 60


class Walk:
    def __init__(self, show: Show, server: Server, files: Path) -> None:
        self.show, self.server, self.files = show, server, files
        self.script_accuracy = 0.0

    def run(self) -> None:
        self.start()
        self.data()
        self.resources()
        self.training()
        self.registry()
        self.deployment()
        self.operation()

    def start(self) -> None:
        show, server = self.show, self.server
        with show.step("server", "one process on a fresh data folder and free ports"):
            show.say(f"$ {shlex.join(['muonic', *server.command[1:]])}")
            seconds = server.start()
            secret = json.loads((server.data / "local.json").read_text())["secret"]
            for line in server.log.read_text(errors="replace").splitlines()[:12]:
                # A key is shown once, and not in a log that people pass on.
                show.say("  " + line.replace(secret, "…"))
            show.say(f"ready after {seconds * 1000:.0f} ms")

    def data(self) -> None:
        show, server = self.show, self.server
        with show.step("data", "handwritten digits become immutable, content-addressed versions"):
            prepare = ["examples/digits/prepare.py", "--out", str(self.files), "--seed", "7"]
            show.run([sys.executable, *prepare], shlex.join(["python", *prepare]))
            show.muonic("data", "put", "digits", str(self.files / "train"))
            stored = server.call("GET", "/status")["stored_bytes"]
            show.muonic("data", "put", "digits", str(self.files / "train"))
            versions = server.call("GET", "/datasets/digits/versions")["versions"]
            same = server.call("GET", "/status")["stored_bytes"] == stored
            once = len(versions) == 1 and same
            show.promise(once, "uploading the same files again stored nothing and made no version")
            show.muonic("data", "put", "digits-heldout", str(self.files / "test"))
            show.muonic("data", "ls")

    def resources(self) -> None:
        show = self.show
        with show.step("resources", "what the machine has, and a job that asks for a part of it"):
            show.muonic("status", lines=20)
            self.submit("--detach")
            show.muonic("job", "ls")

    def submit(self, *options: str) -> None:
        self.show.muonic(
            "job", "run", "examples/digits", "--name", "train", "--resources", ASK, *INPUTS, "--model", "digits",
            *options, "--", "python", "train.py",
            lines=16,
        )  # fmt: skip

    def training(self) -> None:
        show, server = self.show, self.server
        with show.step("training", "plain scikit-learn, live log, metrics found in it"):
            show.muonic("job", "logs", "train-1", "-f", lines=24)
            job = self.finished("train-1")
            show.muonic("job", "show", "train-1", lines=30)
            points = server.call("GET", "/jobs/train-1/metrics?name=loss")["points"]
            epochs = {point["step"] for point in points}
            show.promise(epochs == set(range(1, 7)), f"the loss of each of 6 epochs is recorded ({len(epochs)} found)")
            self.script_accuracy = job["metrics"]["test_accuracy"]

            show.say("")
            show.say("the same requirements again: the environment is there already")
            seconds = show.muonic(
                "job", "run", "examples/digits", "--name", "again", "--resources", ASK, "--input", "train=digits@1",
                "--param", "epochs=1", "--", "python", "train.py",
                wait_for="training:",
            )  # fmt: skip
            again = self.finished("again-1")
            one, other = (j["attempts"][-1]["environment"] for j in (job, again))
            show.promise(one is not None and one == other, "both jobs ran in the environment with the same hash")
            text = f"from the command to its first line of user code: {seconds:.2f} s (aim: under 1 s)"
            show.promise(seconds < 1.0, text, timed=True)

    def finished(self, job_id: str) -> dict:
        job = self.server.call("GET", f"/jobs/{job_id}/wait?timeout_s=60")
        if job["state"] != "succeeded":
            raise Failure(f"job {job_id} is {job['state']}: {job['reason']}")
        return job

    def registry(self) -> None:
        show, server = self.show, self.server
        with show.step("registry", "the job's output is a model version that knows where it came from"):
            show.muonic("model", "ls")
            show.muonic("model", "show", "digits@1", lines=30)
            version = server.call("GET", "/models/digits/versions/1")
            source = version["source"]
            data = source.get("inputs", {}).get("train", {})
            newest = server.call("GET", "/datasets/digits/versions/1")
            known = (
                source.get("attempt") == "train-1.1"
                and source.get("code")
                and source.get("environment")
                and (data.get("name"), data.get("version")) == ("digits", 1)
                and data.get("digest") == newest["tree"]["digest"]
                and "test_accuracy" in version["metrics"]
            )
            show.promise(bool(known), "digits@1 names its attempt, code, environment, dataset hash and metrics")
            show.muonic("model", "alias", "digits", "champion", "1")

    def deployment(self) -> None:
        show = self.show
        with show.step("deployment", "one command to an endpoint; the held-out images are sent to it"):
            show.muonic("deploy", "digits@1", "--name", "digits", "--resources", SERVE)
            result = self.evaluate()
            answer = json.dumps(result.first)
            show.say(f"first answer: {answer if len(answer) < 300 else answer[:300] + '…'}")
            self.compare(result, self.script_accuracy)

    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        return np.load(self.files / "test" / "images.npy"), np.load(self.files / "test" / "labels.npy")

    def evaluate(self) -> Evaluation:
        images, labels = self.held_out()
        self.show.say("")
        url = f"{self.server.url}/endpoints/digits/v2/models/digits/infer"
        self.show.say(f"POST {url}, {len(labels)} times, one image each")
        result = Evaluation(self.server, "digits", images, labels)
        latency = f"p50 {result.p50_ms:.2f} ms, p99 {result.p99_ms:.2f} ms"
        self.show.say(f"latency: {latency} (JSON, this Python client included)")
        return result

    def compare(self, result: Evaluation, script: float) -> None:
        """The endpoint computes in 32 bits throughout, so one image of
        hundreds may fall on the other side of a tie."""
        over_http = f"{result.accuracy:.4f} ({result.right} of {result.count})"
        self.show.promise(
            abs(result.accuracy - script) <= 1.001 / result.count,
            f"accuracy over HTTP {over_http}, by the training script {script:.4f}",
        )

    def operation(self) -> None:
        show, server = self.show, self.server
        with show.step("operation", "a better version, released and rolled back under load; logs, cost, lineage"):
            self.submit(*BETTER)
            better = self.finished("train-2")["metrics"]["test_accuracy"]
            better_text = f"version 2 is better: {self.script_accuracy:.4f} → {better:.4f}"
            show.promise(better > self.script_accuracy, better_text)
            images, _ = self.held_out()
            with Load(server, "digits", images) as load:
                show.muonic("endpoint", "release", "digits", "digits@2")
                self.serving(2)
                self.compare(self.evaluate(), better)
                show.muonic("endpoint", "rollback", "digits")
                self.serving(1)
                self.compare(self.evaluate(), self.script_accuracy)
            reasons = "".join(f"; {count} x {reason}" for reason, count in load.failures.most_common(3))
            show.promise(
                load.failed == 0 and load.answered > 0,
                f"failed requests under release and rollback: {load.failed} of {load.answered + load.failed}{reasons}",
            )
            show.muonic("endpoint", "show", "digits", lines=24)
            show.muonic("job", "logs", "train-2", lines=3)
            show.muonic("endpoint", "logs", "digits", lines=4)
            self.prometheus()
            show.muonic("cost", lines=16)
            show.muonic("lineage", "endpoint/digits", lines=40)

    def serving(self, version: int) -> None:
        """Waits until the endpoint is ready and serves that version."""
        deadline = time.monotonic() + RELEASE_TIMEOUT_S
        while True:
            endpoint = self.server.call("GET", "/endpoints/digits")
            active = [r for r in endpoint["revisions"] if r["number"] == endpoint["active"]]
            if endpoint["state"] == "ready" and active and active[0]["model"]["version"] == version:
                return
            if time.monotonic() > deadline:
                raise Failure(f"the endpoint does not serve digits@{version} after {RELEASE_TIMEOUT_S} s: {endpoint}")
            time.sleep(0.02)

    def prometheus(self) -> None:
        status, text = self.server.fetch("GET", "/metrics")
        if status != 200:
            raise Failure(f"GET /metrics answered {status}")
        samples = [line for line in text.decode().splitlines() if line and not line.startswith("#")]
        self.show.say("")
        self.show.say(f"GET {self.server.url}/metrics ({len(samples)} samples for Prometheus)")
        for line in [s for s in samples if "digits" in s and "bucket" not in s][:4]:
            self.show.say(f"  {line}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Walk the loop on this machine.")
    parser.add_argument("--binary", required=True, help="the muonic program")
    parser.add_argument("--data", type=Path, help="data folder of the server (new or empty); a temporary one without")
    parser.add_argument("--keep", action="store_true", help="leave the server running")
    args = parser.parse_args()

    if args.data and args.data.exists() and (not args.data.is_dir() or any(args.data.iterdir())):
        print(f"demo: {args.data} is not an empty folder; name a new one with --data", file=sys.stderr)
        return 2
    base = Path(tempfile.mkdtemp(prefix="muonic-demo-"))
    data = (args.data or base / "data").absolute()
    env = {**os.environ, "MUONIC_DATA": str(data)}
    for name in ("MUONIC_SERVER", "MUONIC_TOKEN"):
        env.pop(name, None)

    def interrupted(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupted)
    show = Show(args.binary, env, str(ROOT))
    server = Server(args.binary, data, base / "server.log", env)
    kept, problem = False, None
    try:
        Walk(show, server, base / "digits").run()
        kept = show.summary()
    except Failure as failure:
        problem = str(failure)
    except KeyboardInterrupt:
        problem = "interrupted"
    except (OSError, ValueError, LookupError, http.client.HTTPException) as error:
        problem = f"{type(error).__name__}: {error}"
    finally:
        if not (args.keep and problem is None):
            server.stop()
    if problem:
        print(f"\ndemo: {problem}\n      the server's output is in {server.log}", file=sys.stderr)
        return 1
    farewell(args, server)
    return 0 if kept else 1


def farewell(args: argparse.Namespace, server: Server) -> None:
    print()
    places = {"data": server.data, "images": server.log.parent / "digits", "server's output": server.log}
    for what, path in places.items():
        print(f"   {what:<17}{path}")
    print()
    binary = shlex.quote(os.path.relpath(args.binary, ROOT))
    data = shlex.quote(str(server.data))
    if args.keep:
        print(f"   The server still runs as process {server.process.pid}. Stop it with: kill {server.process.pid}")
    else:
        print("   The server is stopped. Open the same by hand:")
        print(f"     {binary} up --data {data}")
    print(f"     export MUONIC_DATA={data}")
    print(f"     {binary} lineage endpoint/digits")


if __name__ == "__main__":
    sys.exit(main())
