//! Jobs: submission, the queue, reading. What happens to attempts is in
//! `attempts`, their metrics in `metrics`.

use async_trait::async_trait;
use muonic_ports::metastore::{Admission, Claimed, Finish, JobFilter, Jobs, LiveJob, NewJobRecord, PastRun};
use muonic_ports::{Error, Result};
use muonic_types::cost::Usage;
use muonic_types::job::{Job, JobState, MetricPoint, Phase};
use muonic_types::model::ModelVersionId;
use muonic_types::{AttemptId, Digest, JobId, Name, ProjectId, Resources, Timestamp};
use sqlx::SqliteConnection;
use sqlx::sqlite::SqliteRow;

use crate::keys::{key_columns, read_key};
use crate::row::{Columns, all, cost_usd, exec, json, micros, optional, signed};
use crate::{Sqlite, attempts, metrics, replicas};

/// Highest number in a job's id.
const NUMBER_MAX: u32 = 999_999_999;

macro_rules! select_jobs {
    ($rest:literal) => {
        concat!(
            "SELECT id, project, spec, state, reason, cancel_requested_at, created_at, started_at, finished_at,
             not_before, model, model_version FROM jobs ",
            $rest
        )
    };
}

macro_rules! live_jobs {
    ($index:literal, $rest:literal) => {
        concat!(
            "SELECT j.id, j.project, j.name, j.state, j.reason, j.cpu_milli, j.memory_bytes, j.gpu, j.priority,
                    j.time_limit_s, j.grace_s, j.retries, j.sequence, j.created_at, j.not_before,
                    j.cancel_requested_at, j.attempts, a.state AS attempt_state, a.launched_at, ",
            key_columns!(),
            " FROM jobs j INDEXED BY ",
            $index,
            " LEFT JOIN attempts a ON a.job = j.id AND a.number = j.attempts AND a.state <> 'finished'
              LEFT JOIN keys k ON k.id = a.key WHERE ",
            $rest
        )
    };
}

fn read_job(row: &SqliteRow) -> Result<Job> {
    Ok(Job {
        id: row.parsed("id")?,
        project: row.parsed("project")?,
        spec: row.json("spec")?,
        state: row.word("state")?,
        reason: row.text_or_none("reason")?,
        cancel_requested: row.time_or_none("cancel_requested_at")?.is_some(),
        created_at: row.time("created_at")?,
        started_at: row.time_or_none("started_at")?,
        finished_at: row.time_or_none("finished_at")?,
        not_before: row.time_or_none("not_before")?,
        attempts: Vec::new(),
        model_version: match (row.parsed_or_none("model")?, row.number_or_none("model_version")?) {
            (Some(name), Some(version)) => Some(ModelVersionId { name, version }),
            _ => None,
        },
        metrics: Default::default(),
        estimate: None,
        cost_usd: 0.0,
    })
}

/// Completes rows of jobs with their attempts, metrics and cost.
async fn assemble(conn: &mut SqliteConnection, rows: &[SqliteRow]) -> Result<Vec<Job>> {
    let mut jobs = rows.iter().map(read_job).collect::<Result<Vec<_>>>()?;
    let ids = json(&jobs.iter().map(|j| j.id.as_str()).collect::<Vec<_>>())?;
    let mut attempts = attempts::of_jobs(conn, &ids).await?;
    let mut last = metrics::last_of_jobs(conn, &ids).await?;
    for job in &mut jobs {
        for (attempt, price) in attempts.remove(&job.id).unwrap_or_default() {
            if let Some(end) = attempt.finished_at {
                job.cost_usd += cost_usd(price, attempt.launched_at, end);
            }
            job.attempts.push(attempt);
        }
        job.metrics = last.remove(&job.id).unwrap_or_default();
    }
    Ok(jobs)
}

async fn find_job(conn: &mut SqliteConnection, project: &ProjectId, id: &JobId) -> Result<Job> {
    let query = sqlx::query(select_jobs!("WHERE id = ? AND project = ?")).bind(id.as_str()).bind(project.as_str());
    let row = optional(conn, query).await?;
    let job = assemble(conn, row.as_slice()).await?.pop();
    job.ok_or_else(|| no_job(id))
}

pub(crate) fn no_job(id: &JobId) -> Error {
    Error::NotFound(format!("there is no job '{id}'"))
}

async fn insert_job(conn: &mut SqliteConnection, job: &NewJobRecord) -> Result<Job> {
    let spec = &job.spec;
    let next = sqlx::query(
        "INSERT INTO job_names (name, last) VALUES (?, 1)
         ON CONFLICT (name) DO UPDATE SET last = last + 1 WHERE last < ? RETURNING last",
    );
    let row = optional(conn, next.bind(spec.name.as_str()).bind(NUMBER_MAX)).await?;
    let row = row.ok_or_else(|| {
        Error::Conflict(format!("there have been {NUMBER_MAX} jobs named '{}': use another name", spec.name))
    })?;
    let id = JobId::new(&spec.name, row.number("last")?);
    let insert = sqlx::query(
        "INSERT INTO jobs (id, project, name, state, spec, inputs, request_token, cpu_milli, memory_bytes, gpu,
                           priority, time_limit_s, grace_s, retries, created_at)
         VALUES (?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(id.as_str())
    .bind(job.project.as_str())
    .bind(spec.name.as_str())
    .bind(json(spec)?)
    .bind(json(&job.inputs)?)
    .bind(job.request_token.as_deref())
    .bind(signed(spec.resources.cpu.milli)?)
    .bind(signed(spec.resources.memory.bytes)?)
    .bind(spec.resources.gpu)
    .bind(spec.priority)
    .bind(spec.time_limit_s.map(signed).transpose()?)
    .bind(signed(spec.grace_s)?)
    .bind(spec.retries)
    .bind(micros(job.at));
    exec(conn, insert).await?;
    Ok(Job {
        id,
        project: job.project.clone(),
        spec: spec.clone(),
        state: JobState::Queued,
        reason: None,
        cancel_requested: false,
        created_at: job.at,
        started_at: None,
        finished_at: None,
        not_before: None,
        attempts: Vec::new(),
        model_version: None,
        metrics: Default::default(),
        estimate: None,
        cost_usd: 0.0,
    })
}

fn read_live(row: &SqliteRow) -> Result<LiveJob> {
    let id: JobId = row.parsed("id")?;
    let attempts = row.number("attempts")?;
    let attempt_state = row.text_or_none("attempt_state")?;
    Ok(LiveJob {
        project: row.parsed("project")?,
        name: row.parsed("name")?,
        state: row.word("state")?,
        reason: row.text_or_none("reason")?,
        resources: row.resources()?,
        priority: row.number("priority")?,
        time_limit_s: row.number_or_none("time_limit_s")?,
        grace_s: row.number("grace_s")?,
        retries: row.number("retries")?,
        sequence: row.number("sequence")?,
        created_at: row.time("created_at")?,
        not_before: row.time_or_none("not_before")?,
        cancel_requested_at: row.time_or_none("cancel_requested_at")?,
        attempts,
        attempt: attempt_state.is_some().then(|| AttemptId::new(&id, attempts)),
        attempt_claimed: attempt_state.as_deref() == Some("running"),
        attempt_launched_at: row.time_or_none("launched_at")?,
        attempt_key: if attempt_state.is_some() { Some(read_key(row)?) } else { None },
        id,
    })
}

#[async_trait]
impl Jobs for Sqlite {
    async fn job_submit(&self, job: &NewJobRecord) -> Result<Job> {
        let mut tx = self.write().await?;
        let mut before = None;
        if let Some(token) = &job.request_token {
            let find = sqlx::query(select_jobs!("WHERE project = ? AND request_token = ?"));
            let row = optional(&mut tx, find.bind(job.project.as_str()).bind(token)).await?;
            before = assemble(&mut tx, row.as_slice()).await?.pop();
        }
        let job = match before {
            Some(job) => job,
            None => insert_job(&mut tx, job).await?,
        };
        tx.commit().await?;
        Ok(job)
    }

    async fn job_get(&self, project: &ProjectId, id: &JobId) -> Result<Job> {
        let mut conn = self.snapshot().await?;
        find_job(&mut conn, project, id).await
    }

    async fn job_list(&self, project: &ProjectId, filter: &JobFilter) -> Result<Vec<Job>> {
        let mut conn = self.snapshot().await?;
        // One statement each, so that each has its index.
        let sql = match (&filter.name, filter.state) {
            (None, None) => select_jobs!("WHERE project = ?1 ORDER BY sequence DESC LIMIT ?4"),
            (Some(_), None) => select_jobs!("WHERE project = ?1 AND name = ?2 ORDER BY sequence DESC LIMIT ?4"),
            (None, Some(_)) => select_jobs!("WHERE project = ?1 AND state = ?3 ORDER BY sequence DESC LIMIT ?4"),
            (Some(_), Some(_)) => {
                select_jobs!("WHERE project = ?1 AND name = ?2 AND state = ?3 ORDER BY sequence DESC LIMIT ?4")
            }
        };
        let query = sqlx::query(sql)
            .bind(project.as_str())
            .bind(filter.name.as_ref().map(|n| n.as_str()))
            .bind(filter.state.map(|s| s.as_str()))
            .bind(filter.limit);
        let rows = all(&mut conn, query).await?;
        assemble(&mut conn, &rows).await
    }

    async fn jobs_live(&self) -> Result<Vec<LiveJob>> {
        let mut conn = self.read().await?;
        let sql = live_jobs!("jobs_live", "j.state IN ('queued', 'starting', 'running') ORDER BY j.sequence");
        all(&mut conn, sqlx::query(sql)).await?.iter().map(read_live).collect()
    }

    async fn jobs_open(&self) -> Result<Vec<LiveJob>> {
        let mut conn = self.read().await?;
        let sql = live_jobs!("jobs_open", "j.state IN ('starting', 'running') ORDER BY j.sequence");
        all(&mut conn, sqlx::query(sql)).await?.iter().map(read_live).collect()
    }

    async fn jobs_next(&self, now: Timestamp, largest: &Resources, max: u32) -> Result<Vec<LiveJob>> {
        let mut conn = self.read().await?;
        let sql = live_jobs!(
            "jobs_queue",
            "j.state = 'queued' AND (j.not_before IS NULL OR j.not_before <= ?1)
             AND j.cpu_milli <= ?2 AND j.memory_bytes <= ?3 AND j.gpu <= ?4
             ORDER BY j.priority DESC, j.sequence LIMIT ?5"
        );
        let query = sqlx::query(sql)
            .bind(micros(now))
            .bind(signed(largest.cpu.milli)?)
            .bind(signed(largest.memory.bytes)?)
            .bind(largest.gpu)
            .bind(max);
        all(&mut conn, query).await?.iter().map(read_live).collect()
    }

    async fn rest_ends(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        let mut conn = self.read().await?;
        let sql = "SELECT MIN(not_before) AS at FROM jobs INDEXED BY jobs_rest
                   WHERE state = 'queued' AND not_before > ?1";
        let rows = all(&mut conn, sqlx::query(sql).bind(micros(now))).await?;
        rows.first().map_or(Ok(None), |row| row.time_or_none("at"))
    }

    async fn past_runs(&self, names: &[Name], per_name: u32) -> Result<Vec<PastRun>> {
        let mut conn = self.read().await?;
        let sql = "SELECT j.name, a.launched_at, a.finished_at
                   FROM json_each(?1) n
                   JOIN jobs j ON j.sequence IN (
                       SELECT sequence FROM jobs WHERE name = n.value AND state = 'succeeded'
                       ORDER BY sequence DESC LIMIT ?2)
                   JOIN attempts a ON a.job = j.id AND a.number = j.attempts
                   WHERE a.finished_at IS NOT NULL ORDER BY n.key, j.sequence DESC";
        let names = json(&names.iter().map(|n| n.as_str()).collect::<Vec<_>>())?;
        let rows = all(&mut conn, sqlx::query(sql).bind(names).bind(per_name)).await?;
        rows.iter()
            .map(|row| {
                let ran = row.time("finished_at")?.duration_since(row.time("launched_at")?);
                Ok(PastRun { name: row.parsed("name")?, seconds: ran.as_secs_f64().max(0.0) })
            })
            .collect()
    }

    async fn job_admit(&self, admissions: &[Admission], at: Timestamp) -> Result<Vec<AttemptId>> {
        let mut tx = self.write().await?;
        let mut admitted = Vec::with_capacity(admissions.len());
        for admission in admissions {
            if attempts::admit(&mut tx, admission, at).await? {
                admitted.push(admission.attempt.clone());
            }
        }
        tx.commit().await?;
        Ok(admitted)
    }

    async fn job_cancel(&self, project: &ProjectId, id: &JobId, at: Timestamp) -> Result<Job> {
        let mut tx = self.write().await?;
        let job = find_job(&mut tx, project, id).await?;
        let sql = match job.state {
            JobState::Queued => {
                "UPDATE jobs SET state = 'cancelled', reason = 'cancelled while it was queued', not_before = NULL,
                 cancel_requested_at = ?1, finished_at = ?1 WHERE id = ?2"
            }
            JobState::Starting | JobState::Running => {
                "UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, ?1) WHERE id = ?2"
            }
            JobState::Succeeded | JobState::Failed | JobState::Cancelled => {
                return Err(Error::Conflict(format!("job '{id}' has ended already: it is {}", job.state.as_str())));
            }
        };
        exec(&mut tx, sqlx::query(sql).bind(micros(at)).bind(id.as_str())).await?;
        let job = find_job(&mut tx, project, id).await?;
        tx.commit().await?;
        Ok(job)
    }

    async fn attempt_claim(&self, attempt: &AttemptId, claimant: &str, at: Timestamp) -> Result<Claimed> {
        let mut tx = self.write().await?;
        let claimed = attempts::claim(&mut tx, attempt, claimant, at).await?;
        tx.commit().await?;
        Ok(claimed)
    }

    async fn attempt_progress(&self, attempt: &AttemptId, phase: Phase, environment: Option<Digest>) -> Result<()> {
        let mut tx = self.write().await?;
        attempts::progress(&mut tx, attempt, phase, environment).await?;
        tx.commit().await
    }

    async fn metrics_append(&self, attempt: &AttemptId, first: u64, points: &[MetricPoint]) -> Result<()> {
        let mut tx = self.write().await?;
        metrics::append(&mut tx, attempt, first, points).await?;
        tx.commit().await
    }

    async fn metrics_get(
        &self,
        project: &ProjectId,
        job: &JobId,
        name: Option<&str>,
        limit: u32,
    ) -> Result<Vec<MetricPoint>> {
        let mut conn = self.snapshot().await?;
        let known = sqlx::query("SELECT 1 FROM jobs WHERE id = ? AND project = ?");
        if optional(&mut conn, known.bind(job.as_str()).bind(project.as_str())).await?.is_none() {
            return Err(no_job(job));
        }
        metrics::newest(&mut conn, job, name, limit).await
    }

    async fn attempt_finish(&self, finish: &Finish) -> Result<Option<ModelVersionId>> {
        let mut tx = self.write().await?;
        let made = attempts::finish(&mut tx, finish).await?;
        tx.commit().await?;
        Ok(made)
    }

    async fn usage(&self, project: &ProjectId) -> Result<Vec<Usage>> {
        let mut conn = self.snapshot().await?;
        let mut usage = attempts::usage(&mut conn, project).await?;
        usage.append(&mut replicas::usage(&mut conn, project).await?);
        Ok(usage)
    }
}
