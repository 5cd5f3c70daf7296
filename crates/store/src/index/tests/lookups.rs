//! How extents are kept and found, and the places of parts.

use proptest::prelude::*;

use super::super::extents::Layout;
use super::*;
use crate::content::{Seal, SealedBy};

#[tokio::test]
async fn an_extent_comes_back_as_it_was() {
    let index = memory().await;
    let seals = [
        None,
        Some(SealedBy::Store { version: 3 }),
        Some(SealedBy::Named { name: "é".into(), version: 1 }),
        Some(SealedBy::Customer { key_md5: "abc==".into() }),
    ];
    let places = [
        Place::Inline(Bytes::from_static(b"x")),
        Place::Segment { segment: 4, offset: 1 << 33, length: 17 },
        Place::File { length: 1 << 40 },
        Place::Legacy { digest: [9; 32], length: 1 },
    ];
    for (n, place) in places.into_iter().enumerate() {
        let mut content = content(b"x");
        content.extent.place = place;
        content.extent.blocks = (0..n as u32).map(|n| u32::MAX - n).collect();
        content.extent.seal = seals[n].clone().map(|by| Seal { by, wrapped: vec![1; 40] });
        let object = index.put(target("k"), NewObject::default(), content.clone()).await.unwrap();
        assert_eq!(index.extents(object.content, 0..1).unwrap().unwrap(), [(0, content.extent)]);
    }
}

proptest! {
    #[test]
    fn the_parts_of_a_range_are_those_that_overlap_it(
        sizes in prop::collection::vec((1u16..4, prop_oneof![Just(7u64), 0u64..20]), 1..30),
        range in (0u64..300, 0u64..300),
    ) {
        let mut number = 0;
        let parts: Vec<(u16, u64)> = sizes.iter().map(|(gap, size)| { number += gap; (number, *size) }).collect();
        let total: u64 = parts.iter().map(|p| p.1).sum();
        let range = range.0.min(range.1).min(total)..range.0.max(range.1).min(total);
        let mut expected = Vec::new();
        let mut start = 0;
        for (number, size) in &parts {
            if start < range.end && start + size > range.start && !range.is_empty() && *size > 0 {
                expected.push((*number, start));
            }
            start += size;
        }
        prop_assert_eq!(Layout::of(&parts).overlapping(&range).unwrap(), expected.clone());
        // The same where all parts have one size.
        let even: Vec<(u16, u64)> = (1..=parts.len() as u16).map(|n| (n, 10)).collect();
        let layout = Layout::of(&even);
        prop_assert!(layout.uniform.is_some());
        let range = range.start.min(10 * even.len() as u64)..range.end.min(10 * even.len() as u64);
        let expected: Vec<(u16, u64)> = even
            .iter()
            .map(|(n, _)| (*n, u64::from(n - 1) * 10))
            .filter(|(_, start)| *start < range.end && start + 10 > range.start && !range.is_empty())
            .collect();
        prop_assert_eq!(layout.overlapping(&range).unwrap(), expected);
    }
}
