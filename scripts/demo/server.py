"""One `muonic up` of the walk: started on a fresh folder, asked over its API,
and stopped with all that it started."""

import http.client
import json
import os
import signal
import subprocess
import time
import urllib.parse
from pathlib import Path

from show import Failure

START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 20


class Server:
    def __init__(self, binary: str, data: Path, log: Path, env: dict) -> None:
        self.binary, self.data, self.log, self.env = binary, data, log, env
        self.process: subprocess.Popen | None = None
        self.url = self.token = ""
        self.more: list[str] = []

    @property
    def command(self) -> list[str]:
        return [self.binary, "up", "--data", str(self.data), "--listen", "127.0.0.1:0", "--s3-listen", "127.0.0.1:0", *self.more]

    def start(self) -> float:
        """Starts the server; answers the seconds until it was ready."""
        began = time.monotonic()
        with open(self.log, "wb") as log:
            # A session of its own: Ctrl-C reaches the walk, which then stops it.
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.env,
                start_new_session=True,
            )
        while time.monotonic() - began < START_TIMEOUT_S:
            if self.process.poll() is not None:
                raise Failure(f"the server ended at once:\n{self.log.read_text(errors='replace')}")
            if self._ready():
                return time.monotonic() - began
            time.sleep(0.002)
        raise Failure(f"the server was not ready after {START_TIMEOUT_S} s; its output is in {self.log}")

    def _ready(self) -> bool:
        try:
            local = json.loads((self.data / "local.json").read_text())
            # A folder used before holds the file of the server before this one.
            if local["pid"] != self.process.pid:
                return False
            self.url, self.token = local["url"], local["token"]
            connection = self.connect(timeout=2)
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, ValueError, http.client.HTTPException):
            return False

    def connect(self, timeout: float = 30) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(urllib.parse.urlsplit(self.url).netloc, timeout=timeout)

    def call(self, method: str, path: str, body: dict | None = None):
        """One call of the native API, below /api/v1."""
        status, answer = self.fetch(method, "/api/v1" + path, body)
        if status >= 300:
            raise Failure(f"{method} {path} answered {status}: {answer.decode(errors='replace')[:500]}")
        return json.loads(answer)

    def fetch(self, method: str, path: str, body: dict | None = None) -> tuple[int, bytes]:
        connection = self.connect()
        try:
            headers = {"authorization": f"Bearer {self.token}", "content-type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def stop(self) -> None:
        """Ends running jobs, the server, and then the replicas, which would
        outlive it: the next `muonic up` on the folder starts new ones."""
        if self.process is None:
            return
        self._cancel_jobs()
        end(self.process.pid, STOP_TIMEOUT_S, reap=self.process)
        for pid in self.units():
            end(pid, STOP_TIMEOUT_S)

    def _cancel_jobs(self) -> None:
        try:
            running = [j for j in self.call("GET", "/jobs?limit=100")["jobs"] if j["finished_at"] is None]
            for job in running:
                self.call("POST", f"/jobs/{job['id']}/cancel", {})
            for job in running:
                self.call("GET", f"/jobs/{job['id']}/wait?timeout_s=15")
        except (OSError, ValueError, http.client.HTTPException, Failure):
            pass  # the server is gone already; its units are ended below

    def units(self) -> list[int]:
        """Processes that supervise units of this data folder."""
        found = []
        for file in (self.data / "local" / "units").glob("*/pid"):
            try:
                pid = int(file.read_text())
                # The number may belong to another process by now.
                if str(file.parent.name).encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
            except (OSError, ValueError):
                continue
        return found


def end(pid: int, timeout_s: float, reap: subprocess.Popen | None = None) -> None:
    """Asks a process to end, then, after a while, makes it."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, sent)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if reap.poll() is not None if reap else not alive(pid):
                return
            time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
