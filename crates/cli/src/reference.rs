//! The command line's reference in Markdown, generated from clap.

use std::fmt::Write;

use clap::{Arg, ArgAction, Command};

/// `docs/cli.md`: every command with its arguments and its example.
pub fn reference(mut cli: Command) -> String {
    cli.build();
    let mut out = String::from("# Command line\n\n<!-- Generated from the program; do not edit. -->\n\n");
    let globals: Vec<Arg> = cli.get_arguments().filter(|a| a.is_global_set() && !is_help(a)).cloned().collect();
    about(&cli, &mut out);
    if !globals.is_empty() {
        out.push_str("Every command takes:\n\n");
        arguments(globals.iter(), &mut out);
    }
    after_help(&cli, &mut out);
    commands(&cli, cli.get_name(), &mut out);
    format!("{}\n", out.trim_end())
}

fn commands(parent: &Command, path: &str, out: &mut String) {
    for command in parent.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        let path = format!("{path} {}", command.get_name());
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{} `{path}`\n", "#".repeat(1 + path.matches(' ').count().min(4)));
        about(command, out);
        if !command.has_subcommands() {
            let mut plain = command.clone();
            let usage = plain.render_usage().to_string();
            let usage = usage.trim_start_matches("Usage: ").trim();
            let usage = if usage.starts_with(&path) { usage.to_owned() } else { format!("{path} {usage}") };
            let _ = writeln!(out, "```text\n{usage}\n```\n");
            arguments(command.get_arguments().filter(|a| !a.is_global_set() && !is_help(a)), out);
        }
        after_help(command, out);
        commands(command, &path, out);
    }
}

fn is_help(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version)
}

fn about(command: &Command, out: &mut String) {
    if let Some(text) = command.get_long_about().or(command.get_about()) {
        let _ = writeln!(out, "{}\n", text.to_string().trim());
    }
}

fn after_help(command: &Command, out: &mut String) {
    if let Some(text) = command.get_after_long_help().or(command.get_after_help()) {
        let _ = writeln!(out, "```text\n{}\n```\n", text.to_string().trim());
    }
}

fn arguments<'a>(args: impl Iterator<Item = &'a Arg>, out: &mut String) {
    let mut any = false;
    for arg in args.filter(|a| !a.is_hide_set()) {
        any = true;
        let mut names = Vec::new();
        names.extend(arg.get_short().map(|s| format!("-{s}")));
        names.extend(arg.get_long().map(|l| format!("--{l}")));
        let mut form = names.join(", ");
        if form.is_empty() || arg.get_action().takes_values() {
            let values = arg.get_value_names().unwrap_or_default();
            let values: Vec<String> = match values {
                [] => vec![format!("<{}>", arg.get_id().as_str().to_uppercase())],
                some => some.iter().map(|v| format!("<{v}>")).collect(),
            };
            form = format!("{form} {}", values.join(" "));
        }
        let many = if matches!(arg.get_action(), ArgAction::Append) { "; may be given again" } else { "" };
        let help = arg.get_long_help().or(arg.get_help()).map(|h| h.to_string()).unwrap_or_default();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let choices: Vec<String> = arg
            .get_possible_values()
            .iter()
            .filter(|v| arg.get_action().takes_values() && !v.is_hide_set())
            .map(|v| format!("`{}`", v.get_name()))
            .collect();
        let choices = if choices.is_empty() { String::new() } else { format!(" ({})", choices.join(", ")) };
        let env = arg.get_env().and_then(|e| e.to_str()).map(|e| format!(" [env: `{e}`]")).unwrap_or_default();
        let default = match arg.get_default_values() {
            [one] if arg.get_action().takes_values() => format!(" [default: `{}`]", one.to_string_lossy()),
            _ => String::new(),
        };
        let _ = writeln!(out, "- `{}`: {help}{choices}{many}{default}{env}", form.trim());
    }
    if any {
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    #[derive(Debug, Parser)]
    // As the program does it: a clash of names shows only with all its flags.
    #[command(name = "muonic", version, after_help = crate::EXIT_CODES, propagate_version = true)]
    struct Cli {
        #[command(flatten)]
        _global: crate::Global,
        #[command(subcommand)]
        _command: crate::Command,
    }

    #[test]
    fn the_command_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example_and_stands_in_the_reference() {
        fn check(command: &clap::Command, path: &str, text: &str) {
            for sub in command.get_subcommands() {
                let path = format!("{path} {}", sub.get_name());
                assert!(sub.get_about().is_some(), "{path} says nothing about itself");
                assert!(text.contains(&format!(" `{path}`\n")), "{path} is not in the reference");
                if !sub.has_subcommands() {
                    let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                    assert!(help.starts_with("Example") && help.contains(&path), "{path} has no example");
                }
                check(sub, &path, text);
            }
        }
        let text = crate::reference(Cli::command());
        check(&Cli::command(), "muonic", &text);
        assert!(
            text.contains("- `-o, --output <FORMAT>`: How results are written (`text`, `json`) [default: `text`]"),
            "{text}"
        );
        assert!(text.contains("Exit codes:"));
        assert!(
            text.contains("MUONIC_TOKEN") && !text.contains("--token ") && !text.contains("--token `"),
            "a key is no argument"
        );
        assert!(!text.contains(" \n"), "no trailing blanks");
    }

    #[test]
    fn usage_errors_exit_with_two() {
        for line in [
            &["muonic", "job", "run"][..],
            &["muonic", "data", "put", "Bad_Name", "."],
            &["muonic", "model", "alias", "m", "a"],
            &["muonic", "lineage", "digits"],
            &["muonic", "deploy", "m", "--resources", "cpu=x"],
            &["muonic", "job", "run", "--time-limit", "0s", "--", "true"],
            &["muonic", "key", "create", "k", "--role", "viewer", "--expires", "0"],
        ] {
            assert_eq!(Cli::try_parse_from(line).unwrap_err().exit_code(), 2, "{line:?}");
        }
    }

    #[test]
    fn a_wait_may_be_short_and_a_grace_none_at_all() {
        for line in ["muonic job wait job-1 --timeout 100ms", "muonic job run --grace 0s -- true"] {
            assert!(Cli::try_parse_from(line.split_whitespace()).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_whole_job_line_is_understood() {
        let line = "muonic job run . --name train --resources cpu=2,memory=1Gi --input train=digits@1 --param lr=0.1 \
            --params-as-args --env A=b --model digits --priority -5 --time-limit 10m --grace 5s --retries 2 \
            --metric loss=(.*) --detach -o json -- python train.py --epochs 3";
        let parsed = Cli::try_parse_from(line.split_whitespace());
        assert!(parsed.is_ok(), "{}", parsed.unwrap_err());
    }
}
