"""minio-py, whose checks of what it gets are its own."""

import io
import json

import pytest
import requests
from minio import Minio
from minio.commonconfig import ENABLED, CopySource, Filter, Tags
from minio.deleteobjects import DeleteObject
from minio.error import S3Error
from minio.lifecycleconfig import Expiration, LifecycleConfig, Rule
from minio.notificationconfig import NotificationConfig, PrefixFilterRule, QueueConfig
from minio.select import CSVInputSerialization, CSVOutputSerialization, SelectRequest
from minio.versioningconfig import SUSPENDED, VersioningConfig

from cloud import MIB, REGION
from noise import digest, noise, noise_file


@pytest.fixture
def minio(cloud):
    return Minio(cloud.s3_listen, cloud.key_id, cloud.secret, secure=False, region=REGION)


def read(minio, *words, **more) -> bytes:
    answer = minio.get_object(*words, **more)
    try:
        return answer.read()
    finally:
        answer.close()
        answer.release_conn()


def refused(code, call, *words, **more):
    with pytest.raises(S3Error) as e:
        call(*words, **more)
    assert e.value.code == code, e.value
    return e.value


def test_objects(minio, bucket, tmp_path):
    assert minio.bucket_exists(bucket) and not minio.bucket_exists("not-there")
    assert bucket in [b.name for b in minio.list_buckets()]
    body = noise(100_000)
    minio.put_object(bucket, "a/ü &+", io.BytesIO(body), len(body), content_type="a/b", metadata={"who": "me"})
    stat = minio.stat_object(bucket, "a/ü &+")
    assert (stat.size, stat.content_type, stat.metadata["x-amz-meta-who"]) == (100_000, "a/b", "me")
    assert read(minio, bucket, "a/ü &+") == body
    assert read(minio, bucket, "a/ü &+", offset=10, length=90) == body[10:100]
    refused("NoSuchKey", minio.get_object, bucket, "nothing")
    # Of unknown length, so in parts.
    large = noise(12 * MIB)
    minio.put_object(bucket, "stream", io.BytesIO(large), -1, part_size=5 * MIB)
    assert read(minio, bucket, "stream") == large
    file = noise_file(tmp_path / "f", 12 * MIB)
    minio.fput_object(bucket, "file", str(file), part_size=5 * MIB, num_parallel_uploads=3)
    minio.fget_object(bucket, "file", str(tmp_path / "back"))
    assert digest(tmp_path / "back") == digest(file)
    minio.copy_object(bucket, "copy", CopySource(bucket, "file"))
    sources = [CopySource(bucket, "file"), CopySource(bucket, "a/ü &+")]
    from minio.commonconfig import ComposeSource

    minio.compose_object(bucket, "composed", [ComposeSource(s.bucket_name, s.object_name) for s in sources])
    assert minio.stat_object(bucket, "composed").size == 12 * MIB + 100_000
    names = [o.object_name for o in minio.list_objects(bucket, recursive=True)]
    assert names == ["a/ü &+", "composed", "copy", "file", "stream"]
    assert [o.object_name for o in minio.list_objects(bucket) if o.is_dir] == ["a/"]
    assert list(minio.remove_objects(bucket, [DeleteObject(n) for n in names])) == []
    assert list(minio.list_objects(bucket, recursive=True)) == []


def test_many_objects_are_removed_and_listed_by_pages(minio, bucket):
    for n in range(120):
        minio.put_object(bucket, f"k{n:03}", io.BytesIO(b"x"), 1)
    assert len(list(minio.list_objects(bucket, prefix="k0"))) == 100
    assert [o.object_name for o in minio.list_objects(bucket, start_after="k117")] == ["k118", "k119"]
    errors = minio.remove_objects(bucket, (DeleteObject(f"k{n:03}") for n in range(120)))
    assert list(errors) == []


def test_versions_and_tags(minio, bucket):
    minio.set_bucket_versioning(bucket, VersioningConfig(ENABLED))
    assert minio.get_bucket_versioning(bucket).status == ENABLED
    one = minio.put_object(bucket, "k", io.BytesIO(b"one"), 3).version_id
    two = minio.put_object(bucket, "k", io.BytesIO(b"two"), 3).version_id
    assert read(minio, bucket, "k", version_id=one) == b"one"
    minio.remove_object(bucket, "k")
    found = [(o.version_id, o.is_delete_marker) for o in minio.list_objects(bucket, include_version=True)]
    assert (one, False) in found and (two, False) in found and len(found) == 3
    assert list(minio.remove_objects(bucket, [DeleteObject("k", version_id=v) for v, _ in found])) == []
    minio.set_bucket_versioning(bucket, VersioningConfig(SUSPENDED))

    tags = Tags.new_object_tags()
    tags["project"] = "a b/c"
    minio.put_object(bucket, "t", io.BytesIO(b"x"), 1, tags=tags)
    assert minio.get_object_tags(bucket, "t") == {"project": "a b/c"}
    minio.delete_object_tags(bucket, "t")
    assert not minio.get_object_tags(bucket, "t")
    tags = Tags.new_bucket_tags()
    tags["team"] = "x"
    minio.set_bucket_tags(bucket, tags)
    assert minio.get_bucket_tags(bucket) == {"team": "x"}


def test_presigned_policy_and_rules(minio, cloud, bucket):
    url = minio.presigned_put_object(bucket, "k")
    assert requests.put(url, data=b"body", timeout=30).status_code == 200
    assert requests.get(minio.presigned_get_object(bucket, "k"), timeout=30).content == b"body"
    plain = f"{cloud.s3_url}/{bucket}/k"
    assert requests.get(plain, timeout=30).status_code == 403
    allow = {"Effect": "Allow", "Principal": {"AWS": ["*"]}, "Action": ["s3:GetObject"], "Resource": [f"arn:aws:s3:::{bucket}/*"]}
    minio.set_bucket_policy(bucket, json.dumps({"Version": "2012-10-17", "Statement": [allow]}))
    assert json.loads(minio.get_bucket_policy(bucket))["Statement"][0]["Action"] in ("s3:GetObject", ["s3:GetObject"])
    assert requests.get(plain, timeout=30).content == b"body"
    assert requests.put(plain, data=b"x", timeout=30).status_code == 403
    minio.delete_bucket_policy(bucket)
    assert requests.get(plain, timeout=30).status_code == 403
    refused("NoSuchBucketPolicy", minio.get_bucket_policy, bucket)
    rule = Rule(ENABLED, rule_filter=Filter(prefix="tmp/"), rule_id="r", expiration=Expiration(days=3))
    minio.set_bucket_lifecycle(bucket, LifecycleConfig([rule]))
    assert minio.get_bucket_lifecycle(bucket).rules[0].expiration.days == 3


def test_what_is_not_offered_is_refused_by_its_name(minio, bucket):
    minio.put_object(bucket, "k.csv", io.BytesIO(b"a,b\n"), 4)
    request = SelectRequest("select * from s3object", CSVInputSerialization(), CSVOutputSerialization())
    said = refused("NotImplemented", minio.select_object_content, bucket, "k.csv", request)
    assert "SelectObjectContent" in str(said), said


def test_notifications_are_kept(minio, bucket):
    stream = "arn:muonic:sqs:::events"
    queue = QueueConfig(["s3:ObjectCreated:*"], config_id="1", queue=stream, prefix_filter_rule=PrefixFilterRule("in/"))
    minio.set_bucket_notification(bucket, NotificationConfig(queue_config_list=[queue]))
    (kept,) = minio.get_bucket_notification(bucket).queue_config_list
    assert (kept.queue, kept.config_id, kept.events) == (stream, "1", ["s3:ObjectCreated:*"])
    assert kept.prefix_filter_rule.value == "in/"
    elsewhere = QueueConfig(["s3:ObjectCreated:*"], config_id="1", queue="arn:aws:sqs:us-east-1:1:q")
    config = NotificationConfig(queue_config_list=[elsewhere])
    said = refused("InvalidArgument", minio.set_bucket_notification, bucket, config)
    assert stream in str(said), said
    minio.delete_bucket_notification(bucket)
    assert not minio.get_bucket_notification(bucket).queue_config_list
