//! The one program: server, shim, replica and client.

mod callbacks;
mod config;
mod folder;
mod listen;
mod log;
mod machine;
mod offline;
mod restore;
mod take_over;
mod up;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use muonic_cli::{EXIT_CODES, Exit, Failure, Global};

/// The AI cloud that one person can run: data, compute, training, deployment
/// and operation in one program
#[derive(Debug, Parser)]
#[command(name = "muonic", version, after_help = EXIT_CODES, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Program,
}

#[derive(Debug, Subcommand)]
enum Program {
    Up(up::Args),
    /// Serve a model
    // clap would call the path optional: engines give a unit in its place.
    #[command(override_usage = "muonic serve [OPTIONS] <PATH>")]
    Serve(muonic_serve::Args),
    /// Supervise one task; started by engines
    #[command(hide = true)]
    Shim {
        /// The unit's folder.
        #[arg(long, value_name = "DIR")]
        unit: PathBuf,
    },
    /// Print the reference of all commands as Markdown
    #[command(hide = true)]
    Reference,
    /// Look after the store: its state, its keys, what is mounted into it
    #[command(subcommand)]
    Store(offline::StoreCommand),
    #[command(flatten)]
    Client(muonic_cli::Command),
}

fn main() -> ExitCode {
    let cli: Cli = match muonic_cli::parse(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match cli.command {
        Program::Up(args) => server(&args, &cli.global),
        Program::Serve(mut args) => {
            log::start("info", config::LogFormat::Text);
            args.token.clone_from(&cli.global.token);
            report(muonic_serve::run(args), &cli.global)
        }
        Program::Shim { unit } => muonic_shim::run(&unit).into(),
        Program::Reference => {
            let written = std::io::stdout().write_all(muonic_cli::reference(Cli::command()).as_bytes());
            if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Program::Store(command) => offline::run(command, &cli.global),
        Program::Client(command) => muonic_cli::run(&cli.global, command, Cli::command),
    }
}

fn server(args: &up::Args, global: &Global) -> ExitCode {
    match global.data_dir() {
        Some(data) => report(up::run(args, &data), global),
        None => Failure::new(Exit::BadInput, "there is no home folder to keep the data in")
            .hint("name a data folder with --data")
            .print(global.output),
    }
}

/// Bad configuration and what is no model are bad input; anything else failed.
fn report(result: anyhow::Result<()>, global: &Global) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            let bad = e.is::<config::Error>() || e.is::<muonic_serve::NotAModel>();
            let exit = if bad { Exit::BadInput } else { Exit::Failed };
            Failure::new(exit, format!("{e:#}")).print(global.output)
        }
    }
}
