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
    pub(crate) fn run(self, _: &Context, mut cli: clap::Command) -> Outcome {
        let name = cli.get_name().to_owned();
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut cli, name, &mut script);
        out(&script)?;
        Ok(Exit::Ok)
    }
}
