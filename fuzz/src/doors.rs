//! What comes over the other doors, and what describes stores elsewhere.

use std::collections::BTreeMap;

/// A pack is read alike by the server and by its client: the same blobs, or a
/// refusal by both.
pub fn packs(data: &[u8]) {
    let Some((piece, pack)) = data.split_first() else { return };
    let server = muonic_services::fuzzing::pack(pack, usize::from(*piece) + 1);
    assert_eq!(server, muonic_client::fuzzing::pack(pack));
}

/// The path and headers of a request to an endpoint, or the range of a blob.
pub fn api_heads(data: &[u8]) {
    muonic_gateway::fuzzing::head(data);
    let Some((size, text)) = data.split_first_chunk::<8>() else { return };
    if let Ok(text) = std::str::from_utf8(text) {
        muonic_api::fuzzing::range(text, u64::from_le_bytes(*size));
    }
}

/// A URL, then options as lines of `name=value`; or a record as it is stored.
pub fn mounts(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.lines();
    let url = lines.next().unwrap_or_default();
    let options = lines.filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned()));
    muonic_mounts::fuzzing::spec(url, &options.collect::<BTreeMap<_, _>>());
    muonic_mounts::fuzzing::record(text);
}
