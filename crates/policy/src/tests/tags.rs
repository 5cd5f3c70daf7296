use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::Error;
use crate::tags::{Of, header, parse_header, set};

fn pairs(count: usize) -> Vec<(String, String)> {
    (0..count).map(|n| (format!("k{n}"), "v".to_owned())).collect()
}

fn one(key: &str, value: &str) -> crate::Result<BTreeMap<String, String>> {
    set(Of::Object, [(key.to_owned(), value.to_owned())])
}

#[test]
fn sets_are_bounded() {
    assert_eq!(set(Of::Object, pairs(10)).unwrap().len(), 10);
    assert_eq!(set(Of::Bucket, pairs(50)).unwrap().len(), 50);
    assert!(matches!(set(Of::Object, pairs(11)), Err(Error::InvalidTag(_))));
    assert!(matches!(set(Of::Bucket, pairs(51)), Err(Error::InvalidTag(_))));
    assert!(set(Of::Object, [("a".into(), "1".into()), ("a".into(), "2".into())]).is_err());
    assert_eq!(set(Of::Object, [("a".into(), "1".into()), ("A".into(), "2".into())]).unwrap().len(), 2);
}

#[test]
fn keys_and_values_have_rules() {
    let good = [("k", ""), ("a b", "+-=._:/@"), ("größe", "大"), ("awsx", "v"), ("k", " ")];
    for (key, value) in good {
        assert!(one(key, value).is_ok(), "{key:?} {value:?}");
    }
    assert!(one(&"k".repeat(128), &"v".repeat(256)).is_ok());
    let long_key = "k".repeat(129);
    let long_value = "v".repeat(257);
    let wide = "😀".repeat(65);
    let bad = [("", "v"), ("aws:x", "v"), ("AWS:x", "v"), (&long_key, "v"), ("k", &long_value), (&wide, "v")];
    for (key, value) in bad.into_iter().chain([("k*", "v"), ("k", "a\nb"), ("k", "<"), ("k\u{0}", "v"), ("k", "a&b")]) {
        assert!(matches!(one(key, value), Err(Error::InvalidTag(_))), "{key:?} {value:?}");
    }
}

#[test]
fn the_header_is_a_query() {
    let parsed = |text: &str| parse_header(text).map(|tags| header(&tags));
    for (text, expected) in [
        ("", ""),
        ("a=1&b=2", "a=1&b=2"),
        ("a", "a="),
        ("a=x%20y+z&&", "a=x%20y%20z"),
        ("a=b=c", "a=b%3Dc"),
        ("%C3%A4=%2F", "%C3%A4=%2F"),
    ] {
        assert_eq!(parsed(text).as_deref(), Ok(expected), "{text:?}");
    }
    for text in ["a=%", "a=%2", "a=%zz", "a=%FF", "a=%+1"] {
        assert!(matches!(parse_header(text), Err(Error::Invalid(_))), "{text:?}");
    }
    assert!(matches!(parse_header("a=1&a=2"), Err(Error::InvalidTag(_))));
    assert!(matches!(parse_header("=1"), Err(Error::InvalidTag(_))));
    let many: Vec<String> = (0..100_000).map(|n| format!("{n}=")).collect();
    assert!(matches!(parse_header(&many.join("&")), Err(Error::InvalidTag(_))));
}

proptest! {
    #[test]
    fn no_header_makes_it_panic(text in ".{0,80}") {
        let _ = parse_header(&text);
    }

    #[test]
    fn what_is_written_is_read_back(tags in prop::collection::btree_map("[a-zäß +=/@]{1,9}", "[a-z0-9 :.大]{0,9}", 0..10)) {
        prop_assume!(set(Of::Object, tags.clone()).is_ok());
        prop_assert_eq!(parse_header(&header(&tags)).unwrap(), tags);
    }
}
