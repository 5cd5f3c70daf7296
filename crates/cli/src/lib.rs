//! The command line: nouns, then verbs, as in the API, of which it is a
//! client like any other. It sees types, the client, bundles and the simulator,
//! nothing of the server.
//!
//! One file per noun holds its commands' arguments and what they do;
//! `parse` turns words into values, `render` turns values into text, both
//! without I/O; `context` finds the server and prints.
//!
//! Data goes to stdout, all else to stderr. A failure ends with one line
//! `error: …`, and where there is something to do, one line `hint: …`; where
//! JSON is asked for, with both as one object.

mod bundle;
mod completions;
mod confirm;
mod context;
mod cost;
mod data;
mod doctor;
mod endpoint;
mod failure;
mod global;
mod job;
mod key;
mod lineage;
mod link;
mod log;
mod model;
mod parse;
mod predict;
mod progress;
mod reference;
mod render;
mod simulate;
mod status;
mod store;
mod usage;

use std::process::ExitCode;

pub use failure::{EXIT_CODES, Exit, Failure};
pub use global::{Global, OutputFormat};
pub use reference::reference;
pub use store::StoreCommand;
pub use store::backup::{Offline, Restore};
pub use usage::parse;

use context::Context;

/// All that a client can ask of a server.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Store, list and fetch datasets
    #[command(subcommand)]
    Data(data::DataCommand),
    /// Run, watch and stop jobs
    #[command(subcommand)]
    Job(job::JobCommand),
    /// List and register models, and name their versions
    #[command(subcommand)]
    Model(model::ModelCommand),
    Bundle(bundle::BundleArgs),
    Deploy(endpoint::DeployArgs),
    /// Watch, change and delete endpoints
    #[command(subcommand)]
    Endpoint(endpoint::EndpointCommand),
    Predict(predict::PredictArgs),
    Lineage(lineage::LineageArgs),
    Cost(cost::CostArgs),
    Status(status::StatusArgs),
    Doctor(doctor::DoctorArgs),
    Simulate(simulate::SimulateArgs),
    /// Make, list and revoke keys
    #[command(subcommand)]
    Key(key::KeyCommand),
    Completions(completions::CompletionsArgs),
}

/// Runs a command to its end. `cli` makes the whole program's command tree,
/// which shell completion needs.
pub fn run(global: &Global, command: Command, cli: impl FnOnce() -> clap::Command) -> ExitCode {
    let context = Context::new(global);
    let outcome = match command {
        Command::Data(command) => command.run(&context),
        Command::Job(command) => command.run(&context),
        Command::Model(command) => command.run(&context),
        Command::Bundle(args) => args.run(&context),
        Command::Deploy(args) => args.run(&context),
        Command::Endpoint(command) => command.run(&context),
        Command::Predict(args) => args.run(&context),
        Command::Lineage(args) => args.run(&context),
        Command::Cost(args) => args.run(&context),
        Command::Status(args) => args.run(&context),
        Command::Doctor(args) => args.run(&context),
        Command::Simulate(args) => args.run(&context),
        Command::Key(command) => command.run(&context),
        Command::Completions(args) => args.run(&context, cli()),
    };
    ended(&context, outcome)
}

/// The same for `muonic store`, which the whole program has more commands of
/// than a client can do; `offline` does what needs no server.
pub fn run_store(global: &Global, command: StoreCommand, offline: &dyn Offline) -> ExitCode {
    let context = Context::new(global);
    let outcome = command.run(&context, offline);
    ended(&context, outcome)
}

fn ended(context: &Context, outcome: failure::Outcome) -> ExitCode {
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => context.explained(failure).print(context.global.output),
    }
}
