//! Attempts of jobs, from admission to end, within the transactions of
//! `jobs`.
//!
//! ```text
//! launching ─▶ running ─▶ finished
//!     └────────────────────▲
//! ```
//!
//! A job's live attempt is always its last one, and it is live exactly while
//! the job is starting or running.

use std::collections::{BTreeMap, HashMap};

use muonic_ports::metastore::{Admission, Claimed, Finish, Next};
use muonic_ports::{Error, Result};
use muonic_types::cost::Usage;
use muonic_types::job::{Attempt, AttemptState, JobSpec, Phase};
use muonic_types::model::{ModelSource, ModelVersionId, SourceDataset};
use muonic_types::{AttemptId, Digest, JobId, Name, Price, ProjectId, Timestamp};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::blobs::need_tree;
use crate::keys::insert_key;
use crate::metrics;
use crate::models::{Registration, register};
use crate::row::{Columns, all, bytes_or_none, exec, json, micros, micros_or_none, optional, signed, word};

pub(crate) fn no_attempt(id: &AttemptId) -> Error {
    Error::NotFound(format!("there is no attempt '{id}'"))
}

/// Job and number of an attempt, unless the id spells its number in another
/// way than we do (`train-1.01`).
pub(crate) fn parts(id: &AttemptId) -> Result<(JobId, u32)> {
    let (job, number) = (id.job(), id.number());
    if AttemptId::new(&job, number) == *id { Ok((job, number)) } else { Err(no_attempt(id)) }
}

/// Attempts of the jobs in a JSON array, by job, in order, with their prices.
pub(crate) async fn of_jobs(conn: &mut SqliteConnection, ids: &str) -> Result<HashMap<JobId, Vec<(Attempt, Price)>>> {
    let sql = "SELECT job, number, state, phase, exit, message, environment, launched_at, started_at, finished_at,
                      price_nano_usd_per_s
               FROM attempts WHERE job IN (SELECT value FROM json_each(?)) ORDER BY job, number";
    let mut attempts: HashMap<JobId, Vec<(Attempt, Price)>> = HashMap::new();
    for row in &all(conn, sqlx::query(sql).bind(ids)).await? {
        let job: JobId = row.parsed("job")?;
        let attempt = read_attempt(&job, row)?;
        attempts.entry(job).or_default().push((attempt, row.price()?));
    }
    Ok(attempts)
}

fn read_attempt(job: &JobId, row: &SqliteRow) -> Result<Attempt> {
    let number = row.number("number")?;
    Ok(Attempt {
        id: AttemptId::new(job, number),
        number,
        state: row.word("state")?,
        phase: row.word_or_none("phase")?,
        exit: row.json_or_none("exit")?,
        message: row.text_or_none("message")?,
        environment: row.digest_or_none("environment")?,
        launched_at: row.time("launched_at")?,
        started_at: row.time_or_none("started_at")?,
        finished_at: row.time_or_none("finished_at")?,
    })
}

/// False where the job is not queued or the attempt is not its next.
pub(crate) async fn admit(conn: &mut SqliteConnection, a: &Admission, at: Timestamp) -> Result<bool> {
    let (job, number) = parts(&a.attempt)?;
    if job != a.job {
        return Err(Error::bug(format!("attempt '{}' is not one of job '{}'", a.attempt, a.job)));
    }
    let start = sqlx::query(
        "UPDATE jobs SET state = 'starting', reason = NULL, not_before = NULL, attempts = ?1
         WHERE id = ?2 AND state = 'queued' AND attempts = ?1 - 1",
    );
    if exec(conn, start.bind(number).bind(job.as_str())).await? == 0 {
        return Ok(false);
    }
    insert_key(conn, &a.key).await?;
    let insert = sqlx::query(
        "INSERT INTO attempts (job, number, state, key, cpu_milli, memory_bytes, gpu, price_nano_usd_per_s, launched_at)
         SELECT id, ?2, 'launching', ?3, cpu_milli, memory_bytes, gpu, ?4, ?5 FROM jobs WHERE id = ?1",
    )
    .bind(job.as_str())
    .bind(number)
    .bind(a.key.id.as_str())
    .bind(signed(a.price.nano_usd_per_s)?)
    .bind(micros(at));
    exec(conn, insert).await?;
    Ok(true)
}

pub(crate) async fn claim(
    conn: &mut SqliteConnection,
    id: &AttemptId,
    claimant: &str,
    at: Timestamp,
) -> Result<Claimed> {
    let (job, number) = parts(id)?;
    let claim = sqlx::query(
        "UPDATE attempts SET state = 'running', started_at = coalesce(started_at, ?3), claimant = ?4
         WHERE job = ?1 AND number = ?2 AND (state = 'launching' OR (state = 'running' AND claimant = ?4))",
    );
    if exec(conn, claim.bind(job.as_str()).bind(number).bind(micros(at)).bind(claimant)).await? == 0 {
        return Err(match state_of(conn, &job, number).await? {
            None => no_attempt(id),
            Some(AttemptState::Finished) => Error::Conflict(format!("attempt '{id}' has ended already")),
            Some(_) => Error::Conflict(format!("attempt '{id}' has been claimed already")),
        });
    }
    let run = sqlx::query(
        "UPDATE jobs SET state = 'running', started_at = coalesce(started_at, ?2) WHERE id = ?1
         RETURNING spec, inputs",
    );
    let row = optional(conn, run.bind(job.as_str()).bind(micros(at))).await?.ok_or_else(|| no_attempt(id))?;
    let inputs: BTreeMap<Name, SourceDataset> = row.json("inputs")?;
    let inputs = inputs.into_iter().map(|(channel, dataset)| (channel, dataset.digest)).collect();
    Ok(Claimed { spec: row.json("spec")?, inputs })
}

async fn state_of(conn: &mut SqliteConnection, job: &JobId, number: u32) -> Result<Option<AttemptState>> {
    let query = sqlx::query("SELECT state FROM attempts WHERE job = ? AND number = ?").bind(job.as_str()).bind(number);
    optional(conn, query).await?.map(|row| row.word("state")).transpose()
}

pub(crate) async fn progress(
    conn: &mut SqliteConnection,
    id: &AttemptId,
    phase: Phase,
    environment: Option<Digest>,
) -> Result<()> {
    let (job, number) = parts(id)?;
    let update = sqlx::query(
        "UPDATE attempts SET phase = ?3, environment = coalesce(?4, environment)
         WHERE job = ?1 AND number = ?2 AND state = 'running'",
    )
    .bind(job.as_str())
    .bind(number)
    .bind(word(&phase)?)
    .bind(bytes_or_none(&environment));
    if exec(conn, update).await? > 0 {
        return Ok(());
    }
    Err(match state_of(conn, &job, number).await? {
        None => no_attempt(id),
        Some(AttemptState::Finished) => Error::Conflict(format!("attempt '{id}' has ended already")),
        Some(_) => Error::Conflict(format!("attempt '{id}' has not been claimed yet")),
    })
}

/// What `finish` needs of an attempt and its job.
struct Ending {
    project: ProjectId,
    spec: JobSpec,
    inputs: BTreeMap<Name, SourceDataset>,
    cancel_requested: bool,
}

/// Ends an attempt and moves its job on. Answers the model version it made,
/// now or when it was ended the first time.
pub(crate) async fn finish(conn: &mut SqliteConnection, f: &Finish) -> Result<Option<ModelVersionId>> {
    let (job, number) = parts(&f.attempt)?;
    let find = sqlx::query(
        "SELECT a.state, a.number = j.attempts AS is_last, j.project, j.spec, j.inputs, j.cancel_requested_at,
                j.model, j.model_version
         FROM attempts a JOIN jobs j ON j.id = a.job WHERE a.job = ? AND a.number = ?",
    );
    let row = optional(conn, find.bind(job.as_str()).bind(number)).await?.ok_or_else(|| no_attempt(&f.attempt))?;
    if row.word::<AttemptState>("state")? == AttemptState::Finished {
        // Only the last attempt of a job can have made its model version.
        return match (row.number::<u8>("is_last")?, row.parsed_or_none("model")?, row.number_or_none("model_version")?)
        {
            (1, Some(name), Some(version)) => Ok(Some(ModelVersionId { name, version })),
            _ => Ok(None),
        };
    }
    let ending = Ending {
        project: row.parsed("project")?,
        spec: row.json("spec")?,
        inputs: row.json("inputs")?,
        cancel_requested: row.time_or_none("cancel_requested_at")?.is_some(),
    };
    let environment = end_attempt(conn, &job, number, f).await?;
    let made = match (&f.next, &ending.spec.model, &f.report.model) {
        (Next::Succeeded, Some(name), Some(tree)) => {
            Some(register_model(conn, &ending, name, tree, environment, f).await?)
        }
        _ => None,
    };
    move_job(conn, &job, ending.cancel_requested, made.as_ref(), f).await?;
    Ok(made)
}

/// Writes the attempt's end and revokes its key; answers its environment.
async fn end_attempt(conn: &mut SqliteConnection, job: &JobId, number: u32, f: &Finish) -> Result<Option<Digest>> {
    for tree in f.report.model.iter().chain(&f.report.output) {
        need_tree(conn, tree).await?;
    }
    let end = sqlx::query(
        "UPDATE attempts SET state = 'finished', phase = NULL, exit = ?3, message = ?4,
             environment = coalesce(?5, environment), model_tree = ?6, output_tree = ?7,
             command_started_at = ?8, command_ended_at = ?9, finished_at = ?10
         WHERE job = ?1 AND number = ?2 RETURNING environment, key",
    )
    .bind(job.as_str())
    .bind(number)
    .bind(json(&f.report.exit)?)
    .bind(f.report.message.as_deref())
    .bind(bytes_or_none(&f.report.environment))
    .bind(bytes_or_none(&f.report.model))
    .bind(bytes_or_none(&f.report.output))
    .bind(micros_or_none(f.report.command_started_at))
    .bind(micros_or_none(f.report.command_ended_at))
    .bind(micros(f.at));
    let row = optional(conn, end).await?.ok_or_else(|| no_attempt(&f.attempt))?;
    exec(conn, sqlx::query("UPDATE keys SET revoked = 1 WHERE id = ?").bind(row.raw::<&str>("key")?)).await?;
    row.digest_or_none("environment")
}

async fn register_model(
    conn: &mut SqliteConnection,
    ending: &Ending,
    name: &Name,
    tree: &Digest,
    environment: Option<Digest>,
    f: &Finish,
) -> Result<ModelVersionId> {
    let source = ModelSource::Attempt {
        attempt: f.attempt.clone(),
        code: ending.spec.code,
        environment,
        inputs: ending.inputs.clone(),
        params: ending.spec.params.clone(),
    };
    let metrics = metrics::last_of_attempt(conn, &f.attempt).await?;
    let registration =
        Registration { project: &ending.project, name, tree, source: &source, metrics: &metrics, at: f.at };
    let version = register(conn, &registration).await?;
    Ok(ModelVersionId { name: version.name, version: version.version })
}

async fn move_job(
    conn: &mut SqliteConnection,
    job: &JobId,
    cancel_requested: bool,
    made: Option<&ModelVersionId>,
    f: &Finish,
) -> Result<()> {
    let (state, reason, not_before) = match &f.next {
        Next::Succeeded => ("succeeded", None, None),
        Next::Failed { reason } => ("failed", Some(reason.as_str()), None),
        Next::Cancelled { reason } => ("cancelled", Some(reason.as_str()), None),
        Next::Retry { .. } if cancel_requested => ("cancelled", Some("cancelled"), None),
        Next::Retry { reason, not_before } => ("queued", Some(reason.as_str()), Some(*not_before)),
    };
    let finished_at = if state == "queued" { None } else { Some(f.at) };
    let update = sqlx::query(
        "UPDATE jobs SET state = ?2, reason = ?3, not_before = ?4, finished_at = ?5, model = ?6, model_version = ?7
         WHERE id = ?1",
    )
    .bind(job.as_str())
    .bind(state)
    .bind(reason)
    .bind(micros_or_none(not_before))
    .bind(micros_or_none(finished_at))
    .bind(made.map(|m| m.name.as_str()))
    .bind(made.map(|m| m.version));
    exec(conn, update).await.map(drop)
}

pub(crate) async fn usage(conn: &mut SqliteConnection, project: &ProjectId) -> Result<Vec<Usage>> {
    let sql = "SELECT a.job, a.number, a.cpu_milli, a.memory_bytes, a.gpu, a.price_nano_usd_per_s,
                      a.launched_at, a.finished_at
               FROM jobs j JOIN attempts a ON a.job = j.id
               WHERE j.project = ? ORDER BY j.sequence, a.number";
    let rows = all(conn, sqlx::query(sql).bind(project.as_str())).await?;
    rows.iter()
        .map(|row| {
            let job: JobId = row.parsed("job")?;
            Ok(Usage {
                kind: "job".into(),
                unit: AttemptId::new(&job, row.number("number")?).to_string(),
                name: job.to_string(),
                resources: row.resources()?,
                price: row.price()?,
                started_at: row.time("launched_at")?,
                ended_at: row.time_or_none("finished_at")?,
            })
        })
        .collect()
}
