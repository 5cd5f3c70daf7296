"""Bytes that no two places share, made quickly and the same every time."""

import hashlib
from pathlib import Path

import numpy as np


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def noise_file(path: Path, size: int, seed: int = 0) -> Path:
    """Written in pieces: it may be larger than the memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    maker = np.random.default_rng(seed)
    with open(path, "wb") as file:
        while size > 0:
            file.write(maker.bytes(min(size, 16 << 20)))
            size -= 16 << 20
    return path


def digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree(folder: Path) -> dict[str, str]:
    """The files below a folder and what is in them."""
    return {str(f.relative_to(folder)): digest(f) for f in sorted(folder.rglob("*")) if f.is_file()}


class Stream:
    """As much as one likes, without a file: a block again and again, each time
    with its number in front."""

    BLOCK = noise((1 << 20) - 8)

    def __init__(self, size: int) -> None:
        self.left, self.number, self.rest = size, 0, b""

    def read(self, size: int = -1) -> bytes:
        size = self.left if size < 0 else min(size, self.left)
        pieces, have = [self.rest], len(self.rest)
        while have < size:
            pieces += [self.number.to_bytes(8, "big"), self.BLOCK]
            self.number += 1
            have += 1 << 20
        made = b"".join(pieces)
        self.rest, self.left = made[size:], self.left - size
        return made[:size]
