"""Models behind `muonic up`: what the gateway adds, and first requests to endpoints that sleep."""

import http.client
import json
import statistics
import subprocess
import threading
import time
import urllib.parse

from measure import Bench, Row, Server, interleaved
from serving_models import Model, Request, as_binary, as_json
from serving_peers import Replica, load, post, rate
from store import note

CONNECTIONS, OPEN_CONNECTIONS, OPEN_RATE = 64, 64, 1_000
SLEEPERS, BESIDE_RATE = 4, 100
SLEEP_TIMEOUT_S = 60
# As many as a key may have: a limit is looked at, and never bites.
NO_LIMIT = str(2**32 - 1)


class Cloud:
    """`muonic up` with a key that may call endpoints."""

    def __init__(self, bench: Bench, name: str) -> None:
        self.bench, self.server = bench, bench.server(name)

    def __enter__(self) -> "Cloud":
        try:
            self.server.start()
            limits = ["--requests-per-minute", NO_LIMIT, "--tokens-per-minute", NO_LIMIT]
            made = self.muonic("key", "create", "bench", "--role", "invoker", *limits, "--output", "json")
            key = json.loads(made)
            self.token = f"{key['id']}.{key['secret']}"
        except BaseException:
            self.server.stop()
            raise
        return self

    def __exit__(self, *_) -> None:
        self.server.stop()

    def muonic(self, *args: str) -> str:
        return self.bench.muonic(self.server, *args)

    def deploy(self, model: Model, name: str, *more: str) -> None:
        self.muonic("deploy", model.name, "--name", name, *more)

    def request(self, name: str, of: Request) -> Request:
        """`of`, through the gateway; behind an endpoint a model has the endpoint's name."""
        path = f"/endpoints/{name}/v2/models/{name}/infer"
        return Request(path, of.body, [*of.headers, f"authorization: Bearer {self.token}"])

    def sleeps(self, name: str) -> bool:
        endpoint = self.server.call("GET", f"/endpoints/{name}")
        return endpoint["state"] == "sleeping" and all(replica["ended_at"] for replica in endpoint["replicas"])


def gateway_rows(bench: Bench, model: Model) -> list[Row]:
    s, straight = bench.phase_s, as_json(bench.folder, model)
    # As many threads as the endpoint's has cores.
    replica = Replica(bench, model, threads=1)
    with Cloud(bench, "gateway") as cloud:
        cloud.muonic("model", "register", model.name, str(model.path))
        cloud.deploy(model, model.name, "--resources", "cpu=1,memory=512Mi")
        try:
            replica.start()
            ways = [(cloud.server.url, cloud.request(model.name, straight)), (replica.endpoint, straight)]
            for way in ways:
                post(*way, CONNECTIONS, 0.5)
            through, direct = interleaved(bench.rounds(5), *(lambda w=w: rate(post(*w, CONNECTIONS, s)) for w in ways))
            p99s: list[list[float]] = [[], []]

            def median(n: int) -> float:
                found = post(*ways[n], OPEN_CONNECTIONS, s, "--rate", str(OPEN_RATE))
                p99s[n].append(found["p99_us"] / 1e3)
                return found["p50_us"] / 1e3

            p50 = interleaved(bench.rounds(7), lambda: median(0), lambda: median(1))
        finally:
            replica.stop()
    p99 = [statistics.median(values) for values in p99s]
    at = f"at {OPEN_RATE:,}/s"
    return [
        Row(f"gateway, JSON, {CONNECTIONS} connections", through, direct, "/s", "straight to a replica", ">= 0.6 x"),
        Row(f"gateway, p50 {at}", *p50, "ms", "straight to a replica"),
        Row(f"gateway, p99 {at}", *p99, "ms", "straight to a replica"),
        Row(f"gateway, added to p50 {at}", p50[0] - p50[1], None, "ms", "", "<= 0.15 ms"),
        Row(f"gateway, added to p99 {at}", p99[0] - p99[1], None, "ms", "", "<= 1 ms"),
    ]


def wake_rows(bench: Bench, awake: Model, *sleepers: Model) -> list[Row]:
    """Endpoints that sleep are asked one after the other; another is asked all the while."""
    rows: list[Row] = []
    aims = {"minilm": "<= 300 ms", "python": "<= 1,500 ms"}
    with Cloud(bench, "wakes") as cloud:
        for model in (awake, *sleepers):
            cloud.muonic("model", "register", model.name, str(model.path))
        cloud.deploy(awake, "awake")
        beside = Beside(cloud, cloud.request("awake", as_json(bench.folder, awake)))
        try:
            for model in sleepers:
                names = [f"{model.name}-{n}" for n in range(SLEEPERS)]
                for name in names:
                    cloud.deploy(model, name, "--replicas", "0..1", "--idle", "0s", "--resources", "cpu=250m,memory=1Gi")
                request = as_json(bench.folder, model) if model is sleepers[-1] else as_binary(bench.folder, model)
                took, errors = wakes(cloud, names, request, bench.wakes)
                for name in names:
                    cloud.muonic("endpoint", "delete", name, "--yes")
                rows.append(Row(f"wakes of {model.name}, errors in {bench.wakes}", errors, None, "", "", "0"))
                if took:
                    took.sort()
                    rows.append(Row(f"wakes of {model.name}, p50", 1e3 * statistics.median(took), None, "ms"))
                    last = took[min(int(len(took) * 0.99), len(took) - 1)]
                    rows.append(Row(f"wakes of {model.name}, p99", 1e3 * last, None, "ms", "", aims[model.name]))
        finally:
            beside.stop()
    rows.append(Row(f"beside them at {BESIDE_RATE}/s, errors", beside.errors, None, "", "", "0"))
    if beside.p99:
        rows.append(Row(f"beside them at {BESIDE_RATE}/s, p99", statistics.median(beside.p99), None, "ms"))
    return rows


def wakes(cloud: Cloud, names: list[str], request: Request, count: int) -> tuple[list[float], int]:
    """Seconds of each first request, and how many failed."""
    took, errors = [], 0
    body = request.body.read_bytes()
    for n in range(count):
        name = names[n % len(names)]
        deadline = time.monotonic() + SLEEP_TIMEOUT_S
        while not cloud.sleeps(name):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} does not fall asleep")
            time.sleep(0.05)
        sent = cloud.request(name, request)
        headers = dict(header.split(": ", 1) for header in sent.headers)
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(cloud.server.url).netloc, timeout=60)
        try:
            began = time.perf_counter()
            connection.request("POST", sent.path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status == 200:
                took.append(time.perf_counter() - began)
            else:
                errors += 1
                note(f"  wake of {name}: {answer.status} {text[:200].decode(errors='replace')}")
        except (OSError, http.client.HTTPException) as error:
            errors += 1
            note(f"  wake of {name}: {error}")
        finally:
            connection.close()
    return took, errors


class Beside:
    """Steady requests to one endpoint, in the background."""

    def __init__(self, cloud: Cloud, request: Request) -> None:
        self.command = load(cloud.server.url, request, 8, 5.0, "--rate", str(BESIDE_RATE))
        self.errors, self.p99, self.ending = 0, [], threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        while not self.ending.is_set():
            done = subprocess.run(self.command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                self.errors += 1
                note(f"  beside the wakes: {done.stderr.strip()[:200]}")
                return
            found = json.loads(done.stdout)
            self.errors += found["errors"]
            self.p99.append(found["p99_us"] / 1e3)
            if found["errors"]:
                note(f"  beside the wakes: {found['errors']} errors: {found['error'][:200]}")

    def stop(self) -> None:
        self.ending.set()
        self.thread.join()
