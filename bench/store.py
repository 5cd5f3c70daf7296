"""The store through its S3 door, against other stores, plain files, and what the machine can do.

All servers are up during the whole run; in every phase they take turns. Rows
whose baseline is a limit of the machine say so in `baseline is`.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from limits import LIMITS, append_limit
from measure import ROOT, Bench, Row, Server
from peers import Nginx, Peer, Rclone, SeaweedFS

MIB = 1 << 20
SMALL, LARGE = 4 << 10, 64 << 20
READ_KEYS, LARGE_KEYS, LIST_KEYS = 1_000, 4, 10_000
STREAMS, STREAM_BYTES = 64, 1 << 30
GENERATOR = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "muonic-bench"


class Muonic(Peer):
    """`muonic up`, durable as it is by default, or with more settings."""

    name = "muonic"

    def __init__(self, bench: Bench, name: str = "muonic", settings: tuple[str, ...] = ()) -> None:
        self.name = name
        super().__init__(bench.folder)
        self.bench, self.settings = bench, settings
        self.server: Server | None = None

    @property
    def endpoint(self) -> str:
        return self.url

    def start(self) -> None:
        self.server = self.bench.server(self.name, *(arg for s in self.settings for arg in ("--set", s)))
        self.server.start()
        self.process = self.server.process
        local = json.loads((self.server.data / "local.json").read_text())
        self.url, self.key_id, self.secret = local["s3_url"], local["key_id"], local["secret"]

    def stop(self) -> None:
        if self.server:
            self.server.stop()


@dataclass
class Phase:
    """One kind of work: the generator's arguments, and what of its answer is the measure."""

    name: str
    work: list[str]
    unit: str
    aim: str
    measure: Callable[[dict], float]
    # Operations for one unit of CPU time's row, such as requests or MiB.
    per: Callable[[dict], float]
    static: bool = False  # nginx can do it too
    limit: str = ""  # names a limit of the machine


def rate(found: dict) -> float:
    return found["ops"] / found["seconds"] if found["seconds"] else 0.0


def megabytes(found: dict) -> float:
    return found["bytes"] / found["seconds"] / 1e6 if found["seconds"] else 0.0


def listed(found: dict) -> float:
    return found["keys"] / found["seconds"] if found["seconds"] else 0.0


def phases(seconds: float, parts: int) -> list[Phase]:
    time_ = ["--seconds", str(seconds)]
    small = ["--size", str(SMALL), "--connections", "16", *time_]
    large = ["--size", str(LARGE), "--warmup", "0", *time_]
    reads = ["--keys", str(READ_KEYS), "--prefix", "small/", "--scatter"]
    large_reads = ["--keys", str(LARGE_KEYS), "--prefix", "large/"]
    writes = ["--keys", "100000", "--prefix", "put/", *small]

    def ops(found: dict) -> float:
        return found["ops"]

    def mib(found: dict) -> float:
        return found["bytes"] / MIB

    many = ["multipart", "--part-size", str(5 * MIB), "--parts", str(parts), "--connections", "4", "--count", "1"]
    return [
        Phase("PUT 4 KiB, 16 connections", ["put", *writes], "/s", ">= 3 x fastest peer", rate, ops),
        Phase("GET 4 KiB, 16 connections", ["get", *reads, *small], "/s", ">= 2.5 x peer, 0.5 x nginx", rate, ops, True),
        Phase("HEAD 4 KiB, 16 connections", ["head", *reads, *small], "/s", ">= 2.5 x peer, 0.5 x nginx", rate, ops, True),
        Phase("PUT 64 MiB, 1 stream", ["put", "--keys", "8", "--prefix", "lput/", "--connections", "1", *large], "MB/s",
              ">= 0.7 x MD5", megabytes, mib, limit="MD5 on one core"),
        Phase("GET 64 MiB, 1 stream", ["get", *large_reads, "--connections", "1", *large], "MB/s",
              ">= 1.4 x peer, 0.5 x nginx", megabytes, mib, True),
        Phase("GET 64 MiB, 8 streams", ["get", *large_reads, "--connections", "8", *large], "MB/s",
              ">= 1.4 x peer, 0.5 x nginx", megabytes, mib, True),
        Phase("multipart 4 x 64 MiB", ["multipart", "--count", "2"], "MB/s", ">= 2 x fastest peer", megabytes, mib,
              limit="write and fdatasync"),
        Phase("complete, 4 parts", ["multipart", "--part-size", str(5 * MIB), "--count", "5"], "ms", "<= 5 ms",
              lambda found: found["complete_ms"], mib),
        Phase(f"complete, {parts:,} parts", many, "ms", "<= 5 ms", lambda found: found["complete_ms"], mib),
        Phase(f"list of {LIST_KEYS:,} keys", ["list", "--prefix", "list/", *time_], "/s", ">= 3 x fastest peer", listed,
              lambda found: found["keys"]),
    ]  # fmt: skip


def run(bench: Bench) -> list[Row]:
    peers = open_peers(bench)
    try:
        for peer in peers:
            prepare(peer)
        rows = [row for phase in phases(bench.phase_s, bench.many_parts) for row in compare(bench, peers, phase)]
        rows += append_limit(bench.folder)
        ours = [peer for peer in peers if isinstance(peer, Muonic)]
        for peer in ours:
            rows += memory(peer) + growth(bench, peer)
        return rows
    finally:
        for peer in peers:
            peer.stop()


def open_peers(bench: Bench) -> list[Peer]:
    """Those that can run here; the others are named. Ours comes first."""
    wanted: list[Peer] = [Muonic(bench), Muonic(bench, "muonic, sync off", ("store.sync=false",))]
    wanted += [kind(bench.folder) for kind in (SeaweedFS, Rclone, Nginx)]
    started: list[Peer] = []
    for peer in wanted:
        if bench.peers and peer.name not in bench.peers and peer is not wanted[0]:
            continue
        why = peer.missing()
        if why is None:
            try:
                peer.start()
                started.append(peer)
                continue
            except Exception as error:  # (whatever it is, the others are measured)
                why = " ".join(str(error).split())[:300]
                peer.stop()
        note(f"{peer.name} is left out: {why}")
    return started


def prepare(peer: Peer) -> None:
    """What the phases read: the same objects in every store."""
    sets = [("small/", SMALL, READ_KEYS), ("large/", LARGE, LARGE_KEYS), ("list/", 16, LIST_KEYS)]
    if isinstance(peer, Nginx):
        for prefix, size, count in sets[:2]:
            (peer.files / prefix).mkdir()
            for n in range(count):
                (peer.files / prefix / f"{n:08}").write_bytes(os.urandom(size))
        return
    # It may take its first bucket a little later than its first connection.
    for tries_left in (4, 3, 2, 1, 0):
        if attempt(peer, "bucket") is not None:
            break
        if not tries_left:
            raise RuntimeError(f"{peer.name} makes no bucket")
        time.sleep(1)
    for prefix, size, count in sets:
        put = ["--prefix", prefix, "--size", str(size), "--keys", str(count), "--count", str(count)]
        # SeaweedFS refuses some of the first writes, while it makes its volumes.
        for tries_left in (2, 1, 0):
            found = generate(peer, "put", *put, accept_errors=True)
            if not found["errors"]:
                break
            if not tries_left:
                raise RuntimeError(f"{peer.name} does not take what the phases read: {found['error']}")


_seed = iter(range(2, 1 << 62))


def generate(peer: Peer, work: str, *args: str, accept_errors: bool = False) -> dict:
    """One run of the load generator; fails where more than one answer in a hundred was an error."""
    env = {**os.environ, "BENCH_SECRET": peer.secret}
    if peer.key_id:
        env["BENCH_KEY_ID"] = peer.key_id
    # New content in every run: a store that keeps equal contents once gains nothing.
    seed = ["--seed", str(next(_seed))] if work in ("put", "multipart") else []
    command = [str(GENERATOR), "--endpoint", peer.endpoint, "--bucket", peer.bucket, work, *args, *seed]
    done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip()[:300] or f"the generator ended with {done.returncode}")
    found = json.loads(done.stdout)
    if not accept_errors and found["errors"] and found["errors"] * 100 > found["ops"]:
        raise RuntimeError(f"{found['errors']} errors, {found['ops']} successes: {found.get('error', '')[:300]}")
    return found


def compare(bench: Bench, peers: list[Peer], phase: Phase) -> list[Row]:
    """Rows of one phase: each of ours beside each of the others, then the CPU time of each."""
    note(phase.name)
    values: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    limits: list[float] = []
    for n in range(bench.rounds(3)):
        for peer in peers if n % 2 == 0 else reversed(peers):
            if (isinstance(peer, Nginx) and not phase.static) or (n > 0 and peer.name not in values):
                continue
            try:
                before = cpu_seconds(peer)
                found = generate(peer, *phase.work)
                values.setdefault(peer.name, []).append(phase.measure(found))
                cpu.setdefault(peer.name, []).append(1e6 * (cpu_seconds(peer) - before) / max(phase.per(found), 1))
            except (RuntimeError, KeyError) as error:
                note(f"  {peer.name}: not measured: {error}")
                values.pop(peer.name, None)
        if phase.limit:
            limits.append(LIMITS[phase.limit](bench.folder))
    medians = {name: statistics.median(v) for name, v in values.items()}
    rows = []
    for ours in (peer.name for peer in peers if isinstance(peer, Muonic)):
        if ours not in medians and ours != "muonic":
            continue
        title = phase.name if ours == "muonic" else f"{phase.name} ({ours.split(', ')[1]})"
        others = [(p.name, medians[p.name]) for p in peers if not isinstance(p, Muonic) and p.name in medians]
        others += [(phase.limit, statistics.median(limits))] if phase.limit else []
        rows += [Row(title, medians.get(ours), value, phase.unit, name, phase.aim) for name, value in others]
        if not others:
            rows.append(Row(title, medians.get(ours), None, phase.unit, "", phase.aim))
        for name in (n for n, _ in others if n in cpu):
            mine = statistics.median(cpu[ours]) if ours in medians else None
            unit = "us/MiB" if phase.unit in ("MB/s", "ms") else "us"
            rows.append(Row("  server CPU", mine, statistics.median(cpu[name]), unit, name))
    return rows


def cpu_seconds(peer: Peer) -> float:
    """User and system time of the server's processes so far."""
    ticks = 0
    for pid in peer.pids():
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory(peer: Peer) -> list[Row]:
    """The most that the server held while 64 streams of 1 GiB were under way."""
    rows = []
    for work in ("put", "get"):
        if work == "get":
            # One object for all to read.
            one = ["--prefix", "giant/", "--size", str(STREAM_BYTES), "--keys", "1", "--count", "1"]
            if attempt(peer, "put", *one) is None:
                continue
        for pid in peer.pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
        keys = STREAMS if work == "put" else 1
        attempt(peer, work, "--prefix", "giant/", "--size", str(STREAM_BYTES), "--keys", str(keys), "--connections", str(STREAMS),
                "--seconds", "5", "--warmup", "0", "--cut")  # fmt: skip
        peak = sum(status_kib(pid, "VmHWM") for pid in peer.pids()) / 1024
        rows.append(Row(f"memory, {STREAMS} x {work.upper()} of 1 GiB", peak, None, "MiB", "", "<= 200 MiB"))
    attempt(peer, "delete", "--prefix", "giant/", "--keys", str(STREAMS), "--count", str(STREAMS))
    return rows


def growth(bench: Bench, peer: Peer) -> list[Row]:
    """Point reads and pages of a list, with many objects beside them and with few."""
    few, many = LIST_KEYS, bench.growth
    if many <= few:
        return []

    def measured(prefix: str, keys: int) -> list[float] | None:
        fill = attempt(peer, "put", "--prefix", prefix, "--size", "16", "--keys", str(keys), "--count", str(keys))
        read = attempt(peer, "get", "--prefix", prefix, "--keys", str(keys), "--scatter", "--connections", "1",
                       "--seconds", str(bench.phase_s))  # fmt: skip
        page = ["--start-after", f"{prefix}{keys // 2:08}", "--pages", "1", "--seconds", str(bench.phase_s)]
        pages = attempt(peer, "list", "--prefix", prefix, *page)
        return None if None in (fill, read, pages) else [read["p50_us"], pages["p50_us"]]

    small, large = measured("few/", few), measured("many/", many)
    if small is None or large is None:
        return []
    names = (f"point read among {many:,} objects", f"page of a list of {many:,}")
    return [Row(n, b, a, "us", f"the same at {few:,}", "<= 1.5 x") for n, a, b in zip(names, small, large, strict=True)]


def attempt(peer: Peer, work: str, *args: str) -> dict | None:
    try:
        return generate(peer, work, *args)
    except RuntimeError as error:
        note(f"  {peer.name}: {work}: not measured: {error}")
        return None


def status_kib(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(field + ":")), 0)


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
