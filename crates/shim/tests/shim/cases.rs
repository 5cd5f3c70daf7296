//! How attempts end.

use std::fs;

use muonic_types::job::{Exit, Phase};
use muonic_types::task::TaskProgress;
use muonic_types::{Digest, Tree};
use serde_json::json;

use crate::support::{Bed, until};

#[test]
fn a_task_gets_its_files_and_leaves_its_outputs() {
    let script = "echo hello from $MUONIC_ATTEMPT; cat $SM_CHANNEL_TRAIN/data.txt; ./run.sh >&2; \
        echo epoch=1 loss=0.5; echo epoch=2 loss=0.25 acc=nan; echo 'Accuracy: 90%'; echo $SM_HP_LR $1 $2; \
        echo weights > $SM_MODEL_DIR/m.onnx; echo '{\"final\": 7}' > $SM_OUTPUT_DATA_DIR/metrics.json; touch $AIP_CHECKPOINT_DIR/c";
    let files = [("data.txt", "the data\n"), ("run.sh", "#!/bin/sh\necho on stderr\n")];
    let spec = json!({
        "command": ["bash", "-c", script, "bash"], "params": {"lr": 0.1}, "params_as_args": true,
        "metrics": [{"name": "accuracy", "regex": "Accuracy: ([0-9.]+)%"}],
    });
    let bed = Bed::new(script, &files, spec);
    let report = bed.run();
    assert_eq!((report.exit, report.message), (Exit::Code { code: 0 }, None));
    assert!(report.command_started_at < report.command_ended_at);
    assert_eq!(
        bed.log(),
        "hello from t-1.1\nthe data\non stderr\nepoch=1 loss=0.5\nepoch=2 loss=0.25 acc=nan\nAccuracy: 90%\n0.1 --lr 0.1\n"
    );
    let attempt = bed.attempt();
    let points: Vec<_> = attempt.metrics.iter().map(|m| (m.name.as_str(), m.step, m.value)).collect();
    assert_eq!(points, [("loss", 1, 0.5), ("loss", 2, 0.25), ("accuracy", 0, 90.0), ("final", 0, 7.0)]);
    let model = Tree::decode(&attempt.blobs[&report.model.unwrap()]).unwrap();
    assert_eq!(model.entries()[0].digest, Digest::of(b"weights\n"));
    assert!(report.output.is_some());
}

#[test]
fn a_link_in_the_place_of_an_output_folder_is_not_followed() {
    let bed = Bed::script("rmdir $SM_MODEL_DIR; ln -s /etc $SM_MODEL_DIR; exit 0");
    let report = bed.run();
    assert_eq!(report.exit, Exit::SetupFailed);
    let message = report.message.expect("words");
    assert!(message.starts_with("its model could not be saved: the command put a link"), "{message}");
    assert!(std::path::Path::new("/etc/passwd").exists());
}

#[test]
fn more_metrics_than_the_server_keeps_are_left_out_and_told_once() {
    let bed = Bed::script("seq -f 'n%g=1' 1003; seq -f 'n%g=2' 1002; exit 0");
    let report = bed.run();
    assert_eq!(report.exit, Exit::Code { code: 0 }, "{:?}", report.message);
    let points = bed.attempt().metrics.len();
    assert_eq!((points, bed.log().matches("5 metric points were left out").count()), (2000, 1));
}

#[test]
fn metrics_may_have_any_name_that_the_server_takes() {
    let script =
        "echo 'loss at 3: 0.5'; echo '{\"a b\": 1, \"c\\nd\": 2, \"e\": \"text\"}' > $SM_OUTPUT_DATA_DIR/metrics.json";
    let bed = Bed::new(script, &[], json!({"metrics": [{"name": "val loss", "regex": "loss at 3: (.*)"}]}));
    assert_eq!(bed.run().exit, Exit::Code { code: 0 });
    let names: Vec<_> = bed.attempt().metrics.iter().map(|m| m.name.clone()).collect();
    assert_eq!(names, ["val loss", "a b"]);
    assert!(bed.log().contains("2 entries of metrics.json are no metrics, such as 'c\\nd'"), "{}", bed.log());
}

#[test]
fn a_phase_that_lasts_is_told() {
    let bed = Bed::script("until [ -e $MUONIC_UNIT_DIR/go ]; do sleep 0.02; done");
    let shim = bed.start();
    let running = |p: &&TaskProgress| p.phase == Phase::Running;
    let told = until("the server knows that it runs", || bed.attempt().progress.iter().find(running).cloned());
    fs::write(bed.folder.file("go"), "").unwrap();
    shim.ended();
    assert_eq!(told.environment, bed.report().environment);
}

#[test]
fn an_exit_code_is_told_with_the_last_lines() {
    let report = Bed::script("for n in $(seq 9); do echo line $n; done; exit 3").run();
    assert_eq!(report.exit, Exit::Code { code: 3 });
    assert_eq!(report.message.unwrap(), "exited with code 3; the log ends:\nline 5\nline 6\nline 7\nline 8\nline 9");
    assert_eq!(report.model, None);
}

#[test]
fn a_signal_is_told_by_name() {
    let report = Bed::script("echo oops; kill -SEGV $$").run();
    assert_eq!(report.exit, Exit::Signal { signal: 11 });
    assert!(report.message.unwrap().starts_with("killed by signal 11 (SIGSEGV); the log ends:\noops"));
}

#[test]
fn a_command_that_cannot_start_says_why() {
    let missing = Bed::new("", &[], json!({"command": ["no-such-program"]})).run();
    assert_eq!(missing.exit, Exit::SetupFailed);
    assert!(missing.message.unwrap().contains("'no-such-program' could not be started: it was not found"));
    let text = Bed::new("", &[], json!({"command": ["/proc/version"]})).run();
    assert!(text.message.unwrap().contains("it is not executable"));
}

#[test]
fn code_that_is_not_there_is_a_failed_setup() {
    let bed = Bed::script("true");
    bed.attempt().blobs.clear();
    let report = bed.run();
    assert_eq!(report.exit, Exit::SetupFailed);
    assert!(report.message.unwrap().contains("the code could not be fetched"));
}

#[test]
fn a_time_limit_ends_a_task_that_runs_on() {
    let bed = Bed::new(
        "trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.02; done",
        &[],
        json!({"time_limit_s": 1}),
    );
    let report = bed.run();
    assert_eq!(report.exit, Exit::TimeLimit);
    assert!(report.message.unwrap().starts_with("ran longer than its limit of 1 s"));
    assert!(bed.log().contains("asked"));
}

#[test]
fn cancel_lets_a_task_end_in_order() {
    let bed = Bed::script("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done");
    let shim = bed.start();
    bed.wait_for_log("up");
    shim.signal("TERM");
    shim.ended();
    assert_eq!(bed.report().exit, Exit::Cancelled);
    assert!(bed.log().ends_with("bye\n"));
}

#[test]
fn cancel_ends_what_does_not_listen_with_its_daemons() {
    let script = "trap '' TERM; (setsid bash -c 'trap \"\" TERM; while :; do sleep 1; done' &); echo up; while :; do sleep 1; done";
    let bed = Bed::new(script, &[], json!({"grace_s": 0}));
    let shim = bed.start();
    bed.wait_for_log("up");
    shim.signal("TERM");
    shim.ended();
    assert_eq!(bed.report().exit, Exit::Cancelled);
}

#[test]
fn memory_beyond_the_limit_is_told() {
    // `tail` of a stream without line ends keeps all of it in memory.
    let script =
        "set -o pipefail; echo eating; head -c 400000000 /dev/zero | tail -c 399999999 | (sleep 1; cat > /dev/null)";
    let bed = Bed::new(script, &[], json!({"resources": {"cpu": "1", "memory": "64Mi"}}));
    let report = bed.run();
    assert_eq!(report.exit, Exit::OutOfMemory, "{:?}", report.message);
    assert!(report.message.unwrap().starts_with("used more than its 64Mi of memory"));
}

#[test]
fn control_groups_that_a_job_makes_go_with_it() {
    let script = "[ -e $MUONIC_UNIT_DIR/cgroup ] || exit 0; for g in $(cat $MUONIC_UNIT_DIR/cgroup); do \
        mkdir -p $g/a/b; setsid sleep 1000 & echo $! > $g/a/b/cgroup.procs; done; echo made";
    let bed = Bed::script(script);
    let report = bed.run();
    assert_eq!(report.exit, Exit::Code { code: 0 }, "{:?}", report.message);
    assert!(!bed.log().contains("[muonic]"), "{}", bed.log());
}

#[test]
fn without_control_groups_memory_is_measured_and_daemons_are_found() {
    let script = "(setsid sleep 1000 &); head -c 900000000 /dev/zero | tail -c 899999999 | sleep 1000";
    let bed = Bed::new(script, &[], json!({"resources": {"cpu": "1", "memory": "64Mi"}}));
    let mut launch = bed.folder.read_launch().unwrap();
    launch.settings.insert("limits".into(), "none".into());
    bed.folder.write_launch(&launch).unwrap();
    let report = bed.run();
    assert_eq!(report.exit, Exit::OutOfMemory, "{:?}", report.message);
    assert!(bed.log().contains("it is measured several times a second"), "{}", bed.log());
}

#[test]
fn a_second_shim_starts_nothing() {
    let bed = Bed::script("echo ran; until [ -e $MUONIC_UNIT_DIR/go ]; do sleep 0.02; done");
    let first = bed.start();
    bed.wait_for_log("ran");
    bed.start().ended();
    fs::write(bed.folder.file("go"), "").unwrap();
    first.ended();
    bed.start().ended();
    assert_eq!(bed.report().exit, Exit::Code { code: 0 });
    assert_eq!((bed.log().as_str(), bed.attempt().claims), ("ran\n", 1));
}

#[test]
fn a_killed_shim_takes_its_command_along() {
    let bed = Bed::script("(setsid sleep 1000 &); echo up; sleep 1000");
    let mut shim = bed.start();
    bed.wait_for_log("up");
    shim.0.kill().unwrap();
    shim.0.wait().unwrap();
    bed.end_leftovers();
    assert!(!bed.folder.is_locked().unwrap());
    assert_eq!(muonic_unit::processes::of_unit(bed.folder.path()), Vec::<i32>::new());
    // Another supervisor that finds it begun only tells.
    bed.start().ended();
    let report = bed.attempt().report.clone().unwrap();
    assert_eq!((report.exit, bed.log().as_str()), (Exit::Lost, "up\n"));
}

#[test]
fn an_attempt_that_is_over_is_stopped_without_a_report() {
    let bed = Bed::script("trap '' TERM; while :; do echo tick; sleep 0.05; done");
    let shim = bed.start();
    bed.wait_for_log("tick");
    bed.attempt().closed = true;
    shim.ended();
    assert!(bed.attempt().report.is_none());
    assert!(bed.folder.is_done());
    assert_eq!(muonic_unit::processes::of_unit(bed.folder.path()), Vec::<i32>::new());
}

#[test]
fn an_attempt_that_was_claimed_is_not_run() {
    let bed = Bed::script("echo ran");
    bed.attempt().claims = 1;
    bed.start().ended();
    assert!(bed.attempt().report.is_none() && bed.log().is_empty());
    assert!(!bed.folder.has_begun());
}
