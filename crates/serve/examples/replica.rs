//! `muonic serve` alone, for tests that need it as a process of its own.

use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: muonic_serve::Args,
}

fn main() -> anyhow::Result<()> {
    muonic_serve::run(Cli::parse().args)
}
