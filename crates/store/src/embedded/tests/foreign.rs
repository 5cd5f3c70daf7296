//! Rows and files that nothing of ours has written: an error, never a panic,
//! and never bytes that are another's.

use muonic_ports::StoreAdmin;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use muonic_ports::ObjectStore;
use muonic_ports::object_store::{ListQuery, Removal, UploadQuery};
use proptest::prelude::*;
use rusqlite::types::Value;

use super::dice::Dice;
use super::ledger::{Ledger, time};
use super::{choose, copy, folder, ops, samples};
use crate::data::files::RealFiles;
use crate::embedded::reclaim;

const TABLES: [&str; 10] =
    ["versions", "extents", "contents", "uploads", "garbage", "blobs", "segments", "buckets", "finished", "counters"];

fn odd(dice: &mut Dice, kind: &str) -> Value {
    match kind {
        "INTEGER" => {
            let near = dice.below(40) as i64;
            let all = [i64::MIN, i64::MAX, -1, 0, near, 1 << 62, i64::MAX / 2, dice.next() as i64, i64::MIN + 1];
            Value::Integer(*dice.of(&all).unwrap())
        }
        "TEXT" => Value::Text((*dice.of(&["", "x", "{}", "null", "[1]", "n", "c", "\u{0}"]).unwrap()).to_owned()),
        _ => Value::Blob((0..dice.below(60)).map(|_| dice.next() as u8).collect()),
    }
}

/// Changes one value of one row; says which.
fn change(dice: &mut Dice, path: &Path) -> Option<String> {
    let conn = rusqlite::Connection::open(path).unwrap();
    let table = dice.of(&TABLES).unwrap();
    let columns: Vec<(String, String)> = conn
        .prepare(&format!("SELECT name, type FROM pragma_table_info('{table}')"))
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let (column, kind) = dice.of(&columns).unwrap();
    let rows: i64 = conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
    let key: Vec<String> = columns.iter().take(3).map(|(name, _)| name.clone()).collect();
    let key = key.join(", ");
    let at = dice.below(rows as usize);
    let value = odd(dice, kind);
    let sql = format!(
        "UPDATE OR IGNORE {table} SET {column} = ?1 WHERE ({key}) IN (SELECT {key} FROM {table} LIMIT 1 OFFSET {at})"
    );
    let changed = conn.execute(&sql, [&value]).unwrap_or(0);
    (changed > 0).then(|| format!("{table}.{column} of row {at} = {value:?}"))
}

/// Everything that reads rows. Panics of threads and tasks become such errors.
fn no_panic<T, E: std::fmt::Display>(what: &str, answer: Result<T, E>) -> Option<T> {
    match answer {
        Ok(value) => Some(value),
        Err(error) => {
            let text = error.to_string();
            let panicked = ["did not finish", "broke off", "is closed", "segments has ended", "could not be named"];
            assert!(!panicked.iter().any(|sign| text.contains(sign)), "{what}: {text}");
            None
        }
    }
}

async fn use_all(root: &Path, ledger: &Ledger, what: &str) {
    let Some((store, keys)) = no_panic(what, super::open_on(root, true, Box::new(RealFiles)).await) else { return };
    no_panic(what, store.index().check(true).await);
    no_panic(what, super::seen::look(&store).await);
    no_panic(what, store.scrub(0).await);
    for bucket in no_panic(what, store.buckets(None).await).unwrap_or_default() {
        let versions = ListQuery { max: 100, versions: true, ..ListQuery::default() };
        let listed = no_panic(what, store.list(&bucket.name, &versions).await).unwrap_or_default();
        let query = UploadQuery { max: 100, ..UploadQuery::default() };
        for upload in no_panic(what, store.uploads(&bucket.name, &query).await).unwrap_or_default().uploads {
            no_panic(what, store.upload_parts(&upload, 0, 100).await);
            no_panic(what, store.upload_abort(&upload).await);
        }
        for object in listed.objects.into_iter().take(4) {
            let removal = Removal {
                key: object.key,
                version: Some(object.version),
                condition: Default::default(),
                guard: muonic_ports::object_store::LockGuard { now: time(0), bypass: true },
                owner: String::new(),
                expired: false,
            };
            no_panic(what, store.delete(&bucket.name, vec![removal], time(0)).await);
        }
    }
    let mut dice = Dice(7);
    for _ in 0..3 {
        let op = choose::next(&mut dice, 0, ledger);
        no_panic(what, ops::execute(&store, &keys, ledger, &op).await);
    }
    no_panic(what, store.reclaim_now().await);
    no_panic(what, reclaim::sweep(&store).await);
    no_panic(what, store.stats().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_rows_are_errors_and_no_panic() {
    let root = folder();
    let ledger = samples::write(root.path()).await;
    let mut dice = Dice::seeded();
    let rounds = if std::env::var_os("MUONIC_TEST_LONG").is_some() { 5000 } else { 100 };
    let scratch = folder();
    let mut changed = 0;
    for n in 0..rounds {
        let to = scratch.path().join(n.to_string());
        copy(root.path(), &to);
        fs::set_permissions(to.join("keys"), fs::Permissions::from_mode(0o600)).unwrap();
        if let Some(what) = change(&mut dice, &to.join("store/index.sqlite")) {
            let all = tokio::time::timeout(std::time::Duration::from_secs(60), use_all(&to, &ledger, &what));
            all.await.unwrap_or_else(|_| panic!("{what}: it does not end"));
            changed += 1;
        }
        let _ = fs::remove_dir_all(to);
    }
    assert!(changed > rounds / 3, "{changed}");
}

/// Found by chance.
#[tokio::test]
async fn the_least_number_has_no_opposite() {
    for (table, column) in [("versions", "content"), ("garbage", "content"), ("versions", "age")] {
        let root = folder();
        let ledger = samples::write(root.path()).await;
        let conn = rusqlite::Connection::open(root.path().join("store/index.sqlite")).unwrap();
        conn.execute("INSERT INTO garbage VALUES (1, 1)", []).unwrap();
        let sql = format!("UPDATE {table} SET {column} = ?1 WHERE rowid IN (SELECT min(rowid) FROM {table})");
        let sql = if table == "versions" { sql.replace("rowid", "modified_at") } else { sql };
        conn.execute(&sql.replacen("UPDATE", "UPDATE OR IGNORE", 1), [i64::MIN]).unwrap();
        drop(conn);
        use_all(root.path(), &ledger, &format!("{table}.{column}")).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The small files: what they say is understood, refused or left aside.
    #[test]
    fn odd_files_are_errors_and_no_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        text in "(muonic-store )?[0-9a-z -]{0,30}|\\{\"(extents|bytes|after|version|keys|damaged)\": ?[0-9\\[\\]{}-]{0,25}\\}",
        name in prop::sample::select(vec!["store/format", "store/scrub.json", "keys"]),
        as_text in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let root = folder();
            drop(super::open(root.path()).await);
            fs::write(root.path().join(name), if as_text { text.as_bytes() } else { &bytes }).unwrap();
            fs::set_permissions(root.path().join("keys"), fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((store, keys)) = no_panic(name, super::open_on(root.path(), true, Box::new(RealFiles)).await) {
                let op = super::op::Op::BlobPut { body: super::body::Body { seed: 1, len: 10 }, twice: false };
                no_panic(name, ops::execute(&store, &keys, &Ledger::default(), &op).await);
                no_panic(name, store.scrub(0).await);
            }
        });
    }
}
