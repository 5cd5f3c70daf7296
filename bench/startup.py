"""From the start of the process to ready, and what it holds in memory when idle."""

import shutil
import time
from pathlib import Path

from measure import Bench, Row, interleaved, seconds, spawn_true

IDLE_S = 2


def run(bench: Bench) -> list[Row]:
    def start(name: str, fresh: bool) -> float:
        if fresh:
            shutil.rmtree(bench.folder / name, ignore_errors=True)
        server = bench.server(name)
        try:
            return server.start()
        finally:
            server.stop()

    start("used", fresh=True)
    fresh, used, true = interleaved(
        bench.rounds(12),
        lambda: start("fresh", fresh=True),
        lambda: start("used", fresh=False),
        lambda: seconds(spawn_true),
    )
    return [
        Row("start to ready, fresh data folder", fresh * 1e3, true * 1e3, "ms", "spawning /bin/true"),
        Row("start to ready, used data folder", used * 1e3, true * 1e3, "ms", "spawning /bin/true", "< 300 ms"),
        Row("resident memory when idle", idle_mib(bench), None, "MiB", "", "<= 60 MiB"),
    ]


def idle_mib(bench: Bench) -> float:
    server = bench.server("used")
    try:
        server.start()
        time.sleep(IDLE_S)
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        (line,) = (x for x in status.splitlines() if x.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024
    finally:
        server.stop()
