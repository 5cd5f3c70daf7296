"""What every benchmark shares: its rows, medians, interleaving, the bench's server."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts" / "demo"))

from server import Server  # noqa: E402 (it lies beside the demo, which starts servers too)


@dataclass
class Row:
    """One comparison: ours beside a baseline, measured in turns in one run."""

    name: str
    ours: float | None
    baseline: float | None
    unit: str
    against: str = ""
    aim: str = ""

    @property
    def ratio(self) -> float | None:
        return self.ours / self.baseline if self.ours is not None and self.baseline else None


@dataclass
class Bench:
    """What a benchmark is given."""

    binary: str
    folder: Path
    quick: bool
    # Of bench/store.py and bench/serving.py: a phase's length, the peers (all where empty);
    # the parts of the upload with many, the objects of the growth; the wakes of each model.
    phase_s: float = 3.0
    peers: tuple[str, ...] = ()
    many_parts: int = 200
    growth: int = 100_000
    wakes: int = 200

    def rounds(self, full: int) -> int:
        return max(3, full // 4) if self.quick else full

    def server(self, name: str, *args: str) -> Server:
        data = self.folder / name
        server = Server(self.binary, data, self.folder / f"{name}.log", self.env(data))
        server.more = list(args)
        return server

    @staticmethod
    def env(data: Path) -> dict:
        env = {k: v for k, v in os.environ.items() if k not in ("MUONIC_SERVER", "MUONIC_TOKEN")}
        return {**env, "MUONIC_DATA": str(data)}

    def muonic(self, server: Server, *args: str) -> str:
        """Runs the CLI against `server`; answers what it printed."""
        done = subprocess.run(
            [self.binary, *args], env=self.env(server.data), cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise RuntimeError(f"muonic {' '.join(args)} ended with {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def interleaved(rounds: int, *works: Callable[[], float]) -> list[float]:
    """The median of each work's own measure; they take turns, and every other
    round begins with the last, so that drift of the machine hits all alike."""
    values: list[list[float]] = [[] for _ in works]
    for n in range(rounds):
        order = list(enumerate(works))
        for i, work in order if n % 2 == 0 else reversed(order):
            values[i].append(work())
    return [statistics.median(v) for v in values]


def spawn_true() -> None:
    os.waitpid(os.posix_spawn("/bin/true", ["true"], os.environ), 0)
