"""The server dies while boto3 works; what boto3 does by itself is enough."""

import threading

from boto3.s3.transfer import TransferConfig

from cloud import MIB
from noise import digest, noise_file

RETRIES = {"retries": {"mode": "standard", "max_attempts": 12}, "connect_timeout": 5, "read_timeout": 30}
PARTS = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, max_concurrency=4)


class Plug:
    """Pulls the plug once, when so many bytes have gone out, and starts the
    server again on the same port and folder."""

    def __init__(self, cloud, after: int) -> None:
        self.cloud, self.left, self.lock = cloud, after, threading.Lock()
        self.thread: threading.Thread | None = None

    def __call__(self, sent: int) -> None:
        with self.lock:
            self.left -= sent
            if self.left > 0 or self.thread:
                return
            self.cloud.kill()
            self.thread = threading.Thread(target=self.cloud.start)
            self.thread.start()


def test_an_upload_survives_a_kill_and_a_restart(own_cloud, tmp_path):
    """Parts acknowledged before the kill are there, the others are sent again."""
    s3 = own_cloud.boto3(**RETRIES)
    s3.create_bucket(Bucket="raw")
    s3.put_object(Bucket="raw", Key="before", Body=b"acknowledged")
    file = noise_file(tmp_path / "f", 32 * MIB + 17)
    plug = Plug(own_cloud, after=15 * MIB)
    s3.upload_file(str(file), "raw", "large", Config=PARTS, Callback=plug)
    assert plug.thread, "the plug was not pulled"
    plug.thread.join()
    s3.download_file("raw", "large", str(tmp_path / "back"), Config=PARTS)
    assert digest(tmp_path / "back") == digest(file)
    assert s3.get_object(Bucket="raw", Key="before")["Body"].read() == b"acknowledged"
    assert [o["Key"] for o in s3.list_objects_v2(Bucket="raw")["Contents"]] == ["before", "large"]


def test_a_download_survives_a_kill_and_a_restart(own_cloud, tmp_path):
    s3 = own_cloud.boto3(**RETRIES)
    s3.create_bucket(Bucket="raw")
    file = noise_file(tmp_path / "f", 24 * MIB + 17)
    s3.upload_file(str(file), "raw", "large", Config=PARTS)
    plug = Plug(own_cloud, after=10 * MIB)
    s3.download_file("raw", "large", str(tmp_path / "back"), Config=PARTS, Callback=plug)
    plug.thread.join()
    assert digest(tmp_path / "back") == digest(file)


def test_single_puts_survive_a_kill_and_a_restart(own_cloud):
    """Every PUT that returned is there, bit by bit, though the server died between."""
    s3 = own_cloud.boto3(**RETRIES)
    s3.create_bucket(Bucket="raw")
    plug = Plug(own_cloud, after=20)
    bodies = {f"k{n:02}": bytes([n]) * (n * 4000) for n in range(40)}
    for key, body in bodies.items():
        s3.put_object(Bucket="raw", Key=key, Body=body)
        plug(1)
    plug.thread.join()
    for key, body in bodies.items():
        assert s3.get_object(Bucket="raw", Key=key)["Body"].read() == body
