//! `muonic job run`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use muonic_client::UploadRules;
use muonic_types::job::{Job, JobSpec, JobState, MetricPattern, NewJob, RESOURCES};
use muonic_types::{Name, Resources, VersionRef};
use serde_json::Value;

use super::reason_parts;
use super::watch::{LogTo, Watch, Watched};
use crate::context::{Context, note, out, tell};
use crate::failure::{Exit, Failure, Outcome, Result};
use crate::parse;
use crate::progress::Bar;
use crate::render::human;

/// Run a command on the code in a folder, and watch it
///
/// The folder is uploaded without what .gitignore and .muonicignore name. A
/// requirements.txt in it gives the job its Python environment; empty folders
/// are not kept. The log comes
/// to stdout, all else to stderr. Ctrl-C stops the watching, not the job.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  muonic job run ./digits --input train=digits --model digits -- python train.py
  muonic job run --param lr=0.1 --params-as-args --time-limit 10m -- python train.py")]
pub struct RunArgs {
    /// The code folder
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Name of the job; the folder's name without
    #[arg(long)]
    name: Option<Name>,
    /// What it asks for; cpu=1 and memory=1Gi where nothing is said
    #[arg(long, value_name = "cpu=N,memory=N,gpu=N", value_parser = parse::resources(RESOURCES), default_value = "cpu=1,memory=1Gi")]
    resources: Resources,
    /// A dataset, found in the folder that SM_CHANNEL_<CHANNEL> names
    #[arg(long = "input", value_name = "CHANNEL=DATASET[@VERSION]", value_parser = parse::input)]
    inputs: Vec<(Name, VersionRef)>,
    /// A parameter, found in SM_HPS; numbers, true and false keep their type
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parse::param)]
    params: Vec<(String, Value)>,
    /// Also append the parameters to the command as --NAME VALUE
    #[arg(long)]
    params_as_args: bool,
    /// An environment variable
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = parse::env)]
    env: Vec<(String, String)>,
    /// Register what is left in SM_MODEL_DIR as the next version of this model
    #[arg(long, value_name = "NAME")]
    model: Option<Name>,
    /// Higher goes first; -1000 to 1000
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    priority: i32,
    /// Stop an attempt that runs longer, such as 10m; at most 365d
    #[arg(long, value_name = "DURATION", value_parser = parse::time_limit)]
    time_limit: Option<u64>,
    /// Time between the request to stop (SIGTERM) and the end (SIGKILL); at most 1h
    #[arg(long, value_name = "DURATION", value_parser = parse::grace, default_value = "10s")]
    grace: u64,
    /// How often to try again after a failure; attempts lost with their
    /// machine or supervisor are made good beyond these
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100))]
    retries: u32,
    /// Find a metric in log lines by a pattern whose first group is its value;
    /// lines of name=number pairs are found without
    #[arg(long = "metric", value_name = "NAME=REGEX", value_parser = parse::metric)]
    metrics: Vec<MetricPattern>,
    /// Print the job's id and do not watch
    #[arg(long)]
    detach: bool,
    /// Program and arguments, run in the code folder
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl RunArgs {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let client = context.live_client()?;
        let detach = self.detach;
        let dir = self.dir.clone();
        let mut spec = self.spec()?;
        let uploaded = client.tree_upload(&dir, UploadRules::Code, &Bar::new())?;
        spec.code = Some(uploaded.tree.digest);
        if uploaded.sent_files > 0 {
            note(format!("code: {}", crate::data::sent(&uploaded)));
        }
        let job = client.job_create(&NewJob { spec, request_token: request_token() })?;
        if detach {
            super::notes::accepted(&job).into_iter().for_each(tell);
            context.show(&job, || format!("{}\n", job.id))?;
            return Ok(Exit::Ok);
        }
        let to = if context.json() { LogTo::Stderr } else { LogTo::OnTheWay };
        let watch = Watch { notes: true, log: Some((to, 1)), catch_interrupt: true };
        match watch.run(context, &job.id)? {
            Watched::Interrupted => {
                note(format!(
                    "{0} goes on; watch it with 'muonic job logs -f {0}', stop it with 'muonic job cancel {0}'",
                    job.id
                ));
                Ok(Exit::Interrupted)
            }
            Watched::Final(job) => ended(context, &job),
        }
    }

    fn spec(self) -> Result<JobSpec> {
        let name = match self.name {
            Some(name) => name,
            None => name_of(&self.dir)?,
        };
        Ok(JobSpec {
            name,
            command: self.command,
            code: None,
            resources: self.resources,
            inputs: once("--input", self.inputs)?,
            params: once("--param", self.params)?,
            params_as_args: self.params_as_args,
            env: once("--env", self.env)?,
            model: self.model,
            priority: self.priority,
            time_limit_s: self.time_limit,
            grace_s: self.grace,
            retries: self.retries,
            metrics: self.metrics,
        })
    }
}

/// The result of a job that was watched to its end: the end of its log has
/// just gone by, and is not told again.
fn ended(context: &Context, job: &Job) -> Outcome {
    if context.json() {
        context.show_json(job)?;
    } else {
        note(summary(job).trim_end());
    }
    verdict(job, |reason| reason_parts(reason).0)
}

/// The exit of a final job, with as much of the reason as is wanted.
pub(crate) fn verdict(job: &Job, part: fn(&str) -> &str) -> Outcome {
    let message = match &job.reason {
        Some(reason) => format!("{} failed: {}", job.id, part(reason)),
        None => format!("{} failed", job.id),
    };
    match job.state {
        JobState::Succeeded => Ok(Exit::Ok),
        JobState::Cancelled => Err(Failure::new(Exit::Failed, format!("{} was cancelled", job.id))),
        _ => Err(Failure::new(Exit::Failed, message).hint(format!("see its log with: muonic job logs {}", job.id))),
    }
}

/// The last lines about a job.
fn summary(job: &Job) -> String {
    let mut text = format!("[{}] {}", job.id, job.state.as_str());
    if let (Some(start), Some(end)) = (job.started_at, job.finished_at) {
        text.push_str(&format!(" in {}", human::duration(human::between(start, end))));
    }
    text.push_str(&format!(", cost {}\n", human::usd(job.cost_usd)));
    if !job.metrics.is_empty() {
        let metrics: Vec<_> =
            job.metrics.iter().map(|(name, value)| format!("{name}={}", human::number(*value))).collect();
        text.push_str(&format!("[{}] metrics: {}\n", job.id, metrics.join("  ")));
    }
    if let Some(version) = &job.model_version {
        text.push_str(&format!("[{}] registered the model {version}\n", job.id));
    }
    text
}

/// A map of what may be given once per name.
fn once<K: Ord + std::fmt::Display, V>(flag: &str, pairs: Vec<(K, V)>) -> Result<BTreeMap<K, V>> {
    let mut map = BTreeMap::new();
    for (key, value) in pairs {
        if map.contains_key(&key) {
            return Err(Failure::bad_input(format!("{flag} is given twice for '{key}'")).hint("give each name once"));
        }
        map.insert(key, value);
    }
    Ok(map)
}

fn name_of(dir: &Path) -> Result<Name> {
    let real = std::fs::canonicalize(dir).map_err(|e| Failure::bad_input(format!("{}: {e}", dir.display())))?;
    let folder = if real.is_dir() { real.file_name() } else { real.file_stem() };
    folder.and_then(|name| parse::name_from_folder(&name.to_string_lossy())).ok_or_else(|| {
        Failure::bad_input(format!("no name can be made from the folder {}", real.display()))
            .hint("give one with --name")
    })
}

/// Makes a repeated submission harmless. Without randomness there is none,
/// and the submission is simply not repeated.
fn request_token() -> Option<String> {
    use std::io::Read;
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes)).ok()?;
    Some(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

/// Prints the job's page or its JSON; used by verbs that end with a job.
pub(crate) fn show_line(context: &Context, job: &Job, line: String) -> Result<()> {
    if context.json() { context.show_json(job) } else { out(format!("{line}\n").as_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::job;
    use super::*;

    #[test]
    fn the_end_is_summed_up() {
        let mut done = job(JobState::Succeeded);
        done.cost_usd = 0.00012;
        done.metrics = [("accuracy".to_owned(), 0.972_222_2), ("loss".to_owned(), 0.1)].into();
        done.model_version = Some(muonic_types::model::ModelVersionId { name: "digits".parse().unwrap(), version: 2 });
        assert_eq!(
            summary(&done),
            "[train-1] succeeded in 4.5s, cost $0.000120
[train-1] metrics: accuracy=0.972222  loss=0.1
[train-1] registered the model digits@2
"
        );
    }

    #[test]
    fn the_state_decides_the_exit() {
        assert_eq!(verdict(&job(JobState::Succeeded), |r| r).unwrap(), Exit::Ok);
        let mut failed = job(JobState::Failed);
        failed.reason = Some("the command ended with exit code 3".into());
        let failure = verdict(&failed, |r| r).unwrap_err();
        assert_eq!(
            (failure.exit, failure.message.as_str()),
            (Exit::Failed, "train-1 failed: the command ended with exit code 3")
        );
        assert_eq!(verdict(&job(JobState::Cancelled), |r| r).unwrap_err().message, "train-1 was cancelled");
    }

    #[test]
    fn a_name_given_twice_is_refused() {
        let twice = once("--param", vec![("a".to_owned(), 1), ("a".to_owned(), 2)]).unwrap_err();
        assert_eq!(twice.message, "--param is given twice for 'a'");
    }

    #[test]
    fn tokens_differ() {
        assert_ne!(request_token(), request_token());
        assert_eq!(request_token().unwrap().len(), 32);
    }
}
