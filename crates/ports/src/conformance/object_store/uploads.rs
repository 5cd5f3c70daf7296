//! Uploads in parts.

use bytes::Bytes;

use super::BUCKET;
use super::world::*;
use crate::ObjectStore;
use crate::conformance::blob_store::{collect, noise, pieces};
use crate::object_store::*;

const MIN: usize = 5 << 20;

pub(super) async fn all(store: &dyn ObjectStore, gaps: bool) {
    becomes_one_object(store).await;
    refuses_wrong_lists(store, gaps).await;
    goes_when_aborted(store).await;
}

async fn part(store: &dyn ObjectStore, upload: &Upload, number: u16, bytes: &Bytes) -> Part {
    let body = pieces(bytes, 100_000);
    store.upload_part(upload, number, body, no_check(), None, at(1)).await.expect("a part")
}

fn named(part: &Part) -> CompletedPart {
    CompletedPart { number: part.number, etag: part.etag.clone(), sum: None }
}

async fn complete(store: &dyn ObjectStore, upload: &Upload, parts: Vec<CompletedPart>) -> Result<ObjectVersion> {
    store.upload_complete(upload, parts, Precondition::default(), None, at(2)).await
}

async fn becomes_one_object(store: &dyn ObjectStore) {
    put(store, "parts", &noise(1, 10)).await;
    let upload = store.upload_create(target("parts"), owned()).await.expect("an upload");
    let (first, second) = (noise(11, MIN + 3), noise(12, 70_001));
    part(store, &upload, 2, &noise(99, 500)).await;
    let last = part(store, &upload, 2, &second).await;
    let begin = part(store, &upload, 1, &first).await;
    assert!(whole(store, &latest(store, "parts").await.expect("there")).await == noise(1, 10), "not visible yet");

    let reopened = store.upload(BUCKET, "parts", &upload.id).await.expect("it is open");
    let listed = store.upload_parts(&reopened, 0, 10).await.expect("parts");
    assert_eq!(listed.iter().map(|p| (p.number, p.size)).collect::<Vec<_>>(), [(1, MIN as u64 + 3), (2, 70_001)]);
    assert_eq!(store.upload_parts(&upload, 1, 10).await.expect("parts").len(), 1);

    let object = complete(store, &upload, vec![named(&begin), named(&last)]).await.expect("completed");
    assert_eq!(object.size, (MIN + 3 + 70_001) as u64);
    let both: Bytes = [first, second].concat().into();
    let found = latest(store, "parts").await.expect("there");
    assert_eq!(found.etag, object.etag);
    assert!(whole(store, &found).await == both);
    let at_the_seam = MIN as u64..MIN as u64 + 10;
    let body = store.read(&found, Some(at_the_seam.clone()), None).await.expect("read");
    let got = collect(body).await.expect("the stream ends well");
    assert!(got == both[at_the_seam.start as usize..at_the_seam.end as usize]);
    assert!(matches!(store.upload(BUCKET, "parts", &upload.id).await, Err(Error::NoSuchUpload)));
}

async fn refuses_wrong_lists(store: &dyn ObjectStore, gaps: bool) {
    let upload = store.upload_create(target("wrong"), owned()).await.expect("an upload");
    let small = part(store, &upload, 1, &noise(1, 100)).await;
    let last = part(store, &upload, 3, &noise(2, 100)).await;
    let refused = complete(store, &upload, vec![named(&last), named(&small)]).await;
    assert!(matches!(refused, Err(Error::InvalidPartOrder)), "{refused:?}");
    let absent = CompletedPart { number: 2, ..named(&small) };
    let refused = complete(store, &upload, vec![absent]).await;
    assert!(matches!(refused, Err(Error::InvalidPart(_))), "{refused:?}");
    let refused = complete(store, &upload, vec![named(&small), named(&last)]).await;
    assert!(matches!(refused, Err(Error::PartTooSmall { .. })), "{refused:?}");
    assert!(latest(store, "wrong").await.is_none());
    // It is still open, and a part that is not listed does not count.
    if gaps {
        let object = complete(store, &upload, vec![named(&last)]).await.expect("completed");
        assert!(whole(store, &object).await == noise(2, 100));
    } else {
        let refused = complete(store, &upload, vec![named(&last)]).await;
        assert!(matches!(refused, Err(Error::NotSupported(_))), "{refused:?}");
        store.upload_abort(&upload).await.expect("it is still open");
    }
}

async fn goes_when_aborted(store: &dyn ObjectStore) {
    let upload = store.upload_create(target("aborted"), owned()).await.expect("an upload");
    part(store, &upload, 1, &noise(1, 100)).await;
    let query = UploadQuery { max: 100, ..Default::default() };
    let open = store.uploads(BUCKET, &query).await.expect("uploads").uploads;
    assert!(open.iter().any(|u| u.id == upload.id && u.key == "aborted"));
    store.upload_abort(&upload).await.expect("aborted");
    assert!(matches!(store.upload(BUCKET, "aborted", &upload.id).await, Err(Error::NoSuchUpload)));
    let late = store.upload_part(&upload, 2, pieces(&noise(1, 9), 9), no_check(), None, at(2)).await;
    assert!(matches!(late, Err(Error::NoSuchUpload)), "{late:?}");
    assert!(latest(store, "aborted").await.is_none());
}
