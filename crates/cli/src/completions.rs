//! `muonic completions`

use clap_complete::Shell;

use crate::context::{Context, out};
use crate::failure::{Exit, Outcome};

/// Print a shell's completion script
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  muonic completions bash > ~/.local/share/bash-completion/completions/muonic")]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

impl CompletionsArgs {
    pub(crate) fn run(self, _: &Context, cli: clap::Command) -> Outcome {
        let mut cli = shown(&cli);
        let name = cli.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut cli, name, &mut script);
        out(&script)?;
        Ok(Exit::Ok)
    }
}

/// The tree without the commands that are for the program itself: the scripts
/// would offer them too.
fn shown(cli: &clap::Command) -> clap::Command {
    clap::Command::new("muonic")
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .args(cli.get_arguments())
        .subcommands(cli.get_subcommands().filter(|command| !command.is_hide_set()))
}
