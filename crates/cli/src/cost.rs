//! `muonic cost`

use muonic_types::cost::CostReport;

use crate::context::Context;
use crate::failure::{Exit, Outcome};
use crate::render::{Screen, Table, human};

/// Show what jobs and endpoints have cost so far, dearest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic cost")]
pub struct CostArgs {}

impl CostArgs {
    pub(crate) fn run(self, context: &Context) -> Outcome {
        let report = context.client()?.cost()?;
        context.show(&report, || text(&report, context.screen()))?;
        Ok(Exit::Ok)
    }
}

fn text(report: &CostReport, screen: Screen) -> String {
    let amounts: Vec<f64> = report.lines.iter().map(|line| line.usd).collect();
    let (costs, total) = human::usd_total(&amounts);
    let mut table = Table::new(screen, ["KIND", "NAME", ">TIME", ">COST", "NOW"]);
    for (line, cost) in report.lines.iter().zip(costs) {
        table.row([
            line.kind.clone(),
            line.name.clone(),
            human::duration(line.seconds),
            cost,
            if line.running { "running".to_owned() } else { String::new() },
        ]);
    }
    let seconds = report.lines.iter().fold(0.0, |sum, line| sum + line.seconds);
    table.row(["total".to_owned(), String::new(), human::duration(seconds), total, String::new()]);
    let flavor = &report.flavor;
    format!(
        "{}\nnow {} an hour\nflavor {}: {} per core, {} per GiB and {} per gpu an hour\n",
        table.render(),
        human::usd(report.usd_per_s * 3600.0),
        flavor.name,
        human::usd(flavor.cpu_usd_per_hour),
        human::usd(flavor.memory_gib_usd_per_hour),
        human::usd(flavor.gpu_usd_per_hour)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use muonic_types::cost::{CostLine, Flavor};

    #[test]
    fn a_report_has_totals_and_the_rate() {
        let line = |kind: &str, name: &str, seconds, usd, running| CostLine {
            kind: kind.into(),
            name: name.into(),
            seconds,
            usd,
            running,
        };
        let report = CostReport {
            total_usd: 0.0123,
            usd_per_s: 0.00001,
            flavor: Flavor {
                name: "local".into(),
                cpu_usd_per_hour: 0.04,
                memory_gib_usd_per_hour: 0.005,
                gpu_usd_per_hour: 1.5,
            },
            lines: vec![line("endpoint", "digits", 3600.0, 0.01, true), line("job", "train-1", 4.2, 0.0023, false)],
            at: "2026-11-03T12:00:00Z".parse().unwrap(),
        };
        assert_eq!(
            text(&report, Screen::PIPE),
            "KIND      NAME      TIME     COST  NOW
endpoint  digits   1h00m  $0.0100  running
job       train-1   4.2s  $0.0023
total              1h00m  $0.0123

now $0.0360 an hour
flavor local: $0.0400 per core, $0.0050 per GiB and $1.50 per gpu an hour
"
        );
    }
}
