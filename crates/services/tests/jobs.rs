//! Jobs from submission to their end, with an engine that the test moves.

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use muonic_ports::Clock;
use muonic_ports::routes::Authenticator;
use muonic_types::ErrorCode;
use muonic_types::job::{Exit, JobState, MetricPattern};
use muonic_types::task::ExitReport;
use support::{Cloud, job, task, until};

fn report(exit: Exit) -> ExitReport {
    ExitReport {
        exit,
        message: None,
        command_started_at: None,
        command_ended_at: None,
        ended_at: None,
        environment: None,
        model: None,
        output: None,
    }
}

async fn state(cloud: &Cloud, id: &str) -> JobState {
    cloud.jobs.get(&cloud.admin, &id.parse().expect("a job")).await.expect("a job").state
}

async fn launched(cloud: &Cloud, id: &str) {
    until(&format!("{id} is launched"), async || cloud.engine.launched().contains(&task(id)).then_some(())).await;
}

#[tokio::test]
async fn a_job_starts_runs_and_succeeds_and_its_key_dies_with_it() {
    let cloud = Cloud::new(1000).await;
    cloud.jobs.submit(&cloud.admin, job("t", "1")).await.expect("submitted");
    launched(&cloud, "t-1.1").await;
    let shim = cloud.unit(&task("t-1.1"));
    let attempt = "t-1.1".parse().expect("an attempt");
    let spec = cloud.jobs.claim(&shim, &attempt, "shim").await.expect("claimed");
    assert_eq!(spec.spec.command, ["true"]);
    assert_eq!(cloud.jobs.claim(&shim, &attempt, "another").await.unwrap_err().code, ErrorCode::Conflict);
    cloud.jobs.claim(&shim, &attempt, "shim").await.expect("the same supervisor may ask again");
    assert_eq!(state(&cloud, "t-1").await, JobState::Running);
    cloud.clock.forward(Duration::from_secs(10));
    cloud.jobs.finish(&shim, &attempt, report(Exit::Code { code: 0 })).await.expect("finished");
    assert_eq!(state(&cloud, "t-1").await, JobState::Succeeded);
    // Telling it twice is harmless, and the key is void.
    cloud.jobs.finish(&shim, &attempt, report(Exit::Code { code: 1 })).await.expect("once is enough");
    assert_eq!(state(&cloud, "t-1").await, JobState::Succeeded);
    assert!(cloud.keys.authenticate(&cloud.engine.token(&task("t-1.1"))).is_err());
    let done = cloud.jobs.get(&cloud.admin, &"t-1".parse().expect("a job")).await.expect("a job");
    assert!((done.cost_usd - 0.01).abs() < 1e-6, "10 s at 3.6 USD an hour: {}", done.cost_usd);
}

#[tokio::test]
async fn a_pattern_that_is_none_is_refused_with_the_reason() {
    let cloud = Cloud::new(1000).await;
    for (regex, why) in [("loss=(", "unclosed group"), ("(a{1000}){1000}", "exceeds size limit")] {
        let mut new = job("t", "1");
        new.spec.metrics = vec![MetricPattern { name: "loss".to_owned(), regex: regex.to_owned() }];
        let error = cloud.jobs.submit(&cloud.admin, new).await.expect_err("no pattern");
        let said = error.to_string();
        assert!(said.contains("metric 'loss' is not a regular expression: ") && said.contains(why), "{said}");
        assert!(!said.contains('\n'), "{said}");
    }
}

#[tokio::test]
async fn the_second_job_waits_for_room_and_says_so() {
    let cloud = Cloud::new(1000).await;
    cloud.jobs.submit(&cloud.admin, job("a", "1")).await.expect("submitted");
    launched(&cloud, "a-1.1").await;
    let second = cloud.jobs.submit(&cloud.admin, job("b", "500m")).await.expect("submitted");
    assert_eq!(second.state, JobState::Queued);
    let reason = second.reason.expect("a reason");
    assert!(reason.contains("a-1") && reason.contains("cpu"), "{reason}");
    let shim = cloud.unit(&task("a-1.1"));
    let attempt = "a-1.1".parse().expect("an attempt");
    cloud.jobs.claim(&shim, &attempt, "shim").await.expect("claimed");
    cloud.jobs.finish(&shim, &attempt, report(Exit::Code { code: 0 })).await.expect("finished");
    launched(&cloud, "b-1.1").await;
}

#[tokio::test]
async fn a_lost_attempt_is_tried_again_and_the_stale_shim_is_refused() {
    let cloud = Cloud::new(1000).await;
    cloud.jobs.submit(&cloud.admin, job("t", "1")).await.expect("submitted");
    launched(&cloud, "t-1.1").await;
    let stale = cloud.unit(&task("t-1.1"));
    let first = "t-1.1".parse().expect("an attempt");
    cloud.jobs.claim(&stale, &first, "shim").await.expect("claimed");
    cloud.engine.end(&task("t-1.1"), "killed by signal 9");
    until("the attempt is lost", async || (state(&cloud, "t-1").await == JobState::Queued).then_some(())).await;
    let look = async || cloud.jobs.get(&cloud.admin, &"t-1".parse().expect("a job")).await.expect("a job");
    let resting = look().await;
    let reason = resting.reason.expect("a reason");
    assert!(reason.starts_with("tries again in 1s: attempt 1 "), "{reason}");
    assert!(resting.not_before.is_some());
    cloud.clock.forward(Duration::from_secs(2));
    assert_eq!(look().await.not_before, None, "a rest that is over is none");
    cloud.events.wake_dispatcher();
    launched(&cloud, "t-1.2").await;
    let done = cloud.jobs.finish(&stale, &first, report(Exit::Code { code: 0 })).await;
    assert!(done.is_ok(), "an ended attempt stays as it is");
    assert_ne!(state(&cloud, "t-1").await, JobState::Succeeded);
    assert!(cloud.keys.authenticate(&cloud.engine.token(&task("t-1.1"))).is_err());
}

#[tokio::test]
async fn a_running_job_is_stopped_through_the_engine_and_ends_cancelled() {
    let cloud = Cloud::new(1000).await;
    cloud.jobs.submit(&cloud.admin, job("t", "1")).await.expect("submitted");
    launched(&cloud, "t-1.1").await;
    let id = "t-1".parse().expect("a job");
    cloud.jobs.cancel(&cloud.admin, &id).await.expect("asked");
    until("the engine is told", async || {
        cloud.engine.stops.lock().expect("stops").contains(&task("t-1.1")).then_some(())
    })
    .await;
    cloud.engine.end(&task("t-1.1"), "ended");
    let job = until("it is cancelled", async || {
        let job = cloud.jobs.get(&cloud.admin, &id).await.expect("a job");
        job.state.is_final().then_some(job)
    })
    .await;
    assert_eq!(job.state, JobState::Cancelled);
    until("the unit is forgotten", async || cloud.engine.units.lock().expect("units").is_empty().then_some(())).await;
    assert_eq!(cloud.jobs.cancel(&cloud.admin, &id).await.unwrap_err().code, ErrorCode::Conflict);
}

#[tokio::test]
async fn a_launch_cut_short_is_done_again_or_forgotten() {
    let cloud = Cloud::new(1000).await;
    cloud.engine.leave_unstarted(&task("t-1.1"));
    until("nobody wants it", async || cloud.engine.units.lock().expect("units").is_empty().then_some(())).await;
    cloud.jobs.submit(&cloud.admin, job("t", "1")).await.expect("submitted");
    launched(&cloud, "t-1.1").await;
    cloud.engine.leave_unstarted(&task("t-1.1"));
    until("it is launched again", async || (cloud.engine.launched().len() == 2).then_some(())).await;
}

#[tokio::test]
async fn what_cannot_be_launched_or_forgotten_now_holds_up_nobody() {
    let cloud = Cloud::new(2000).await;
    cloud.engine.broken.store(true, Ordering::SeqCst);
    cloud.engine.end(&task("gone-1.1"), "ended");
    cloud.jobs.submit(&cloud.admin, job("a", "1")).await.expect("submitted");
    until("it is admitted", async || (state(&cloud, "a-1").await == JobState::Starting).then_some(())).await;
    cloud.jobs.submit(&cloud.admin, job("b", "1")).await.expect("submitted");
    until("so is the next", async || (state(&cloud, "b-1").await == JobState::Starting).then_some(())).await;
    cloud.engine.broken.store(false, Ordering::SeqCst);
    launched(&cloud, "a-1.1").await;
    launched(&cloud, "b-1.1").await;
    let gone = task("gone-1.1");
    until("it is forgotten", async || (!cloud.engine.units.lock().expect("units").contains_key(&gone)).then_some(()))
        .await;
}

#[tokio::test]
async fn the_next_attempt_waits_until_the_one_before_is_gone() {
    let cloud = Cloud::new(1000).await;
    let mut new = job("t", "1");
    new.spec.retries = 1;
    cloud.jobs.submit(&cloud.admin, new).await.expect("submitted");
    launched(&cloud, "t-1.1").await;
    let shim = cloud.unit(&task("t-1.1"));
    let attempt = "t-1.1".parse().expect("an attempt");
    cloud.jobs.claim(&shim, &attempt, "shim").await.expect("claimed");
    cloud.jobs.finish(&shim, &attempt, report(Exit::Code { code: 1 })).await.expect("finished");
    cloud.clock.forward(Duration::from_secs(2));
    until("it is admitted again", async || (state(&cloud, "t-1").await == JobState::Starting).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(cloud.engine.launched(), [task("t-1.1")], "its supervisor still tidies up");
    cloud.engine.end(&task("t-1.1"), "its supervisor exited with code 0");
    launched(&cloud, "t-1.2").await;
}

/// The server was away when the attempt ended: the time until it came back is
/// neither run time nor cost.
#[tokio::test]
async fn an_attempt_ends_when_its_supervisor_says_so() {
    let cloud = Cloud::new(1000).await;
    cloud.jobs.submit(&cloud.admin, job("t", "1")).await.expect("submitted");
    launched(&cloud, "t-1.1").await;
    let shim = cloud.unit(&task("t-1.1"));
    let attempt = "t-1.1".parse().expect("an attempt");
    cloud.jobs.claim(&shim, &attempt, "shim").await.expect("claimed");
    cloud.clock.forward(Duration::from_secs(10));
    let ended_at = Some(cloud.clock.now());
    cloud.clock.forward(Duration::from_secs(3600));
    let late = ExitReport { ended_at, ..report(Exit::Code { code: 0 }) };
    cloud.jobs.finish(&shim, &attempt, late).await.expect("finished");
    let done = cloud.jobs.get(&cloud.admin, &"t-1".parse().expect("a job")).await.expect("a job");
    assert_eq!(done.finished_at, ended_at);
    assert!((done.cost_usd - 0.01).abs() < 1e-6, "10 s at 3.6 USD an hour: {}", done.cost_usd);
}

#[tokio::test]
async fn a_success_without_the_model_it_was_run_for_is_none() {
    let cloud = Cloud::new(1000).await;
    let mut new = job("t", "1");
    new.spec.model = Some("digits".parse().expect("a name"));
    cloud.jobs.submit(&cloud.admin, new).await.expect("submitted");
    launched(&cloud, "t-1.1").await;
    let shim = cloud.unit(&task("t-1.1"));
    let attempt = "t-1.1".parse().expect("an attempt");
    cloud.jobs.claim(&shim, &attempt, "shim").await.expect("claimed");
    cloud.jobs.finish(&shim, &attempt, report(Exit::Code { code: 0 })).await.expect("finished");
    let job = cloud.jobs.get(&cloud.admin, &"t-1".parse().expect("a job")).await.expect("a job");
    assert_eq!(job.state, JobState::Failed);
    assert!(job.reason.as_ref().is_some_and(|r| r.contains("SM_MODEL_DIR")), "{job:?}");
}

#[tokio::test]
async fn a_shim_may_speak_of_its_own_attempt_only() {
    let cloud = Cloud::new(2000).await;
    cloud.jobs.submit(&cloud.admin, job("a", "1")).await.expect("submitted");
    cloud.jobs.submit(&cloud.admin, job("b", "1")).await.expect("submitted");
    launched(&cloud, "a-1.1").await;
    launched(&cloud, "b-1.1").await;
    let a = cloud.unit(&task("a-1.1"));
    let other = "b-1.1".parse().expect("an attempt");
    assert_eq!(cloud.jobs.claim(&a, &other, "shim").await.unwrap_err().code, ErrorCode::Forbidden);
    assert_eq!(
        cloud.jobs.finish(&a, &other, report(Exit::Code { code: 0 })).await.unwrap_err().code,
        ErrorCode::Forbidden
    );
    assert_eq!(cloud.jobs.submit(&a, job("c", "1")).await.unwrap_err().code, ErrorCode::Forbidden);
    assert_eq!(cloud.jobs.claim(&cloud.admin, &other, "shim").await.unwrap_err().code, ErrorCode::Forbidden);
}

#[tokio::test]
async fn a_refusal_shows_the_beginning_of_what_it_refuses() {
    let cloud = Cloud::new(1000).await;
    let mut new = job("t", "1");
    new.spec.env.insert("\u{1}".repeat(1 << 20), String::new());
    let refused = cloud.jobs.submit(&cloud.admin, new).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::InvalidRequest);
    assert!(refused.message.starts_with("'\\u{1}\\u{1}"), "{}", refused.message);
    assert!(refused.message.len() < 1_000, "{} bytes", refused.message.len());
}
