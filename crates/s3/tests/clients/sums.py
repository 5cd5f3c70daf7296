"""Checks of what a client declares of its bytes."""

import hashlib

from wire import S3, SUMS, b64, bucket, expect, noise, put_signed_chunks, put_trailer, send


def check_sums_in_headers():
    name = bucket("sums")
    for n, (sum_name, compute) in enumerate(SUMS.items()):
        for length in (0, 100, 1_500_000 if sum_name not in ("crc32c", "crc64nvme") else 200_000):
            body, header = noise(length, n), f"x-amz-checksum-{sum_name}"
            path = f"/{name}/{sum_name}-{length}"
            put = expect(200, None, send("PUT", path, body, {header: b64(compute(body))}))
            assert put[1][header] == b64(compute(body)), put
            got = send("GET", path, headers={"x-amz-checksum-mode": "ENABLED"})
            assert got[2] == body and got[1][header] == b64(compute(body)), got[1]
            assert got[1]["x-amz-checksum-type"] == "FULL_OBJECT"
            part = send("GET", path, headers={"x-amz-checksum-mode": "ENABLED", "Range": "bytes=0-9"})
            assert header not in part[1]
            bad = noise(length + 7, f"bad {sum_name} {length}")
            expect(400, "BadDigest", send("PUT", path + "-bad", bad, {header: b64(compute(bad + b"x"))}))
            expect(404, "NoSuchKey", send("GET", path + "-bad"))
        expect(400, "BadDigest", send("PUT", f"/{name}/x", b"x", {f"x-amz-checksum-{sum_name}": "AAA="}))
    expect(501, "NotImplemented", send("PUT", f"/{name}/x", b"x", {"x-amz-checksum-xxhash64": "AAAAAAAAAAA="}))

    body = noise(300_000, "md5")
    expect(200, None, send("PUT", f"/{name}/md5", body, {"Content-MD5": b64(hashlib.md5(body).digest())}))
    bad = noise(300_000, "bad md5")
    expect(400, "BadDigest", send("PUT", f"/{name}/bad", bad, {"Content-MD5": b64(hashlib.md5(b"other").digest())}))
    expect(400, "InvalidDigest", send("PUT", f"/{name}/bad", bad, {"Content-MD5": "AAAA"}))
    for length in (10, 2_500_000):
        bad, other = noise(length, "signed"), noise(length, "sent")
        expect(400, "XAmzContentSHA256Mismatch", send("PUT", f"/{name}/bad", bad, wire=other))
    expect(404, "NoSuchKey", send("GET", f"/{name}/bad"))

    for algorithm in ("CRC32", "SHA1", "SHA256"):
        S3.put_object(Bucket=name, Key="boto", Body=body, ChecksumAlgorithm=algorithm)
        got = S3.get_object(Bucket=name, Key="boto", ChecksumMode="ENABLED")
        assert got["Body"].read() == body and got["Checksum" + algorithm] == b64(SUMS[algorithm.lower()](body))


def check_sums_in_trailers():
    name = bucket("trailers")
    for n, (sum_name, compute) in enumerate(SUMS.items()):
        for length in (0, 100, 150_000):
            body, path = noise(length, f"t{n}"), f"/{name}/{sum_name}-{length}"
            expect(200, None, put_trailer(path, body, sum_name, b64(compute(body))))
            got = send("GET", path, headers={"x-amz-checksum-mode": "ENABLED"})
            assert got[2] == body and got[1][f"x-amz-checksum-{sum_name}"] == b64(compute(body)), got[1]
            assert "content-encoding" not in got[1]
            bad = noise(length + 9, f"bad trailer {sum_name} {length}")
            expect(400, "BadDigest", put_trailer(path + "-bad", bad, sum_name, b64(compute(bad + b"x"))))
            expect(404, "NoSuchKey", send("GET", path + "-bad"))
    bad = noise(5000, "trailers")
    good = b64(SUMS["crc32"](bad))
    expect(400, None, put_trailer(f"/{name}/bad", bad, "crc32", None))
    expect(400, None, put_trailer(f"/{name}/bad", bad, "crc32", good, decoded=4999))
    expect(400, None, put_trailer(f"/{name}/bad", bad, "crc32", good, decoded=5001))
    expect(501, "NotImplemented", put_trailer(f"/{name}/bad", bad, "crc32", good, announced="x-amz-checksum-md5"))
    expect(501, "NotImplemented", put_trailer(f"/{name}/bad", bad, "crc32", good, announced="x-other"))
    headers = {
        "X-Amz-Content-SHA256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "X-Amz-Trailer": "x-amz-checksum-crc32",
        "X-Amz-Decoded-Content-Length": "5000",
    }
    for wire in (b"", b"x", b"1388\r\n" + bad, b"zz\r\n", b"1388\r\n" + bad + b"\r\n0\r\n\r\n", b"-1\r\n\r\n", bad):
        answer = send("PUT", f"/{name}/bad", b"", headers, wire=wire)
        assert 400 <= answer[0] < 500, (wire[:20], answer)
    expect(404, "NoSuchKey", send("GET", f"/{name}/bad"))

    body = noise(200_000, "signed chunks")
    expect(200, None, put_signed_chunks(f"/{name}/signed", body, "sha256"))
    assert send("GET", f"/{name}/signed")[2] == body
    bad = noise(200_000, "bad signed chunks")
    expect(403, "SignatureDoesNotMatch", put_signed_chunks(f"/{name}/bad", bad, "crc32", damage_chunk=True))
    answer = put_signed_chunks(f"/{name}/bad", bad, "crc32", damage_trailer=True)
    assert 400 <= answer[0] < 500, answer
    expect(404, "NoSuchKey", send("GET", f"/{name}/bad"))
