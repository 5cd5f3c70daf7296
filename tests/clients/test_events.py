"""What happens in a bucket, as boto3 asks for it and the API tells it."""

import json
import subprocess
import threading

import pytest
import requests
from botocore.exceptions import ClientError

from cloud import MIB
from noise import noise

STREAM = "arn:muonic:sqs:::events"


@pytest.fixture
def s3(cloud):
    return cloud.boto3()


def ask(s3, bucket, **configuration):
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=configuration)


def events(cloud, bucket, **query):
    url = f"{cloud.url}/api/v1/buckets/{bucket}/events"
    answer = requests.get(url, params=query, headers={"Authorization": f"Bearer {cloud.token}"}, timeout=90)
    return answer.status_code, answer.json()


def told(cloud, bucket, **query):
    status, found = events(cloud, bucket, **query)
    assert status == 200, found
    return [(event["name"].removeprefix("s3:"), event["key"]) for event in found["events"]], found["next"]


def test_all_that_happens_is_told(cloud, s3, bucket):
    s3.put_object(Bucket=bucket, Key="before", Body=b"x")
    ask(s3, bucket, EventBridgeConfiguration={})
    s3.put_object(Bucket=bucket, Key="a", Body=b"12345")
    s3.copy_object(Bucket=bucket, Key="b", CopySource={"Bucket": bucket, "Key": "a"})
    form = s3.generate_presigned_post(bucket, "form")
    assert requests.post(form["url"], data=form["fields"], files={"file": b"posted"}, timeout=30).status_code == 204
    upload = s3.create_multipart_upload(Bucket=bucket, Key="big")["UploadId"]
    which = {"Bucket": bucket, "Key": "big", "UploadId": upload}
    etags = [s3.upload_part(PartNumber=n, Body=noise(5 * MIB), **which)["ETag"] for n in (1, 2)]
    parts = [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(etags, 1)]
    s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **which)
    s3.put_object_tagging(Bucket=bucket, Key="a", Tagging={"TagSet": [{"Key": "k", "Value": "v"}]})
    s3.delete_object_tagging(Bucket=bucket, Key="a")
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "a"}, {"Key": "b"}, {"Key": "not-there"}]})

    expected = [
        ("ObjectCreated:Put", "a"),
        ("ObjectCreated:Copy", "b"),
        ("ObjectCreated:Post", "form"),
        ("ObjectCreated:CompleteMultipartUpload", "big"),
        ("ObjectTagging:Put", "a"),
        ("ObjectTagging:Delete", "a"),
        ("ObjectRemoved:Delete", "a"),
        ("ObjectRemoved:Delete", "b"),
    ]
    found, last = told(cloud, bucket)
    assert found == expected
    pages, after = [], 0
    while page := told(cloud, bucket, after=after, limit=3):
        if not page[0]:
            break
        pages += page[0]
        after = page[1]
    assert (pages, after) == (expected, last)

    # Told again after the plug was pulled.
    cloud.kill()
    cloud.start()
    assert told(cloud, bucket) == (expected, last)


def test_filters_choose_and_waits_end(cloud, s3, bucket):
    rules = [{"Name": "prefix", "Value": "in/"}, {"Name": "suffix", "Value": ".csv"}]
    created = {"Id": "new", "QueueArn": STREAM, "Events": ["s3:ObjectCreated:*"], "Filter": {"Key": {"FilterRules": rules}}}
    ask(s3, bucket, QueueConfigurations=[created])
    s3.put_object(Bucket=bucket, Key="in/a.csv", Body=b"12345", Metadata={"x": "y"})
    for key in ("in/a.txt", "out/a.csv"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    s3.delete_object(Bucket=bucket, Key="in/a.csv")
    status, found = events(cloud, bucket)
    assert status == 200
    (event,) = found["events"]
    at = event.pop("at")
    assert event == {
        "number": event["number"],
        "name": "s3:ObjectCreated:Put",
        "bucket": bucket,
        "key": "in/a.csv",
        "size": 5,
        "etag": "827ccb0eea8a706c4c34a16891f84e7b",
        "notification": "new",
    }, event
    assert at.endswith("Z")

    threading.Timer(0.3, s3.put_object, kwargs={"Bucket": bucket, "Key": "in/b.csv", "Body": b"x"}).start()
    assert told(cloud, bucket, after=found["next"], wait_s=60)[0] == [("ObjectCreated:Put", "in/b.csv")]


def test_what_cannot_be_told_is_refused(cloud, s3, bucket):
    status, said = events(cloud, bucket)
    assert (status, said["error"]["code"]) == (404, "not_found"), said
    assert "PutBucketNotificationConfiguration" in said["error"]["hint"], said
    assert events(cloud, "not-there")[0] == 404
    assert events(cloud, bucket, limit=0)[0] in (400, 404)
    for kind, name in [("Topic", "TopicArn"), ("LambdaFunction", "LambdaFunctionArn"), ("Queue", "QueueArn")]:
        elsewhere = {name: "arn:aws:sqs:us-east-1:123456789012:q", "Events": ["s3:ObjectCreated:*"]}
        with pytest.raises(ClientError) as e:
            ask(s3, bucket, **{f"{kind}Configurations": [elsewhere]})
        assert e.value.response["Error"]["Code"] == "InvalidArgument"
        assert STREAM in str(e.value)


def test_the_command_follows(cloud, s3, bucket):
    ask(s3, bucket, EventBridgeConfiguration={})
    command = [cloud.binary, "--output", "json", "store", "events", bucket, "--follow"]
    with subprocess.Popen(command, env=cloud.env, stdout=subprocess.PIPE, text=True) as following:
        try:
            for key in ("one", "two"):
                s3.put_object(Bucket=bucket, Key=key, Body=b"x")
                assert json.loads(following.stdout.readline())["key"] == key
        finally:
            following.kill()
    shown = subprocess.run(command[:1] + command[3:-1], env=cloud.env, capture_output=True, text=True, check=True).stdout
    assert [line.split()[-1] for line in shown.splitlines()] == ["one", "two"], shown
