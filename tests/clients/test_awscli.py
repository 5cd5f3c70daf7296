"""awscli: what a shell script does with a bucket."""

import json
import urllib.parse

import requests
from awscli.botocore.awsrequest import AWSHTTPConnection

from cloud import MIB
from noise import digest, noise_file, tree


def make_tree(folder):
    for n, name in enumerate(["a.bin", "b/c.bin", "b/ü &+.bin", "b/d/e.bin", "skip.tmp"]):
        noise_file(folder / name, 20_000 * n, n)
    noise_file(folder / "large.bin", 9 * MIB, 9)
    return folder


def test_cp_mv_ls_rm(run, s3, bucket, tmp_path):
    file = noise_file(tmp_path / "large", 9 * MIB)  # in parts
    run("aws", "s3", "cp", "--no-progress", file, f"s3://{bucket}/x/large", "--metadata", "who=me", "--content-type", "a/b")
    head = s3.head_object(Bucket=bucket, Key="x/large")
    assert head["Metadata"] == {"who": "me"} and head["ContentType"] == "a/b" and head["ETag"].endswith('-2"')
    run("aws", "s3", "mv", "--no-progress", f"s3://{bucket}/x/large", f"s3://{bucket}/y/moved")  # copied in parts
    run("aws", "s3", "cp", "--no-progress", f"s3://{bucket}/y/moved", tmp_path / "back")
    assert digest(tmp_path / "back") == digest(file)
    s3.put_object(Bucket=bucket, Key="y/small", Body=b"to stdout")
    assert run("aws", "s3", "cp", f"s3://{bucket}/y/small", "-") == "to stdout"
    listed = run("aws", "s3", "ls", "--recursive", "--summarize", f"s3://{bucket}")
    assert "y/moved" in listed and "x/large" not in listed and f"Total Size: {9 * MIB + 9}" in listed, listed
    assert "PRE y/" in run("aws", "s3", "ls", f"s3://{bucket}")
    run("aws", "s3", "rm", "--recursive", f"s3://{bucket}/y/")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    said = run("aws", "s3", "cp", f"s3://{bucket}/nothing", "-", ok=False)
    assert "404" in said or "NoSuchKey" in said, said


def test_sync_both_ways(run, s3, bucket, tmp_path):
    here = make_tree(tmp_path / "here")
    sync = lambda *words: run("aws", "s3", "sync", "--no-progress", *words)
    keys = lambda: sorted(o["Key"] for o in s3.list_objects_v2(Bucket=bucket).get("Contents", []))
    sync(here, f"s3://{bucket}/t", "--exclude", "*.tmp")
    wanted = sorted("t/" + name for name in tree(here) if name != "skip.tmp")
    assert keys() == wanted
    (here / "a.bin").unlink()
    (here / "b/c.bin").write_bytes(b"changed")
    said = sync(here, f"s3://{bucket}/t", "--exclude", "*.tmp", "--delete")
    assert "t/a.bin" in said and "t/b/c.bin" in said and "large" not in said, said
    assert sync(here, f"s3://{bucket}/t", "--exclude", "*.tmp", "--delete") == "", "nothing has changed"
    (here / "skip.tmp").unlink()
    there = tmp_path / "there"
    noise_file(there / "stranger", 10)
    sync(f"s3://{bucket}/t", there, "--delete")
    assert tree(there) == tree(here)
    sync(f"s3://{bucket}/t", f"s3://{bucket}/u")
    assert [k for k in keys() if k.startswith("u/")] == sorted("u/" + name for name in tree(here))


def test_buckets_presign_and_s3api(run, bucket, tmp_path):
    run("aws", "s3", "mb", "s3://made-by-aws")
    (tmp_path / "f").write_text("hello")
    api = lambda *words, **more: run("aws", "s3api", *words, "--bucket", "made-by-aws", **more)
    put = json.loads(api("put-object", "--key", "k", "--body", "f", "--checksum-algorithm", "SHA256"))
    assert put["ETag"] and put["ChecksumSHA256"]
    url = run("aws", "s3", "presign", "s3://made-by-aws/k", "--expires-in", "60").strip()
    assert requests.get(url, timeout=30).text == "hello"
    assert "PreconditionFailed" in api("put-object", "--key", "k", "--body", "f", "--if-none-match", "*", ok=False)
    assert json.loads(api("list-object-versions"))["Versions"][0]["VersionId"] == "null"
    rule = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}
    api("put-bucket-lifecycle-configuration", "--lifecycle-configuration", json.dumps({"Rules": [rule]}))
    (kept,) = json.loads(api("get-bucket-lifecycle-configuration"))["Rules"]
    assert kept == rule, kept
    run("aws", "s3", "rb", "--force", "s3://made-by-aws")
    assert "made-by-aws" not in run("aws", "s3", "ls")


def test_an_answer_in_the_place_of_100_continue_spoils_no_later_one(cloud, bucket):
    """awscli sends `Expect: 100-continue` with empty files too. It takes the
    status of an answer that comes at once for that of the next one on the same
    connection, and would call a PUT that was refused a success."""
    url = cloud.boto3(signature_version="s3v4").generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": "k"})
    where = urllib.parse.urlsplit(url)
    connection = AWSHTTPConnection(where.hostname, where.port, timeout=30)

    def put(body: bytes, path: str, **more: str) -> int:
        connection.request("PUT", path, body, {"Expect": b"100-continue", "Content-Length": str(len(body)), **more})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    path = f"{where.path}?{where.query}"
    assert put(b"", path) == 200
    assert put(b"body", path, **{"If-None-Match": "*"}) == 412
    assert put(b"body", path + "wrong") in (400, 403)
    assert put(b"body", path) == 200
