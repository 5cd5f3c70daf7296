//! Scrub, check and reclaim: long work, begun and waited for.

use muonic_types::store::{CheckReport, NewScrub, ReclaimReport, ScrubReport};

use super::{awaited, whole};
use crate::context::Context;
use crate::failure::{Exit, Outcome};
use crate::parse;
use crate::progress::Steps;
use crate::render::human;

/// Compare all that is stored with its sums, and name what is damaged
///
/// The server does this by itself, as often as its configuration says. One
/// that was cut off goes on where it was.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  muonic store scrub --rate 50MiB --wait
  muonic store scrub --report")]
pub struct ScrubArgs {
    /// How much to read in a second, such as 50MiB; 0 is as fast as it goes;
    /// as configured without
    #[arg(long, value_name = "BYTES", value_parser = parse::bytes)]
    rate: Option<u64>,
    /// Return when it has ended; it goes on in the server without
    #[arg(long)]
    wait: bool,
    /// Begin nothing, and say how the latest went, or goes
    #[arg(long, conflicts_with_all = ["rate", "wait"])]
    report: bool,
}

/// Check that the index agrees with itself and that all it names is there
///
/// Contents are looked for and not read: 'muonic store scrub' reads them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic store check")]
pub struct CheckArgs {}

/// Free at once what was deleted
///
/// The server frees it by itself a minute after it was deleted. What is being
/// read stays until it was read.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic store reclaim")]
pub struct ReclaimArgs {}

impl ScrubArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let mut report = match self.report {
            true => client.store_scrub_report()?,
            false => client.store_scrub(&NewScrub { bytes_per_s: self.rate })?,
        };
        if self.wait {
            let mut steps = Steps::new("reading all that is stored");
            let say = |report: &ScrubReport| format!("reading all that is stored: {}", human::size(report.bytes));
            report = awaited(&mut steps, || client.store_scrub_report(), |report| &report.run, say)?;
        }
        context.show(&report, || scrub_text(&report))?;
        whole(&report.run, "the scrub")?;
        Ok(if report.damaged.is_empty() { Exit::Ok } else { Exit::Failed })
    }
}

fn scrub_text(report: &ScrubReport) -> String {
    let run = &report.run;
    let read = format!("{} in {}", human::size(report.bytes), human::count(report.extents, "content"));
    let mut text = match (run.running, run.started_at, run.finished_at) {
        (true, ..) => format!("the scrub has read {read}, and goes on\n"),
        (_, _, Some(at)) => format!("the scrub ended {}: it read {read}\n", human::instant(at)),
        (_, Some(_), None) => format!("the scrub was cut off after {read}\n"),
        (_, None, None) => "there was no scrub yet\n".to_owned(),
    };
    for damage in &report.damaged {
        text.push_str(&format!("damaged: {}\n  {}\n", damage.names.join(", "), damage.what));
    }
    if report.damaged.is_empty() && run.finished_at.is_some() {
        text.push_str("nothing is damaged\n");
    }
    text
}

impl CheckArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        client.store_check()?;
        let mut steps = Steps::new("checking the index");
        let say = |report: &CheckReport| match report.extents {
            0 => "checking the index".to_owned(),
            n => format!("looking for contents: {n} found"),
        };
        let report = awaited(&mut steps, || client.store_check_report(), |report| &report.run, say)?;
        drop(steps);
        context.show(&report, || check_text(&report))?;
        whole(&report.run, "the check")?;
        Ok(if report.problems.is_empty() { Exit::Ok } else { Exit::Failed })
    }
}

fn check_text(report: &CheckReport) -> String {
    let mut text: String = report.problems.iter().map(|problem| format!("{problem}\n")).collect();
    let looked = format!("{}, {}", human::count(report.extents, "content"), human::size(report.bytes));
    match report.problems.len() as u64 {
        0 => text.push_str(&format!("the index is sound, and all that it names is there: {looked}\n")),
        n => text.push_str(&format!("{} in {looked}\n", human::count(n, "problem"))),
    }
    text
}

impl ReclaimArgs {
    pub(super) fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        client.store_reclaim()?;
        let mut steps = Steps::new("freeing what was deleted");
        let say = |_: &ReclaimReport| "freeing what was deleted".to_owned();
        let report = awaited(&mut steps, || client.store_reclaim_report(), |report| &report.run, say)?;
        drop(steps);
        context.show(&report, || reclaim_text(&report))?;
        whole(&report.run, "reclaiming")?;
        Ok(Exit::Ok)
    }
}

fn reclaim_text(report: &ReclaimReport) -> String {
    let mut text =
        format!("freed {} of {}\n", human::size(report.bytes), human::count(report.extents, "deleted content"));
    if report.segments > 0 {
        text.push_str(&format!("removed {}\n", human::count(report.segments, "empty segment")));
    }
    if report.files > 0 {
        text.push_str(&format!("removed {} that nobody named\n", human::count(report.files, "file")));
    }
    text
}

#[cfg(test)]
mod tests {
    use muonic_types::store::{Damage, Run};

    use super::*;

    #[test]
    fn damage_is_named() {
        let finished_at = Some("2026-11-03T12:00:00Z".parse().unwrap());
        let run = Run { started_at: finished_at, finished_at, ..Run::default() };
        let mut report = ScrubReport { run, extents: 1, bytes: 1024, damaged: Vec::new() };
        let ended = "the scrub ended 2026-11-03 12:00:00 UTC: it read 1.0 KiB in 1 content\n";
        assert_eq!(scrub_text(&report), format!("{ended}nothing is damaged\n"));
        report.damaged.push(Damage { names: vec!["b/k (version 1)".into()], what: "block 0 is wrong".into() });
        assert_eq!(scrub_text(&report), format!("{ended}damaged: b/k (version 1)\n  block 0 is wrong\n"));
    }
}
