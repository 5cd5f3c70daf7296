//! Options that every command takes.

use std::path::PathBuf;

const TOKEN: &str = "MUONIC_TOKEN";

/// How results are written to stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum OutputFormat {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

#[derive(Debug, Clone, Default, clap::Args)]
pub struct Global {
    /// How results are written
    #[arg(
        long,
        short,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value = "text",
        help_heading = "Global options"
    )]
    pub output: OutputFormat,
    /// Address of the server; the one on this machine without. A key for it
    /// is taken from the environment variable MUONIC_TOKEN, as <id>.<secret>
    #[arg(long, global = true, env = "MUONIC_SERVER", value_name = "URL", help_heading = "Global options")]
    pub server: Option<String>,
    /// Key for the server. Others on the machine can read command lines, so
    /// it is no argument.
    #[arg(skip = token())]
    pub token: Option<String>,
    /// Data folder of the server on this machine; ~/.local/share/muonic without
    #[arg(long, global = true, env = "MUONIC_DATA", value_name = "DIR", help_heading = "Global options")]
    pub data: Option<PathBuf>,
}

/// What is not text is no key, but must not pass for none.
fn token() -> Option<String> {
    std::env::var_os(TOKEN).map(|token| token.to_string_lossy().into_owned())
}

impl Global {
    /// The data folder. `None` where neither it nor a home folder is known.
    pub fn data_dir(&self) -> Option<PathBuf> {
        let given = self.data.clone().filter(|d| !d.as_os_str().is_empty());
        given.or_else(|| {
            std::env::home_dir().filter(|h| !h.as_os_str().is_empty()).map(|h| h.join(".local/share/muonic"))
        })
    }
}
