"""A replica by itself beside the bare runtime and other servers; then the gateway and sleeping endpoints."""

import statistics
import time
from collections.abc import Callable

import serving_cloud
from measure import Bench, Row, interleaved
from peers import Peer
from serving_models import Model, Request, as_binary, as_grpc, as_json, digits, minilm, python_class
from serving_peers import App, Replica, bare, post, rate
from store import cpu_seconds, note, status_kib

from show import Failure  # isort: skip (measure makes the demo's modules importable)

CONNECTIONS, CLASS_CONNECTIONS, SENTENCES = 64, 16, 16
IDLE_S = 2
# What overloads: twice what it can do, by callers who wait so long.
OVERLOAD, PATIENCE_US, CALLERS = 2.0, 500_000, 400


def run(bench: Bench) -> list[Row]:
    models = [digits(bench.folder), minilm(bench.folder), python_class(bench.folder)]
    small, large, plain = models
    rows: list[Row] = []
    parts: list[tuple[str, Callable[[], list[Row]]]] = [
        ("digits", lambda: digits_rows(bench, small)),
        ("sentences", lambda: sentence_rows(bench, large)),
        ("Python class", lambda: class_rows(bench, plain)),
        ("overload", lambda: overload_rows(bench, large)),
        ("cold starts and memory", lambda: start_rows(bench, small, large)),
        ("gateway", lambda: serving_cloud.gateway_rows(bench, small)),
        ("wakes", lambda: serving_cloud.wake_rows(bench, small, large, plain)),
    ]
    for name, part in parts:
        note(f"serving: {name}")
        try:
            rows += part()
        except (RuntimeError, OSError, Failure) as error:
            note(f"  not measured: {' '.join(str(error).split())[:500]}")
    return rows


class Started:
    """Servers that run for the length of a `with`; those that cannot are named and left out."""

    def __init__(self, bench: Bench, *wanted: Peer) -> None:
        self.bench, self.wanted, self.running = bench, wanted, []

    def __enter__(self) -> list[Peer]:
        try:
            for peer in self.wanted:
                self.start(peer)
        except BaseException:
            self.__exit__()
            raise
        return self.running

    def start(self, peer: Peer) -> None:
        ours = isinstance(peer, Replica)
        if not ours and self.bench.peers and peer.name not in self.bench.peers:
            return
        why = peer.missing()
        if why is None:
            self.running.append(peer)
            try:
                peer.start()
                return
            except RuntimeError as error:
                why = " ".join(str(error).split())[:300]
                self.running.remove(peer)
                peer.stop()
        if ours:
            raise RuntimeError(why)
        note(f"  {peer.name} is left out: {why}")

    def __exit__(self, *_) -> None:
        for peer in self.running:
            peer.stop()


def digits_rows(bench: Bench, model: Model) -> list[Row]:
    folder, s = bench.folder, bench.phase_s
    as_ours, binary, grpc = as_json(folder, model), as_binary(folder, model), as_grpc(folder, model)
    others = (
        App(bench, "FastAPI", "fastapi", model),
        App(bench, "FastAPI x2", "fastapi", model, workers=2),
        App(bench, "LitServe", "litserve", model),
        App(bench, "KServe", "kserve", model),
        App(bench, "PyTriton", "pytriton", model),
    )
    with Started(bench, Replica(bench, model), *others) as (ours, *peers):

        costs: dict[int, list[float]] = {}

        def asked(peer: Peer, request: Request) -> Callable[[], float]:
            def work() -> float:
                # What a peer fails at is not counted, and ends nothing.
                more = ["--warmup", "0"]
                found, cpu = spent(peer, lambda: post(peer.endpoint, request, CONNECTIONS, s, *more, refusals=peer is not ours))
                if peer is ours:
                    costs.setdefault(id(request), []).append(1e6 * cpu / max(found["ops"], 1))
                return rate(found)

            return work

        for peer in (ours, *peers):
            asked(peer, as_ours)()
        works = [lambda: bare(model, folder, s), *(asked(ours, r) for r in (as_ours, binary, grpc))]
        loop, by_json, by_binary, by_grpc, *theirs = interleaved(bench.rounds(5), *works, *(asked(p, as_ours) for p in peers))
    json_us, binary_us, grpc_us = (statistics.median(costs[id(r)]) for r in (as_ours, binary, grpc))
    name = f"digits, JSON, {CONNECTIONS} connections"
    found = [Row(name, by_json, loop, "/s", "bare onnxruntime", ">= 0.4 x")]
    best = max(theirs, default=0)
    for peer, value in zip(peers, theirs, strict=True):
        found.append(Row(name, by_json, value, "/s", peer.name, ">= 10 x fastest" if value == best else ""))
    found.append(Row("digits, binary tensors", by_binary, by_json, "/s", "JSON", ">= 1.3 x"))
    found.append(Row("  server CPU", binary_us, json_us, "us", "JSON"))
    found.append(Row("digits, gRPC", by_grpc, by_json, "/s", "JSON", ">= 1.3 x"))
    found.append(Row("  server CPU", grpc_us, json_us, "us", "JSON"))
    return found


def spent(peer: Peer, work: Callable[[], dict]) -> tuple[dict, float]:
    """What the work found, and the CPU seconds that the server took for it."""
    before = cpu_seconds(peer)
    return work(), cpu_seconds(peer) - before


def sentence_rows(bench: Bench, model: Model) -> list[Row]:
    folder, s, request = bench.folder, bench.phase_s, as_binary(bench.folder, model)
    with Started(bench, Replica(bench, model)) as (ours,):

        def asked(connections: int) -> float:
            return rate(post(ours.endpoint, request, connections, s))

        def batches() -> float:
            return SENTENCES * bare(model, folder, s, SENTENCES)

        # It learns here what it may run together.
        post(ours.endpoint, request, SENTENCES, 2 * s)
        many, loop = interleaved(bench.rounds(5), lambda: asked(SENTENCES), batches)
        one, alone = interleaved(bench.rounds(5), lambda: asked(1), lambda: bare(model, folder, s))
    return [
        Row(f"MiniLM, {SENTENCES} connections", many, loop, "/s", f"bare, batches of {SENTENCES}", ">= 0.95 x"),
        Row("MiniLM, 1 connection", one, alone, "/s", "bare, one by one", ">= 0.97 x"),
    ]


def class_rows(bench: Bench, model: Model) -> list[Row]:
    request, s = as_json(bench.folder, model), bench.phase_s
    with Started(bench, Replica(bench, model), App(bench, "FastAPI", "fastapi", model)) as running:
        for peer in running:
            post(peer.endpoint, request, CLASS_CONNECTIONS, 0.5)
        works = [lambda peer=peer: rate(post(peer.endpoint, request, CLASS_CONNECTIONS, s)) for peer in running]
        ours, *theirs = interleaved(bench.rounds(5), *works)
    name = f"Python class, {CLASS_CONNECTIONS} connections"
    return [Row(name, ours, theirs[0] if theirs else None, "/s", "FastAPI, same code", ">= 2 x")]


def overload_rows(bench: Bench, model: Model) -> list[Row]:
    """A model whose work outweighs the load generator's; callers say how long they wait."""
    folder, s = bench.folder, max(bench.phase_s, 3) * 2
    patient, hurried = as_binary(folder, model), as_binary(folder, model, timeout=PATIENCE_US)
    hopeless = as_binary(folder, model, timeout=1)
    with Started(bench, Replica(bench, model)) as (ours,):
        post(ours.endpoint, patient, SENTENCES, 2 * s)
        shares, told, p99, capacities = [], [], [], []

        def capacity() -> float:
            capacities.append(rate(post(ours.endpoint, patient, 2 * SENTENCES, s)))
            return capacities[-1]

        # What a refusal costs, where there is nothing else to do.
        refused, cpu = spent(ours, lambda: post(ours.endpoint, hopeless, SENTENCES, s / 2, "--warmup", "0", refusals=True))
        each = cpu / max(refused["errors"], 1)
        capacity()

        def overloaded() -> float:
            offered = ["--rate", str(OVERLOAD * max(capacities)), "--warmup", "1"]
            got, cpu = spent(ours, lambda: post(ours.endpoint, hurried, CALLERS, s, *offered, refusals=True))
            if got["errors"]:
                shares.append(100 * each * got["errors"] / cpu)
                told.append(100 * got["retry_after"] / got["errors"])
            p99.append(got["p99_us"] / 1e3)
            note(f"  overload: answers by status: {got['statuses']}")
            return got["ops"] / s

        good, most = interleaved(bench.rounds(3), overloaded, capacity)
        if not shares:
            raise RuntimeError("nothing was refused, so that nothing was too much")
    return [
        Row("overload, good answers", good, most, "/s", "capacity, offered twice that", ">= 0.9 x"),
        Row("overload, p99 of good answers", statistics.median(p99), PATIENCE_US / 1e3, "ms", "what callers wait"),
        Row("overload, refusals with Retry-After", min(told), None, "%", "", "100 %"),
        Row("overload, CPU spent on refusals", statistics.median(shares), None, "%", "", "< 5 %"),
    ]


def start_rows(bench: Bench, small: Model, large: Model) -> list[Row]:
    def start(model: Model) -> float:
        replica = Replica(bench, model)
        try:
            return replica.timed_start()
        finally:
            replica.stop()

    start(small), start(large)
    first, second = interleaved(bench.rounds(12), lambda: start(small), lambda: start(large))
    with Started(bench, Replica(bench, small)) as (ours,):
        time.sleep(IDLE_S)
        idle = status_kib(ours.process.pid, "VmRSS") / 1024 - small.weights / (1 << 20)
    return [
        Row("start of a replica to ready, digits", first * 1e3, None, "ms", "", "<= 100 ms"),
        Row("start of a replica to ready, MiniLM", second * 1e3, None, "ms", "", "<= 500 ms"),
        Row("memory of an idle replica less weights", idle, None, "MiB", "", "<= 45 MiB"),
    ]
