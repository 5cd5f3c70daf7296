"""Parquet as data people write and read it: s3fs, Arrow's own client (C++
SDK) and duckdb, each reading what the others wrote."""

import importlib.util
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
import s3fs

from cloud import MIB, REGION
from noise import noise

ROWS = 200_000


def table() -> pa.Table:
    values = pa.array(range(ROWS))
    return pa.table(
        {
            "id": values,
            "year": pc.add(2020, pc.cast(pc.divide(values, ROWS // 4), pa.int64())),
            "half": pc.divide(pc.cast(values, pa.float64()), 2.0),
            "text": pa.array([f"row {n % 1000}" for n in range(ROWS)]),
            "ballast": pa.array([noise(24, n % 5000) for n in range(ROWS)]),
        }
    )


TABLE = table()


@pytest.fixture
def s3fs_files(cloud):
    return s3fs.S3FileSystem(
        key=cloud.key_id, secret=cloud.secret, endpoint_url=cloud.s3_url, skip_instance_cache=True, use_listings_cache=False
    )


@pytest.fixture
def arrow_files(cloud):
    return pyarrow.fs.S3FileSystem(
        access_key=cloud.key_id,
        secret_key=cloud.secret,
        region=REGION,
        endpoint_override=cloud.s3_url,
        allow_bucket_creation=True,
        allow_bucket_deletion=True,
    )


@pytest.fixture(params=["s3fs", "arrow"])
def files(request, s3fs_files, arrow_files):
    return {"s3fs": s3fs_files, "arrow": arrow_files}[request.param]


def test_a_dataset_is_written_and_read_in_part(files, bucket):
    ds.write_dataset(
        TABLE, f"{bucket}/data", format="parquet", filesystem=files, partitioning=["year"], partitioning_flavor="hive"
    )
    found = ds.dataset(f"{bucket}/data", format="parquet", filesystem=files, partitioning="hive")
    assert len(found.files) == 4 and found.count_rows() == ROWS
    some = found.to_table(columns=["id", "half"], filter=(pc.field("year") == 2021) & (pc.field("id") < 60_000))
    assert some.column("id").to_pylist() == list(range(50_000, 60_000))
    assert some.column("half").to_pylist()[:2] == [25_000.0, 25_000.5]
    whole = found.to_table(columns=TABLE.column_names).sort_by("id")
    assert whole.cast(TABLE.schema).equals(TABLE)


def test_one_large_file_is_written_in_parts_and_read_by_ranges(files, s3, bucket):
    pq.write_table(TABLE, f"{bucket}/one.parquet", filesystem=files, compression="none", row_group_size=20_000, use_dictionary=False)
    assert s3.head_object(Bucket=bucket, Key="one.parquet")["ContentLength"] > 10 * MIB
    file = pq.ParquetFile(f"{bucket}/one.parquet", filesystem=files, pre_buffer=True)
    assert file.num_row_groups == 10
    group = file.read_row_group(7, columns=["id", "text"])
    assert group.equals(TABLE.select(["id", "text"]).slice(140_000, 20_000))
    file.close()


def test_arrow_handles_files_and_folders(arrow_files, bucket):
    made = f"{bucket}/made/deeper"
    arrow_files.create_dir(made)
    assert arrow_files.get_file_info(made).type == pyarrow.fs.FileType.Directory
    body = noise(7 * MIB)
    with arrow_files.open_output_stream(f"{made}/f", metadata={"Content-Type": "a/b", "who": "me"}) as out:
        out.write(body)
    with arrow_files.open_input_file(f"{made}/f") as file:
        assert file.metadata()["Content-Type"] == b"a/b"
        assert file.read_at(100, 6 * MIB) == body[6 * MIB : 6 * MIB + 100]
    arrow_files.copy_file(f"{made}/f", f"{bucket}/copied")
    arrow_files.move(f"{bucket}/copied", f"{bucket}/moved ü&")
    listed = arrow_files.get_file_info(pyarrow.fs.FileSelector(bucket, recursive=True))
    assert sorted((f.base_name, f.size) for f in listed if f.is_file) == [("f", len(body)), ("moved ü&", len(body))]
    arrow_files.delete_dir(f"{bucket}/made")
    assert arrow_files.get_file_info(f"{bucket}/made").type == pyarrow.fs.FileType.NotFound
    arrow_files.create_dir(f"{bucket}-new")
    arrow_files.delete_dir(f"{bucket}-new")


def test_s3fs_handles_files_and_folders(s3fs_files, bucket, tmp_path):
    body = noise(11 * MIB)
    with s3fs_files.open(f"{bucket}/a/large", "wb", block_size=5 * MIB) as out:
        out.write(body)
    with s3fs_files.open(f"{bucket}/a/large", "rb", block_size=MIB) as file:
        file.seek(3 * MIB)
        assert file.read(500) == body[3 * MIB : 3 * MIB + 500]
    s3fs_files.pipe({f"{bucket}/b/{n}.txt": b"%d" % n for n in range(30)})
    assert s3fs_files.cat(f"{bucket}/b/7.txt") == b"7"
    assert len(s3fs_files.glob(f"{bucket}/b/1*.txt")) == 11
    assert sorted(s3fs_files.find(bucket))[0] == f"{bucket}/a/large"
    assert s3fs_files.du(f"{bucket}/a") == len(body)
    s3fs_files.cp(f"{bucket}/b", f"{bucket}/c", recursive=True)
    s3fs_files.mv(f"{bucket}/a/large", f"{bucket}/ü &+")
    assert s3fs_files.info(f"{bucket}/ü &+")["size"] == len(body) and not s3fs_files.exists(f"{bucket}/a/large")
    s3fs_files.get(f"{bucket}/c", str(tmp_path / "c"), recursive=True)
    assert (tmp_path / "c/7.txt").read_bytes() == b"7"
    s3fs_files.setxattr(f"{bucket}/c/7.txt", who="me")
    assert s3fs_files.metadata(f"{bucket}/c/7.txt") == {"who": "me"}
    s3fs_files.put_tags(f"{bucket}/c/7.txt", {"a": "1"})
    assert s3fs_files.get_tags(f"{bucket}/c/7.txt") == {"a": "1"}
    assert "Signature" in s3fs_files.sign(f"{bucket}/c/7.txt")
    s3fs_files.rm(f"{bucket}/c", recursive=True)
    assert s3fs_files.find(f"{bucket}/c") == []
    with s3fs_files.transaction:
        s3fs_files.pipe(f"{bucket}/later", b"x")
    assert s3fs_files.cat(f"{bucket}/later") == b"x"
    with pytest.raises(FileNotFoundError):
        s3fs_files.cat(f"{bucket}/nothing")


@pytest.fixture
def duck(cloud):
    """The extension comes as a package; nothing is fetched."""
    folder = Path(importlib.util.find_spec("duckdb_extension_httpfs").origin).parent
    (extension,) = folder.rglob("httpfs.duckdb_extension*")
    duck = duckdb.connect()
    duck.execute(f"LOAD '{extension}'")
    duck.execute(
        f"CREATE SECRET (TYPE s3, KEY_ID '{cloud.key_id}', SECRET '{cloud.secret}', REGION '{REGION}', "
        f"ENDPOINT '{cloud.s3_listen}', URL_STYLE 'path', USE_SSL false)"
    )
    yield duck
    duck.close()


def test_duckdb_writes_reads_and_globs(duck, arrow_files, bucket):
    here = TABLE  # noqa: F841 (duckdb finds it by its name)
    duck.execute(f"COPY (FROM here) TO 's3://{bucket}/d' (FORMAT parquet, PARTITION_BY (year))")
    duck.execute(f"COPY (FROM here) TO 's3://{bucket}/one.parquet' (FORMAT parquet, COMPRESSION uncompressed)")
    one = duck.execute(f"SELECT sum(half), count(*) FROM 's3://{bucket}/one.parquet' WHERE id BETWEEN 1000 AND 1999")
    assert one.fetchone() == (749_750.0, 1000)
    many = duck.execute(
        f"SELECT year, count(*), max(id) FROM read_parquet('s3://{bucket}/d/*/*.parquet', hive_partitioning = true) "
        "WHERE year > 2021 GROUP BY year ORDER BY year"
    )
    assert many.fetchall() == [(2022, 50_000, 149_999), (2023, 50_000, 199_999)]
    names = duck.execute(f"SELECT file FROM glob('s3://{bucket}/d/year=202[01]/*.parquet') ORDER BY file").fetchall()
    assert [n.split("/")[4] for (n,) in names] == ["year=2020", "year=2021"], names
    # What it wrote is what Arrow reads.
    read = pq.read_table(f"{bucket}/one.parquet", filesystem=arrow_files).sort_by("id")
    assert read.cast(TABLE.schema).equals(TABLE)
    duck.execute(f"COPY (SELECT id, text FROM here LIMIT 10) TO 's3://{bucket}/few.csv' (HEADER)")
    assert duck.execute(f"SELECT count(*) FROM 's3://{bucket}/few.csv'").fetchone() == (10,)
