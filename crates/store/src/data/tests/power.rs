use nix::errno::Errno;

use super::disk::TestDisk;
use super::faults::{all_there, work};
use super::*;

/// The lights go out before the nth file operation, for every n until all of
/// the work gets done: what was acknowledged is there, whole, and the store
/// takes up its work again.
#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_lights_go_out() {
    for steps in 0.. {
        let root = folder();
        let disk = TestDisk::failing(steps, Errno::EIO, true);
        let data = open_on(root.path(), Box::new(disk.clone()));
        let (mut kept, errors) = work(&data, 0).await;
        settle(&data).await;
        let at_segments: Vec<_> = data.segments().unwrap();
        drop(data);
        disk.forget(steps as u64);

        let data = open_on(root.path(), Box::new(Arc::new(TestDisk::default())));
        all_there(&data, &kept, false).await;
        // The ends of segments of earlier processes go, as far as rows say.
        for info in at_segments {
            let used = kept.iter().filter_map(|(extent, _)| match extent.place {
                crate::content::Place::Segment { segment, offset, length } if segment == info.segment => {
                    Some(offset + length)
                }
                _ => None,
            });
            match used.max() {
                Some(used) => data.seal_segment(info.segment, used).unwrap(),
                None => data.remove_segment(info.segment).unwrap(),
            }
        }
        let (more, none) = work(&data, 1000).await;
        assert!(none.is_empty(), "{none:?}");
        kept.extend(more);
        all_there(&data, &kept, false).await;
        if errors.is_empty() {
            assert!(steps > 40, "{steps}");
            return;
        }
    }
}
