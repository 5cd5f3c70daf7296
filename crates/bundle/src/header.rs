//! Headers of tar (POSIX ustar), of which there is exactly one for each file.

pub(crate) const BLOCK: usize = 512;
pub(crate) const MANIFEST: &str = "muonic-bundle.json";
/// Its digest, as `sha256sum --check` reads it.
pub(crate) const SUM: &str = "muonic-bundle.sha256";
/// What the files of the model lie below.
pub(crate) const FOLDER: &str = "model/";

const NAME: usize = 100;
const SIZE_AT: usize = 124;
const SIZE: usize = 12;
/// Beyond it a size is written in bytes instead of octal digits.
const OCTAL_MAX: u64 = 0o77_777_777_777;

pub(crate) fn names_manifest(start: &[u8]) -> bool {
    start.strip_prefix(MANIFEST.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
}

/// What stands before the bytes of a file: one block; three where its name is
/// longer than one has room for.
pub(crate) fn header(name: &str, size: u64, executable: bool) -> Vec<u8> {
    if name.len() <= NAME {
        return block(name, size, b'0', executable).to_vec();
    }
    let record = record(name);
    let mut all = block("path", record.len() as u64, b'x', false).to_vec();
    all.extend_from_slice(record.as_bytes());
    all.resize(all.len() + padding(record.len() as u64), 0);
    let mut end = NAME;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    all.extend_from_slice(&block(name.get(..end).unwrap_or_default(), size, b'0', executable));
    all
}

/// The size in a header of the manifest, where that is one.
pub(crate) fn size(header: &[u8; BLOCK]) -> Option<u64> {
    let digits = header.get(SIZE_AT..SIZE_AT + SIZE - 1)?;
    let text = std::str::from_utf8(digits).ok()?;
    u64::from_str_radix(text, 8).ok()
}

/// Zeros after so many bytes, up to the next block.
pub(crate) fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    (BLOCK - over) % BLOCK
}

fn block(name: &str, size: u64, kind: u8, executable: bool) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = block.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, name.as_bytes());
    put(100, if executable { b"0000755\0" } else { b"0000644\0" });
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    if size <= OCTAL_MAX {
        put(SIZE_AT, format!("{size:011o}\0").as_bytes());
    } else {
        put(SIZE_AT, &[0x80]);
        put(SIZE_AT + 4, &size.to_be_bytes());
    }
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    if let Some(place) = block.get_mut(148..156) {
        place.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    block
}

/// `LENGTH path=NAME`, of which the length counts itself.
fn record(name: &str) -> String {
    let rest = format!(" path={name}\n");
    let mut length = rest.len();
    while format!("{length}{rest}").len() != length {
        length = format!("{length}{rest}").len();
    }
    format!("{length}{rest}")
}
