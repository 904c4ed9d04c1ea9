//! What can be typed.
//!
//! What follows `run` and `start` belongs to the node and is never looked at: it is cut off before the rest is
//! read ([`split`]). So the node gets it byte for byte, also `--help`, `--config` and what is not UTF-8.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

/// The commands whose arguments belong to the node.
const NODE_COMMANDS: [&str; 2] = ["run", "start"];

/// Runs a blockchain node and replaces its program at an announced height: stop, switch, start, prove that it
/// works, or go back.
#[derive(Debug, Parser)]
#[command(name = "wemixvisor", version, disable_help_subcommand = false, max_term_width = 100)]
pub struct Arguments {
    /// Flags that every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command takes, before or after its name (for `run` and `start`: before).
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Flags of every command")]
pub struct Global {
    /// The home directory [default: $HOME/.wemixd]
    #[arg(long, global = true, value_name = "DIR")]
    pub home: Option<OsString>,
    /// The file name of the node's program [default: wemixd]
    // Not `name`: a global argument shares its identity with the commands' own ones.
    #[arg(long = "name", global = true, value_name = "NAME")]
    pub program_name: Option<OsString>,
    /// The configuration file [default: config.toml in the home's wemixvisor directory]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The network's profile: mainnet, testnet, devnet, none
    #[arg(long, global = true, value_name = "NETWORK")]
    pub network: Option<OsString>,
    /// Any setting, such as node.shutdown_grace=10m; can be given several times
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub set: Vec<OsString>,
    /// Print the result as one JSON document
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress and no hints, only results and errors
    #[arg(long, global = true)]
    pub quiet: bool,
    /// A detailed log
    #[arg(long, global = true)]
    pub debug: bool,
    /// No colours
    #[arg(long, global = true)]
    pub no_color: bool,
    /// `run` as `start` starts it: in a session of its own.
    #[arg(long, hide = true)]
    pub background: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lay out the home, with the program the node begins with; a home in use is never changed
    Init {
        /// The node's program
        binary: PathBuf,
    },
    /// Supervise in the foreground: `run [node arguments]`; ends with the node's own exit code
    ///
    /// Everything after `run` goes to the node, untouched. The node's output goes to standard output, the
    /// supervisor's own log to standard error. SIGTERM and SIGINT stop the node, then the supervisor.
    Run,
    /// Supervise in the background: `start [node arguments]`; returns when the node answers
    ///
    /// Everything after `start` goes to the node, untouched. Where a supervisor runs already whose node is
    /// down, the node is started.
    Start,
    /// Stop the node and the supervisor; returns when both have ended
    Stop,
    /// Stop the node and start it again; returns when the new process runs
    Restart {
        /// Leave the node alone: the supervisor gives its place to its program as it is on the disk now
        #[arg(long)]
        supervisor_only: bool,
    },
    /// Am I fine, and what comes next?
    Status {
        /// Show it again every second
        #[arg(long, short)]
        watch: bool,
    },
    /// The live view: height and pace, countdown, steps of an upgrade, log; keys for the common orders
    Top,
    /// The node's output
    Logs {
        /// Go on as it is written
        #[arg(long, short)]
        follow: bool,
        /// How many lines to begin with
        #[arg(long, short = 'n', value_name = "LINES", default_value_t = 100)]
        tail: usize,
    },
    /// The versions of this program, of the running supervisor and of the node
    Version,
    /// Schedule upgrades, see how they stand, carry them out, go back
    #[command(subcommand)]
    Upgrade(Upgrade),
    /// Show and check the settings
    #[command(subcommand)]
    Config(Config),
    /// Serve the HTTP API and the page, beside a running supervisor or without one; make tokens for it
    ///
    /// Ends with SIGTERM or Ctrl-C; supervisor and node are not touched by that. What the supervisor serves by itself is
    /// set in `[api]` of the settings.
    Api(Api),
    /// Practise on this machine: a good upgrade, a bad one, a killed supervisor; in a quarter of a minute
    ///
    /// A temporary home, a built-in practice node and this very program as its supervisor: real processes, shown
    /// step by step, with a verdict. Nothing of yours is touched. Exit code 0 only if every check holds.
    Drill {
        /// Leave the temporary home in place and say where it is
        #[arg(long)]
        keep: bool,
    },
}

/// `upgrade …`
#[derive(Debug, Subcommand)]
pub enum Upgrade {
    /// Schedule an upgrade, or replace the scheduled one of the same name
    Schedule(Schedule),
    /// The scheduled upgrades
    List,
    /// The upgrade under way, the next one with its readiness, and the last one
    Status {
        /// Wait for the next upgrade and show its steps until it is over
        #[arg(long, short)]
        follow: bool,
    },
    /// Take an upgrade off the schedule; without a name the only one
    Cancel {
        /// Its name
        name: Option<String>,
    },
    /// Carry a scheduled upgrade out now
    Apply {
        /// Its name
        name: String,
        /// Even if its version is pinned as bad
        #[arg(long)]
        force: bool,
        /// Return as soon as it has begun
        #[arg(long)]
        no_wait: bool,
    },
    /// Try an upgrade that was rolled back again, now
    Retry {
        /// Its name
        name: String,
        /// Return as soon as it has begun
        #[arg(long)]
        no_wait: bool,
    },
    /// Go back to the program that ran before the last upgrade
    Rollback {
        /// Return as soon as it has begun
        #[arg(long)]
        no_wait: bool,
    },
    /// The finished upgrades, newest first
    History {
        /// At most so many, 1 to 1000
        #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
        limit: u16,
    },
}

/// `upgrade schedule`
#[derive(Debug, Args)]
pub struct Schedule {
    /// Its name, which is the directory name under upgrades/
    pub name: String,
    /// The height it is bound to
    // A number below 0 is refused as a height, and not taken for a flag.
    #[arg(allow_negative_numbers = true)]
    pub height: String,
    /// Where its program can be had: an address, or a JSON object of addresses by platform
    #[arg(long, value_name = "URL or JSON")]
    pub binaries: Option<String>,
    /// The sum of its program: sha256:… or sha512:…, or a JSON object of sums by platform
    #[arg(long, value_name = "SUM or JSON")]
    pub checksum: Option<String>,
    /// What it is, for people
    #[arg(long, value_name = "TEXT")]
    pub info: Option<String>,
    /// When it fires: at (the height), before (the first new block), window:BLOCKS, halted, manual
    #[arg(long, value_name = "MODE")]
    pub switch: Option<String>,
    /// Even if its height has passed, or its version is pinned as bad
    #[arg(long)]
    pub force: bool,
}

/// `api …`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Api {
    /// The IP address to listen on [default: that of api.listen]
    #[arg(long, value_name = "IP")]
    pub host: Option<IpAddr>,
    /// The port to listen on; 0 takes any free one [default: that of api.listen]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// What to do instead.
    #[command(subcommand)]
    pub command: Option<ApiCommand>,
}

/// `api …` other than serving.
#[derive(Debug, Subcommand)]
pub enum ApiCommand {
    /// Who may use the API over TCP, and for what
    #[command(subcommand)]
    Token(TokenCommand),
}

/// `api token …`
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; it is shown once and kept nowhere
    Create {
        /// Whose it is
        name: String,
        /// What it is good for: read, operate (upgrades and the node), admin (settings and the supervisor)
        #[arg(long, value_enum, default_value_t = Scope::Read)]
        scope: Scope,
    },
    /// The tokens there are
    List,
    /// Take a token back, at once
    Revoke {
        /// Whose it is
        name: String,
    },
}

/// What a token is good for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Scope {
    /// Look at everything.
    Read,
    /// Upgrades and the node too.
    Operate,
    /// Settings and the supervisor too.
    Admin,
}

/// `config …`
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Every setting with its value
    Show {
        /// And where the value comes from
        #[arg(long)]
        origin: bool,
    },
    /// Check the settings, or a file before it is put in place
    Validate {
        /// The file, instead of the one in use
        file: Option<PathBuf>,
    },
}

/// A command line, cut in two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// What is ours, the program's name included.
    pub own: Vec<OsString>,
    /// What is the node's.
    pub node: Vec<OsString>,
}

/// Cuts off what belongs to the node. One `--` right behind `run` or `start` is a mark and goes.
pub fn split(mut args: Vec<OsString>) -> Cut {
    let Some(at) = node_command(&args) else { return Cut { own: args, node: Vec::new() } };
    let mut node = args.split_off(at + 1);
    if node.first().is_some_and(|word| word == "--") {
        node.remove(0);
    }
    Cut { own: args, node }
}

/// Where `run` or `start` stands, if it is the command.
fn node_command(args: &[OsString]) -> Option<usize> {
    let with_value: Vec<String> = Arguments::command()
        .get_arguments()
        .filter(|argument| argument.get_action().takes_values())
        .filter_map(|argument| Some(format!("--{}", argument.get_long()?)))
        .collect();
    let mut at = 1;
    while let Some(word) = args.get(at) {
        match word.to_str() {
            Some(word) if NODE_COMMANDS.contains(&word) => return Some(at),
            Some(flag) if with_value.iter().any(|with_value| with_value == flag) => at += 2,
            Some(flag) if flag.starts_with('-') && flag != "--" => at += 1,
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn cut(line: &str) -> (Arguments, Vec<OsString>) {
        let Cut { own, node } = split(words(line));
        (Arguments::try_parse_from(own).unwrap(), node)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_reads_with_every_flag_in_front_and_behind() {
        for command in [
            "init x",
            "stop",
            "restart",
            "restart --supervisor-only",
            "status -w",
            "top",
            "logs -f -n 5",
            "version",
            "upgrade schedule v2 5 --binaries u --checksum s --info i --switch at --force",
            "upgrade list",
            "upgrade status --follow",
            "upgrade cancel v2",
            "upgrade cancel",
            "upgrade apply v2 --force --no-wait",
            "upgrade retry v2 --no-wait",
            "upgrade rollback --no-wait",
            "upgrade history --limit 3",
            "config show --origin",
            "config validate f",
        ] {
            let flags =
                "--home h --name n --config c --network devnet --set a=b --json --quiet --debug --no-color";
            for line in [format!("w {flags} {command}"), format!("w {command} {flags}")] {
                let (arguments, node) = cut(&line);
                assert!(node.is_empty() && arguments.global.json, "{line}");
                assert_eq!(arguments.global.program_name, Some("n".into()), "{line}");
            }
        }
    }

    #[test]
    fn what_follows_run_is_the_nodes_untouched() {
        let (arguments, node) = cut("w --home /h run --home /other --help --config c -v -- x run");
        assert_eq!(arguments.global.home, Some("/h".into()));
        assert!(arguments.global.config.is_none() && matches!(arguments.command, Command::Run));
        assert_eq!(node, words("--home /other --help --config c -v -- x run"));
    }

    #[test]
    fn one_mark_behind_run_goes_and_a_second_one_stays() {
        assert_eq!(cut("w run -- --datadir d").1, words("--datadir d"));
        assert_eq!(cut("w start -- -- x").1, words("-- x"));
        assert_eq!(cut("w run").1, words(""));
    }

    #[test]
    fn bytes_that_are_no_text_reach_the_node() {
        let raw = OsString::from_vec(vec![b'-', 0xff]);
        let mut line = words("w --set a=b --json run");
        line.push(raw.clone());
        let Cut { own, node } = split(line);
        assert_eq!(node, [raw]);
        assert!(Arguments::try_parse_from(own).unwrap().global.json);
    }

    #[test]
    fn a_flags_value_is_not_taken_for_a_command() {
        let (arguments, node) = cut("w --name run --config=start run x");
        assert_eq!(arguments.global.program_name, Some("run".into()));
        assert_eq!(node, words("x"));
        let Cut { own, node } = split(words("w upgrade schedule run 5 --json"));
        assert!(node.is_empty());
        let arguments = Arguments::try_parse_from(own).unwrap();
        assert!(arguments.global.json);
        assert!(
            matches!(arguments.command, Command::Upgrade(Upgrade::Schedule(schedule)) if schedule.name == "run")
        );
    }

    #[test]
    fn other_commands_take_the_global_flags_behind_them() {
        let Cut { own, .. } = split(words("w status --watch --home /h --no-color"));
        let arguments = Arguments::try_parse_from(own).unwrap();
        assert_eq!(arguments.global.home, Some("/h".into()));
        assert!(arguments.global.no_color && matches!(arguments.command, Command::Status { watch: true }));
    }
}
