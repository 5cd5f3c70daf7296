//! Submission, queue, listing, cancelling. Attempts are in `attempts`.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use muonic_types::job::JobState;
use muonic_types::{Cpu, JobId, Memory, Resources};

use super::world::{
    admission, admit, admit_and_claim, at, finish, is_conflict, is_not_found, job, new_job, other_project, parse,
    project,
};
use crate::Metastore;
use crate::metastore::{JobFilter, LiveJob, NewJobRecord, Next};

pub async fn run(store: &Arc<dyn Metastore>) {
    submit(store).await;
    list(store).await;
    queue(store).await;
    next(store).await;
    cancel(store).await;
    submit_races(store).await;
    admit_races(store).await;
}

async fn submit(store: &Arc<dyn Metastore>) {
    let record = new_job("j-submit");
    let made = store.job_submit(&record).await.expect("job_submit");
    assert_eq!(made.id, parse("j-submit-1"));
    assert_eq!((made.state, made.created_at, &made.spec), (JobState::Queued, at(1), &record.spec));
    assert_eq!(store.job_get(&project(), &made.id).await.expect("job_get"), made, "the answer is what is stored");
    assert_eq!(job(store, "j-submit").await.id, parse("j-submit-2"));
    let elsewhere = NewJobRecord { project: other_project(), ..new_job("j-submit") };
    let elsewhere = store.job_submit(&elsewhere).await.expect("job_submit");
    assert_eq!(elsewhere.id, parse("j-submit-3"), "numbers count over all projects");
    is_not_found(store.job_get(&project(), &elsewhere.id).await);
    is_not_found(store.job_get(&project(), &parse("j-submit-99")).await);
    is_not_found(store.job_get(&project(), &parse("j-submit-01")).await);

    let with_token = NewJobRecord { request_token: Some("t\u{0}ken".into()), ..new_job("j-token") };
    let first = store.job_submit(&with_token).await.expect("job_submit");
    let other = NewJobRecord { at: at(5), ..with_token.clone() };
    assert_eq!(store.job_submit(&other).await.expect("job_submit"), first, "the same token answers the same job");
    let elsewhere = NewJobRecord { project: other_project(), ..with_token };
    assert_ne!(store.job_submit(&elsewhere).await.expect("job_submit").id, first.id, "tokens belong to a project");
}

async fn list(store: &Arc<dyn Metastore>) {
    let mut made = Vec::new();
    for name in ["j-list", "j-listed", "j-list"] {
        made.push(job(store, name).await.id);
    }
    store.job_cancel(&project(), &made[0], at(2)).await.expect("job_cancel");
    let list = async |name: Option<&str>, state, limit| {
        let filter = JobFilter { name: name.map(parse), state, limit };
        let jobs = store.job_list(&project(), &filter).await.expect("job_list");
        jobs.into_iter().map(|j| j.id).collect::<Vec<JobId>>()
    };
    assert_eq!(list(Some("j-list"), None, 9).await, [made[2].clone(), made[0].clone()], "newest first");
    assert_eq!(list(None, None, 2).await, [made[2].clone(), made[1].clone()]);
    assert_eq!(list(Some("j-list"), Some(JobState::Cancelled), 9).await, [made[0].clone()]);
    assert_eq!(list(None, Some(JobState::Cancelled), 1).await, [made[0].clone()]);
    assert!(list(None, Some(JobState::Running), 9).await.is_empty());
    assert!(list(None, None, 0).await.is_empty());
}

async fn live(store: &Arc<dyn Metastore>, id: &JobId) -> Option<LiveJob> {
    store.jobs_live().await.expect("jobs_live").into_iter().find(|j| j.id == *id)
}

async fn queue(store: &Arc<dyn Metastore>) {
    let (a, b) = (job(store, "j-queue").await.id, job(store, "j-queue").await.id);
    let jobs = store.jobs_live().await.expect("jobs_live");
    assert!(jobs.is_sorted_by_key(|j| j.sequence), "in order of submission");
    let (la, lb) = (live(store, &a).await.expect("live"), live(store, &b).await.expect("live"));
    assert!(la.sequence < lb.sequence);
    let spec = new_job("j-queue").spec;
    assert_eq!((la.state, la.resources, la.priority), (JobState::Queued, spec.resources, spec.priority));
    assert_eq!((la.time_limit_s, la.grace_s, la.retries), (spec.time_limit_s, spec.grace_s, spec.retries));
    assert_eq!((la.attempts, &la.attempt, &la.attempt_key), (0, &None, &None));

    let admissions = [admission(&a, 1), admission(&b, 2), admission(&parse("j-queue-99"), 1)];
    let admitted = store.job_admit(&admissions, at(5)).await.expect("job_admit");
    assert_eq!(admitted, [admissions[0].attempt.clone()], "only the next attempt of a queued job");
    assert!(store.job_admit(&admissions[..1], at(6)).await.expect("job_admit").is_empty(), "only once");
    let keys = store.key_list().await.expect("key_list");
    assert!(keys.contains(&admissions[0].key) && !keys.contains(&admissions[1].key), "keys of those admitted");
    let la = live(store, &a).await.expect("live");
    assert_eq!((la.state, la.attempts, la.attempt_claimed), (JobState::Starting, 1, false));
    assert_eq!((la.attempt_launched_at, la.attempt_key), (Some(at(5)), Some(admissions[0].key.clone())));
    assert_eq!(la.attempt, Some(admissions[0].attempt.clone()));

    store.attempt_claim(&admissions[0].attempt, "shim", at(6)).await.expect("attempt_claim");
    let la = live(store, &a).await.expect("live");
    assert_eq!((la.state, la.attempt_claimed), (JobState::Running, true));
    let retry = Next::Retry { reason: "broke".into(), not_before: at(50) };
    store.attempt_finish(&finish(&admissions[0].attempt, retry, 20)).await.expect("attempt_finish");
    let la = live(store, &a).await.expect("live");
    assert_eq!((la.state, la.attempts, la.not_before), (JobState::Queued, 1, Some(at(50))));
    assert_eq!((la.reason.as_deref(), la.attempt, la.attempt_key), (Some("broke"), None, None));

    let attempt = admit_and_claim(store, &a, 2, 60).await;
    store.attempt_finish(&finish(&attempt, Next::Succeeded, 75)).await.expect("attempt_finish");
    assert!(live(store, &a).await.is_none(), "a final job is not live");
    let other = job(store, "j-queued").await.id;
    let attempt = admit_and_claim(store, &other, 1, 60).await;
    store.attempt_finish(&finish(&attempt, Next::Failed { reason: "no".into() }, 61)).await.expect("attempt_finish");
    for (seconds, limit) in [(30, 1), (20, 2)] {
        let more = job(store, "j-queue").await.id;
        let attempt = admit_and_claim(store, &more, 1, 100).await;
        store.attempt_finish(&finish(&attempt, Next::Succeeded, 100 + seconds)).await.expect("attempt_finish");
        let runs = store.past_runs(&[parse("j-queue"), parse("j-queued")], limit).await.expect("past_runs");
        let ran: Vec<f64> = runs.iter().map(|r| r.seconds).collect();
        let expected: &[f64] = if limit == 1 { &[30.0] } else { &[20.0, 30.0] };
        assert_eq!(ran, expected, "newest successes, as long as their last attempt held resources");
    }
}

/// What may start next, in the order in which it may.
async fn next(store: &Arc<dyn Metastore>) {
    let submit = async |name: &str, priority: i32, cpu: u64| {
        let mut record = new_job(name);
        record.spec.priority = priority;
        record.spec.resources.cpu = Cpu::milli(cpu);
        store.job_submit(&record).await.expect("job_submit").id
    };
    let (low, first) = (submit("n-low", 100, 1000).await, submit("n-first", 200, 1000).await);
    let (second, large) = (submit("n-second", 200, 1000).await, submit("n-large", 300, 9000).await);
    let largest = |cpu| Resources { cpu: Cpu::milli(cpu), memory: Memory::mib(1 << 20), gpu: 8 };
    let next = async |now, cpu, max| {
        let jobs = store.jobs_next(at(now), &largest(cpu), max).await.expect("jobs_next");
        jobs.into_iter().map(|j| j.id).filter(|id| id.as_str().starts_with("n-")).collect::<Vec<_>>()
    };
    assert_eq!(next(10, 1000, 3).await, [first.clone(), second.clone(), low.clone()], "too large is left out");
    assert_eq!(next(10, 9000, 2).await, [large.clone(), first.clone()], "no more than asked for");

    let attempt = admit_and_claim(store, &first, 1, 20).await;
    let open = store.jobs_open().await.expect("jobs_open");
    assert!(open.iter().any(|j| j.id == first && j.attempt.as_ref() == Some(&attempt)));
    assert!(open.iter().all(|j| j.id != second), "queued jobs hold nothing");
    assert_eq!(next(30, 1000, 2).await, [second.clone(), low.clone()]);
    let retry = Next::Retry { reason: "broke".into(), not_before: at(50) };
    store.attempt_finish(&finish(&attempt, retry, 31)).await.expect("attempt_finish");
    assert_eq!(next(49, 1000, 2).await, [second.clone(), low.clone()], "it rests");
    assert_eq!(store.rest_ends(at(49)).await.expect("rest_ends"), Some(at(50)));
    assert_eq!(next(50, 1000, 2).await, [first.clone(), second.clone()], "and has its place again");
    assert_eq!(store.rest_ends(at(50)).await.expect("rest_ends"), None);
    for id in [low, first, second, large] {
        store.job_cancel(&project(), &id, at(60)).await.expect("job_cancel");
    }
}

async fn cancel(store: &Arc<dyn Metastore>) {
    let queued = job(store, "j-cancel").await.id;
    let done = store.job_cancel(&project(), &queued, at(9)).await.expect("job_cancel");
    assert_eq!((done.state, done.finished_at, done.cancel_requested), (JobState::Cancelled, Some(at(9)), true));
    is_conflict(store.job_cancel(&project(), &queued, at(10)).await);
    assert!(store.job_admit(&[admission(&queued, 1)], at(11)).await.expect("job_admit").is_empty());
    is_not_found(store.job_cancel(&other_project(), &queued, at(9)).await);
    is_not_found(store.job_cancel(&project(), &parse("j-cancel-99"), at(9)).await);

    let started = job(store, "j-cancel").await.id;
    let attempt = admit(store, &started, 1, 10).await;
    let asked = store.job_cancel(&project(), &started, at(11)).await.expect("job_cancel");
    assert_eq!((asked.state, asked.cancel_requested, asked.finished_at), (JobState::Starting, true, None));
    store.job_cancel(&project(), &started, at(12)).await.expect("asking twice is fine");
    assert_eq!(
        live(store, &started).await.expect("live").cancel_requested_at,
        Some(at(11)),
        "the first request counts"
    );
    let retry = Next::Retry { reason: "lost".into(), not_before: at(50) };
    store.attempt_finish(&finish(&attempt, retry, 13)).await.expect("attempt_finish");
    let done = store.job_get(&project(), &started).await.expect("job_get");
    assert_eq!((done.state, done.finished_at), (JobState::Cancelled, Some(at(13))), "no retry once a cancel is asked");
    assert!(live(store, &started).await.is_none());
}

async fn submit_races(store: &Arc<dyn Metastore>) {
    let submits = (0..64).map(|_| {
        let store = Arc::clone(store);
        tokio::spawn(async move { job(&store, "j-raced").await.id })
    });
    let ids: BTreeSet<JobId> = join_all(submits).await.into_iter().map(|id| id.expect("joined")).collect();
    let expected = (1..=64).map(|n| JobId::new(&parse("j-raced"), n)).collect();
    assert_eq!(ids, expected, "jobs submitted at once get distinct numbers, without gaps");

    let submits = (0..16).map(|_| {
        let store = Arc::clone(store);
        let record = NewJobRecord { request_token: Some("raced".into()), ..new_job("j-once") };
        tokio::spawn(async move { store.job_submit(&record).await.expect("job_submit").id })
    });
    let ids: BTreeSet<JobId> = join_all(submits).await.into_iter().map(|id| id.expect("joined")).collect();
    assert_eq!(ids.len(), 1, "one token, one job");
}

async fn admit_races(store: &Arc<dyn Metastore>) {
    for _ in 0..8 {
        let id = job(store, "j-admitted").await.id;
        let admits = (0..4).map(|_| {
            let (store, admission) = (Arc::clone(store), admission(&id, 1));
            tokio::spawn(async move { store.job_admit(&[admission], at(3)).await.expect("job_admit").len() })
        });
        let admitted: usize = join_all(admits).await.into_iter().map(|n| n.expect("joined")).sum();
        assert_eq!(admitted, 1, "of several admissions one wins");
        let claims = (0..4).map(|n| {
            let (store, attempt) = (Arc::clone(store), admission(&id, 1).attempt);
            tokio::spawn(async move { store.attempt_claim(&attempt, &format!("shim-{n}"), at(4)).await.is_ok() })
        });
        let claimed = join_all(claims).await.into_iter().filter(|c| *c.as_ref().expect("joined")).count();
        assert_eq!(claimed, 1, "of several claims one wins");
    }
}
