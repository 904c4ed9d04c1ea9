//! `api`: the HTTP API in a process of its own, and the tokens for it.

use std::sync::Arc;

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use wemixvisor_core::engine::port::{RefusalCode, Refused};
use wemixvisor_core::settings as core_settings;
use wemixvisor_daemon::api::Place;
use wemixvisor_daemon::api::relay::Beside;
use wemixvisor_daemon::api::tokens::{self, Token, TokenError, TokenFile};
use wemixvisor_host::lock;

use super::{Context, block_on};
use crate::arguments::{Api, ApiCommand, Scope, TokenCommand};
use crate::failure::Failure;
use crate::files_api::FilesApi;
use crate::log;
use crate::render::table::table;
use crate::settings;

/// What `api --json` prints when it listens.
#[derive(Debug, Serialize)]
struct ServingJson {
    url: String,
}

/// What `api token create --json` prints.
#[derive(Debug, Serialize)]
struct CreatedJson<'a> {
    name: &'a str,
    scope: &'a str,
    token: &'a str,
}

/// What `api token list --json` prints.
#[derive(Debug, Serialize)]
struct ListJson {
    tokens: Vec<TokenJson>,
}

#[derive(Debug, Serialize)]
struct TokenJson {
    name: String,
    scope: &'static str,
    created: String,
}

pub(super) fn api(context: &Context, Api { host, port, command }: Api) -> Result<u8, Failure> {
    match command {
        Some(ApiCommand::Token(command)) => token(context, command),
        None => {
            let mut given = context.given(context.global.config.clone());
            let supervisors = settings::load(&given)?.resolved.settings.api;
            if let Some(usual) = supervisors.address().filter(|_| host.is_some() || port.is_some()) {
                let (host, port) = (host.unwrap_or(usual.ip()), port.unwrap_or(usual.port()));
                let listen = std::net::SocketAddr::new(host, port).to_string();
                given.flags.push(("api.listen".into(), listen.into()));
            }
            // The rules for an API that is served hold for this one too.
            given.flags.push(("api.enabled".into(), "true".into()));
            let loaded = context.with_warnings(settings::load(&given)?);
            block_on(serve(context, loaded, &supervisors))
        }
    }
}

/// Serves it, beside a supervisor that has these settings for its own.
async fn serve(
    context: &Context,
    loaded: settings::Loaded,
    supervisors: &core_settings::Api,
) -> Result<u8, Failure> {
    let settings = loaded.resolved.settings;
    let home = context.home_of(&settings)?;
    if !home.wemixvisor().is_dir() {
        return Err(Failure::failed(format!(
            "there is no home of a node at {}; lay it out with: wemixvisor init <binary>",
            home.root().display()
        )));
    }
    let signals = |error| Failure::failed(format!("cannot listen to signals: {error}"));
    let mut terms = signal(SignalKind::terminate()).map_err(signals)?;
    let mut ints = signal(SignalKind::interrupt()).map_err(signals)?;
    let _log = log::start(&settings, &home, &context.global, context.no_color);
    // Its own answers are those without a supervisor: no settings are in force then that the file could lose.
    let place = Place { log: settings.node_log(), configuration: context.configuration(loaded.file, false) };
    let files = Arc::new(FilesApi::new(home.clone(), settings.clone()));
    let same = supervisors.enabled && supervisors.address() == settings.api.address();
    let beside = Beside::listen(&home, settings.api, files, place).await.map_err(|error| {
        if same && error.is_taken() && lock::holder(home.wemixvisor()).is_some() {
            return Failure::failed(format!(
                "the supervisor of {} serves the API on {} by itself (api.enabled): use that, or name another port with \
                 --port",
                home.root().display(),
                supervisors.listen
            ));
        }
        Failure::from_error(&error)
    })?;
    let json = ServingJson { url: beside.url() };
    context.screen.result(&format!("the API is served on {}\n", json.url), &json)?;
    beside
        .serve(async {
            tokio::select! {
                _ = terms.recv() => {}
                _ = ints.recv() => {}
            }
        })
        .await;
    Ok(0)
}

fn token(context: &Context, command: TokenCommand) -> Result<u8, Failure> {
    // A settings file that cannot be used keeps nobody from taking back a token of a supervisor that runs.
    let (_, home, _) = context.place()?;
    if !home.wemixvisor().is_dir() {
        return Err(Failure::failed(format!(
            "there is no home of a node at {}; lay it out with: wemixvisor init <binary>",
            home.root().display()
        )));
    }
    let file = TokenFile::of(&home);
    match command {
        TokenCommand::Create { name, scope } => {
            let scope = tokens::Scope::from(scope);
            let token = file.create(&name, scope).map_err(refused)?;
            let json = CreatedJson { name: &name, scope: scope.as_str(), token: &token };
            context.screen.result(&format!("{token}\n"), &json)?;
            context.screen.note(&format!(
                "This is the only time it is shown. It is good for {}; to take it back: wemixvisor api token revoke {name}",
                scope.as_str()
            ));
        }
        TokenCommand::List => {
            let tokens: Vec<TokenJson> =
                file.list().map_err(refused)?.into_iter().map(TokenJson::of).collect();
            let row = |token: &TokenJson| vec![token.name.clone(), token.scope.into(), token.created.clone()];
            let text = match tokens.as_slice() {
                [] => "there are no tokens; to make one: wemixvisor api token create <name>\n".into(),
                tokens => table(&tokens.iter().map(row).collect::<Vec<_>>()),
            };
            context.screen.result(&text, &ListJson { tokens })?;
        }
        TokenCommand::Revoke { name } => {
            file.revoke(&name).map_err(refused)?;
            let message = format!("the token named {name} is good for nothing any more");
            context.screen.result(&format!("{message}\n"), &serde_json::json!({"message": message}))?;
        }
    }
    Ok(0)
}

fn refused(error: TokenError) -> Failure {
    match &error {
        TokenError::BadName(_) => Failure::usage(error.to_string()),
        TokenError::Unknown(_) => {
            Failure::from(Refused { code: RefusalCode::NotFound, message: error.to_string() })
        }
        TokenError::Exists(_) | TokenError::TooMany => Failure::refused(error.to_string()),
        _ => Failure::from_error(&error),
    }
}

impl TokenJson {
    fn of(token: Token) -> Self {
        Self { name: token.name, scope: token.scope.as_str(), created: token.created.to_string() }
    }
}

impl From<Scope> for tokens::Scope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Read => Self::Read,
            Scope::Operate => Self::Operate,
            Scope::Admin => Self::Admin,
        }
    }
}
