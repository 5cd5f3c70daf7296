use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use muonic_types::job::{AttemptState, Exit, JobState, METRIC_NAMES_MAX, MetricPoint, Phase};
use muonic_types::model::ModelSource;
use muonic_types::{AttemptId, VersionSelector};

use super::world::{
    admission, admit, admit_and_claim, at, digest, finish, is_conflict, is_not_found, job, model_version, new_job,
    other_project, parse, price, project, report, resources, tree,
};
use crate::Metastore;
use crate::metastore::{Finish, Next};

pub async fn run(store: &Arc<dyn Metastore>) {
    life(store).await;
    metrics(store).await;
    many_metrics(store).await;
    model(store).await;
    finish_races(store).await;
    usage(store).await;
}

async fn life(store: &Arc<dyn Metastore>) {
    let id = job(store, "a-life").await.id;
    let attempt = admit(store, &id, 1, 10).await;
    let none: AttemptId = parse("a-life-1.2");
    let odd: AttemptId = parse("a-life-1.01");
    is_not_found(store.attempt_claim(&none, "shim", at(11)).await);
    is_not_found(store.attempt_claim(&odd, "shim", at(11)).await);
    is_not_found(store.attempt_progress(&none, Phase::Running, None).await);
    is_not_found(store.attempt_finish(&finish(&none, Next::Succeeded, 12)).await);
    is_conflict(store.attempt_progress(&attempt, Phase::Fetching, None).await);
    let claimed = store.attempt_claim(&attempt, "shim", at(11)).await.expect("attempt_claim");
    assert_eq!(claimed.spec, new_job("a-life").spec);
    assert_eq!(claimed.inputs, BTreeMap::from([(parse("train"), digest("input"))]));
    let again = store.attempt_claim(&attempt, "shim", at(12)).await.expect("the same supervisor may ask again");
    assert_eq!((again.spec, again.inputs), (claimed.spec.clone(), claimed.inputs.clone()));
    is_conflict(store.attempt_claim(&attempt, "another", at(12)).await);

    let environment = digest("environment");
    store.attempt_progress(&attempt, Phase::Environment, Some(environment)).await.expect("attempt_progress");
    store.attempt_progress(&attempt, Phase::Running, None).await.expect("attempt_progress");
    let running = store.job_get(&project(), &id).await.expect("job_get");
    assert_eq!((running.state, running.started_at, running.cost_usd), (JobState::Running, Some(at(11)), 0.0));
    let seen = &running.attempts[0];
    assert_eq!((&seen.id, seen.number, seen.state), (&attempt, 1, AttemptState::Running));
    assert_eq!((seen.phase, seen.environment), (Some(Phase::Running), Some(environment)), "an environment stays");

    let why = Next::Retry { reason: "broke".into(), not_before: at(40) };
    let first = Finish { report: report(Exit::Signal { signal: 9 }), ..finish(&attempt, why, 20) };
    assert_eq!(store.attempt_finish(&first).await.expect("attempt_finish"), None);
    let key = admission(&id, 1).key.id;
    assert!(store.key_list().await.expect("key_list").iter().all(|k| k.id != key), "its key is revoked");
    let queued = store.job_get(&project(), &id).await.expect("job_get");
    assert_eq!((queued.state, queued.finished_at, queued.not_before), (JobState::Queued, None, Some(at(40))));
    assert_eq!((queued.started_at, queued.reason.as_deref()), (Some(at(11)), Some("broke")));
    let seen = &queued.attempts[0];
    assert_eq!((seen.state, seen.finished_at, seen.phase), (AttemptState::Finished, Some(at(20)), None));
    assert_eq!((&seen.exit, seen.message.as_deref()), (&Some(Exit::Signal { signal: 9 }), Some("told")));
    assert!((queued.cost_usd - 1.0).abs() < 1e-9, "ten seconds at ten cents, got {}", queued.cost_usd);

    is_conflict(store.attempt_progress(&attempt, Phase::Saving, None).await);
    is_conflict(store.attempt_claim(&attempt, "shim", at(21)).await);
    store.attempt_finish(&finish(&attempt, Next::Succeeded, 30)).await.expect("ending an ended one");
    assert_eq!(store.job_get(&project(), &id).await.expect("job_get"), queued, "changes nothing");

    // It may end without ever having been claimed.
    let second = admit(store, &id, 2, 50).await;
    let lost =
        Finish { report: report(Exit::Lost), ..finish(&second, Next::Failed { reason: "lost for good".into() }, 60) };
    store.attempt_finish(&lost).await.expect("attempt_finish");
    store.attempt_finish(&first).await.expect("ending an earlier attempt again");
    let failed = store.job_get(&project(), &id).await.expect("job_get");
    assert_eq!((failed.state, failed.finished_at, failed.attempts.len()), (JobState::Failed, Some(at(60)), 2));
    assert_eq!((failed.reason.as_deref(), failed.not_before), (Some("lost for good"), None));
    assert!((failed.cost_usd - 2.0).abs() < 1e-9);
}

fn point(name: &str, step: i64, value: f64) -> MetricPoint {
    MetricPoint { name: name.into(), step, value, at: at(step) }
}

async fn metrics(store: &Arc<dyn Metastore>) {
    let id = job(store, "a-metrics").await.id;
    let first = admit_and_claim(store, &id, 1, 10).await;
    let points = [point("loss", 1, 0.1 + 0.2), point("accuracy", 1, 1e-320), point("loss", 2, -1e300)];
    store.metrics_append(&first, 0, &points[..2]).await.expect("metrics_append");
    store.metrics_append(&first, 0, &points).await.expect("sending again is harmless");
    store.metrics_append(&first, 1, &points[1..2]).await.expect("sending less again is harmless");
    store.metrics_append(&first, 3, &[]).await.expect("nothing is fine");
    is_conflict(store.metrics_append(&first, 4, &points[..1]).await);
    is_not_found(store.metrics_append(&parse("a-metrics-1.2"), 0, &points).await);

    let get = async |name, limit| store.metrics_get(&project(), &id, name, limit).await.expect("metrics_get");
    let all = get(None, 100).await;
    assert_eq!(all, points, "in order of arrival");
    assert!(all.iter().zip(&points).all(|(a, b)| a.value.to_bits() == b.value.to_bits()), "to the last bit");
    assert_eq!(get(Some("loss"), 100).await, [points[0].clone(), points[2].clone()]);
    assert_eq!(get(None, 2).await, points[1..], "the newest, where there are more than asked for");
    assert!(get(Some("none"), 100).await.is_empty());
    is_not_found(store.metrics_get(&other_project(), &id, None, 1).await);
    is_not_found(store.metrics_get(&project(), &parse("a-metrics-99"), None, 1).await);

    let last = store.job_get(&project(), &id).await.expect("job_get").metrics;
    assert_eq!(last, BTreeMap::from([("accuracy".to_owned(), 1e-320), ("loss".to_owned(), -1e300)]));
    let retry = Next::Retry { reason: "broke".into(), not_before: at(20) };
    store.attempt_finish(&finish(&first, retry, 20)).await.expect("attempt_finish");
    is_conflict(store.metrics_append(&first, 3, &points).await);
    let second = admit_and_claim(store, &id, 2, 30).await;
    assert_eq!(get(None, 100).await, points, "those of the last attempt that has any");
    store.metrics_append(&second, 0, &[point("f1", 1, 0.5)]).await.expect("metrics_append");
    let many: Vec<_> = (0..METRIC_NAMES_MAX).map(|n| point(&format!("n{n}"), 1, 0.5)).collect();
    is_conflict(store.metrics_append(&second, 1, &many).await);
    assert_eq!(get(None, 100).await, [point("f1", 1, 0.5)], "nothing of what is too much is kept");
    let last = store.job_get(&project(), &id).await.expect("job_get").metrics;
    assert_eq!(last, BTreeMap::from([("f1".to_owned(), 0.5)]));
}

async fn many_metrics(store: &Arc<dyn Metastore>) {
    let id = job(store, "a-many").await.id;
    let attempt = admit_and_claim(store, &id, 1, 10).await;
    let points: Vec<_> = (0..2_345).map(|n| point(&format!("m{}", n % 300), n, n as f64 / 3.0)).collect();
    for first in [0, 1_000, 1_500] {
        let end = points.len().min(first + 1_000);
        store.metrics_append(&attempt, first as u64, &points[first..end]).await.expect("metrics_append");
    }
    let stored = store.metrics_get(&project(), &id, None, 10_000).await.expect("metrics_get");
    assert!(stored == points, "all {} points once and in order, got {}", points.len(), stored.len());
    assert_eq!(store.job_get(&project(), &id).await.expect("job_get").metrics.len(), 300);
}

async fn model(store: &Arc<dyn Metastore>) {
    let tree = tree(store, "a model").await;
    let mut record = new_job("a-model");
    record.spec.model = Some(parse("a-model"));
    let id = store.job_submit(&record).await.expect("job_submit").id;
    let attempt = admit_and_claim(store, &id, 1, 10).await;
    store.attempt_progress(&attempt, Phase::Running, Some(digest("environment"))).await.expect("attempt_progress");
    store.metrics_append(&attempt, 0, &[point("loss", 1, 0.5), point("loss", 2, 0.25)]).await.expect("metrics_append");
    let mut end = finish(&attempt, Next::Succeeded, 20);
    end.report.model = Some(digest("no such tree"));
    is_not_found(store.attempt_finish(&end).await);
    let job = store.job_get(&project(), &id).await.expect("job_get");
    assert_eq!(job.state, JobState::Running, "what cannot be finished whole is not finished at all");
    end.report.model = Some(tree);
    end.report.output = Some(tree);
    let made = Some(model_version("a-model", 1));
    assert_eq!(store.attempt_finish(&end).await.expect("attempt_finish"), made);
    assert_eq!(store.attempt_finish(&end).await.expect("attempt_finish"), made, "the same answer again");
    let job = store.job_get(&project(), &id).await.expect("job_get");
    assert_eq!((job.state, job.model_version, job.reason), (JobState::Succeeded, made, None));

    let version = store.model_version(&project(), &parse("a-model"), &VersionSelector::Latest).await.expect("version");
    assert_eq!((version.version, version.tree.digest, version.created_at), (1, tree, at(20)));
    assert_eq!(version.metrics, BTreeMap::from([("loss".to_owned(), 0.25)]));
    let source = ModelSource::Attempt {
        attempt,
        code: record.spec.code,
        environment: Some(digest("environment")),
        inputs: record.inputs,
        params: record.spec.params,
    };
    assert_eq!(version.source, source, "lineage is recorded as it happens");

    // A model is registered by success only, and only where one was asked for.
    let mut record = new_job("a-model");
    record.spec.model = Some(parse("a-model"));
    let failing = store.job_submit(&record).await.expect("job_submit").id;
    let attempt = admit_and_claim(store, &failing, 1, 30).await;
    let mut end = finish(&attempt, Next::Failed { reason: "no".into() }, 40);
    end.report.model = Some(tree);
    assert_eq!(store.attempt_finish(&end).await.expect("attempt_finish"), None);
    let plain = job_without_model(store).await;
    let mut end = finish(&plain, Next::Succeeded, 40);
    end.report.model = Some(tree);
    assert_eq!(store.attempt_finish(&end).await.expect("attempt_finish"), None);
    assert_eq!(store.model_versions(&project(), &parse("a-model")).await.expect("versions").len(), 1);
}

async fn job_without_model(store: &Arc<dyn Metastore>) -> AttemptId {
    let id = job(store, "a-plain").await.id;
    admit_and_claim(store, &id, 1, 30).await
}

async fn finish_races(store: &Arc<dyn Metastore>) {
    let tree = tree(store, "a raced model").await;
    let mut record = new_job("a-raced");
    record.spec.model = Some(parse("a-raced"));
    let id = store.job_submit(&record).await.expect("job_submit").id;
    let attempt = admit_and_claim(store, &id, 1, 10).await;
    let ends = (0..8).map(|_| {
        let store = Arc::clone(store);
        let mut end = finish(&attempt, Next::Succeeded, 20);
        end.report.model = Some(tree);
        tokio::spawn(async move { store.attempt_finish(&end).await.expect("attempt_finish") })
    });
    for made in join_all(ends).await {
        assert_eq!(made.expect("joined"), Some(model_version("a-raced", 1)), "told often, registered once");
    }
    assert_eq!(store.model_versions(&project(), &parse("a-raced")).await.expect("versions").len(), 1);
}

async fn usage(store: &Arc<dyn Metastore>) {
    let id = job(store, "a-usage").await.id;
    let first = admit(store, &id, 1, 10).await;
    let retry = Next::Retry { reason: "broke".into(), not_before: at(20) };
    store.attempt_finish(&finish(&first, retry, 25)).await.expect("attempt_finish");
    admit(store, &id, 2, 30).await;
    let usage = store.usage(&project()).await.expect("usage");
    let of_job: Vec<_> = usage.iter().filter(|u| u.name == id.as_str()).collect();
    let units: Vec<_> = of_job.iter().map(|u| (u.unit.as_str(), u.started_at, u.ended_at)).collect();
    assert_eq!(units, [("a-usage-1.1", at(10), Some(at(25))), ("a-usage-1.2", at(30), None)]);
    assert!(of_job.iter().all(|u| u.kind == "job" && u.price == price() && u.resources == resources()));
    assert!(store.usage(&other_project()).await.expect("usage").iter().all(|u| u.name != id.as_str()));
}
