//! The commands: run, `version`, `init`.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

use clap::error::ErrorKind;
use serde_json::json;

use crate::chain::Chain;
use crate::faults::Faults;
use crate::flags::{self, Flags, FlagsError};
use crate::journal::{Journal, now_ms};
use crate::node::{Node, Opened};
use crate::pace::{Circumstances, foreign_from};
use crate::serve::{self, Ports};
use crate::stop::{self, Signals};
use crate::store::{Store, StoreError};
use crate::{control, death, init, log, node};

/// The chain id of an empty data directory: the test network (NODES.md section 1).
const CHAIN_ID: u64 = 1112;
/// Every refusal's exit code.
const FATAL: u8 = 1;

/// Runs the program with the arguments `args`, the first of which is the program's name, as
/// [`std::env::args_os`] gives them. Builds its own runtime. A running node ends the process itself.
pub fn main_with_args(args: impl Iterator<Item = OsString>) -> ExitCode {
    let flags = match flags::read(args) {
        Ok(flags) => flags,
        Err(FlagsError::Usage(error)) if error.kind() == ErrorKind::DisplayHelp => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => return fatal(error),
    };
    let words: Vec<&str> = flags.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => run(flags.clone()),
        ["version"] => version(&flags),
        ["init", file] => initialise(&flags, Path::new(file)),
        [word, ..] => fatal(format!("unknown command or too many words: {word:?}")),
    }
}

fn fatal(text: impl Display) -> ExitCode {
    log::fatal(&text.to_string());
    ExitCode::from(FATAL)
}

/// The record that was asked for, or none: for commands that leave the data directory alone.
fn asked_journal(flags: &Flags) -> Journal {
    let opened = flags.record.journal.as_deref().map(Journal::open);
    opened.and_then(Result::ok).unwrap_or_else(Journal::none)
}

fn version(flags: &Flags) -> ExitCode {
    asked_journal(flags).fact("version", json!({"version": flags.program.as_version}));
    if flags.version_hangs {
        loop {
            std::thread::park();
        }
    }
    println!("Testnode");
    println!("Version: {}-stable", flags.program.as_version);
    println!("Git Commit: {}", flags.program.commit);
    println!("Architecture: {}", flags::architecture());
    println!("Operating System: {}", std::env::consts::OS);
    ExitCode::from(flags.version_exit_code.unwrap_or(0))
}

fn initialise(flags: &Flags, file: &Path) -> ExitCode {
    let journal = asked_journal(flags);
    let done = init::read(file).map_err(|error| error.to_string()).and_then(|genesis| {
        let store = Store::open(&flags.instance_dir()).map_err(|error| error.to_string())?;
        let found = store.chain().map_err(|error| error.to_string())?;
        let mut chain = found.unwrap_or_else(|| new_chain(flags, genesis.chain_id));
        init::apply(&mut chain, &genesis, &flags.program).map_err(|error| error.to_string())?;
        store.put_chain(&chain).map_err(|error| error.to_string())?;
        Ok(chain)
    });
    match done {
        Ok(chain) => {
            journal.fact("init", json!({"exit": 0, "head": chain.head, "forks": chain.forks}));
            log::info("Successfully wrote genesis state");
            ExitCode::SUCCESS
        }
        Err(error) => {
            journal.fact("init", json!({"exit": FATAL, "error": error}));
            fatal(error)
        }
    }
}

fn new_chain(flags: &Flags, genesis_id: Option<u64>) -> Chain {
    let network = &flags.network;
    let id = network.chain_id.or(genesis_id).unwrap_or(CHAIN_ID);
    let salt = network.genesis_salt.as_deref().unwrap_or_default();
    let step_ms = network.block_time.ms().max(1);
    let mut chain = Chain::new(id, salt, network.genesis_time.unwrap_or_else(now_ms), step_ms);
    chain.database_version = flags.program.database_version;
    chain
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "Failed to register the Ethereum service: database contains incompatible genesis ({what}: have {have}, new {new})"
    )]
    OtherChain { what: &'static str, have: String, new: String },
    #[error("database version is v{have}, testnode {version} only supports v{own}")]
    NewerDatabase { have: u32, own: u32, version: String },
    #[error("cannot open the journal: {0}")]
    Journal(std::io::Error),
}

fn run(flags: Flags) -> ExitCode {
    let started_ms = now_ms();
    let file = flags.record.journal.clone().unwrap_or_else(|| flags.instance_dir().join("journal.log"));
    let store = Store::open(&flags.instance_dir());
    let journal = match Journal::open(&file).map_err(StartError::Journal) {
        Ok(journal) => journal,
        Err(error) => return fatal(error),
    };
    let store = match store {
        Ok(store) => store,
        Err(error) => {
            if matches!(error, StoreError::Locked) {
                journal.fact("datadir-locked", json!({}));
            }
            return fatal(error);
        }
    };
    let (opened, faults) = match open(&flags, &journal, store, started_ms) {
        Ok(opened) => opened,
        Err(error) => {
            journal.fact("stop", json!({"exit": FATAL, "by": "itself", "error": error.to_string()}));
            return fatal(error);
        }
    };
    if flags.record.read_stdin {
        record_stdin(&file);
    }
    let node = Node::new(flags, faults, journal, opened);
    if let Some(text) = node.faults().fail_start.clone() {
        log::fatal(&text);
        let code = death::exit_code(&node.faults());
        node.journal.fact("stop", json!({"exit": code, "head": node.chain().head, "by": "itself"}));
        return ExitCode::from(code);
    }
    node.flush(false);
    live(&node)
}

/// Opens the data directory as a node does that starts: checks it, counts the start, prepares the chain.
fn open(
    flags: &Flags,
    journal: &Journal,
    store: Store,
    started_ms: u64,
) -> Result<(Opened, Faults), StartError> {
    let mut chain = store.chain()?.unwrap_or_else(|| new_chain(flags, None));
    check(flags, &chain)?;
    chain.database_version = flags.program.database_version;
    let starts = store.count_start(&format!("{}-{}", flags.program.as_version, flags.program.commit))?;
    journal.start(&flags.record, &flags.client_version(), chain.head, starts);
    log::info(&format!("Starting testnode                        version={}", flags.client_version()));
    if !chain.clean {
        log::warn(&format!("Unclean shutdown detected                head={}", chain.head));
        if flags.network.unclean_forks {
            chain.part();
        }
    }
    let (forks, rewound) = init::prepare(&mut chain, &flags.program);
    if let Some(to) = rewound {
        log::warn(&format!("Rewinding chain to upgrade configuration number={to}"));
    }
    let step_ms = flags.network.block_time.ms().max(1);
    let follows = flags.network.network_follows && !flags.network.solo;
    let around = Circumstances {
        started_ms,
        step_ms,
        follows,
        behind_at_start: follows && chain.network(step_ms).height_at(started_ms) > chain.head,
        foreign_from: foreign_from(flags.network.fork().as_ref(), &forks),
    };
    let shown = flags.only_on_start.is_none_or(|only| only == starts);
    let faults = if shown { flags.faults.clone() } else { Faults::default() };
    Ok((Opened { store, chain, forks, around, starts }, faults))
}

fn check(flags: &Flags, chain: &Chain) -> Result<(), StartError> {
    let own = flags.program.database_version;
    if chain.database_version > own {
        let (have, version) = (chain.database_version, flags.program.as_version.clone());
        return Err(StartError::NewerDatabase { have, own, version });
    }
    if let Some(new) = flags.network.chain_id.filter(|&new| new != chain.chain_id) {
        let (have, new) = (chain.chain_id.to_string(), new.to_string());
        return Err(StartError::OtherChain { what: "chain id", have, new });
    }
    if let Some(new) = flags.network.genesis_salt.as_ref().filter(|&new| *new != chain.genesis_salt) {
        let (have, new) = (chain.genesis_salt.clone(), new.clone());
        return Err(StartError::OtherChain { what: "genesis salt", have, new });
    }
    Ok(())
}

fn record_stdin(file: &Path) {
    let Ok(journal) = Journal::open(file) else { return };
    std::thread::spawn(move || {
        use sha2::{Digest, Sha256};
        use std::io::Read;
        let mut all = Vec::new();
        let _ = std::io::stdin().read_to_end(&mut all);
        let sum = crate::chain::hex(&Sha256::digest(&all));
        journal.fact("stdin", json!({"bytes": all.len(), "sha256": sum.trim_start_matches("0x")}));
    });
}

/// Runs the node until something ends the process.
fn live(node: &Rc<Node>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fatal(error),
    };
    let local = tokio::task::LocalSet::new();
    let ended = local.block_on(&runtime, async {
        match begin(node).await {
            Ok(()) => std::future::pending().await,
            Err(error) => error,
        }
    });
    node.journal.fact("stop", json!({"exit": FATAL, "by": "itself", "error": ended}));
    node.flush(true);
    fatal(ended)
}

/// Starts all parts of the node, in the order in which they show from the outside.
async fn begin(node: &Rc<Node>) -> Result<(), String> {
    let spawn = |signals: Signals| tokio::task::spawn_local(stop::obey(Rc::clone(node), signals));
    match node.flags.sigterm_after {
        None => {
            spawn(Signals::catch().map_err(|error| error.to_string())?);
        }
        Some(span) => {
            let node = Rc::clone(node);
            tokio::task::spawn_local(async move {
                tokio::time::sleep(span.0).await;
                if let Ok(signals) = Signals::catch() {
                    stop::obey(node, signals).await;
                }
            });
        }
    }
    tokio::task::spawn_local(death::in_time(Rc::clone(node)));
    tokio::task::spawn_local(node::chatter(Rc::clone(node)));
    tokio::task::spawn_local(node::produce(Rc::clone(node)));
    let mut ports = Ports { pid: std::process::id(), ..Ports::default() };
    node.store.remove_ports();
    if node.flags.endpoints.control {
        let listener = serve::listen("127.0.0.1", 0).await.map_err(|error| error.to_string())?;
        ports.control = listener.local_addr().ok();
        tokio::task::spawn_local(control::serve(Rc::clone(node), listener));
    }
    if let Some(span) = node.flags.rpc_after {
        node.store.put_ports(&ports).map_err(|error| error.to_string())?;
        tokio::select! {
            () = tokio::time::sleep(span.0) => {}
            () = node.stopping.cancelled() => return Ok(()),
        }
    }
    let ports = serve::open(node, ports).await.map_err(|error| error.to_string())?;
    node.store.put_ports(&ports).map_err(|error| error.to_string())
}
