"""Runs the benchmarks and prints their rows as a table or as JSON."""

import argparse
import dataclasses
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import gateway
import jobs
import serving
import startup
import store
import upload
from measure import Bench

BENCHES = {"startup": startup.run, "jobs": jobs.run, "upload": upload.run, "gateway": gateway.run}
# Named only: they need other programs, and longer.
MORE = {"store": store.run, "serving": serving.run}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure Muonic against plain baselines.")
    parser.add_argument("--binary", required=True, help="the muonic program, a release build")
    parser.add_argument("--only", default=",".join(BENCHES), help="benchmarks to run, separated by commas")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, to see that it works")
    parser.add_argument("--output", choices=["text", "json"], default="text")
    parser.add_argument("--folder", type=Path, help="where to put the data; choose the disk to be measured")
    parser.add_argument("--phase-seconds", type=float, default=3.0, help="store, serving: how long one phase lasts")
    parser.add_argument("--peers", default="", help="store, serving: the peers to run beside muonic, separated by commas")
    parser.add_argument("--many-parts", type=int, default=200, help="store: parts of 5 MiB of the largest upload")
    parser.add_argument("--growth", type=int, default=100_000, help="store: objects that point reads and lists grow to")
    parser.add_argument("--wakes", type=int, default=200, help="serving: first requests to sleeping endpoints, of each model")
    args = parser.parse_args()
    names = args.only.split(",")
    unknown = [name for name in names if name not in BENCHES | MORE]
    if unknown:
        print(f"bench: '{unknown[0]}' is unknown: there are {', '.join(BENCHES | MORE)}", file=sys.stderr)
        return 2

    # Ends by the same path as Ctrl-C, so that every server is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = Path(tempfile.mkdtemp(prefix="muonic-bench-", dir=args.folder))
    only = tuple(name for name in args.peers.split(",") if name)
    bench = Bench(args.binary, folder, args.quick, args.phase_seconds, only, args.many_parts, args.growth, args.wakes)
    rows = []
    try:
        for name in names:
            print(f"measuring: {name}", file=sys.stderr, flush=True)
            rows += (BENCHES | MORE)[name](bench)
    finally:
        shutil.rmtree(folder, ignore_errors=True)

    machine = about(folder.parent)
    if args.output == "json":
        found = [{**dataclasses.asdict(row), "ratio": row.ratio} for row in rows]
        print(json.dumps({"version": 1, "machine": machine, "quick": args.quick, "rows": found}, indent=2))
    else:
        print(", ".join(f"{key} {value}" for key, value in machine.items()))
        table(rows)
    return 0


def table(rows: list) -> None:
    print(f"\n{'':<42}{'muonic':>12}{'baseline':>12}{'ratio':>8}  {'baseline is':<24}aim")
    for row in rows:
        baseline = "" if row.baseline is None else number(row.baseline)
        ours = "-" if row.ours is None else f"{number(row.ours)} {row.unit}"
        ratio = "" if row.ratio is None else number(row.ratio)
        print(f"{row.name:<42}{ours:>12}{baseline:>12}{ratio:>8}  {row.against:<24}{row.aim}")


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def about(folder: Path) -> dict:
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    above = [(point, kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    model = next((x.split(":", 1)[1].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), "")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": model or platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "filesystem": max(above, key=lambda mount: len(mount[0]), default=("", "unknown"))[1],
    }


if __name__ == "__main__":
    sys.exit(main())
