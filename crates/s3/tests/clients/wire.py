"""Requests to the S3 door below what boto3 offers: signed by hand, sums in
trailers, frames damaged on purpose."""

import base64
import hashlib
import hmac
import http.client
import os
import sys
import urllib.parse
import zlib

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.credentials
from botocore.config import Config
from botocore.exceptions import ClientError

URL = sys.argv[1]
HOST = urllib.parse.urlsplit(URL).netloc
REGION = "us-east-1"


def client(who="ADMIN", **options):
    secret = options.pop("secret", os.environ[who + "_SECRET"])
    config = Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}, **options)
    return boto3.client(
        "s3",
        endpoint_url=URL,
        region_name=REGION,
        aws_access_key_id=os.environ[who + "_ID"],
        aws_secret_access_key=secret,
        config=config,
    )


S3 = client()


def refused(code, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except ClientError as e:
        got = e.response["Error"]["Code"]
        assert got in (code if isinstance(code, tuple) else (code,)), e
        assert e.response["ResponseMetadata"]["HTTPStatusCode"] < 500 or got == "NotImplemented", e
        return e.response["Error"].get("Message", "")
    raise AssertionError(f"{code} expected, it succeeded")


def noise(n, seed=0):
    out, block = bytearray(), hashlib.sha256(str(seed).encode()).digest()
    while len(out) < n:
        out += block
        block = hashlib.sha256(block).digest()
    return bytes(out[:n])


def bucket(name):
    S3.create_bucket(Bucket=name)
    return name


# Sums, without any library.


def crc_table(polynomial):
    table = []
    for n in range(256):
        for _ in range(8):
            n = (n >> 1) ^ (polynomial if n & 1 else 0)
        table.append(n)
    return table


def crc(table, width, data):
    value = full = (1 << width) - 1
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    return (value ^ full).to_bytes(width // 8, "big")


CRC32C = crc_table(0x82F63B78)
CRC64NVME = crc_table(0x9A6C9329AC4BC9B5)

SUMS = {
    "crc32": lambda b: zlib.crc32(b).to_bytes(4, "big"),
    "crc32c": lambda b: crc(CRC32C, 32, b),
    "crc64nvme": lambda b: crc(CRC64NVME, 64, b),
    "sha1": lambda b: hashlib.sha1(b).digest(),
    "sha256": lambda b: hashlib.sha256(b).digest(),
}


def b64(data):
    return base64.b64encode(data).decode()


# Requests made by hand, signed by botocore.


class Signer(botocore.auth.S3SigV4Auth):
    """Signs the content hash that the request names, where it names one."""

    def _modify_request_before_signing(self, request):
        self.named = request.headers.get("X-Amz-Content-SHA256")
        super()._modify_request_before_signing(request)

    def payload(self, request):
        return self.named or super().payload(request)


def send(method, path, body=b"", headers=None, wire=None, who="ADMIN", tamper=None, region=REGION):
    """Signs `body` and sends `wire` (the same, unless given)."""
    request = botocore.awsrequest.AWSRequest(method=method, url=URL + path, data=body, headers=dict(headers or {}))
    credentials = botocore.credentials.Credentials(os.environ[who + "_ID"], os.environ[who + "_SECRET"])
    Signer(credentials, "s3", region).add_auth(request)
    signed = dict(request.headers.items())
    if tamper:
        tamper(signed)
    return exchange(method, path, body if wire is None else wire, signed)


def exchange(method, path, body, headers):
    connection = http.client.HTTPConnection(HOST, timeout=60)
    try:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def expect(status, code, answer):
    assert answer[0] == status, answer
    assert code is None or f"<Code>{code}</Code>".encode() in answer[2], answer
    return answer


def chunked(body, trailer="", size=65536):
    out = b""
    for at in range(0, len(body), size):
        piece = body[at : at + size]
        out += f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    return out + b"0\r\n" + trailer.encode() + b"\r\n"


def put_trailer(path, body, name, value, announced=None, **kwargs):
    wire = chunked(body, f"x-amz-checksum-{name}:{value}\r\n" if value is not None else "")
    headers = {
        "X-Amz-Content-SHA256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "Content-Encoding": "aws-chunked",
        "X-Amz-Trailer": announced or f"x-amz-checksum-{name}",
        "X-Amz-Decoded-Content-Length": str(kwargs.pop("decoded", len(body))),
        "Content-Length": str(len(wire)),
    }
    return send("PUT", path, b"", headers, wire=wire, **kwargs)


def put_signed_chunks(path, body, name, damage_chunk=False, damage_trailer=False):
    """STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, signed as AWS documents it."""
    size, trailer = 65536, f"x-amz-checksum-{name}:{b64(SUMS[name](body))}"
    pieces = [body[at : at + size] for at in range(0, len(body), size)] + [b""]
    length = sum(len(f"{len(p):x};chunk-signature=") + 64 + 2 + len(p) + (2 if p else 0) for p in pieces)
    length += len(trailer) + 2 + len("x-amz-trailer-signature:") + 64 + 4
    headers = {
        "X-Amz-Content-SHA256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        "Content-Encoding": "aws-chunked",
        "X-Amz-Trailer": f"x-amz-checksum-{name}",
        "X-Amz-Decoded-Content-Length": str(len(body)),
        "Content-Length": str(length),
    }
    request = botocore.awsrequest.AWSRequest(method="PUT", url=URL + path, data=b"", headers=headers)
    credentials = botocore.credentials.Credentials(os.environ["ADMIN_ID"], os.environ["ADMIN_SECRET"])
    Signer(credentials, "s3", REGION).add_auth(request)
    signed = dict(request.headers.items())
    date = signed["X-Amz-Date"]
    scope = f"{date[:8]}/{REGION}/s3/aws4_request"
    key = ("AWS4" + os.environ["ADMIN_SECRET"]).encode()
    for part in (date[:8], REGION, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    sign = lambda text: hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    empty = hashlib.sha256(b"").hexdigest()
    previous = signed["Authorization"].rsplit("Signature=", 1)[1]
    wire = b""
    for piece in pieces:
        digest = hashlib.sha256(piece).hexdigest()
        previous = sign(f"AWS4-HMAC-SHA256-PAYLOAD\n{date}\n{scope}\n{previous}\n{empty}\n{digest}")
        if damage_chunk and piece:
            piece = bytes([piece[0] ^ 1]) + piece[1:]
        wire += f"{len(piece):x};chunk-signature={previous}\r\n".encode() + piece + (b"\r\n" if piece else b"")
    digest = hashlib.sha256((trailer + "\n").encode()).hexdigest()
    previous = sign(f"AWS4-HMAC-SHA256-TRAILER\n{date}\n{scope}\n{previous}\n{digest}")
    if damage_trailer:
        previous = "0" * 64
    wire += f"{trailer}\r\nx-amz-trailer-signature:{previous}\r\n\r\n".encode()
    assert len(wire) == length, (len(wire), length)
    return exchange("PUT", path, wire, signed)
