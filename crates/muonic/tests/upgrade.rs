//! A data folder of the store's format 1, written by the last version that
//! had it, is taken over whole by the server of now, however often it is
//! killed while it does.
//!
//! In `samples/format-1`: the folder, but for two blobs that are made here;
//! `expect.json`, what the old S3 door said of its objects (without what it
//! said of all); `words`, what its
//! dataset `words` was made of.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt;
use muonic_client::Client;
use muonic_ports::object_store::{ByteStream, ListQuery};
use muonic_ports::{BlobStore, ObjectStore};
use muonic_types::{Digest, VersionRef, VersionSelector};
use support::{Dice, MUONIC, Server};

/// Seed and size of the blobs that are not in the sample.
const MADE: [(u64, usize); 2] = [(2, 70_000), (3, 9 * 1024 * 1024 + 17)];

#[derive(serde::Deserialize)]
struct Expect {
    objects: Vec<Object>,
}

#[derive(serde::Deserialize)]
struct Object {
    bucket: String,
    key: String,
    size: u64,
    sha256: String,
    etag: String,
    headers: BTreeMap<String, String>,
    /// In seconds since 1970.
    modified: i64,
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("the sample") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect("copied")),
        }
    }
}

fn sample() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples/format-1")
}

/// The digests of its blobs.
fn make(data: &Path) -> Vec<Digest> {
    copy(&sample(), data);
    let set = |path: &Path, mode| {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("permissions");
    };
    set(data, 0o700);
    set(&data.join("master.key"), 0o600);
    let blobs = data.join("store/blobs");
    for (seed, len) in MADE {
        let bytes = noise(seed, len);
        let hex = Digest::of(&bytes).to_string().replace("sha256:", "");
        fs::create_dir_all(blobs.join(&hex[..2])).expect("a folder");
        fs::write(blobs.join(&hex[..2]).join(&hex), bytes).expect("a blob");
    }
    let mut digests = Vec::new();
    for folder in fs::read_dir(blobs).expect("blobs") {
        for file in fs::read_dir(folder.expect("a folder").path()).expect("a folder") {
            let name = file.expect("a file").file_name().into_string().expect("hexadecimal");
            digests.push(format!("sha256:{name}").parse().expect("a digest"));
        }
    }
    digests
}

async fn drain(mut body: ByteStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(piece) = body.next().await {
        all.extend_from_slice(&piece.expect("the bytes are whole"));
    }
    all
}

async fn check_objects(data: &Path, digests: &[Digest]) {
    let options = muonic_store::Options::default();
    let (store, _) =
        muonic_store::open(&data.join("store"), &data.join("store.keys"), &options).await.expect("the store opens");
    let expect = fs::read(sample().join("expect.json")).expect("expect.json");
    let expect: Expect = serde_json::from_slice(&expect).expect("JSON");
    assert_eq!(store.buckets(None).await.expect("buckets").len(), 3);
    let mut listed = 0;
    for bucket in ["photos", "notes.2026", "empty"] {
        let query = ListQuery { max: 100, versions: true, ..ListQuery::default() };
        listed += store.list(bucket, &query).await.expect("a list").objects.len();
    }
    assert_eq!(listed, expect.objects.len(), "each once");
    for wanted in &expect.objects {
        let what = format!("{}/{}", wanted.bucket, wanted.key);
        let found = ObjectStore::get(&store, &wanted.bucket, &wanted.key, None).await.expect("a lookup").expect(&what);
        assert_eq!((found.size, &found.etag), (wanted.size, &wanted.etag), "{what}");
        assert_eq!(found.modified_at.as_second(), wanted.modified, "{what}");
        let (sums, headers): (BTreeMap<_, _>, BTreeMap<_, _>) =
            wanted.headers.clone().into_iter().partition(|(name, _)| name.starts_with("x-amz-checksum-"));
        assert_eq!(found.headers, headers, "{what}");
        let (algorithm, _, sum) = found.sum.clone().expect("clients of now send one");
        assert_eq!(sums.get(&format!("x-amz-checksum-{}", algorithm.name())), Some(&sum), "{what}");
        let bytes = drain(store.read(&found, None, None).await.expect("bytes")).await;
        assert_eq!(Digest::of(&bytes).to_string(), format!("sha256:{}", wanted.sha256), "{what}");
        if wanted.size > 10 {
            let part = drain(store.read(&found, Some(3..9), None).await.expect("bytes")).await;
            assert_eq!(part, bytes[3..9], "{what}");
        }
    }
    for digest in digests {
        let bytes = drain(BlobStore::get(&store, digest, None).await.expect("a blob").1).await;
        assert_eq!(Digest::of(&bytes), *digest);
    }
    let report = store.scrub(0).await.expect("a scrub");
    assert_eq!((report.damaged.len(), report.extents), (0, digests.len() as u64));
    // Nothing of it counts as garbage.
    store.reclaim_now().await.expect("reclaiming");
    for digest in digests {
        drain(BlobStore::get(&store, digest, None).await.expect("a blob").1).await;
    }
}

fn check_datasets(client: &Client, folder: &Path) {
    let latest = |name: &str| VersionRef { name: name.parse().expect("a name"), version: VersionSelector::Number(1) };
    let words = client.dataset_version(&latest("words")).expect("the dataset");
    client.tree_download(&words.tree.digest, &folder.join("words"), &()).expect("a download");
    for file in ["a.txt", "empty", "sub/numbers"] {
        let (old, new) = (sample().join("words").join(file), folder.join("words").join(file));
        assert_eq!(fs::read(old).expect(file), fs::read(new).expect(file), "{file}");
    }
    let model = client.model_version(&latest("double")).expect("the model");
    client.tree_download(&model.tree.digest, &folder.join("double"), &()).expect("a download");
    assert_eq!(fs::read(folder.join("double/model.onnx")).expect("the model").len(), 82);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_format_1_is_taken_over_whole_however_often_that_is_cut_off() {
    let mut dice = Dice::new();
    for kills in [0, 12] {
        let folder = tempfile::Builder::new().prefix("muonic-upgrade-").tempdir().expect("a folder");
        let data = folder.path().join("data");
        let digests = make(&data);
        for _ in 0..kills {
            let mut server = Command::new(MUONIC)
                .args(["--data", data.to_str().expect("UTF-8"), "up"])
                .args(["--listen", "127.0.0.1:0", "--s3-listen", "127.0.0.1:0"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("the server starts");
            std::thread::sleep(Duration::from_millis(dice.below(120)));
            server.kill().expect("killed");
            server.wait().expect("reaped");
        }
        let (at, into) = (data.clone(), folder.path().to_owned());
        tokio::task::spawn_blocking(move || {
            let mut server = Server::inside(&at, Vec::new());
            check_datasets(&server.client(), &into);
            server.kill();
        })
        .await
        .expect("datasets");
        check_objects(&data, &digests).await;
    }
}
