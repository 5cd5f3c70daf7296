"""Checks of the S3 door with boto3: s3.py URL, keys in the environment.

Every function named check_* runs, here and in `sums` and `callers`; the first
that fails ends the script with its traceback.
"""

import datetime
import hashlib
import sys
import threading

import callers
import sums
from wire import S3, SUMS, URL, b64, bucket, client, exchange, expect, noise, refused, send


def check_buckets():
    name = bucket("my-bucket.one")
    S3.create_bucket(Bucket="another")
    # Making one's own bucket again, just as it is, changes nothing.
    S3.create_bucket(Bucket=name)
    refused("BucketAlreadyExists", S3.create_bucket, Bucket=name, ACL="public-read")
    S3.head_bucket(Bucket=name)
    assert S3.get_bucket_location(Bucket=name)["LocationConstraint"] is None
    listed = S3.list_buckets()
    assert [b["Name"] for b in listed["Buckets"]] == ["another", name], listed
    age = datetime.datetime.now(datetime.timezone.utc) - listed["Buckets"][0]["CreationDate"]
    assert abs(age.total_seconds()) < 600
    page = S3.list_buckets(MaxBuckets=1)
    assert [b["Name"] for b in page["Buckets"]] == ["another"] and page["ContinuationToken"]
    page = S3.list_buckets(MaxBuckets=1, ContinuationToken=page["ContinuationToken"])
    assert [b["Name"] for b in page["Buckets"]] == [name] and "ContinuationToken" not in page
    assert [b["Name"] for b in S3.list_buckets(Prefix="my")["Buckets"]] == [name]

    refused("404", S3.head_bucket, Bucket="not-there")
    refused("NoSuchBucket", S3.delete_bucket, Bucket="not-there")
    refused("NoSuchBucket", S3.get_bucket_location, Bucket="not-there")
    refused("NoSuchBucket", S3.list_objects_v2, Bucket="not-there")
    refused("NoSuchBucket", S3.put_object, Bucket="not-there", Key="k", Body=b"x")
    refused("NoSuchBucket", S3.get_object, Bucket="not-there", Key="k")
    refused("NoSuchBucket", S3.delete_object, Bucket="not-there", Key="k")
    for bad in ("192.168.5.4", "xn--bucket", "bucket-s3alias", "a..b"):
        refused("InvalidBucketName", S3.create_bucket, Bucket=bad)
    where = {"LocationConstraint": "eu-west-1"}
    S3.create_bucket(Bucket="far", CreateBucketConfiguration=where)
    assert S3.get_bucket_location(Bucket="far")["LocationConstraint"] == "eu-west-1"
    where = {"LocationConstraint": "no where"}
    refused("InvalidLocationConstraint", S3.create_bucket, Bucket="farther", CreateBucketConfiguration=where)
    S3.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True)
    assert S3.get_bucket_versioning(Bucket="locked")["Status"] == "Enabled"
    for done in ("far", "locked"):
        S3.delete_bucket(Bucket=done)

    S3.put_object(Bucket=name, Key="k", Body=b"x")
    refused("BucketNotEmpty", S3.delete_bucket, Bucket=name)
    S3.delete_object(Bucket=name, Key="k")
    S3.delete_bucket(Bucket=name)
    S3.delete_bucket(Bucket="another")
    assert S3.list_buckets()["Buckets"] == []


def check_objects():
    name = bucket("objects")
    for key, body in [("small", b"hello"), ("empty", b""), ("large", noise(9_000_001)), ("a/b ü+&?#%41", noise(70_000))]:
        put = S3.put_object(Bucket=name, Key=key, Body=body)
        etag = '"' + hashlib.md5(body).hexdigest() + '"'
        assert put["ETag"] == etag, put
        got = S3.get_object(Bucket=name, Key=key)
        assert got["Body"].read() == body
        assert got["ETag"] == etag and got["ContentLength"] == len(body)
        assert got["ContentType"] == "binary/octet-stream" and got["AcceptRanges"] == "bytes"
        head = S3.head_object(Bucket=name, Key=key)
        assert head["ETag"] == etag and head["ContentLength"] == len(body)
    S3.put_object(Bucket=name, Key="small", Body=b"replaced")
    assert S3.get_object(Bucket=name, Key="small")["Body"].read() == b"replaced"
    message = refused("NoSuchKey", S3.get_object, Bucket=name, Key="not-there")
    assert "not-there" in message
    refused("404", S3.head_object, Bucket=name, Key="not-there")
    S3.delete_object(Bucket=name, Key="not-there")
    S3.delete_object(Bucket=name, Key="small")
    refused("NoSuchKey", S3.get_object, Bucket=name, Key="small")
    S3.put_object(Bucket=name, Key="k" * 1024, Body=b"x")
    refused("KeyTooLongError", S3.put_object, Bucket=name, Key="k" * 1025, Body=b"x")


def check_headers_are_kept():
    name = bucket("headers")
    expires = datetime.datetime(2031, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc)
    kept = {
        "CacheControl": "max-age=60",
        "ContentDisposition": 'attachment; filename="x.csv"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "de",
        "ContentType": "text/csv; charset=utf-8",
        "Metadata": {"author": "me", "two-words": "a b"},
    }
    S3.put_object(Bucket=name, Key="k", Body=b"x", Expires=expires, **kept)
    for got in (S3.get_object(Bucket=name, Key="k"), S3.head_object(Bucket=name, Key="k")):
        for header, value in kept.items():
            assert got[header] == value, (header, got)
        assert got["ExpiresString"] == "Mon, 03 Feb 2031 04:05:06 GMT", got
    asked = {"ResponseContentType": "text/plain", "ResponseCacheControl": "no-store"}
    for got in (S3.get_object(Bucket=name, Key="k", **asked), S3.head_object(Bucket=name, Key="k", **asked)):
        assert got["ContentType"] == "text/plain" and got["CacheControl"] == "no-store", got
    refused("MetadataTooLarge", S3.put_object, Bucket=name, Key="k", Body=b"x", Metadata={"m": "x" * 2100})
    refused("MetadataTooLarge", S3.put_object, Bucket=name, Key="k", Body=b"x", ContentDisposition="x" * 2100)
    assert S3.get_object(Bucket=name, Key="k")["Metadata"] == kept["Metadata"]


def check_ranges_and_conditions():
    name, body = bucket("ranges"), noise(3_000_000)
    S3.put_object(Bucket=name, Key="k", Body=body)
    for asked, start, end in [
        ("bytes=0-0", 0, 1),
        ("bytes=5-9", 5, 10),
        ("bytes=2999999-", 2_999_999, 3_000_000),
        ("bytes=100-99999999", 100, 3_000_000),
        ("bytes=-7", 2_999_993, 3_000_000),
        ("bytes=-99999999", 0, 3_000_000),
    ]:
        got = S3.get_object(Bucket=name, Key="k", Range=asked)
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert got["ContentRange"] == f"bytes {start}-{end - 1}/3000000", got
        assert got["Body"].read() == body[start:end]
        head = S3.head_object(Bucket=name, Key="k", Range=asked)
        assert head["ContentLength"] == end - start and head["ResponseMetadata"]["HTTPStatusCode"] == 206
    refused("InvalidRange", S3.get_object, Bucket=name, Key="k", Range="bytes=3000000-")
    S3.put_object(Bucket=name, Key="empty", Body=b"")
    refused("InvalidRange", S3.get_object, Bucket=name, Key="empty", Range="bytes=0-")
    refused("InvalidRange", S3.get_object, Bucket=name, Key="empty", Range="bytes=-5")
    refused("416", S3.head_object, Bucket=name, Key="empty", Range="bytes=-5")
    # What is no range, or more than one, counts as none.
    for asked in ("bytes=0-1,5-6", "bytes=9-1", "bytes=a-b", "lines=1-2"):
        got = S3.get_object(Bucket=name, Key="k", Range=asked)
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 200 and got["Body"].read() == body, asked
        assert S3.head_object(Bucket=name, Key="k", Range=asked)["ContentLength"] == len(body)
    url = S3.generate_presigned_url("get_object", Params={"Bucket": name, "Key": "k"})[len(URL) :]
    assert expect(200, None, exchange("GET", url, None, {"Range": "bytes=0-1,5-6"}))[2] == body
    expect(403, "AccessDenied", exchange("GET", f"/{name}/k", None, {"Range": "bytes=0-1,5-6"}))

    etag = S3.head_object(Bucket=name, Key="k")["ETag"]
    at = S3.head_object(Bucket=name, Key="k")["LastModified"]
    hour = datetime.timedelta(hours=1)
    for read, gone in ((S3.get_object, "PreconditionFailed"), (S3.head_object, "412")):
        for ok in (
            {"IfMatch": etag},
            {"IfMatch": "*"},
            {"IfNoneMatch": '"other"'},
            {"IfModifiedSince": at - hour},
            {"IfUnmodifiedSince": at},
            {"IfMatch": etag, "IfUnmodifiedSince": at - hour},
            {"IfMatch": f'"other", {etag}'},
            {"IfNoneMatch": '"other", "another"'},
            {"IfNoneMatch": '"other"', "IfModifiedSince": at + hour},
        ):
            read(Bucket=name, Key="k", **ok)
        refused(gone, read, Bucket=name, Key="k", IfMatch='"other"')
        refused(gone, read, Bucket=name, Key="k", IfMatch='"other", "another"')
        refused("304", read, Bucket=name, Key="k", IfNoneMatch=f'"other", {etag}')
        refused(gone, read, Bucket=name, Key="k", IfUnmodifiedSince=at - hour)
        for same in ({"IfNoneMatch": etag}, {"IfNoneMatch": "*"}, {"IfModifiedSince": at}):
            refused("304", read, Bucket=name, Key="k", **same)


def check_listings():
    name = bucket("listings")
    keys = sorted(
        ["a", "a b", "a/1", "a/2", "a/b/1", "b+c", "b/1", "b0", "c/%41", "ü/1", "z\n1", "z&<>", "日本/1"],
        key=lambda k: k.encode(),
    )
    for key in keys:
        S3.put_object(Bucket=name, Key=key, Body=b"x")
    size = S3.list_objects_v2(Bucket=name)
    assert [o["Key"] for o in size["Contents"]] == keys, size
    assert size["KeyCount"] == len(keys) and not size["IsTruncated"]
    entry = size["Contents"][0]
    assert entry["Size"] == 1 and entry["StorageClass"] == "STANDARD" and entry["ETag"] == '"9dd4e461268c8034f5c8564e155c67a6"'
    assert "Owner" not in entry
    assert "Owner" in S3.list_objects_v2(Bucket=name, FetchOwner=True)["Contents"][0]

    def pages(call, size, **kwargs):
        return list(S3.get_paginator(call).paginate(Bucket=name, PaginationConfig={"PageSize": size}, **kwargs))

    for call in ("list_objects_v2", "list_objects"):
        for size in (1, 2, 3, 5, 1000):
            found = [o["Key"] for p in pages(call, size) for o in p.get("Contents", [])]
            assert found == keys, (call, size, found)
            rolled = pages(call, size, Delimiter="/")
            objects = [o["Key"] for p in rolled for o in p.get("Contents", [])]
            prefixes = [c["Prefix"] for p in rolled for c in p.get("CommonPrefixes", [])]
            assert objects == [k for k in keys if "/" not in k], (call, size, objects)
            assert prefixes == ["a/", "b/", "c/", "ü/", "日本/"], (call, size, prefixes)
            deep = pages(call, size, Delimiter="/", Prefix="a/")
            assert [o["Key"] for p in deep for o in p.get("Contents", [])] == ["a/1", "a/2"]
            assert [c["Prefix"] for p in deep for c in p.get("CommonPrefixes", [])] == ["a/b/"]
    after = S3.list_objects_v2(Bucket=name, StartAfter="b/1")
    assert [o["Key"] for o in after["Contents"]] == keys[keys.index("b/1") + 1 :]
    marker = S3.list_objects(Bucket=name, Marker="b/1", MaxKeys=1)
    assert [o["Key"] for o in marker["Contents"]] == ["b0"] and marker["IsTruncated"]
    none = S3.list_objects_v2(Bucket=name, MaxKeys=0)
    assert none["KeyCount"] == 0 and not none["IsTruncated"]
    plain = expect(200, None, send("GET", f"/{name}?list-type=2&prefix=z%26"))[2]
    assert b"<Key>z&amp;&lt;&gt;</Key>" in plain, plain
    url = expect(200, None, send("GET", f"/{name}?encoding-type=url&list-type=2&prefix=z%0A"))[2]
    assert b"<Key>z%0A1</Key>" in url and b"<Prefix>z%0A</Prefix>" in url, url
    refused("InvalidArgument", S3.list_objects_v2, Bucket=name, ContinuationToken="not ours!")
    expect(400, "InvalidArgument", send("GET", f"/{name}?encoding-type=x&list-type=2"))
    expect(400, "InvalidArgument", send("GET", f"/{name}?list-type=2&max-keys=-1"))


def check_delete_many():
    name = bucket("many")
    keys = [f"k{n:03}" for n in range(300)]
    for key in keys[:40]:
        S3.put_object(Bucket=name, Key=key, Body=b"x")
    done = S3.delete_objects(Bucket=name, Delete={"Objects": [{"Key": k} for k in keys]})
    assert [d["Key"] for d in done["Deleted"]] == keys and "Errors" not in done
    assert S3.list_objects_v2(Bucket=name)["KeyCount"] == 0
    S3.put_object(Bucket=name, Key="q", Body=b"x")
    done = S3.delete_objects(
        Bucket=name,
        Delete={"Quiet": True, "Objects": [{"Key": "q"}, {"Key": "v", "VersionId": "7"}, {"Key": "l" * 1025}]},
    )
    assert "Deleted" not in done
    assert [(e["Key"][:1], e["Code"]) for e in done["Errors"]] == [("l", "KeyTooLongError")]
    refused("NoSuchBucket", S3.delete_objects, Bucket="not-there", Delete={"Objects": [{"Key": "q"}]})
    refused("MalformedXML", S3.delete_objects, Bucket=name, Delete={"Objects": [{"Key": "q"}] * 1001})

    S3.put_object(Bucket=name, Key="stays", Body=b"x")
    xml = b"<Delete><Object><Key>stays</Key></Object></Delete>"
    path = f"/{name}?delete="
    wrong = {"Content-MD5": b64(hashlib.md5(b"other").digest())}
    expect(400, "BadDigest", send("POST", path, xml, wrong))
    expect(400, "BadDigest", send("POST", path, xml, {"x-amz-checksum-crc32": b64(SUMS["crc32"](b"other"))}))
    expect(400, "InvalidDigest", send("POST", path, xml, {"Content-MD5": "x"}))
    expect(400, None, send("POST", path, xml, wire=xml.replace(b"stays", b"other")))
    for bad in (b"", b"x", b"<Delete>", b"<Delete/>", b"<a><b/></a>", b"\xff\xfe<", b"<Delete><Object/></Delete>"):
        answer = send("POST", path, bad)
        assert 400 <= answer[0] < 500, (bad, answer)
    streaming = {"X-Amz-Content-SHA256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "X-Amz-Trailer": "x-amz-checksum-crc32"}
    expect(501, "NotImplemented", send("POST", path, xml, streaming))
    S3.head_object(Bucket=name, Key="stays")
    right = {"Content-MD5": b64(hashlib.md5(xml).digest()), "x-amz-checksum-crc64nvme": b64(SUMS["crc64nvme"](xml))}
    expect(200, None, send("POST", path, xml, right))
    refused("404", S3.head_object, Bucket=name, Key="stays")


def check_what_is_not_built_says_so():
    name = bucket("not-built")
    put = lambda **kwargs: S3.put_object(Bucket=name, Key="k", Body=b"x", **kwargs)
    for asked, word in [
        ({"StorageClass": "GLACIER"}, "storage"),
        ({"ServerSideEncryption": "aws:kms:dsse"}, "dsse"),
        ({"SSEKMSEncryptionContext": "e30="}, "context"),
    ]:
        message = refused("NotImplemented", put, **asked)
        assert word in message, (asked, message)
    refused("404", S3.head_object, Bucket=name, Key="k")
    lock = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": datetime.datetime(2031, 1, 1)}
    refused("InvalidRequest", put, **lock)
    refused("AccessDenied", put, ExpectedBucketOwner="111122223333")
    put(ACL="private", StorageClass="STANDARD", Tagging="a=b", WebsiteRedirectLocation="/x", IfNoneMatch="*")
    at = {"Bucket": name, "Key": "k"}
    refused("PreconditionFailed", put, IfNoneMatch="*")
    refused("PreconditionFailed", put, IfMatch='"x"')
    got = S3.get_object(VersionId="null", **at)
    assert got["TagCount"] == 1 and got["WebsiteRedirectLocation"] == "/x"
    assert S3.get_object(PartNumber=1, **at)["ContentLength"] == 1
    refused("InvalidPart", S3.get_object, PartNumber=2, **at)
    refused("InvalidRequest", S3.get_object, SSECustomerAlgorithm="AES256", SSECustomerKey=b"k" * 32, **at)
    refused("InvalidRequest", S3.copy_object, CopySource=f"{name}/k", **at)
    refused("NotImplemented", S3.delete_object, MFA="1 2", **at)
    for message in (
        refused("NotImplemented", S3.put_bucket_logging, Bucket=name, BucketLoggingStatus={}),
        refused("NotImplemented", S3.restore_object, RestoreRequest={"Days": 1}, **at),
        refused("NotImplemented", S3.delete_bucket_website, Bucket=name),
    ):
        assert "not implemented" in message.lower(), message
    refused("NoSuchBucketPolicy", S3.get_bucket_policy, Bucket=name)
    refused("NoSuchWebsiteConfiguration", S3.get_bucket_website, Bucket=name)
    refused("ReplicationConfigurationNotFoundError", S3.get_bucket_replication, Bucket=name)
    assert S3.get_bucket_request_payment(Bucket=name)["Payer"] == "BucketOwner"


def check_versions():
    name = bucket("versions")
    S3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    first = S3.put_object(Bucket=name, Key="k", Body=b"1")["VersionId"]
    second = S3.put_object(Bucket=name, Key="k", Body=b"22")["VersionId"]
    marker = S3.delete_object(Bucket=name, Key="k")
    assert marker["DeleteMarker"] and marker["VersionId"] not in (first, second)
    refused("NoSuchKey", S3.get_object, Bucket=name, Key="k")
    refused("MethodNotAllowed", S3.get_object, Bucket=name, Key="k", VersionId=marker["VersionId"])
    assert S3.get_object(Bucket=name, Key="k", VersionId=first)["Body"].read() == b"1"
    listed = S3.list_object_versions(Bucket=name)
    assert [v["VersionId"] for v in listed["Versions"]] == [second, first]
    assert [m["IsLatest"] for m in listed["DeleteMarkers"]] == [True]
    S3.delete_object(Bucket=name, Key="k", VersionId=marker["VersionId"])
    assert S3.get_object(Bucket=name, Key="k")["Body"].read() == b"22"


def check_parts_and_copies():
    name = bucket("parts")
    body = noise(5 << 20, "part")
    upload = {"Bucket": name, "Key": "whole"}
    upload["UploadId"] = S3.create_multipart_upload(Bucket=name, Key="whole", Metadata={"a": "b"})["UploadId"]
    parts = []
    for number, piece in ((1, body), (2, b"end")):
        etag = S3.upload_part(PartNumber=number, Body=piece, **upload)["ETag"]
        parts.append({"PartNumber": number, "ETag": etag})
    assert [p["Size"] for p in S3.list_parts(**upload)["Parts"]] == [len(body), 3]
    wrong = [parts[1], parts[0]]
    refused("InvalidPartOrder", S3.complete_multipart_upload, MultipartUpload={"Parts": wrong}, **upload)
    done = S3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **upload)
    assert done["ETag"].endswith('-2"')
    again = S3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **upload)
    assert again["ETag"] == done["ETag"]
    refused("NoSuchUpload", S3.complete_multipart_upload, MultipartUpload={"Parts": parts[:1]}, **upload)
    refused("NoSuchUpload", S3.list_parts, **upload)
    got = S3.get_object(Bucket=name, Key="whole", PartNumber=2)
    assert got["Body"].read() == b"end" and got["PartsCount"] == 2 and got["Metadata"] == {"a": "b"}
    S3.copy_object(Bucket=name, Key="copy ü", CopySource={"Bucket": name, "Key": "whole"})
    got = S3.get_object(Bucket=name, Key="copy ü")
    assert got["Body"].read() == body + b"end" and got["Metadata"] == {"a": "b"}
    attributes = S3.get_object_attributes(Bucket=name, Key="whole", ObjectAttributes=["ObjectParts", "ObjectSize"])
    assert attributes["ObjectSize"] == len(body) + 3 and attributes["ObjectParts"]["TotalPartsCount"] == 2


def check_locks():
    S3.create_bucket(Bucket="held", ObjectLockEnabledForBucket=True)
    until = datetime.datetime(2100, 1, 1, tzinfo=datetime.timezone.utc)
    put = S3.put_object(
        Bucket="held", Key="k", Body=b"x", ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=until
    )
    at = {"Bucket": "held", "Key": "k", "VersionId": put["VersionId"]}
    assert S3.get_object_retention(**at)["Retention"]["RetainUntilDate"] == until
    refused("AccessDenied", S3.delete_object, **at)
    S3.put_object_legal_hold(LegalHold={"Status": "ON"}, **at)
    refused("AccessDenied", S3.delete_object, BypassGovernanceRetention=True, **at)
    S3.put_object_legal_hold(LegalHold={"Status": "OFF"}, **at)
    S3.delete_object(BypassGovernanceRetention=True, **at)


def check_malformed():
    name = bucket("malformed")
    for method, path in [
        ("GET", "/%zz"),
        ("GET", "/%ff%fe/k"),
        ("GET", f"/{name}/%00"),
        ("GET", "/UPPER"),
        ("GET", "/a/b/c?" + "x" * 5000),
        ("PATCH", f"/{name}/k"),
        ("DELETE", "/"),
        ("PUT", "/"),
        ("POST", "/"),
        ("POST", f"/{name}/k"),
        ("GET", f"/{name}?list-type=2&max-keys=abc"),
        ("GET", f"/{name}?list-type=2&max-keys=99999999999"),
        ("GET", f"/{name}/k?partNumber=x"),
    ]:
        answer = send(method, path)
        assert answer[0] == 501 or 200 <= answer[0] < 500, (method, path, answer)
    S3.put_object(Bucket=name, Key="k", Body=b"x")
    for headers in (
        {"Range": "bytes=a-b"},
        {"Range": "bytes=9-1"},
        {"Range": "lines=1-2"},
        {"If-Modified-Since": "yesterday"},
        {"If-Match": "\xe9"},
    ):
        answer = send("GET", f"/{name}/k", headers=headers)
        assert 200 <= answer[0] < 500, (headers, answer)
    for body in (b"x", b"<a/>", b"\xff", b"<CreateBucketConfiguration>"):
        answer = send("PUT", "/made-of-garbage", body)
        assert 400 <= answer[0] < 500, (body, answer)
    refused("404", S3.head_bucket, Bucket="made-of-garbage")
    expect(200, None, send("PUT", f"/{name}/k", b"x", {"Transfer-Encoding": "chunked"}, wire=iter([b"1\r\nx\r\n0\r\n\r\n"])))
    other = send("PUT", f"/{name}/k", b"y", {"Transfer-Encoding": "chunked"}, wire=iter([b"1\r\nz\r\n0\r\n\r\n"]))
    expect(400, "XAmzContentSHA256Mismatch", other)
    answer = send("PUT", f"/{name}/k", b"x", {"Content-Length": str(6 << 30)}, wire=b"")
    expect(400, "EntityTooLarge", answer)
    assert S3.get_object(Bucket=name, Key="k")["Body"].read() == b"x"


def check_many_at_once():
    name, failures = bucket("at-once"), []

    def work(n):
        try:
            mine = client()
            for m in range(8):
                body = noise(1000 + n * 70_000, f"{n} {m}")
                mine.put_object(Bucket=name, Key=f"{n}/{m}", Body=body)
                assert mine.get_object(Bucket=name, Key=f"{n}/{m}")["Body"].read() == body
                mine.put_object(Bucket=name, Key="same", Body=body)
        except Exception as e:
            failures.append(e)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert S3.list_objects_v2(Bucket=name)["KeyCount"] == 65
    got = S3.get_object(Bucket=name, Key="same")
    assert '"' + hashlib.md5(got["Body"].read()).hexdigest() + '"' == got["ETag"]


def main():
    checks = [
        (name, check)
        for module in (sys.modules[__name__], sums, callers)
        for name, check in vars(module).items()
        if name.startswith("check_")
    ]
    for name, check in checks:
        print(name, flush=True)
        check()
    print(f"all {len(checks)} checks passed")


main()
