use muonic_ports::object_store::Error;

use super::*;
use crate::content::SealedBy;
use crate::data::key_md5;

#[tokio::test]
async fn only_the_right_customer_key_opens() {
    let root = folder();
    let data = open(root.path());
    let other = CustomerKey { key: [43; 32] };
    for size in [0, 100, 5000, 100_000] {
        let bytes = noise(size as u64, size);
        let extent = put(&data, &bytes, SealWith::Customer(&CUSTOMER)).await.unwrap().keep();
        let seal = extent.seal.as_ref().unwrap();
        assert_eq!(seal.by, SealedBy::Customer { key_md5: key_md5(&CUSTOMER) });
        for key in [None, Some(&other)] {
            assert!(matches!(data.read(&extent, None, key).await, Err(Error::CustomerKey(_))));
        }
        assert!(data.rewrap(extent.id, seal).await.unwrap().is_none());
        for with in [SealWith::None, SealWith::Store] {
            let extent = put(&data, &bytes, with).await.unwrap().keep();
            assert!(matches!(data.read(&extent, None, Some(&CUSTOMER)).await, Err(Error::CustomerKey(_))));
        }
    }
}

#[tokio::test]
async fn sealed_content_is_not_on_the_disk() {
    let root = folder();
    let data = open(root.path());
    let bytes = Bytes::from(vec![b'x'; 300_000]);
    let extent = put(&data, &bytes, SealWith::Store).await.unwrap().keep();
    let again = put(&data, &bytes, SealWith::Store).await.unwrap().keep();
    let stored = |extent: &Extent| std::fs::read(data.disk().layout.file(&extent.id)).unwrap();
    assert!(!stored(&extent).windows(8).any(|run| run == b"xxxxxxxx"));
    assert_ne!(stored(&extent), stored(&again));
}

#[tokio::test]
async fn a_rotated_key_wraps_anew_and_touches_no_data() {
    let root = folder();
    let keys = Arc::new(LocalKeys::open(&root.path().join("keys"), true).unwrap());
    let data = Data::open(root.path(), keys.clone(), Box::new(RealFiles), Arc::new(Gate::default()), small_segments())
        .unwrap();
    keys.create("team").unwrap();
    for (name, with) in [(None, SealWith::Store), (Some("team"), SealWith::Named(Some("team")))] {
        let bytes = noise(8, 90_000);
        let mut extent = put(&data, &bytes, with).await.unwrap().keep();
        let seal = extent.seal.clone().unwrap();
        assert!(data.rewrap(extent.id, &seal).await.unwrap().is_none(), "it is current");
        keys.rotate(name).unwrap();
        assert_eq!(whole(&data, &extent, with).await, bytes, "the old version still opens");
        let new = data.rewrap(extent.id, &seal).await.unwrap().expect("a newer version");
        assert_ne!(new, seal);
        // It is bound to its extent.
        assert!(data.rewrap([9; 16], &seal).await.is_err());
        extent.seal = Some(new);
        keys.retire(name, 1).unwrap();
        assert_eq!(whole(&data, &extent, with).await, bytes);
        extent.seal = Some(seal);
        let again = open(root.path());
        assert!(again.read(&extent, None, None).await.is_err());
    }
    assert!(matches!(
        put(&data, &noise(1, 10), SealWith::Named(Some("nobody"))).await,
        Err(Error::NoSuchEncryptionKey(name)) if name == "nobody"
    ));
}
