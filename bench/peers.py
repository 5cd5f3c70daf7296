"""Other stores on loopback ports, for bench/store.py, and nginx as what plain files can do.

All keep their data below the bench's folder and are stopped by their process ids.
None of them syncs what it acknowledges.
"""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

from measure import ROOT

PROGRAMS = ROOT / "build" / "bench" / "venv" / "bin"
KEY_ID, SECRET = "BENCHKEY", "bench-secret-of-no-worth"
READY_TIMEOUT_S = 30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Peer:
    """One running server. `key_id` is None where requests need no signature."""

    name = ""
    bucket = "bench"
    key_id: str | None = KEY_ID
    secret = SECRET

    def __init__(self, folder: Path) -> None:
        self.folder = folder / self.name
        self.port = 0
        self.process: subprocess.Popen | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @staticmethod
    def missing() -> str | None:
        """Why this peer cannot run here."""
        return None

    def command(self) -> list[str]:
        raise NotImplementedError(self.name)

    def start(self) -> None:
        """Starts it, on other ports where another program took one meanwhile."""
        for tries_left in (2, 1, 0):
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            self.port = free_port()
            try:
                self.start_once()
                return
            except RuntimeError:
                self.stop()
                if not tries_left:
                    raise

    def start_once(self) -> None:
        with open(self.folder.parent / f"{self.name}.log", "wb") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended at once; its output is in {log.name}")
            if self.ready():
                return
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} was not ready after {READY_TIMEOUT_S} s")

    def ready(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def pids(self) -> list[int]:
        """The server's processes: the one started and its children."""
        first = self.process.pid
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]


class SeaweedFS(Peer):
    name = "SeaweedFS"

    @staticmethod
    def missing() -> str | None:
        return None if (PROGRAMS / "weed").exists() else "bench/requirements.txt is not installed"

    def command(self) -> list[str]:
        config = self.folder / "s3.json"
        keys = [{"accessKey": KEY_ID, "secretKey": SECRET}]
        config.write_text(json.dumps({"identities": [{"name": "bench", "credentials": keys, "actions": ["Admin"]}]}))
        data = self.folder / "data"
        data.mkdir()
        self.master = free_port()
        ports = {"master": self.master, "volume": free_port(), "filer": free_port()}
        # Beside each port it would take the one 10,000 above for gRPC.
        grpc = [f"-{name}.port.grpc={free_port()}" for name in (*ports, "s3")]
        return [
            *[str(PROGRAMS / "weed"), "server", f"-dir={data}", "-ip=127.0.0.1", "-s3", f"-s3.port={self.port}"],
            *[f"-s3.config={config}", "-s3.port.iceberg=0", *(f"-{n}.port={p}" for n, p in ports.items()), *grpc],
            *["-master.volumeSizeLimitMB=1024", "-volume.max=100"],
        ]

    def ready(self) -> bool:
        """Its S3 port opens before the volume server has told the master of itself."""
        status = f"http://127.0.0.1:{self.master}/dir/status"
        try:
            with urllib.request.urlopen(status, timeout=1) as answer:
                return b"DataNodes" in answer.read() and super().ready()
        except OSError:
            return False


class Rclone(Peer):
    name = "rclone"

    @staticmethod
    def missing() -> str | None:
        return None if (PROGRAMS / "rclone").exists() else "bench/requirements.txt is not installed"

    def command(self) -> list[str]:
        data = self.folder / "data"
        data.mkdir()
        return [
            *[str(PROGRAMS / "rclone"), "serve", "s3", str(data), "--addr", f"127.0.0.1:{self.port}"],
            *["--auth-key", f"{KEY_ID},{SECRET}", "--config", "/dev/null"],
        ]


class Nginx(Peer):
    """Static files: `data/BUCKET/KEY` is what GET and HEAD answer."""

    name = "nginx"
    key_id = None

    @staticmethod
    def missing() -> str | None:
        return None if shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin") else "nginx is not installed"

    @property
    def files(self) -> Path:
        return self.folder / "data" / self.bucket

    def command(self) -> list[str]:
        self.files.mkdir(parents=True)
        # Workers may run as another user.
        for folder in (self.folder.parent, self.folder, self.folder / "data", self.files):
            folder.chmod(0o755)
        temporary = " ".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        config = self.folder / "nginx.conf"
        config.write_text(
            f"daemon off; worker_processes 2; pid {self.folder}/pid; error_log {self.folder}/error.log;\n"
            "events { worker_connections 512; }\n"
            f"http {{ {temporary} access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 10000000;\n"
            "  open_file_cache max=10000 inactive=60s;\n"
            f"  server {{ listen 127.0.0.1:{self.port}; root {self.folder}/data; }} }}\n"
        )
        program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
        return [program or "nginx", "-c", str(config), "-e", str(self.folder / "error.log")]
