"""rclone: copies, syncs and checks by modification time and MD5, which it
keeps in headers of its own."""

import pytest

from cloud import MIB, REGION
from noise import noise_file, tree


@pytest.fixture
def rclone(run, cloud):
    settings = {
        "RCLONE_CONFIG_M_TYPE": "s3",
        "RCLONE_CONFIG_M_PROVIDER": "Other",
        "RCLONE_CONFIG_M_ENDPOINT": cloud.s3_url,
        "RCLONE_CONFIG_M_REGION": REGION,
        "RCLONE_CONFIG_M_ENV_AUTH": "true",
        "RCLONE_S3_CHUNK_SIZE": "5M",
        "RCLONE_S3_UPLOAD_CUTOFF": "8M",
        "RCLONE_S3_COPY_CUTOFF": "12M",
    }
    return lambda *words, **more: run("rclone", *words, env=settings, **more)


def test_copy_sync_check_and_list(rclone, s3, bucket, tmp_path):
    here = tmp_path / "here"
    for n, name in enumerate(["a", "b/c", "b/d/ü&+ e", "empty"]):
        noise_file(here / name, 30_000 * (3 - n), n)
    noise_file(here / "large", 17 * MIB, 9)
    there = f"m:{bucket}/t"
    rclone("copy", here, there)
    rclone("check", "--download", here, there)
    rclone("check", here, there)  # by MD5, that of the large one from its metadata
    assert sorted(rclone("lsf", "-R", "--files-only", there).splitlines()) == sorted(tree(here))
    assert rclone("size", "--json", there) == '{"count":5,"bytes":18005792,"sizeless":0}\n'

    (here / "a").unlink()
    (here / "b/c").write_bytes(b"changed")
    noise_file(here / "new", 1000)
    rclone("sync", here, there)
    rclone("check", "--download", here, there)
    rclone("sync", there, tmp_path / "back")
    assert tree(tmp_path / "back") == tree(here)
    # Modification times have come along, so nothing is sent twice.
    before = {o["Key"]: o["LastModified"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    rclone("sync", here, there)
    assert before == {o["Key"]: o["LastModified"] for o in s3.list_objects_v2(Bucket=bucket)["Contents"]}
    noise_file(here / "b/c", 50_000)
    said = rclone("check", "--download", here, there, ok=False)
    assert "1 differences found" in said, said


def test_move_touch_and_delete(rclone, bucket, tmp_path):
    """All on the server's side, the large one copied in parts."""
    here = tmp_path / "here"
    noise_file(here / "large", 14 * MIB)
    noise_file(here / "small", 100)
    rclone("copy", here, f"m:{bucket}/a")
    rclone("move", f"m:{bucket}/a", f"m:{bucket}/b")
    assert rclone("lsf", "-R", "--files-only", f"m:{bucket}").split() == ["b/large", "b/small"]
    rclone("check", "--download", here, f"m:{bucket}/b")
    rclone("touch", "--timestamp", "2020-01-02T03:04:05", f"m:{bucket}/b/small")
    rclone("touch", f"m:{bucket}/b/touched")
    listed = rclone("lsl", f"m:{bucket}/b/small")
    assert "2020-01-02 03:04:05" in listed, listed
    rclone("check", "--download", "--one-way", here, f"m:{bucket}/b")
    rclone("moveto", f"m:{bucket}/b/small", f"m:{bucket}/c")
    rclone("purge", f"m:{bucket}/b")
    assert rclone("lsf", "-R", "--files-only", f"m:{bucket}").split() == ["c"]


def test_streams_versions_and_links(rclone, s3, bucket, tmp_path):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for text in ("one", "two"):
        (tmp_path / "f").write_text(text)
        rclone("copyto", tmp_path / "f", f"m:{bucket}/f")
    assert rclone("cat", f"m:{bucket}/f") == "two"
    assert len(rclone("lsf", "--s3-versions", f"m:{bucket}").split()) == 2
    rclone("backend", "cleanup-hidden", f"m:{bucket}")
    assert len(rclone("lsf", "--s3-versions", f"m:{bucket}").split()) == 1
    assert rclone("link", f"m:{bucket}/f").startswith("http://")
