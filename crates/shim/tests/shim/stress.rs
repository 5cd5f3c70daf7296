//! Much output, strange output, many processes, and a server that goes away.

use std::io::{Read, Write};
use std::net::TcpListener;

use muonic_types::job::Exit;

use crate::server::Server;
use crate::support::{Bed, PATIENCE, until};

#[test]
fn two_hundred_megabytes_of_log_are_bounded() {
    let bed = Bed::script("echo first; yes $(printf %01000d 7) | head -c 200000000; echo; echo last");
    assert_eq!(bed.run().exit, Exit::Code { code: 0 });
    let log = bed.log();
    assert!(log.len() <= 1 << 20, "{}", log.len());
    assert!(log.starts_with("first\n") && log.ends_with("last\n"));
    assert!(log.contains("bytes were left out here"));
}

#[test]
fn binary_output_arrives_as_it_is() {
    let bed = Bed::script("for n in $(seq 3); do printf '\\x00\\xff\\xfe\\r\\x1b[2Jend'; done; exit 1");
    let report = bed.run();
    assert_eq!(report.exit, Exit::Code { code: 1 });
    assert_eq!(bed.attempt().log, b"\x00\xff\xfe\r\x1b[2Jend".repeat(3));
    assert!(!report.message.unwrap().contains('\u{1b}'));
}

#[test]
fn what_forks_and_hides_is_ended_with_the_command() {
    let script = "for n in $(seq 40); do (setsid bash -c 'sleep 1000 & sleep 1000' &); done; echo made";
    let bed = Bed::script(script);
    assert_eq!(bed.run().exit, Exit::Code { code: 0 });
    assert_eq!(bed.log(), "made\n");
}

#[test]
fn the_work_goes_on_while_the_server_is_away() {
    let script = "echo before=1; until [ -e $MUONIC_UNIT_DIR/gone ]; do sleep 0.02; done; echo during=2; touch $MUONIC_UNIT_DIR/said; \
        echo x > $SM_MODEL_DIR/x; exit 0";
    let mut bed = Bed::script(script);
    let shim = bed.start();
    bed.wait_for_log("before");
    // Its port is closed, and the next server has another.
    drop(bed.server.take());
    std::fs::write(bed.folder.file("gone"), "").unwrap();
    until("the command goes on", || bed.folder.file("said").exists().then_some(()));
    bed.server = Some(Server::start(&bed.shared));
    bed.write_server();
    shim.ended();
    let report = bed.report();
    assert_eq!(report.exit, Exit::Code { code: 0 });
    assert!(report.model.is_some());
    assert_eq!(bed.log(), "before=1\nduring=2\n");
    let names: Vec<String> = bed.attempt().metrics.iter().map(|m| m.name.clone()).collect();
    assert_eq!(names, ["before", "during"]);
}

#[test]
fn a_foreign_server_at_the_address_is_not_believed() {
    let script = "echo before; until [ -e $MUONIC_UNIT_DIR/go ]; do sleep 0.02; done; echo during";
    let mut bed = Bed::script(script);
    let shim = bed.start();
    bed.wait_for_log("before");
    // Refuses everything, or takes everything.
    let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
    bed.write_address(&format!("http://{}", foreign.local_addr().unwrap()));
    drop(bed.server.take());
    std::fs::write(bed.folder.file("go"), "").unwrap();
    for answer in ["401 Unauthorized", "200 OK", "404 Not Found", "501 Not Implemented"] {
        let (mut stream, _) = foreign.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}").unwrap();
    }
    bed.server = Some(Server::start(&bed.shared));
    bed.write_server();
    drop(foreign);
    shim.ended();
    assert_eq!((bed.report().exit, bed.log().as_str()), (Exit::Code { code: 0 }, "before\nduring\n"));
}

#[test]
fn a_shim_waits_for_a_server_that_is_not_there_yet() {
    let mut bed = Bed::script("echo ran");
    let address = bed.server.take().unwrap().url();
    let shim = bed.start();
    until("the shim has the lock", || bed.folder.is_locked().unwrap().then_some(()));
    bed.server = Some(Server::start(&bed.shared));
    assert_ne!(bed.server.as_ref().unwrap().url(), address);
    bed.write_server();
    shim.ended();
    assert_eq!((bed.report().exit, bed.log().as_str()), (Exit::Code { code: 0 }, "ran\n"));
}

#[test]
fn a_cancel_reaches_a_shim_that_waits_for_the_server() {
    let mut bed = Bed::script("echo ran");
    bed.server.take();
    let shim = bed.start();
    until("the shim has the lock", || bed.folder.read_pid());
    shim.signal("TERM");
    shim.ended();
    assert!(bed.folder.is_done() && !bed.folder.has_begun());
}

#[test]
fn bytes_that_the_server_lost_do_not_end_the_attempt() {
    let bed = Bed::script("echo one; until [ -e $MUONIC_UNIT_DIR/go ]; do sleep 0.02; done; echo two");
    let shim = bed.start();
    bed.wait_for_log("one");
    bed.attempt().log.clear();
    std::fs::write(bed.folder.file("go"), "").unwrap();
    shim.ended();
    assert_eq!((bed.report().exit, bed.log().as_str()), (Exit::Code { code: 0 }, "one\ntwo\n"));
}
