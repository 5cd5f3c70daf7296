//! `muonic simulate`

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use muonic_simulate::keep_alive::{self, Replay};
use muonic_simulate::replicas::{self, Model};
use muonic_simulate::trace;
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Exit, Failure, Outcome, Result};
use crate::parse;

/// A trace of more bytes is not read.
const TRACE_BYTES_MAX: u64 = 4 << 30;
const DAY_S: f64 = 86_400.0;

/// Replay a recorded trace through the scheduler's code, and compare what it
/// costs with a policy that knows the future
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  muonic simulate requests.csv --format genai --cold-pct 5
  muonic simulate requests.csv --format genai --policy fixed --keep-alive 10m
  muonic simulate conv.csv --format azure-llm --cold-start 30s --output json

Formats:
  genai      CSV with the columns t_s, model, exec_s: requests to many
             endpoints. Asks how long each keeps a replica when idle.
             Policies: learned, fixed (--keep-alive), clairvoyant
  azure-llm  CSV with the columns t_s, in_tokens, out_tokens: requests to one
             language model. Asks how many replicas it has.
             Policies: learned, target-concurrency, fixed (--replicas), clairvoyant
  mooncake   the same, as lines of JSON with timestamp (ms), input_length and
             output_length

docs/simulate.md says what is computed.")]
pub struct SimulateArgs {
    /// The trace
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What the trace holds
    #[arg(long, value_enum)]
    format: Format,
    /// Who decides
    #[arg(long, value_enum, default_value = "learned")]
    policy: Policy,
    /// Seed of what is random: how long each cold start takes
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    keep: KeepArgs,
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Genai,
    AzureLlm,
    Mooncake,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Policy {
    /// The scheduler's
    Learned,
    /// The same all the time
    Fixed,
    /// The scheduler's, aiming at requests at once in a replica
    TargetConcurrency,
    /// One that knows the future
    Clairvoyant,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Keep-alive (genai)")]
struct KeepArgs {
    /// Turn the policy's knob until no more than this share of requests is cold
    #[arg(long, value_name = "PCT", value_parser = percent)]
    cold_pct: Option<f64>,
    /// fixed: keep a replica so long after a request  [default: 10m]
    #[arg(long, value_name = "TIME", value_parser = parse::duration, conflicts_with = "cold_pct")]
    keep_alive: Option<Duration>,
    /// learned: what one cold start less is worth, in time of an idle replica  [default: 30m]
    #[arg(long, value_name = "TIME", value_parser = parse::duration, conflicts_with = "cold_pct")]
    worth: Option<Duration>,
    /// Learn from the days before, but count from this day on
    #[arg(long, value_name = "DAY", default_value_t = 0)]
    from_day: u32,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Replicas (azure-llm, mooncake)")]
struct ModelArgs {
    /// From launching a replica to its first request
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse::duration)]
    cold_start: Duration,
    /// A request within target waits no longer than this
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse::duration)]
    target: Duration,
    /// Requests that a replica serves at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    slots: u32,
    /// Tokens of a prompt that a replica reads in a second
    #[arg(long, value_name = "TOKENS", default_value_t = 8000.0, value_parser = positive)]
    prefill_rate: f64,
    /// Time for each token of an answer
    #[arg(long, value_name = "TIME", default_value = "30ms", value_parser = parse::duration)]
    decode_time: Duration,
    /// fixed: so many replicas all the time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    replicas: Option<u32>,
    /// target-concurrency: so many requests at once in a replica  [default: 0.8 of the slots]
    #[arg(long, value_name = "N", value_parser = positive)]
    concurrency: Option<f64>,
    /// Never fewer replicas
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    min_replicas: u32,
    /// Never more replicas
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    max_replicas: u32,
}

/// The answer: these five for every format (none where it has no meaning), and
/// what else there is to say.
#[derive(Serialize)]
struct Answer<T> {
    format: String,
    policy: String,
    cold_pct: Option<f64>,
    warm_hours: Option<f64>,
    clairvoyant_warm_hours: Option<f64>,
    in_slo_pct: Option<f64>,
    replica_hours: Option<f64>,
    detail: T,
}

impl SimulateArgs {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        self.check()?;
        let text = read(&self.file)?;
        match self.format {
            Format::Genai => {
                let calls = self.traced(trace::genai(&text))?;
                self.keep_alive(context, &calls)
            }
            Format::AzureLlm => {
                let prompts = self.traced(trace::azure_llm(&text))?;
                self.replicas(context, &prompts)
            }
            Format::Mooncake => {
                let prompts = self.traced(trace::mooncake(&text))?;
                self.replicas(context, &prompts)
            }
        }
    }

    /// Options that do not go together.
    fn check(&self) -> Result<()> {
        let no = |message: String, hint: &str| Err(Failure::bad_input(message).hint(hint));
        let (format, policy) = (word(self.format), word(self.policy));
        let genai = self.format == Format::Genai;
        if genai && self.policy == Policy::TargetConcurrency {
            return no(format!("the format {format} has no policy {policy}"), "use learned, fixed or clairvoyant");
        }
        if !genai && (self.keep.cold_pct.is_some() || self.keep.keep_alive.is_some() || self.keep.worth.is_some()) {
            return no(
                format!("--cold-pct, --keep-alive and --worth mean nothing for the format {format}"),
                "leave them out: they are about endpoints that sleep",
            );
        }
        if !genai && self.policy == Policy::Fixed && self.model.replicas.is_none() {
            return no("the policy fixed needs a number of replicas".to_owned(), "give one with --replicas N");
        }
        if self.model.replicas.is_some() && (genai || self.policy != Policy::Fixed) {
            return no(
                "--replicas means nothing here".to_owned(),
                "it goes with --policy fixed of azure-llm and mooncake",
            );
        }
        if self.model.concurrency.is_some() && self.policy != Policy::TargetConcurrency {
            return no("--concurrency means nothing here".to_owned(), "it goes with --policy target-concurrency");
        }
        if genai && self.policy == Policy::Clairvoyant && self.keep.cold_pct.is_none() {
            return no(
                "the policy clairvoyant needs a share of cold requests".to_owned(),
                "give one with --cold-pct PCT",
            );
        }
        if self.keep.keep_alive.is_some() && self.policy != Policy::Fixed {
            return no("--keep-alive means nothing here".to_owned(), "it goes with --policy fixed");
        }
        if self.keep.worth.is_some() && self.policy != Policy::Learned {
            return no("--worth means nothing here".to_owned(), "it goes with --policy learned");
        }
        if self.model.min_replicas > self.model.max_replicas {
            return no("--min-replicas is more than --max-replicas".to_owned(), "give a smaller --min-replicas");
        }
        Ok(())
    }

    fn traced<T>(&self, read: Result<Vec<T>, trace::Error>) -> Result<Vec<T>> {
        read.map_err(|error| {
            Failure::bad_input(format!(
                "{} is no trace of the format {}: {error}",
                self.file.display(),
                word(self.format)
            ))
            .hint("muonic simulate --help says what the formats hold")
        })
    }

    fn keep_alive(&self, context: &Context, calls: &[trace::Call]) -> Outcome {
        let from_s = f64::from(self.keep.from_day) * DAY_S;
        if calls.last().is_none_or(|call| call.at_s < from_s) {
            return Err(Failure::bad_input(format!("the trace ends before day {}", self.keep.from_day))
                .hint("days count from 0; give an earlier one with --from-day"));
        }
        let replay = Replay::new(calls, from_s);
        if let Some(asked) = self.keep.cold_pct.filter(|asked| *asked < replay.cold_pct_least()) {
            let least = replay.cold_pct_least();
            return Err(Failure::bad_input(format!(
                "{asked} % cold cannot be had: the first requests to each endpoint are {least:.2} % of all"
            ))
            .hint("give a greater --cold-pct"));
        }
        let policy = match (self.policy, self.keep.cold_pct) {
            (Policy::Fixed, Some(cold_pct)) => keep_alive::Policy::Fixed { keep_s: replay.keep_for(cold_pct) },
            (Policy::Fixed, None) => {
                let keep = self.keep.keep_alive.unwrap_or(Duration::from_secs(600));
                keep_alive::Policy::Fixed { keep_s: keep.as_secs_f64() }
            }
            (Policy::Clairvoyant, cold_pct) => keep_alive::Policy::Clairvoyant { cold_pct: cold_pct.unwrap_or(100.0) },
            (_, Some(cold_pct)) => keep_alive::Policy::Learned { worth_s: replay.worth_for(cold_pct) },
            (_, None) => {
                let worth = self.keep.worth.unwrap_or(Duration::from_secs(1800));
                keep_alive::Policy::Learned { worth_s: worth.as_secs_f64() }
            }
        };
        let outcome = replay.outcome(policy);
        let answer = keep_alive_answer(word(self.format), word(self.policy), outcome);
        context.show(&answer, || keep_alive_text(&answer))?;
        Ok(Exit::Ok)
    }

    fn replicas(&self, context: &Context, prompts: &[trace::Prompt]) -> Outcome {
        let model = Model {
            slots: self.model.slots,
            prefill_tokens_per_s: self.model.prefill_rate,
            token_s: self.model.decode_time.as_secs_f64(),
            cold_start_s: self.model.cold_start.as_secs_f64(),
            target_s: self.model.target.as_secs_f64(),
            min_replicas: self.model.min_replicas,
            max_replicas: self.model.max_replicas,
            seed: self.seed,
            ..Model::default()
        };
        let policy = match self.policy {
            Policy::Learned => replicas::Policy::Learned,
            Policy::Clairvoyant => replicas::Policy::Clairvoyant,
            Policy::Fixed => replicas::Policy::Fixed { replicas: self.model.replicas.unwrap_or(1) },
            Policy::TargetConcurrency => replicas::Policy::TargetConcurrency {
                per_replica: self.model.concurrency.unwrap_or(0.8 * f64::from(self.model.slots)),
            },
        };
        let outcome = replicas::outcome(prompts, &model, policy);
        let answer = replicas_answer(word(self.format), word(self.policy), outcome);
        context.show(&answer, || replicas_text(&answer))?;
        Ok(Exit::Ok)
    }
}

fn keep_alive_answer(format: String, policy: String, outcome: keep_alive::Outcome) -> Answer<keep_alive::Outcome> {
    Answer {
        format,
        policy,
        cold_pct: Some(outcome.cold_pct),
        warm_hours: Some(outcome.warm_hours),
        clairvoyant_warm_hours: Some(outcome.clairvoyant_warm_hours),
        // A request is within target where a replica was up.
        in_slo_pct: Some(100.0 - outcome.cold_pct),
        replica_hours: Some(outcome.warm_hours + outcome.busy_hours),
        detail: outcome,
    }
}

fn replicas_answer(format: String, policy: String, outcome: replicas::Outcome) -> Answer<replicas::Outcome> {
    Answer {
        format,
        policy,
        cold_pct: None,
        warm_hours: None,
        clairvoyant_warm_hours: None,
        in_slo_pct: Some(outcome.in_slo_pct),
        replica_hours: Some(outcome.replica_hours),
        detail: outcome,
    }
}

fn read(file: &Path) -> Result<String> {
    let shown = file.display();
    let bad = |e: std::io::Error| Failure::bad_input(format!("{shown} cannot be read: {e}"));
    let size = std::fs::metadata(file).map_err(bad)?.len();
    if size > TRACE_BYTES_MAX {
        return Err(Failure::bad_input(format!("{shown} has {size} bytes, and a trace may have {TRACE_BYTES_MAX}"))
            .hint("cut it into parts"));
    }
    let bytes = std::fs::read(file).map_err(bad)?;
    String::from_utf8(bytes).map_err(|_| Failure::bad_input(format!("{shown} is not text in UTF-8")))
}

fn word(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err(format!("'{text}' is not a share in per cent: give a number from 0 to 100")),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (1e-6..=1e9).contains(&number) => Ok(number),
        _ => Err(format!("'{text}' is not a number above 0")),
    }
}

fn keep_alive_text(answer: &Answer<keep_alive::Outcome>) -> String {
    let o = &answer.detail;
    let mut text = format!(
        "policy       {}{}\nrequests     {} to {} endpoints\ncold         {} ({:.2} %)\nwarm         {:.1} h idle, {:.1} h busy\nfixed        {:.1} h idle at as many cold\nclairvoyant  {:.1} h idle at as many cold\n",
        answer.policy,
        match (o.worth_s, o.keep_alive_s) {
            (Some(worth_s), _) => format!(", a cold start worth {worth_s:.0} s"),
            (_, Some(keep_s)) => format!(", {keep_s:.0} s"),
            _ => String::new(),
        },
        o.requests,
        o.endpoints,
        o.cold,
        o.cold_pct,
        o.warm_hours,
        o.busy_hours,
        o.fixed_warm_hours,
        o.clairvoyant_warm_hours,
    );
    if let Some(closed) = o.gap_closed_pct {
        text.push_str(&format!("closed       {closed:.1} % of the way from fixed to clairvoyant\n"));
    }
    text
}

fn replicas_text(answer: &Answer<replicas::Outcome>) -> String {
    let o = &answer.detail;
    format!(
        "policy       {}\nrequests     {}, {:.1} s each\nin target    {:.2} %\nwait         p50 {:.1} s, p99 {:.1} s\nreplicas     {:.2} h, at most {}, {} launched\nclairvoyant  {:.2} h ({:.2} % in target)\nratio        {}\n",
        answer.policy,
        o.requests,
        o.service_mean_s,
        o.in_slo_pct,
        o.wait_p50_s,
        o.wait_p99_s,
        o.replica_hours,
        o.replicas_max,
        o.launches,
        o.clairvoyant_replica_hours,
        o.clairvoyant_in_slo_pct,
        o.ratio.map_or_else(|| "none".to_owned(), |ratio| format!("{ratio:.3}")),
    )
}

#[cfg(test)]
mod tests;
