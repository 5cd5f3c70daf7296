//! Words into a command, or what is wrong with them. clap says it well to
//! people; programs get the object that every failure is.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser};

use crate::failure::{Exit, Failure};
use crate::global::OutputFormat;

const TOKEN_TIP: &str =
    "others on the machine can read command lines: set the environment variable MUONIC_TOKEN to the key";

/// Like `Parser::parse`, with a way out for the caller instead of an exit.
pub fn parse<C: Parser + CommandFactory>(words: Vec<OsString>) -> Result<C, ExitCode> {
    C::try_parse_from(&words).map_err(|error| {
        let error = in_our_words(error, &C::command());
        match wants_json(&words) && error.use_stderr() {
            true => failure(&error).print(OutputFormat::Json),
            false => {
                // Nobody may be reading, which is no failure.
                let _ = error.print();
                if error.use_stderr() { Exit::BadInput.into() } else { ExitCode::SUCCESS }
            }
        }
    })
}

/// Whether these words ask for JSON, though they make no command.
fn wants_json(words: &[OsString]) -> bool {
    let words: Vec<_> = words.iter().map(|w| w.to_string_lossy()).take_while(|w| w != "--").collect();
    let value = |at: usize| words.get(at + 1).is_some_and(|next| next == "json");
    words.iter().enumerate().any(|(at, word)| match word.as_ref() {
        "-o" | "--output" => value(at),
        word => matches!(word, "-ojson" | "-o=json" | "--output=json"),
    })
}

/// clap's text is `error: SENTENCE`, perhaps over lines, then tips and usage.
fn failure(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let mut parts = text.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    let message = parts.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(&message).to_owned();
    let failure = Failure::bad_input(message);
    match parts.find_map(|part| part.strip_prefix("tip: ").map(str::to_owned)) {
        Some(tip) => failure.hint(tip),
        None => failure.hint("see how it is used with --help"),
    }
}

fn in_our_words(mut error: clap::Error, cli: &clap::Command) -> clap::Error {
    // clap would advise to put it behind `--`, into a job's command.
    if let Some(ContextValue::String(arg)) = error.get(ContextKind::InvalidArg)
        && arg == "--token"
    {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![TOKEN_TIP.to_owned().into()]));
    }
    // clap adds what was given to the usage, and counts the environment as given.
    if let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) {
        let mut text = usage.to_string();
        for arg in cli.get_arguments().filter(|arg| arg.is_global_set()) {
            if let (Some(long), Some([value])) = (arg.get_long(), arg.get_value_names()) {
                text = text.replace(&format!(" --{long} <{value}>"), "");
            }
        }
        error.insert(ContextKind::Usage, ContextValue::StyledStr(text.into()));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "muonic")]
    struct Cli {
        #[command(flatten)]
        _global: crate::Global,
        #[command(subcommand)]
        _command: crate::Command,
    }

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    fn error(line: &str) -> clap::Error {
        in_our_words(Cli::try_parse_from(words(line)).unwrap_err(), &Cli::command())
    }

    #[test]
    fn json_is_asked_for_before_a_job_s_own_words() {
        for line in ["muonic -o json x", "muonic x --output=json", "muonic x --output json", "muonic -ojson"] {
            assert!(wants_json(&words(line)), "{line}");
        }
        for line in ["muonic job run -- x -o json", "muonic -o text json", "muonic -o", "muonic json"] {
            assert!(!wants_json(&words(line)), "{line}");
        }
    }

    #[test]
    fn programs_get_the_sentence_alone() {
        let wrong = failure(&error("muonic deploy m --resources cpu=x -o json"));
        assert!(wrong.message.starts_with("invalid value 'cpu=x' for '--resources <cpu=N,memory=N,gpu=N>': 'x' is"));
        assert_eq!(wrong.exit, Exit::BadInput);
        let missing = failure(&error("muonic data put"));
        assert_eq!(missing.message, "the following required arguments were not provided: <NAME> <PATH>");
        let tip = failure(&error("muonic data ls --token x")).hint.unwrap();
        assert!(tip.contains("MUONIC_TOKEN"), "{tip}");
    }

    #[test]
    fn the_usage_is_of_the_command_alone() {
        let line = "muonic data put --data /d --server http://h:1 -o text";
        let text = error(line).to_string();
        assert!(text.contains("Usage: muonic data put <NAME> <PATH>\n"), "{text}");
    }
}
