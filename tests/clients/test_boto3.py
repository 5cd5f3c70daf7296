"""boto3 as most people use it: its transfers, forms, conditions and sums."""

import hashlib
import threading

import pytest
import requests
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from cloud import LONG, MIB
from noise import Stream, digest, noise, noise_file

PARALLEL = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB, max_concurrency=8)
SMALL_PARTS = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)


def refused(code, call, **arguments):
    with pytest.raises(ClientError) as e:
        call(**arguments)
    assert e.value.response["Error"]["Code"] == code, e.value


def test_a_large_file_goes_up_and_down_in_parallel_parts(s3, bucket, tmp_path):
    size = 64 * MIB + 12_345
    file = noise_file(tmp_path / "large", size)
    s3.upload_file(str(file), bucket, "large", Config=PARALLEL)
    head = s3.head_object(Bucket=bucket, Key="large")
    assert head["ContentLength"] == size and head["ETag"].endswith('-9"'), head
    s3.download_file(bucket, "large", str(tmp_path / "back"), Config=PARALLEL)
    assert digest(tmp_path / "back") == digest(file)


@pytest.mark.skipif(not LONG, reason="takes minutes and 5 GiB of disk: ./test --long")
def test_five_gigabytes_in_parts(s3, bucket):
    """More than one PUT may bring; the bytes are made on the way and lie on no disk but the server's."""
    size = 5 * 1024 * MIB + 12_345
    parts = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=32 * MIB, max_concurrency=4)
    s3.upload_fileobj(Stream(size), bucket, "large", Config=parts)
    head = s3.head_object(Bucket=bucket, Key="large")
    assert head["ContentLength"] == size and head["ETag"].endswith('-161"'), head
    wanted, found = Stream(size), s3.get_object(Bucket=bucket, Key="large")["Body"]
    while piece := wanted.read(8 * MIB):
        assert found.read(len(piece)) == piece
    assert found.read(1) == b""
    last = s3.get_object(Bucket=bucket, Key="large", PartNumber=161)
    assert last["PartsCount"] == 161 and len(last["Body"].read()) == 12_345


def test_an_interrupted_multipart_upload_is_resumed(cloud, s3, bucket):
    """Another client finds out from the server alone what is there."""
    parts = [noise(5 * MIB, n) for n in range(5)] + [noise(1000, 99)]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="big", Metadata={"from": "the first"})["UploadId"]
    for n in (1, 2, 4):
        s3.upload_part(Bucket=bucket, Key="big", UploadId=upload, PartNumber=n, Body=parts[n - 1])

    other = cloud.boto3()
    (open_upload,) = other.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert (open_upload["Key"], open_upload["UploadId"]) == ("big", upload)
    pages = other.get_paginator("list_parts").paginate(
        Bucket=bucket, Key="big", UploadId=upload, PaginationConfig={"PageSize": 2}
    )
    there = {p["PartNumber"]: p for page in pages for p in page["Parts"]}
    assert sorted(there) == [1, 2, 4]
    done = []
    for n, body in enumerate(parts, 1):
        etag = '"' + hashlib.md5(body).hexdigest() + '"'
        if n in there:
            assert there[n]["ETag"] == etag and there[n]["Size"] == len(body)
        else:
            assert other.upload_part(Bucket=bucket, Key="big", UploadId=upload, PartNumber=n, Body=body)["ETag"] == etag
        done.append({"PartNumber": n, "ETag": etag})
    other.complete_multipart_upload(Bucket=bucket, Key="big", UploadId=upload, MultipartUpload={"Parts": done})
    got = other.get_object(Bucket=bucket, Key="big")
    assert got["Body"].read() == b"".join(parts) and got["Metadata"] == {"from": "the first"}
    assert "Uploads" not in other.list_multipart_uploads(Bucket=bucket)
    third = other.get_object(Bucket=bucket, Key="big", PartNumber=3)
    assert third["Body"].read() == parts[2] and third["PartsCount"] == 6


@pytest.mark.parametrize("version", ["s3v4", "s3", None])
def test_presigned_addresses_and_forms_work_without_a_key(cloud, bucket, version):
    """None is what boto3 does by itself on an endpoint that is not Amazon's."""
    s3 = cloud.boto3(**({"signature_version": version} if version else {}))
    body = noise(100_000)
    where = {"Bucket": bucket, "Key": "a b/ü+&.bin"}
    put = s3.generate_presigned_url("put_object", Params={**where, "ContentType": "text/x"}, ExpiresIn=60)
    assert ("X-Amz-Signature" in put) == (version == "s3v4"), put
    answer = requests.put(put, data=body, headers={"Content-Type": "text/x"}, timeout=30)
    assert answer.status_code == 200, answer.text
    assert requests.put(put, data=body, headers={"Content-Type": "text/y"}, timeout=30).status_code == 403

    get = s3.generate_presigned_url("get_object", Params={**where, "ResponseContentType": "text/z"}, ExpiresIn=60)
    answer = requests.get(get, headers={"Range": "bytes=10-99"}, timeout=30)
    assert (answer.status_code, answer.content) == (206, body[10:100])
    assert answer.headers["Content-Type"] == "text/z"
    assert requests.get(get.replace("text", "texx"), timeout=30).status_code == 403
    head = s3.generate_presigned_url("head_object", Params=where)
    assert requests.head(head, timeout=30).headers["Content-Length"] == "100000"
    if version != "s3v4":  # for which boto3 refuses to make one
        over = s3.generate_presigned_url("get_object", Params=where, ExpiresIn=-5)
        assert requests.get(over, timeout=30).status_code == 403
    assert requests.delete(s3.generate_presigned_url("delete_object", Params=where), timeout=30).status_code == 204

    conditions = [["content-length-range", 1, 1000], {"Content-Type": "text/plain"}]
    form = s3.generate_presigned_post(bucket, "up/${filename}", {"Content-Type": "text/plain"}, conditions, 60)
    send = lambda data: requests.post(form["url"], data=form["fields"], files={"file": ("f.txt", data)}, timeout=30)
    assert send(b"x" * 900).status_code == 204
    assert s3.get_object(Bucket=bucket, Key="up/f.txt")["Body"].read() == b"x" * 900
    too_large = send(b"x" * 1001)
    assert too_large.status_code == 400 and "EntityTooLarge" in too_large.text, too_large.text


def test_a_presigned_address_works_for_part_and_completion(cloud, bucket):
    """What a browser does that uploads in parts with addresses from a server."""
    s3 = cloud.boto3(signature_version="s3v4")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    parts = [noise(5 * MIB, 1), noise(77, 2)]
    xml = "<CompleteMultipartUpload>"
    for n, body in enumerate(parts, 1):
        params = {"Bucket": bucket, "Key": "k", "UploadId": upload, "PartNumber": n}
        answer = requests.put(s3.generate_presigned_url("upload_part", Params=params), data=body, timeout=30)
        assert answer.status_code == 200, answer.text
        xml += f"<Part><PartNumber>{n}</PartNumber><ETag>{answer.headers['ETag']}</ETag></Part>"
    params = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    url = s3.generate_presigned_url("complete_multipart_upload", Params=params)
    answer = requests.post(url, data=xml + "</CompleteMultipartUpload>", timeout=30)
    assert answer.status_code == 200, answer.text
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"".join(parts)


def test_of_many_writers_with_a_condition_one_wins(cloud, s3, bucket):
    """A lock file, and a counter that loses no step: If-None-Match and If-Match."""
    s3.put_object(Bucket=bucket, Key="counter", Body=b"0")
    won, steps, failures = [], 5, []

    def work(n):
        try:
            mine = cloud.boto3()
            try:
                mine.put_object(Bucket=bucket, Key="lock", Body=b"%d" % n, IfNoneMatch="*")
                won.append(n)
            except ClientError as e:
                assert e.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"), e
            done = 0
            while done < steps:
                got = mine.get_object(Bucket=bucket, Key="counter")
                try:
                    body = b"%d" % (int(got["Body"].read()) + 1)
                    mine.put_object(Bucket=bucket, Key="counter", Body=body, IfMatch=got["ETag"])
                    done += 1
                except ClientError as e:
                    assert e.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"), e
        except Exception as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert len(won) == 1 and s3.get_object(Bucket=bucket, Key="lock")["Body"].read() == b"%d" % won[0]
    assert s3.get_object(Bucket=bucket, Key="counter")["Body"].read() == b"%d" % (6 * steps)
    refused("PreconditionFailed", s3.delete_object, Bucket=bucket, Key="lock", IfMatch='"other"')
    source = {"Bucket": bucket, "Key": "counter"}
    refused("PreconditionFailed", s3.copy_object, Bucket=bucket, Key="c", CopySource=source, CopySourceIfMatch='"other"')


def test_versions_are_kept_listed_and_brought_back(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"before")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    ids = [s3.put_object(Bucket=bucket, Key="k", Body=b"%d" % n)["VersionId"] for n in range(3)]
    assert len(set(ids)) == 3
    marker = s3.delete_object(Bucket=bucket, Key="k")
    assert marker["DeleteMarker"]
    refused("NoSuchKey", s3.get_object, Bucket=bucket, Key="k")
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, PaginationConfig={"PageSize": 2})
    listed = [(v["VersionId"], v["IsLatest"]) for p in pages for v in p.get("Versions", [])]
    assert listed == [(ids[2], False), (ids[1], False), (ids[0], False), ("null", False)], listed
    for n, version in enumerate(ids):
        assert s3.get_object(Bucket=bucket, Key="k", VersionId=version)["Body"].read() == b"%d" % n
    source = {"Bucket": bucket, "Key": "k", "VersionId": ids[0]}
    s3.copy_object(Bucket=bucket, Key="k", CopySource=source)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"0"
    s3.delete_object(Bucket=bucket, Key="k", VersionId=ids[1])
    refused("NoSuchVersion", s3.get_object, Bucket=bucket, Key="k", VersionId=ids[1])
    assert s3.get_object(Bucket=bucket, Key="k", VersionId="null")["Body"].read() == b"before"


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_sums_are_checked_kept_and_told(cloud, s3, bucket, algorithm):
    """On one PUT, and on the way back."""
    field, body = f"Checksum{algorithm}", noise(300_000)
    put = s3.put_object(Bucket=bucket, Key="one", Body=body, ChecksumAlgorithm=algorithm)
    head = s3.head_object(Bucket=bucket, Key="one", ChecksumMode="ENABLED")
    assert head[field] == put[field] and head["ChecksumType"] == "FULL_OBJECT"
    # boto3 computes the sum of what it reads, and raises where it differs.
    got = s3.get_object(Bucket=bucket, Key="one", ChecksumMode="ENABLED")
    assert got["Body"].read() == body
    attributes = s3.get_object_attributes(Bucket=bucket, Key="one", ObjectAttributes=["Checksum", "ObjectSize", "ETag"])
    assert attributes["Checksum"][field] == put[field] and attributes["ObjectSize"] == 300_000
    once = cloud.boto3(retries={"total_max_attempts": 1})  # boto3 tries again after BadDigest
    refused("BadDigest", once.put_object, Bucket=bucket, Key="bad", Body=body[1:], **{field: put[field]})


@pytest.mark.parametrize("algorithm, kind", [("CRC64NVME", "FULL_OBJECT"), ("SHA256", "COMPOSITE")])
def test_sums_of_parts_make_that_of_the_object(s3, bucket, algorithm, kind, tmp_path):
    field, file = f"Checksum{algorithm}", noise_file(tmp_path / "f", 5 * MIB + 1000)
    extra = {"ChecksumAlgorithm": algorithm}
    s3.upload_file(str(file), bucket, "parts", ExtraArgs=extra, Config=SMALL_PARTS)
    head = s3.head_object(Bucket=bucket, Key="parts", ChecksumMode="ENABLED")
    assert field in head and head["ChecksumType"] == kind, head
    parts = s3.get_object_attributes(Bucket=bucket, Key="parts", ObjectAttributes=["ObjectParts"])["ObjectParts"]
    assert parts["TotalPartsCount"] == 2, parts
    s3.download_file(bucket, "parts", str(tmp_path / "back"), Config=SMALL_PARTS)
    assert digest(tmp_path / "back") == digest(file)
