"""A `muonic up` of the client tests' own: free ports, a fresh folder, and a
port of the S3 door that stays the same when the server is killed and started
again."""

import json
import os
import shutil
import sys
import urllib.parse
from pathlib import Path

import boto3
from botocore.config import Config

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts" / "demo"))

from server import Server  # noqa: E402 (it lies beside the demo, which starts servers too)

BINARY = os.environ.get("MUONIC_TEST_BINARY", str(ROOT / "target" / "debug" / "muonic"))
LONG = "MUONIC_TEST_LONG" in os.environ
REGION = "us-east-1"
MIB = 1 << 20


class Cloud(Server):
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        data = folder / "data"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "MUONIC_", "RCLONE_"))}
        super().__init__(BINARY, data, folder / "server.log", {**kept, "MUONIC_DATA": str(data)})
        self.s3_listen = "127.0.0.1:0"

    @property
    def command(self) -> list[str]:
        return [self.binary, "up", "--data", str(self.data), "--listen", "127.0.0.1:0", "--s3-listen", self.s3_listen]

    def start(self) -> float:
        took = super().start()
        local = json.loads((self.data / "local.json").read_text())
        self.s3_url, self.key_id, self.secret = local["s3_url"], local["key_id"], local["secret"]
        self.s3_listen = urllib.parse.urlsplit(self.s3_url).netloc
        return took

    def kill(self) -> None:
        """The plug is pulled."""
        self.process.kill()
        self.process.wait()

    def boto3(self, url: str | None = None, **options):
        """A client as most people make one: nothing set but where and who."""
        verify = options.pop("verify", None)
        return boto3.client(
            "s3",
            endpoint_url=url or self.s3_url,
            region_name=REGION,
            aws_access_key_id=self.key_id,
            aws_secret_access_key=self.secret,
            verify=verify,
            config=Config(**options),
        )

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """What a command of another program gets: the key, and a home folder
        without anybody's own configuration."""
        home.mkdir(exist_ok=True)
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(home),
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.s3_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            # awscli signs in Python, boto3 in these tests by the common runtime (C).
            "BOTO_DISABLE_CRT": "true",
            **more,
        }

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
