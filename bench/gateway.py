"""What the gateway adds to a request: the same requests through it and
straight to the replica's socket, by a client that does next to nothing."""

import os
import selectors
import socket
import statistics
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from measure import ROOT, Bench, Row, interleaved

from client import body  # isort: skip (measure makes the demo's client importable)

REQUESTS = 2_000
CONNECTIONS = 8


def run(bench: Bench) -> list[Row]:
    server = bench.server("gateway")
    try:
        server.start()
        files = bench.folder / "digits"
        prepare = [sys.executable, "examples/digits/prepare.py", "--out", str(files)]
        subprocess.run(prepare, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        bench.muonic(server, "data", "put", "digits", str(files / "train"))
        bench.muonic(server, "job", "run", "examples/digits", "--name", "train", "--input", "train=digits", "--model", "digits",
                     "--", "python", "train.py")  # fmt: skip
        bench.muonic(server, "deploy", "digits@1", "--name", "digits", "--resources", "cpu=250m,memory=512Mi")
        image = np.load(files / "train" / "images.npy")[0]
        return compare(bench, server, body(image))
    finally:
        server.stop()


def compare(bench: Bench, server, request_body: bytes) -> list[Row]:
    endpoint = server.call("GET", "/endpoints/digits")
    (address,) = (r["address"] for r in endpoint["replicas"] if r["state"] == "ready")
    url = urllib.parse.urlsplit(server.url)
    through = request("/endpoints/digits/v2/models/digits/infer", request_body, f"authorization: Bearer {server.token}\r\n")
    straight = request("/v2/models/digits/infer", request_body)

    def gateway() -> socket.socket:
        return connect_tcp(url)

    def replica() -> socket.socket:
        return connect_replica(address)

    count = bench.rounds(REQUESTS)
    for connect, message in ((gateway, through), (replica, straight)):
        one_by_one(connect, message, 200)
    p50 = interleaved(
        bench.rounds(7), lambda: one_by_one(gateway, through, count), lambda: one_by_one(replica, straight, count)
    )
    rate = interleaved(
        bench.rounds(7), lambda: side_by_side(gateway, through, count), lambda: side_by_side(replica, straight, count)
    )
    return [
        Row("one request, median, one connection", p50[0] * 1e6, p50[1] * 1e6, "us", "the replica's socket"),
        Row(f"requests per second, {CONNECTIONS} connections", *rate, "/s", "the replica's socket"),
    ]


def request(path: str, request_body: bytes, headers: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: bench\r\n{headers}content-type: application/json\r\n"
    return head.encode() + f"content-length: {len(request_body)}\r\n\r\n".encode() + request_body


def connect_tcp(url: urllib.parse.SplitResult) -> socket.socket:
    connection = socket.create_connection((url.hostname, url.port), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def connect_replica(address: str) -> socket.socket:
    if address.startswith("http://"):
        return connect_tcp(urllib.parse.urlsplit(address))
    path = Path(address.removeprefix("unix:"))
    # A socket's path is limited to 107 bytes; one through an open folder is short.
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(30)
        connection.connect(f"/proc/self/fd/{folder}/{path.name}")
        return connection
    finally:
        os.close(folder)


def length(received: bytearray) -> int | None:
    """Bytes of the whole answer, once its head is there."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return None
    if not received.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"the endpoint answered: {bytes(received[:500]).decode(errors='replace')}")
    head = bytes(received[:end]).lower()
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        raise RuntimeError("the answer names no content-length")
    return end + 4 + int(head[at + 17 :].split(b"\r\n", 1)[0])


def receive(connection: socket.socket, received: bytearray) -> bool:
    """Reads what is there; true once the answer is whole."""
    part = connection.recv(65536)
    if not part:
        raise RuntimeError("the connection was closed before the answer was whole")
    received += part
    expected = length(received)
    return expected is not None and len(received) >= expected


def one_by_one(connect: Callable[[], socket.socket], message: bytes, count: int) -> float:
    """The median time of a request, in seconds."""
    times = []
    with connect() as connection:
        for _ in range(count):
            received = bytearray()
            began = time.perf_counter()
            connection.sendall(message)
            while not receive(connection, received):
                pass
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def side_by_side(connect: Callable[[], socket.socket], message: bytes, count: int) -> float:
    """Requests per second over several connections, each with one under way."""
    connections = [connect() for _ in range(CONNECTIONS)]
    try:
        with selectors.DefaultSelector() as selector:
            for connection in connections:
                selector.register(connection, selectors.EVENT_READ, bytearray())
            began, sent, answered = time.perf_counter(), 0, 0
            for connection in connections:
                connection.sendall(message)
                sent += 1
            while answered < count:
                ready = selector.select(timeout=30)
                if not ready:
                    raise RuntimeError("no answer for 30 s")
                for key, _ in ready:
                    if not receive(key.fileobj, key.data):
                        continue
                    answered += 1
                    key.data.clear()
                    if sent < count:
                        key.fileobj.sendall(message)
                        sent += 1
            return count / (time.perf_counter() - began)
    finally:
        for connection in connections:
            connection.close()
