//! Large folders go in, and go in again for next to nothing.

mod support;

use muonic_client::UploadRules;
use support::{Dice, Server, run, shell, write};

#[test]
fn a_dataset_of_20000_files_is_sent_once_and_one_change_sends_one_file() {
    let server = Server::start();
    let client = server.client();
    let folder = tempfile::tempdir().expect("a folder");
    for n in 0..20_000 {
        write(folder.path(), &[(&format!("d{}/f{n}", n % 100), format!("file {n}").as_bytes())]);
    }
    let first = client.tree_upload(folder.path(), UploadRules::Everything, &()).expect("uploaded");
    assert_eq!((first.tree.files, first.sent_files), (20_000, 20_000));
    let again = client.tree_upload(folder.path(), UploadRules::Everything, &()).expect("uploaded");
    assert_eq!((again.tree.digest, again.sent_files), (first.tree.digest, 0));
    write(folder.path(), &[("d7/f7", b"changed")]);
    let changed = client.tree_upload(folder.path(), UploadRules::Everything, &()).expect("uploaded");
    assert_eq!((changed.tree.files, changed.sent_files), (20_000, 1));
    let name = "many".parse().expect("a name");
    assert!(client.dataset_put(&name, first.tree.digest).expect("put").created);
    assert!(client.dataset_put(&name, changed.tree.digest).expect("put").created);
    assert!(!client.dataset_put(&name, changed.tree.digest).expect("put").created);
    let mut new = shell("count", "find $SM_CHANNEL_TRAIN -type f | wc -l; cat $SM_CHANNEL_TRAIN/d7/f7");
    new.spec.inputs.insert("train".parse().expect("a name"), "many".parse().expect("a dataset"));
    let job = run(&client, &new);
    let log = support::log_of(&client, &job.id);
    assert_eq!(log.split_whitespace().collect::<Vec<_>>(), ["20000", "changed"], "{job:?}");
}

#[test]
fn a_code_folder_of_300_mb_is_accepted() {
    let server = Server::start();
    let client = server.client();
    let folder = tempfile::tempdir().expect("a folder");
    let mut dice = Dice::new();
    let mut block = Vec::with_capacity(30 << 20);
    while block.len() < 30 << 20 {
        block.extend_from_slice(&dice.next().to_le_bytes());
    }
    for n in 0..10u8 {
        block[0] = n;
        write(folder.path(), &[(&format!("weights-{n}.bin"), &block)]);
    }
    let code = client.tree_upload(folder.path(), UploadRules::Code, &()).expect("uploaded");
    assert_eq!(code.tree.bytes, 300 << 20);
    let mut new = shell("large", "cat weights-*.bin | wc -c");
    new.spec.code = Some(code.tree.digest);
    let job = run(&client, &new);
    assert_eq!(support::log_of(&client, &job.id).trim(), (300u64 << 20).to_string(), "{job:?}");
}
