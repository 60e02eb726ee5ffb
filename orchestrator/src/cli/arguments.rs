use std::{ffi::OsString, path::PathBuf};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::{
    config::Sources,
    operate::{command::FailuresCommand, store_command::TrackerCommand},
};

/// Reads records from Kafka, transforms them and writes the results inside one Kafka transaction: exactly once, with every
/// failure kept in a store.
#[derive(Debug, Parser)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 nothing found, 4 done in part, 69 broker or store unreachable,\n70 fenced by another instance, 75 try again, 78 configuration."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the service until it is told to stop (SIGTERM, SIGINT).
    #[command(
        after_help = "Examples:\n  run --config orchestrator.yml\n  run --set failure-mode=skip-and-log --set dead-letter-topic=orders.failed"
    )]
    Run,
    /// Look at the configuration without running anything.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at records that failed, and decide about them.
    #[command(subcommand)]
    Failures(Box<FailuresCommand>),
    /// Look at the tracker itself.
    #[command(subcommand)]
    Tracker(TrackerCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show every key with its value and where the value comes from. Secrets are shown as `***`.
    #[command(after_help = "Examples:\n  config show\n  config show --config orchestrator.yml -o json")]
    Show {
        /// What to print.
        #[arg(long, short, value_enum, default_value_t)]
        output: Format,
    },
    /// Say what is wrong with the configuration: exit code 0 if nothing, 78 otherwise.
    #[command(
        after_help = "Examples:\n  config check --config orchestrator.yml\n  ORCHESTRATOR_TRACKING=outbox config check"
    )]
    Check,
    /// Print the JSON Schema of the file, for an editor.
    #[command(
        after_help = "Examples:\n  config schema > orchestrator.schema.json\n  config schema | jq '.properties.orchestrator.properties | keys'"
    )]
    Schema,
}

/// What a command prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for a person.
    #[default]
    Table,
    /// One JSON document.
    Json,
}

/// Lies over the environment, which lies over the file.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Configuration")]
pub(crate) struct Overrides {
    /// The file. Default: ./orchestrator.yml, else /etc/orchestrator/orchestrator.yml, else none [env: ORCHESTRATOR_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets any key, such as `failure-mode=skip-and-log` or `kafka.producer.linger.ms=20`; may be repeated.
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Brokers to ask first [env: ORCHESTRATOR_BOOTSTRAP_SERVERS]
    #[arg(long, global = true, value_name = "HOST:PORT,…", hide_short_help = true)]
    bootstrap_servers: Option<String>,
    /// The consumer group [env: ORCHESTRATOR_GROUP_ID]
    #[arg(long, global = true, value_name = "GROUP", hide_short_help = true)]
    group_id: Option<String>,
    /// The topic to read [env: ORCHESTRATOR_SOURCE_TOPIC]
    #[arg(long, global = true, value_name = "TOPIC", hide_short_help = true)]
    source_topic: Option<String>,
    /// The topic for outputs that name none [env: ORCHESTRATOR_TARGET_TOPIC]
    #[arg(long, global = true, value_name = "TOPIC", hide_short_help = true)]
    target_topic: Option<String>,
    /// The store, by the name of its backend [env: ORCHESTRATOR_DB_STRATEGY]
    #[arg(long, global = true, value_name = "STORE", hide_short_help = true)]
    db_strategy: Option<String>,
    /// The name of this process [env: ORCHESTRATOR_INSTANCE]
    #[arg(long, global = true, value_name = "NAME", hide_short_help = true)]
    instance: Option<String>,
    /// Holds the lock, the operator's socket and embedded stores [env: ORCHESTRATOR_DATA_DIR]
    #[arg(long, global = true, value_name = "FOLDER", hide_short_help = true)]
    data_dir: Option<String>,
    /// Where health and metrics are served [env: ORCHESTRATOR_MANAGEMENT_ADDRESS]
    #[arg(long, global = true, value_name = "ADDRESS:PORT", hide_short_help = true)]
    management_address: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

impl Overrides {
    /// Where the configuration comes from, this process's environment included.
    pub(crate) fn sources(&self) -> Sources {
        let named = [
            ("bootstrap-servers", &self.bootstrap_servers),
            ("group-id", &self.group_id),
            ("source-topic", &self.source_topic),
            ("target-topic", &self.target_topic),
            ("db-strategy", &self.db_strategy),
            ("instance", &self.instance),
            ("data-dir", &self.data_dir),
            ("management-address", &self.management_address),
        ];
        let named = named
            .into_iter()
            .filter_map(|(key, value)| Some((format!("--{key}"), key.to_owned(), value.clone()?)));
        let set = self
            .set
            .iter()
            .map(|(key, value)| (format!("--set {key}"), key.clone(), value.clone()));
        Sources {
            file: self.config.clone(),
            flags: named.chain(set).collect(),
            ..Sources::from_process()
        }
    }
}

/// Reads the command line of the program `name`.
pub(crate) fn parse(
    name: &'static str,
    version: &'static str,
    arguments: impl IntoIterator<Item = OsString>,
) -> clap::error::Result<Cli> {
    let matches = Cli::command()
        .name(name)
        .bin_name(name)
        .version(version)
        .try_get_matches_from(arguments)?;
    Cli::from_arg_matches(&matches)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{Cli, parse};

    fn arguments(text: &str) -> Vec<std::ffi::OsString> {
        text.split(' ').map(Into::into).collect()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_may_stand_before_and_behind_the_command() {
        for line in ["x --set a=b run --instance i", "x run --instance i --set a=b"] {
            let cli = parse("x", "1", arguments(line)).unwrap();
            let flags = cli.overrides.sources().flags;
            let owned =
                |flag: &str, key: &str, value: &str| (flag.to_owned(), key.to_owned(), value.to_owned());
            assert_eq!(
                flags,
                [owned("--instance", "instance", "i"), owned("--set a", "a", "b")]
            );
        }
    }

    #[test]
    fn every_command_shows_two_examples() {
        fn walk(command: &clap::Command) {
            if command.has_subcommands() {
                return command.get_subcommands().for_each(walk);
            }
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(
                help.starts_with("Examples:\n") && help.lines().count() == 3,
                "{}: {help}",
                command.get_name()
            );
        }
        walk(&Cli::command());
    }

    #[test]
    fn what_the_command_line_lacks_is_a_usage_error() {
        for line in ["x", "x frobnicate", "x run --set a", "x config"] {
            assert_eq!(
                parse("x", "1", arguments(line)).unwrap_err().exit_code(),
                2,
                "{line}"
            );
        }
    }
}
