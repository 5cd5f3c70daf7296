//! Doors for fuzz targets; see `fuzz/`.

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use crate::{forward, headers};

/// A URI, then a header a line: what a replica gets to see is below its
/// endpoint, and nothing of the connection or of the caller's key.
pub fn head(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Some(Ok(uri)) = lines.next().map(Uri::try_from) else { return };
    let mut map = HeaderMap::new();
    for line in lines {
        let Some(at) = line.iter().position(|byte| *byte == b':') else { continue };
        let named = (HeaderName::from_bytes(&line[..at]), HeaderValue::from_bytes(&line[at + 1..]));
        if let (Ok(name), Ok(value)) = named {
            map.append(name, value);
        }
    }
    if let Ok((name, target)) = forward::split(&uri) {
        assert_eq!(uri.path().strip_prefix("/endpoints/").map(|rest| rest.starts_with(name.as_str())), Some(true));
        assert!(uri.path().ends_with(target.path()), "{uri} {target}");
    }
    let id = headers::request_id(&map);
    let seen = headers::to_replica(&map, &id);
    for name in ["authorization", "connection", "transfer-encoding", "te", "upgrade"] {
        assert!(!seen.contains_key(name), "{name}");
    }
}
