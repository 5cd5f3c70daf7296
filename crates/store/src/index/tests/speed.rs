//! How fast it is; with MUONIC_TEST_LONG only:
//! `MUONIC_TEST_LONG=1 cargo test -p muonic-store --release --lib index::tests::speed -- --nocapture --test-threads 1`

use std::time::Instant;

use muonic_ports::object_store::{CompletedPart, ListQuery};

use super::*;
use crate::index::NewPart;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn puts_gets_and_lists() {
    if std::env::var_os("MUONIC_TEST_LONG").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index.sqlite"), true).unwrap();
    index.bucket_create(new_bucket("b", false)).await.unwrap();
    for (round, text) in [("inline 4 KiB", 4096), ("segment", 0)] {
        let started = Instant::now();
        let tasks: Vec<_> = (0..16u64)
            .map(|task| {
                let index = index.clone();
                tokio::spawn(async move {
                    let body = vec![7u8; text];
                    for n in 0..1250u64 {
                        let mut content = content(&body);
                        if text == 0 {
                            let offset = (task * 1250 + n) * 8192;
                            content.extent.place = Place::Segment { segment: task, offset, length: 8192 };
                        }
                        let key = format!("{text}/{:08x}", (task * 1250 + n).wrapping_mul(2_654_435_761) % (1 << 32));
                        index.put(target(&key), NewObject::default(), content).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        println!("{round}: {:.0} puts/s, 16 tasks", 20_000.0 / started.elapsed().as_secs_f64());
    }
    let page = index.list("b", &ListQuery { max: 10_000, ..ListQuery::default() }).await.unwrap();
    for _ in 0..3 {
        let started = Instant::now();
        let page = index.list("b", &ListQuery { max: 10_000, ..ListQuery::default() }).await.unwrap();
        println!("list of {}: {:?}", page.objects.len(), started.elapsed());
    }
    let started = Instant::now();
    for object in &page.objects {
        std::hint::black_box(index.get("b", &object.key, None).unwrap().unwrap());
    }
    println!("get: {:.0}/s, one thread", page.objects.len() as f64 / started.elapsed().as_secs_f64());
    let started = Instant::now();
    for object in &page.objects {
        let object = index.get("b", &object.key, None).unwrap().unwrap();
        std::hint::black_box(index.extents(object.content, 0..object.size).unwrap().unwrap());
    }
    println!("get and extents: {:.0}/s, one thread", page.objects.len() as f64 / started.elapsed().as_secs_f64());
    let wal = std::fs::metadata(dir.path().join("index.sqlite-wal")).unwrap().len();
    println!("WAL: {} KiB", wal >> 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn complete_ten_thousand_parts() {
    if std::env::var_os("MUONIC_TEST_LONG").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index.sqlite"), true).unwrap();
    index.bucket_create(new_bucket("b", false)).await.unwrap();
    for algorithm in [None, Some(muonic_ports::object_store::Algorithm::Crc64Nvme)] {
        let new = NewObject { algorithm, ..NewObject::default() };
        let upload = index.upload_create(target("k"), new, Encryption::None).await.unwrap();
        let tasks: Vec<_> = (1..=10_000u16)
            .map(|number| {
                let (index, upload) = (index.clone(), upload.clone());
                tokio::spawn(async move {
                    let mut sums = Sums { size: 8 << 20, ..sums(&number.to_be_bytes()) };
                    if let Some(algorithm) = algorithm {
                        sums.found.insert(algorithm, vec![number as u8; algorithm.len()]);
                    }
                    let mut extent = extent(Place::File { length: 8 << 20 }, 8 << 20);
                    extent.blocks = vec![1; 8];
                    let part = index.upload_part(&upload, NewPart { number, extent, sums, at: at(1) }).await.unwrap();
                    CompletedPart { number, etag: part.etag, sum: part.sum }
                })
            })
            .collect();
        let mut parts = Vec::new();
        for task in tasks {
            parts.push(task.await.unwrap());
        }
        let started = Instant::now();
        let object = index.upload_complete(&upload, parts, Precondition::default(), None, at(2)).await.unwrap();
        println!("complete of {} parts, {algorithm:?}: {:?}", object.parts, started.elapsed());
        let started = Instant::now();
        for n in 0..10_000u64 {
            let at = n * 7919 % 10_000 * (8 << 20);
            std::hint::black_box(index.extents(object.content, at..at + 1).unwrap().unwrap());
        }
        println!("extents of a range: {:?} each", started.elapsed() / 10_000);
    }
}

/// With MUONIC_GROWTH=10000000, say: point reads and pages of a list among so
/// many objects, and among 10,000.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn growth() {
    let Some(many) = std::env::var("MUONIC_GROWTH").ok().and_then(|many| many.parse::<u64>().ok()) else { return };
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(&dir.path().join("index.sqlite"), false).unwrap();
    index.bucket_create(new_bucket("b", false)).await.unwrap();
    let mut there = 0;
    for wanted in [10_000, many] {
        let started = Instant::now();
        let next = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(there));
        let tasks: Vec<_> = (0..256)
            .map(|_| {
                let (index, next) = (index.clone(), next.clone());
                tokio::spawn(async move {
                    loop {
                        let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        if n >= wanted {
                            return;
                        }
                        index
                            .put(target(&key_of(n)), NewObject::default(), content(b"0123456789abcdef"))
                            .await
                            .unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        there = wanted;
        let filled = started.elapsed();
        let mut points = Vec::new();
        let mut pages = Vec::new();
        for turn in 0..4000u64 {
            let key = key_of(turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) % wanted);
            let started = Instant::now();
            let object = index.get("b", &key, None).unwrap().unwrap();
            std::hint::black_box(index.extents(object.content, 0..object.size).unwrap().unwrap());
            points.push(started.elapsed());
            if turn % 20 == 0 {
                let after = muonic_ports::object_store::After::Key(key);
                let started = Instant::now();
                let page = ListQuery { after, max: 1000, ..ListQuery::default() };
                std::hint::black_box(index.list("b", &page).await.unwrap());
                pages.push(started.elapsed());
            }
        }
        points.sort();
        pages.sort();
        let (point, page) = (points[points.len() / 2], pages[pages.len() / 2]);
        let bytes = std::fs::metadata(dir.path().join("index.sqlite")).unwrap().len();
        println!("{wanted} objects ({} MiB, {filled:?}): point {point:?}, page of 1000 {page:?}", bytes >> 20);
    }
}

/// Keys come in no order.
fn key_of(n: u64) -> String {
    format!("{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
