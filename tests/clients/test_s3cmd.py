"""s3cmd, with a configuration file as people have it."""

import pytest

from cloud import MIB, REGION
from noise import digest, noise_file, tree


@pytest.fixture
def s3cmd(run, cloud, tmp_path, request):
    config = tmp_path / "s3cfg"
    config.write_text(
        f"[default]\naccess_key = {cloud.key_id}\nsecret_key = {cloud.secret}\nhost_base = {cloud.s3_listen}\n"
        f"host_bucket = {cloud.s3_listen}\nuse_https = False\nbucket_location = {REGION}\n"
        f"signature_v2 = {getattr(request, 'param', 'v4') == 'v2'}\nmultipart_chunk_size_mb = 5\n"
    )
    return lambda *words, **more: run("s3cmd", "--config", config, "--no-progress", *words, **more)


@pytest.mark.parametrize("s3cmd", ["v4", "v2"], indirect=True)
def test_daily_work(s3cmd, s3, bucket, tmp_path):
    """With signatures of both versions."""
    file = noise_file(tmp_path / "large", 12 * MIB)
    s3cmd("put", file, f"s3://{bucket}/large", "--add-header=x-amz-meta-who:me", "--mime-type=a/b")
    head = s3.head_object(Bucket=bucket, Key="large")
    assert head["ETag"].endswith('-3"') and head["Metadata"]["who"] == "me" and head["ContentType"] == "a/b"
    s3cmd("get", f"s3://{bucket}/large", tmp_path / "back")
    assert digest(tmp_path / "back") == digest(file)
    info = s3cmd("info", f"s3://{bucket}/large")
    assert f"File size: {12 * MIB}" in info and "MIME type: a/b" in info, info
    assert "Location:  us-east-1" in s3cmd("info", f"s3://{bucket}")
    s3cmd("cp", f"s3://{bucket}/large", f"s3://{bucket}/copied")
    s3cmd("mv", f"s3://{bucket}/copied", f"s3://{bucket}/ü &+/moved")
    assert f"s3://{bucket}/ü &+/moved" in s3cmd("ls", "--recursive", f"s3://{bucket}")
    assert s3.get_object(Bucket=bucket, Key="ü &+/moved")["ContentLength"] == 12 * MIB
    s3cmd("setacl", "--acl-private", f"s3://{bucket}/large")
    said = s3cmd("get", f"s3://{bucket}/nothing", tmp_path / "none", ok=False)
    assert "does not exist" in said, said
    s3cmd("del", "--recursive", "--force", f"s3://{bucket}")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_sync(s3cmd, s3, bucket, tmp_path):
    here = tmp_path / "here"
    for n, name in enumerate(["a", "b/c", "b/d/ü&+ e"]):
        noise_file(here / name, 30_000 * n + 10, n)
    s3cmd("sync", f"{here}/", f"s3://{bucket}/t/")
    (here / "a").unlink()
    (here / "b/c").write_bytes(b"changed")
    s3cmd("sync", "--delete-removed", f"{here}/", f"s3://{bucket}/t/")
    assert sorted(o["Key"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]) == sorted("t/" + f for f in tree(here))
    (tmp_path / "back").mkdir()
    s3cmd("sync", f"s3://{bucket}/t/", f"{tmp_path / 'back'}/")
    assert tree(tmp_path / "back") == tree(here)


def test_buckets_and_their_settings(s3cmd, s3, bucket, tmp_path):
    s3cmd("mb", "s3://made-by-s3cmd")
    assert "made-by-s3cmd" in s3cmd("ls")
    policy = tmp_path / "policy.json"
    policy.write_text(
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject",'
        '"Resource":"arn:aws:s3:::made-by-s3cmd/*"}]}'
    )
    s3cmd("setpolicy", policy, "s3://made-by-s3cmd")
    assert "Policy:" in s3cmd("info", "s3://made-by-s3cmd")
    s3cmd("delpolicy", "s3://made-by-s3cmd")
    s3cmd("expire", "--expiry-days=3", "--expiry-prefix=tmp/", "s3://made-by-s3cmd")
    assert "<Days>3</Days>" in s3cmd("getlifecycle", "s3://made-by-s3cmd")
    assert s3cmd("multipart", "s3://made-by-s3cmd")
    s3cmd("rb", "s3://made-by-s3cmd")
