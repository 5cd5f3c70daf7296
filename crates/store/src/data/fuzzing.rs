//! Doors for fuzz targets; see `fuzz/`.

use std::sync::{Arc, LazyLock};

use futures_util::StreamExt;
use muonic_ports::object_store::CustomerKey;
use tokio::runtime::Runtime;

use super::blocks::BlockSums;
use super::files::RealFiles;
use super::frames::{FrameKey, Sealer};
use super::layout::{file_id, segment_number};
use super::seal::key_md5;
use super::{Data, Settings};
use crate::content::{Extent, Place, Seal, SealedBy};
use crate::gate::Gate;
use crate::keys::{DataKey, LocalKeys, seal_envelope};

const ID: [u8; 16] = [3; 16];
const CUSTOMER: CustomerKey = CustomerKey { key: [42; 32] };

static DATA: LazyLock<(Runtime, Data)> = LazyLock::new(|| {
    let root = std::env::temp_dir().join(format!("muonic-fuzz-data-{}", std::process::id()));
    std::fs::create_dir_all(&root).expect("a folder");
    let keys = Arc::new(LocalKeys::open(&root.join("keys"), true).expect("keys"));
    let data = Data::open(&root, keys, Box::new(RealFiles), Arc::new(Gate::default()), Settings::default());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    (runtime, data.expect("a data layer"))
});

/// Names are read only as they are written.
pub(crate) fn name(name: &str) {
    if let Some(id) = file_id(name) {
        assert_eq!(super::seal::hex(&id), name);
    }
    if let Some(number) = segment_number(name) {
        assert_eq!(format!("{number:016x}"), name);
    }
}

/// As it is written: the stored form of content, and its row.
fn written(content: &[u8], sealed: bool, inline: bool) -> (Vec<u8>, Extent) {
    let data_key = DataKey([9; 32]);
    let key = sealed.then(|| FrameKey::new(&data_key, ID).expect("a key"));
    let mut stored = Vec::new();
    let mut sealer = Sealer::new(key);
    let mut out = |bytes: &[u8]| {
        stored.extend_from_slice(bytes);
        Ok(())
    };
    sealer.push(content, &mut out).and_then(|()| sealer.finish(&mut out)).expect("stored");
    let mut sums = BlockSums::new();
    sums.update(&stored);
    let seal = sealed.then(|| Seal {
        by: SealedBy::Customer { key_md5: key_md5(&CUSTOMER) },
        wrapped: seal_envelope(&CUSTOMER.key, &data_key, &ID).expect("sealed"),
    });
    let place = if inline { Place::Inline(Vec::new().into()) } else { Place::File { length: stored.len() as u64 } };
    (stored, Extent { id: ID, size: content.len() as u64, place, seal, blocks: sums.finish() })
}

/// Eight bytes that choose, then content: whatever happens to its stored form
/// or the size in its row, what is read is what was written, or an error.
pub fn extent(data: &[u8]) {
    let Some(([choice, repeat, size, length, at, change, from, until], content)) = data.split_first_chunk() else {
        return;
    };
    let content = content.repeat(usize::from(*repeat) + 1);
    let (sealed, inline) = (choice & 1 != 0, choice & 2 != 0);
    let (mut stored, mut extent) = written(&content, sealed, inline);
    let middle = usize::from(*at) * stored.len() / 256;
    if let Some(byte) = stored.get_mut(middle) {
        *byte ^= change;
    }
    stored.truncate(stored.len().saturating_sub(usize::from(*length)));
    extent.size = extent.size.wrapping_add_signed(i64::from(size.cast_signed()));
    let (runtime, layer) = &*DATA;
    match &mut extent.place {
        Place::Inline(bytes) => *bytes = stored.into(),
        Place::File { length } => {
            if choice & 4 != 0 {
                *length = stored.len() as u64;
            }
            std::fs::write(layer.disk().layout.file(&ID), &stored).expect("a file");
        }
        _ => {}
    }
    let range = (choice & 8 != 0).then(|| {
        let place = |part: &u8| u64::from(*part) * content.len() as u64 / 200;
        place(from)..place(until)
    });
    let read = runtime.block_on(async {
        let mut body = layer.read(&extent, range.clone(), sealed.then_some(&CUSTOMER)).await.ok()?;
        let mut all = Vec::new();
        while let Some(piece) = body.next().await {
            all.extend_from_slice(&piece.ok()?);
        }
        Some(all)
    });
    let whole = content.len() as u64;
    let range = range.unwrap_or(0..extent.size);
    // A row that says less is asked for less.
    let known = whole.min(extent.size);
    let (start, end) = (range.start.min(known) as usize, range.end.min(known) as usize);
    if let Some(read) = read {
        assert_eq!(read, content[start.min(end)..end], "{extent:?}");
    }
    let checked = runtime.block_on(layer.check(&extent, &mut |_| Box::pin(async {})));
    let _ = (checked, layer.missing(&extent));
}
