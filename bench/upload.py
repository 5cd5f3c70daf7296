"""A dataset's way to disk, durable, against copying the same files with fsync."""

import os
import random
import shutil
from pathlib import Path

from measure import Bench, Row, interleaved, seconds

LARGE_BYTES = 256 << 20
SMALL_FILES = 5_000
SMALL_BYTES = 4 << 10
CHUNK = 1 << 20


def run(bench: Bench) -> list[Row]:
    server = bench.server("upload")
    try:
        server.start()
        return [
            compare(bench, server, "upload of one file of 256 MiB", write_large),
            compare(bench, server, f"upload of {SMALL_FILES:,} files of 4 KiB", write_small),
        ]
    finally:
        server.stop()


def compare(bench: Bench, server, name: str, write) -> Row:
    """Every round has new content: what the store holds is not sent again."""
    source, copy = bench.folder / "source", bench.folder / "copy"
    counter = iter(range(1_000_000))

    def renew() -> float:
        for folder in (source, copy):
            shutil.rmtree(folder, ignore_errors=True)
        source.mkdir()
        written = write(source, next(counter))
        os.sync()  # not on anyone's account
        return written / 1e6

    def put() -> float:
        megabytes = renew()
        return megabytes / seconds(lambda: bench.muonic(server, "data", "put", "bench", str(source)))

    def copied() -> float:
        megabytes = renew()
        return megabytes / seconds(lambda: copy_durably(source, copy))

    ours, baseline = interleaved(bench.rounds(3), put, copied)
    return Row(name, ours, baseline, "MB/s", "cp and fsync")


def write_large(folder: Path, seed: int) -> int:
    numbers = random.Random(seed)
    with open(folder / "large.bin", "wb") as file:
        for _ in range(LARGE_BYTES // CHUNK):
            file.write(numbers.randbytes(CHUNK))
    return LARGE_BYTES


def write_small(folder: Path, seed: int) -> int:
    numbers = random.Random(~seed)
    for n in range(SMALL_FILES):
        part = folder / f"{n // 500:02}"
        part.mkdir(exist_ok=True)
        (part / f"{n:05}.bin").write_bytes(numbers.randbytes(SMALL_BYTES))
    return SMALL_FILES * SMALL_BYTES


def copy_durably(source: Path, target: Path) -> None:
    """As durable as an upload: every file and every folder is synced."""
    for folder, _, files in os.walk(source):
        to = target / Path(folder).relative_to(source)
        to.mkdir()
        for name in files:
            with open(Path(folder) / name, "rb") as reader, open(to / name, "wb") as writer:
                shutil.copyfileobj(reader, writer, CHUNK)
                writer.flush()
                os.fsync(writer.fileno())
        sync_folder(to)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
