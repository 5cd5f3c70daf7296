use std::fs;
use std::os::unix::fs::PermissionsExt;

use muonic_ports::object_store::Error;

use super::*;

#[test]
fn keys_are_made_once_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.keys");
    assert!(LocalKeys::open(&path, false).err().unwrap().to_string().contains("is missing"));
    let keys = LocalKeys::open(&path, true).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let data_key = DataKey([7; 32]);
    let (version, wrapped) = keys.wrap(None, &data_key, b"a").unwrap();
    keys.create("team").unwrap();
    let (_, named) = keys.wrap(Some("team"), &data_key, b"a").unwrap();
    drop(keys);

    let keys = LocalKeys::open(&path, false).unwrap();
    let names: Vec<_> = keys.list().unwrap().into_iter().map(|key| key.name).collect();
    assert_eq!(names, [None, Some("default".to_owned()), Some("team".to_owned())]);
    assert_eq!(keys.unwrap(None, version, &wrapped, b"a").unwrap(), data_key);
    assert_eq!(keys.unwrap(Some("team"), 1, &named, b"a").unwrap(), data_key);
    // Neither another context nor another key opens it.
    assert!(keys.unwrap(None, version, &wrapped, b"b").is_err());
    assert!(keys.unwrap(Some("team"), 1, &wrapped, b"a").is_err());
    assert!(matches!(keys.wrap(Some("nobody"), &data_key, b""), Err(Error::NoSuchEncryptionKey(_))));
    assert!(keys.create("team").is_err());
    assert!(keys.create("a\nb").is_err());
}

#[test]
fn any_flipped_bit_of_a_wrapped_key_is_noticed() {
    let sealed = seal_envelope(&[1; 32], &DataKey([2; 32]), b"id").unwrap();
    for bit in 0..sealed.len() * 8 {
        let mut bad = sealed.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open_envelope(&[1; 32], &bad, b"id").unwrap(), None);
    }
    for len in 0..sealed.len() {
        assert_eq!(open_envelope(&[1; 32], &sealed[..len], b"id").unwrap(), None);
    }
}

#[test]
fn a_rotated_key_still_opens_what_it_wrapped_until_it_is_retired() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.keys");
    let keys = LocalKeys::open(&path, true).unwrap();
    let (old, wrapped) = keys.wrap(None, &DataKey([3; 32]), b"").unwrap();
    assert!(keys.retire(None, old).is_err(), "the newest stays");
    assert_eq!(keys.rotate(None).unwrap(), 2);
    assert_eq!(keys.current(None).unwrap(), 2);
    assert_eq!(keys.current(Some(DEFAULT_KEY)).unwrap(), 1);
    let keys = LocalKeys::open(&path, false).unwrap();
    assert_eq!(keys.unwrap(None, old, &wrapped, b"").unwrap(), DataKey([3; 32]));
    assert_eq!(keys.wrap(None, &DataKey([3; 32]), b"").unwrap().0, 2);
    keys.retire(None, old).unwrap();
    assert_eq!(keys.list().unwrap()[0].versions.len(), 1);
    assert!(keys.unwrap(None, old, &wrapped, b"").is_ok(), "what is being read goes on");
    assert!(LocalKeys::open(&path, false).unwrap().unwrap(None, old, &wrapped, b"").is_err());
}

#[test]
fn a_file_that_others_can_read_or_that_is_damaged_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.keys");
    drop(LocalKeys::open(&path, true).unwrap());
    let text = fs::read_to_string(&path).unwrap();
    for mode in [0o640, 0o604, 0o660] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert!(LocalKeys::open(&path, true).err().unwrap().to_string().contains("chmod 600"));
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let newer = text.replacen("\"version\": 1", "\"version\": 2", 1);
    for bad in ["", "{}", &text[..text.len() / 2], &newer, r#"{"version": 1, "keys": []}"#] {
        fs::write(&path, bad).unwrap();
        assert!(LocalKeys::open(&path, true).is_err(), "{bad}");
        assert_eq!(fs::read_to_string(&path).unwrap(), bad, "it is never written over");
    }
}
