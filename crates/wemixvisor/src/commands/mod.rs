//! The commands, one file each.

mod api;
mod config;
mod drill;
mod init;
mod logs;
mod restart;
mod run;
mod start;
mod status;
mod stop;
mod top;
mod upgrade;
mod version;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use clap::error::ErrorKind;
use wemixvisor_core::settings::Settings;
use wemixvisor_daemon::Configuration;
use wemixvisor_host::home::Home;
use wemixvisor_host::lock;

use crate::arguments::{self, Arguments, Command, Cut, Global};
use crate::failure::{Failure, Kind, said};
use crate::live::Live;
use crate::own_program;
use crate::screen::Screen;
use crate::settings::{self, Given, LoadError, Loaded};

/// The exit code of a command that was left with Ctrl-C while its work goes on.
const LEFT: u8 = 130;

/// What every command has.
#[derive(Debug)]
struct Context {
    screen: Screen,
    global: Global,
    /// The flags as settings.
    flags: Vec<(String, OsString)>,
    /// The environment, as it is passed on to the node.
    environment: Vec<(OsString, OsString)>,
    cwd: PathBuf,
    /// The name by which this program was called.
    called: OsString,
    /// What is ours of the command line, without the program's name.
    own_args: Vec<OsString>,
    /// What is the node's.
    node_args: Vec<OsString>,
    no_color: bool,
}

/// Reads the command line and does what it says.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let Cut { own, node } = arguments::split(args);
    let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let json = own.iter().any(|word| word == "--json");
    let arguments = match Arguments::try_parse_from(&own) {
        Ok(arguments) => arguments,
        Err(error) => return not_understood(&error, json),
    };
    let global = arguments.global;
    let no_color =
        global.no_color || environment.iter().any(|(name, value)| name == "NO_COLOR" && !value.is_empty());
    let screen = Screen::new(global.json, global.quiet, no_color);
    let mut words = own.into_iter();
    let called = words.next().unwrap_or_default();
    let own_args = words.collect();
    let context = || -> Result<Context, Failure> {
        let flags = flags(&global)?;
        let cwd = std::env::current_dir().map_err(|error| {
            Failure::failed(format!("the directory in which wemixvisor was started is gone: {error}"))
        })?;
        Ok(Context { screen, global, flags, environment, cwd, called, own_args, node_args: node, no_color })
    };
    match context().and_then(|context| context.carry_out(arguments.command)) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            screen.failure(&failure);
            ExitCode::from(failure.kind as u8)
        }
    }
}

/// A question for help is answered; anything else is a slip.
fn not_understood(error: &clap::Error, json: bool) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if json {
        let text = error.to_string();
        let message = text.trim().strip_prefix("error: ").unwrap_or(&text).trim();
        let _ = Screen::new(true, false, true).result("", &Failure::usage(message).json());
    }
    let _ = error.print();
    ExitCode::from(Kind::Usage as u8)
}

impl Context {
    fn carry_out(&self, command: Command) -> Result<u8, Failure> {
        match command {
            Command::Init { binary } => init::init(self, &binary),
            Command::Run => run::run(self),
            Command::Start => block_on(start::start(self)),
            Command::Stop => block_on(stop::stop(self)),
            Command::Restart { supervisor_only: false } => block_on(restart::restart(self)),
            Command::Restart { supervisor_only: true } => block_on(restart::supervisor(self)),
            Command::Status { watch } => block_on(status::status(self, watch)),
            Command::Logs { follow, tail } => block_on(logs::logs(self, follow, tail)),
            Command::Top => block_on(top::top(self)),
            Command::Version => block_on(version::version(self)),
            Command::Upgrade(command) => block_on(upgrade::upgrade(self, command)),
            Command::Config(command) => config::config(self, command),
            Command::Api(command) => api::api(self, command),
            Command::Drill { keep } => block_on(drill::drill(self, keep)),
        }
    }

    /// The settings, with a word about what is odd in them.
    fn settings(&self) -> Result<Loaded, Failure> {
        Ok(self.with_warnings(self.load(self.global.config.clone())?))
    }

    fn with_warnings(&self, loaded: Loaded) -> Loaded {
        for warning in &loaded.resolved.warnings {
            self.screen.note(&format!("wemixvisor: {warning}"));
        }
        loaded
    }

    /// The settings, with another configuration file than the usual one if one is named.
    fn load(&self, config: Option<PathBuf>) -> Result<Loaded, LoadError> {
        settings::load(&self.given(config))
    }

    /// The layers of the settings, to be read now or again later.
    fn given(&self, config: Option<PathBuf>) -> Given {
        Given { config, flags: self.flags.clone(), env: self.environment.clone(), cwd: self.cwd.clone() }
    }

    /// The settings, and the home they name, for a node with these arguments.
    fn home(&self) -> Result<(Loaded, Home), Failure> {
        let loaded = self.settings()?;
        let home = self.home_of(&loaded.resolved.settings)?;
        Ok((loaded, home))
    }

    /// The settings, the home, and its supervisor. A file that cannot be used does not keep anybody from a
    /// supervisor that runs: then only what environment and flags tell is known, and the file's fault is said. A
    /// slip in those two is a slip all the same.
    fn place(&self) -> Result<(Settings, Home, Live), Failure> {
        let settings = match self.load(self.global.config.clone()) {
            Ok(loaded) => self.with_warnings(loaded).resolved.settings,
            Err(error) => {
                let slip = matches!(error, LoadError::Missing(_));
                let failure = Failure::from(error);
                let known = match settings::without_file(&self.given(None)) {
                    Ok(known) if !slip && self.has_supervisor(&known)? => known,
                    _ => return Err(failure),
                };
                self.screen.note(&format!("wemixvisor: {}", failure.message));
                known
            }
        };
        let home = self.home_of(&settings)?;
        let live = Live::of(&home);
        Ok((settings, home, live))
    }

    fn has_supervisor(&self, settings: &Settings) -> Result<bool, Failure> {
        let home = self.home_of(settings)?;
        Ok(home.socket().exists() || lock::holder(home.wemixvisor()).is_some())
    }

    /// The file of this program.
    fn own_program(&self) -> Result<PathBuf, Failure> {
        own_program::path(&self.called, &self.cwd, &self.environment)
            .map_err(|error| Failure::failed(format!("cannot tell where this program lies: {error}")))
    }

    /// Where the settings come from, to be read again. `had_content`: whether what is in force came from a file.
    fn configuration(&self, file: PathBuf, had_content: bool) -> Configuration {
        let given = self.given(self.global.config.clone());
        let read = move |text: Option<String>| {
            let loaded = settings::load_with(&given, text).map_err(|error| match error {
                LoadError::Invalid(errors) => errors.iter().map(ToString::to_string).collect(),
                other => vec![said(&other)],
            })?;
            Ok(loaded.resolved)
        };
        Configuration::new(file, Arc::new(read), had_content)
    }

    fn home_of(&self, settings: &Settings) -> Result<Home, Failure> {
        self.home_for(settings, &self.node_args)
    }

    /// The home for a node with these arguments.
    fn home_for(&self, settings: &Settings, node_args: &[OsString]) -> Result<Home, Failure> {
        if settings.home.parent().is_none() {
            return Err(Failure::usage(
                "the home must not be the root directory /: set DAEMON_HOME or --home to a directory of its own",
            ));
        }
        let data = settings.data_dir_for(node_args);
        Home::new(&settings.home, Some(&settings.own_dir()), Some(&data), &settings.name)
            .map_err(|error| Failure::usage(error.to_string()))
    }
}

fn block_on(work: impl Future<Output = Result<u8, Failure>>) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(work)
}

/// The flags as settings.
fn flags(global: &Global) -> Result<Vec<(String, OsString)>, Failure> {
    let mut flags = Vec::new();
    for given in &global.set {
        let pair = given.to_str().and_then(|text| text.split_once('='));
        let (key, value) = pair.ok_or_else(|| {
            let given = given.to_string_lossy();
            Failure::usage(format!("--set takes KEY=VALUE, such as node.shutdown_grace=10m, not {given}"))
        })?;
        flags.push((key.to_owned(), value.into()));
    }
    let Global { home, program_name, network, .. } = global;
    for (key, value) in [("home", home), ("name", program_name), ("network", network)] {
        flags.extend(value.clone().map(|value| (key.to_owned(), value)));
    }
    if global.debug {
        flags.push(("debug".into(), "true".into()));
    }
    Ok(flags)
}
