//! One store with a bit of everything, and the stores that earlier versions
//! have written so: what they kept must be read for ever.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::body::Body;
use super::kill::settle;
use super::ledger::{Ledger, Sealed};
use super::op::{Only, Op, Outcome};
use super::seen::{look, nothing_is_left_over};
use super::{copy, folder, ops};

/// A bit of everything, in every place and under every key.
pub(super) async fn write(root: &Path) -> Ledger {
    let (store, keys) = super::open(root).await;
    let mut ledger = Ledger::default();
    let mut at = 0;
    let mut seed = 0;
    let (off, all) = ("w0-off".to_owned(), "w0-all".to_owned());
    let mut body = |len| {
        seed += 1;
        Body { seed, len }
    };
    let mut script = vec![
        Op::BucketCreate { bucket: off.clone(), lock: false },
        Op::BucketCreate { bucket: all.clone(), lock: true },
        Op::Document { bucket: off.clone(), name: "policy".into(), text: Some("{\"Statement\": []}".into()) },
    ];
    for (sealed, name) in [(Sealed::Store, "store"), (Sealed::Named, "named"), (Sealed::Customer, "customer")] {
        for len in [0, 100, 2000, 18_000] {
            at += 1;
            let (key, header, only) = (format!("{name}/{len}"), at as u64, Only::Always);
            let (bucket, body) = (off.clone(), body(len));
            script.push(Op::Put { bucket, key, at, body, sealed, header, only });
        }
    }
    for (key, len) in [("a", 500), ("a", 3000), ("b", 700)] {
        at += 1;
        let (bucket, body, only) = (all.clone(), body(len), Only::Always);
        script.push(Op::Put { bucket, key: key.into(), at, body, sealed: Sealed::Store, header: 5, only });
    }
    let from = (off.clone(), "store/2000".to_owned(), "null".to_owned());
    let (key, sealed, header) = ("copy".to_owned(), Sealed::Store, 9);
    script.push(Op::Copy { from, bucket: off.clone(), key, at: 30, sealed, header });
    script.push(Op::Delete { bucket: all.clone(), at: 31, removals: vec![("b".into(), None)], bypass: false });
    script.push(Op::BlobBatch { bodies: vec![body(50), body(4000)] });
    script.push(Op::BlobPut { body: body(17_000), twice: false });
    script.push(Op::Rotate { named: false });
    script.push(Op::BlobPut { body: body(60), twice: false });
    for key in ["parts", "open"] {
        let (key, header) = (key.to_owned(), 11);
        script.push(Op::UploadCreate { bucket: off.clone(), key, at: 40, header, sealed: Sealed::Store });
    }
    for op in script {
        let done = ops::execute(&store, &keys, &ledger, &op).await.unwrap();
        assert!(matches!(done, Outcome::Done(_)), "{op:?}: {done:?}");
        ledger.apply(&op, &done);
    }
    let ids: Vec<_> = ledger.buckets[&off].uploads.iter().map(|upload| upload.id.clone()).collect();
    let latest = ledger.buckets[&all].keys["a"][0].id.clone();
    let part = |id: &String, number, body| Op::Part { bucket: off.clone(), id: id.clone(), number, body, at: 41 };
    let script = [
        part(&ids[0], 7, body(1500)),
        part(&ids[1], 2, body(300)),
        Op::Complete { bucket: off.clone(), id: ids[0].clone(), numbers: vec![7], at: 42 },
        Op::Tags { bucket: all.clone(), key: "a".into(), id: latest.clone(), tags: 77 },
        Op::Retain { bucket: all.clone(), key: "a".into(), id: latest.clone(), retained: true, at: 43 },
        Op::Hold { bucket: all.clone(), key: "a".into(), id: latest, hold: true },
    ];
    for op in script {
        let done = ops::execute(&store, &keys, &ledger, &op).await.unwrap();
        assert!(matches!(done, Outcome::Done(_)), "{op:?}: {done:?}");
        ledger.apply(&op, &done);
    }
    ledger
}

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(name)
}

/// `MUONIC_WRITE_SAMPLE=format-N` writes the sample of a new format.
#[tokio::test]
async fn what_earlier_versions_have_written_is_read() {
    if let Some(name) = std::env::var_os("MUONIC_WRITE_SAMPLE") {
        let to = sample(name.to_str().unwrap());
        fs::create_dir_all(&to).unwrap();
        let ledger = write(&to).await;
        fs::write(to.join("ledger.json"), serde_json::to_vec_pretty(&ledger).unwrap()).unwrap();
    }
    for name in ["format-2"] {
        let root = folder();
        copy(&sample(name), root.path());
        fs::set_permissions(root.path().join("keys"), fs::Permissions::from_mode(0o600)).unwrap();
        let ledger = fs::read(root.path().join("ledger.json")).unwrap();
        let mut ledgers: Vec<Ledger> = vec![serde_json::from_slice(&ledger).unwrap()];
        for _ in 0..2 {
            let (store, _) = super::open(root.path()).await;
            let seen = look(&store).await.unwrap_or_else(|why| panic!("{name}: {why}"));
            settle(&seen, &mut ledgers, &[None]);
            nothing_is_left_over(&store).await.unwrap_or_else(|why| panic!("{name}: {why}"));
            assert_eq!(store.index().check(true).await.unwrap(), Vec::<String>::new());
        }
        let all: BTreeSet<_> = ledgers[0].buckets.values().flat_map(|bucket| bucket.keys.keys()).collect();
        assert!(all.len() > 10);
    }
}
