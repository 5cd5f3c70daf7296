"""What the machine itself can do, as baselines of bench/store.py."""

import hashlib
import os
import time
from pathlib import Path

from measure import Row

SMALL, LARGE = 4 << 10, 64 << 20


def md5_rate(_: Path) -> float:
    data = os.urandom(LARGE)
    began = time.perf_counter()
    hashlib.md5(data, usedforsecurity=False).digest()
    return LARGE / (time.perf_counter() - began) / 1e6


def write_rate(folder: Path) -> float:
    data, path = os.urandom(LARGE), folder / "limit"
    began = time.perf_counter()
    with open(path, "wb", buffering=0) as file:
        for _ in range(4):
            file.write(data)
        os.fdatasync(file.fileno())
    took = time.perf_counter() - began
    path.unlink()
    return 4 * LARGE / took / 1e6


LIMITS = {"MD5 on one core": md5_rate, "write and fdatasync": write_rate}


def append_limit(folder: Path, records: int = 16, syncs: int = 200) -> list[Row]:
    """Appends of 4 KiB to one file, with one sync for every 16."""
    data, path = os.urandom(SMALL), folder / "limit"
    with open(path, "wb", buffering=0) as file:
        began = time.perf_counter()
        for _ in range(syncs):
            for _ in range(records):
                file.write(data)
            os.fdatasync(file.fileno())
        took = time.perf_counter() - began
    path.unlink()
    return [Row("limit: appends of 4 KiB, 16 a sync", None, records * syncs / took, "/s", "this machine")]
