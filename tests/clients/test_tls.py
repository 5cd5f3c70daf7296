"""Over TLS the SDKs do not sign the body: they send it in `aws-chunked` frames
with its sum behind it. The same work as over plain HTTP, by that framing."""

import io

import pyarrow.fs
import pytest
from boto3.s3.transfer import TransferConfig

from cloud import MIB, REGION
from noise import digest, noise, noise_file

TRAILER = b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"


@pytest.fixture
def s3_tls(cloud, tls):
    tls.seen.clear()
    return cloud.boto3(tls.url, verify=str(tls.ca_file))


@pytest.mark.parametrize("algorithm", [None, "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
@pytest.mark.parametrize("size", [0, 1, 70_000, 3 * MIB + 1])
def test_one_put_with_its_sum_behind_it(s3, s3_tls, tls, bucket, algorithm, size):
    body, asked = noise(size), {"ChecksumAlgorithm": algorithm} if algorithm else {}
    put = s3_tls.put_object(Bucket=bucket, Key="k", Body=io.BytesIO(body), **asked)
    assert len(tls.requests(TRAILER)) == 1, tls.seen
    # Over the other door, so that the bytes do not take the same way back.
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    field = f"Checksum{algorithm or 'CRC32'}"
    assert got["Body"].read() == body and got[field] == put[field]
    assert "ContentEncoding" not in got, got
    assert s3_tls.get_object(Bucket=bucket, Key="k")["Body"].read() == body


def test_a_kept_content_encoding_is_not_lost(s3, s3_tls, bucket):
    s3_tls.put_object(Bucket=bucket, Key="k", Body=io.BytesIO(b"zipped"), ContentEncoding="gzip")
    assert s3.head_object(Bucket=bucket, Key="k")["ContentEncoding"] == "gzip"


def test_parts_with_their_sums_behind_them(s3, s3_tls, tls, bucket, tmp_path):
    file = noise_file(tmp_path / "f", 17 * MIB + 5)
    parts = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, max_concurrency=4)
    s3_tls.upload_file(str(file), bucket, "k", Config=parts)
    assert len(tls.requests(TRAILER)) == 4
    s3_tls.download_file(bucket, "k", str(tmp_path / "back"), Config=parts)
    assert digest(tmp_path / "back") == digest(file)
    assert s3.head_object(Bucket=bucket, Key="k")["ETag"].endswith('-4"')


def test_presigned_addresses_behind_a_proxy(cloud, tls, bucket):
    """What is signed is the name that the client knows: the proxy's."""
    import requests

    for version in ("s3v4", "s3"):
        s3 = cloud.boto3(tls.url, verify=str(tls.ca_file), signature_version=version)
        where = {"Bucket": bucket, "Key": "k"}
        put = s3.generate_presigned_url("put_object", Params=where)
        assert put.startswith("https://")
        assert requests.put(put, data=b"body", verify=str(tls.ca_file), timeout=30).status_code == 200
        get = s3.generate_presigned_url("get_object", Params=where)
        assert requests.get(get, verify=str(tls.ca_file), timeout=30).content == b"body"


def test_the_cpp_sdk_over_tls(cloud, tls, bucket):
    """Arrow's own client of S3 is built on the C++ SDK."""
    tls.seen.clear()
    where = tls.url.removeprefix("https://")
    files = pyarrow.fs.S3FileSystem(
        access_key=cloud.key_id,
        secret_key=cloud.secret,
        region=REGION,
        endpoint_override=where,
        scheme="https",
        tls_ca_file_path=str(tls.ca_file),
    )
    body = noise(11 * MIB)
    with files.open_output_stream(f"{bucket}/a/large") as out:
        out.write(body)
    with files.open_input_file(f"{bucket}/a/large") as file:
        assert file.size() == len(body)
        assert file.read_at(1000, 5 * MIB - 10) == body[5 * MIB - 10 : 5 * MIB + 990]
    with files.open_input_stream(f"{bucket}/a/large") as file:
        assert file.read() == body
    assert tls.requests(b"x-amz-content-sha256"), "nothing was seen"
