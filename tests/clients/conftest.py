"""One server for all client tests, and a fresh bucket for each."""

import re
import subprocess

import pytest

from cloud import Cloud
from tls import Tls


@pytest.fixture(scope="session")
def cloud(tmp_path_factory):
    cloud = Cloud(tmp_path_factory.mktemp("cloud"))
    cloud.start()
    yield cloud
    said = cloud.log.read_text(errors="replace")
    cloud.remove()
    assert "panicked" not in said, said


@pytest.fixture
def own_cloud(tmp_path_factory):
    """For a test that kills its server."""
    cloud = Cloud(tmp_path_factory.mktemp("own-cloud"))
    cloud.start()
    yield cloud
    cloud.remove()


@pytest.fixture(scope="session")
def tls(cloud, tmp_path_factory):
    tls = Tls(cloud.s3_listen, tmp_path_factory.mktemp("tls"))
    yield tls
    tls.close()


@pytest.fixture
def s3(cloud):
    return cloud.boto3()


@pytest.fixture
def bucket(s3, request):
    """Emptied afterwards, so that the disk holds one test's bytes at a time."""
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower())[:60].strip("-")
    s3.create_bucket(Bucket=name)
    yield name
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
        found = page.get("Versions", []) + page.get("DeleteMarkers", [])
        if found:
            objects = [{"Key": o["Key"], "VersionId": o["VersionId"]} for o in found]
            s3.delete_objects(Bucket=name, Delete={"Objects": objects, "Quiet": True})


@pytest.fixture
def run(cloud, tmp_path):
    """Runs a command of another program; answers its standard output."""

    def call(*words: str, ok: bool = True, env: dict | None = None) -> str:
        env = cloud.environment(tmp_path / "home", **(env or {}))
        words = [str(w) for w in words]
        done = subprocess.run(words, env=env, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
        assert (done.returncode == 0) == ok, f"{words} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if ok else done.stdout + done.stderr

    return call
