"""Checks of who may do what: roles, signatures, strangers, forms."""

import json
import os
import urllib.parse

from wire import S3, URL, bucket, client, exchange, expect, noise, refused, send


def check_strangers():
    name = bucket("open")
    S3.put_object(Bucket=name, Key="public", Body=b"x", ACL="public-read")
    S3.put_object(Bucket=name, Key="private", Body=b"x")
    read = lambda key: exchange("GET", f"/{name}/{key}", None, {})
    assert expect(200, None, read("public"))[2] == b"x"
    expect(403, "AccessDenied", read("private"))
    expect(403, "AccessDenied", read("not-there"))

    def from_address(address):
        statement = {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": f"arn:aws:s3:::{name}/*",
            "Condition": {"IpAddress": {"aws:SourceIp": address}},
        }
        S3.put_bucket_policy(Bucket=name, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))

    from_address("127.0.0.0/8")
    expect(200, None, read("private"))
    from_address("10.0.0.0/8")
    expect(403, "AccessDenied", read("private"))


def check_roles():
    name = bucket("roles")
    S3.put_object(Bucket=name, Key="k", Body=b"x")
    viewer, invoker = client("VIEWER"), client("INVOKER")
    assert viewer.get_object(Bucket=name, Key="k")["Body"].read() == b"x"
    assert viewer.list_objects_v2(Bucket=name)["KeyCount"] == 1
    assert name in [b["Name"] for b in viewer.list_buckets()["Buckets"]]
    refused("AccessDenied", viewer.put_object, Bucket=name, Key="k", Body=b"y")
    refused("AccessDenied", viewer.delete_object, Bucket=name, Key="k")
    done = viewer.delete_objects(Bucket=name, Delete={"Objects": [{"Key": "k"}]})
    assert [e["Code"] for e in done["Errors"]] == ["AccessDenied"] and "Deleted" not in done
    refused("AccessDenied", viewer.create_bucket, Bucket="viewers")
    refused("AccessDenied", viewer.delete_bucket, Bucket=name)
    refused("AccessDenied", invoker.get_object, Bucket=name, Key="k")
    refused("403", invoker.head_bucket, Bucket=name)
    refused("AccessDenied", invoker.list_buckets)
    assert S3.get_object(Bucket=name, Key="k")["Body"].read() == b"x"


def check_signatures():
    name = bucket("signatures")
    S3.put_object(Bucket=name, Key="k", Body=b"secret")
    path = f"/{name}/k"
    refused("SignatureDoesNotMatch", client(secret="wrong").get_object, Bucket=name, Key="k")
    os.environ["NOBODY_ID"], os.environ["NOBODY_SECRET"] = "MKAAAAAAAAAAAAAAAAAA", "x"
    refused("InvalidAccessKeyId", client("NOBODY").get_object, Bucket=name, Key="k")
    os.environ["NOBODY_ID"] = "AKIAIOSFODNN7EXAMPLE"
    refused("InvalidAccessKeyId", client("NOBODY").get_object, Bucket=name, Key="k")
    expect(403, "AccessDenied", exchange("GET", path, None, {}))
    expect(403, "AccessDenied", exchange("PUT", f"/{name}/new", b"x", {}))
    v2 = client(signature_version="s3")
    assert v2.get_object(Bucket=name, Key="k")["Body"].read() == b"secret"
    assert [o["Key"] for o in v2.list_objects(Bucket=name)["Contents"]] == ["k"]
    v2.create_bucket(Bucket="by-version-2")
    v2.delete_bucket(Bucket="by-version-2")
    expect(200, None, send("GET", path, region="eu-central-1"))

    def unsigned_header(headers):
        headers["x-amz-acl"] = "private"

    def no_hash(headers):
        del headers["X-Amz-Content-SHA256"]

    def bad_date(headers):
        headers["X-Amz-Date"] = "20200101T000000Z"

    def garbage(headers):
        headers["Authorization"] = headers["Authorization"].replace("Signature=", "Signature=zz")

    for tamper in (unsigned_header, no_hash, bad_date, garbage):
        answer = send("GET", path, tamper=tamper)
        assert answer[0] in (400, 403), (tamper, answer)
        assert b"secret" not in answer[2]
    assert send("GET", path)[1]["x-amz-request-id"]


def check_presigned():
    name = bucket("presigned")
    S3.put_object(Bucket=name, Key="k", Body=b"x")

    def fetch(url, method="GET", body=None):
        assert url.startswith(URL + "/")
        return exchange(method, url[len(URL) :], body, {})

    at = {"Bucket": name, "Key": "k"}
    v4 = client(signature_version="s3v4")
    week = 7 * 24 * 3600
    for maker in (v4, client(signature_version="s3")):
        assert expect(200, None, fetch(maker.generate_presigned_url("get_object", Params=at, ExpiresIn=60)))[2] == b"x"
        assert fetch(maker.generate_presigned_url("get_object", Params=at, ExpiresIn=week))[0] == 200
        too_long = maker.generate_presigned_url("get_object", Params=at, ExpiresIn=week + 100)
        expect(403, "AuthorizationQueryParametersError", fetch(too_long))
        tampered = maker.generate_presigned_url("get_object", Params=at).replace("/k?", "/l?")
        expect(403, "SignatureDoesNotMatch", fetch(tampered))
        to = maker.generate_presigned_url("put_object", Params={"Bucket": name, "Key": "up"})
        expect(200, None, fetch(to, "PUT", b"uploaded"))
        assert S3.get_object(Bucket=name, Key="up")["Body"].read() == b"uploaded"
        S3.delete_object(Bucket=name, Key="up")
    old = v4.generate_presigned_url("get_object", Params=at, ExpiresIn=60)
    date = urllib.parse.parse_qs(urllib.parse.urlsplit(old).query)["X-Amz-Date"][0]
    expect(403, None, fetch(old.replace(date, "20200101T000000Z").replace(date[:8] + "%2F", "20200101%2F")))


def check_forms():
    name = bucket("forms")

    def post(fields, content, file="a.txt"):
        parts = [f'--B\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()]
        head = f'--B\r\nContent-Disposition: form-data; name="file"; filename="{file}"\r\n\r\n'
        body = ("".join(parts) + head).encode() + content + b"\r\n--B--\r\n"
        return exchange("POST", f"/{name}", body, {"Content-Type": "multipart/form-data; boundary=B"})

    body = noise(300_000, "form")
    for maker in (client(signature_version="s3v4"), client(signature_version="s3")):
        limits = [["content-length-range", 1, 300_000], {"success_action_status": "201"}]
        signed = maker.generate_presigned_post(
            name, "up/${filename}", Fields={"success_action_status": "201"}, Conditions=limits
        )["fields"]
        answer = expect(201, None, post(signed, body))
        assert b"<Key>up/a.txt</Key>" in answer[2], answer
        assert S3.get_object(Bucket=name, Key="up/a.txt")["Body"].read() == body
        expect(400, "EntityTooLarge", post(signed, body + b"x", file="large"))
        expect(400, "EntityTooSmall", post(signed, b"", file="small"))
        expect(403, "AccessDenied", post({**signed, "x-amz-meta-a": "b"}, body, file="more"))
        expect(403, "AccessDenied", post({**signed, "key": "other"}, body))
        for field in ("signature", "x-amz-signature"):
            if field in signed:
                expect(403, "SignatureDoesNotMatch", post({**signed, field: "00"}, body))
    expect(403, "AccessDenied", post({"key": "anonymous"}, body))
    assert [o["Key"] for o in S3.list_objects_v2(Bucket=name)["Contents"]] == ["up/a.txt"]
