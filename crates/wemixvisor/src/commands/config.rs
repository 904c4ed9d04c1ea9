//! `config`: the settings, shown and checked.

use serde::Serialize;
use wemixvisor_core::settings::{Row, Settings};
use wemixvisor_daemon::api::listen::check_tls;
use wemixvisor_host::output::{NotAFile, can_be_log};

use super::{Context, block_on};
use crate::arguments::Config;
use crate::failure::Failure;
use crate::live::Live;
use crate::render::table::table;
use crate::settings::{LoadError, Loaded};

/// What `config show --json` prints.
#[derive(Debug, Serialize)]
struct ShowJson {
    file: String,
    file_found: bool,
    settings: Vec<SettingJson>,
    warnings: Vec<String>,
}

/// One setting in it.
#[derive(Debug, Serialize)]
struct SettingJson {
    key: &'static str,
    value: String,
    origin: String,
    env: &'static str,
    applies: &'static str,
}

/// What `config validate --json` prints.
#[derive(Debug, Serialize)]
struct ValidateJson {
    valid: bool,
    file: Option<String>,
    errors: Vec<String>,
    warnings: Vec<String>,
}

pub(super) fn config(context: &Context, command: Config) -> Result<u8, Failure> {
    match command {
        Config::Show { origin } => show(context, origin),
        Config::Validate { file } => validate(context, file.or_else(|| context.global.config.clone())),
    }
}

fn show(context: &Context, origin: bool) -> Result<u8, Failure> {
    let loaded = context.settings()?;
    let rows = loaded.resolved.rows();
    let line = |row: &Row| {
        let value = if row.value.is_empty() { "empty" } else { &row.value };
        let mut cells = vec![row.key.to_owned(), value.to_owned()];
        cells.extend(origin.then(|| row.origin.to_string()));
        cells
    };
    let json = ShowJson {
        file: loaded.file.display().to_string(),
        file_found: loaded.file_found,
        settings: rows.iter().map(SettingJson::of).collect(),
        warnings: warnings(&loaded),
    };
    context.screen.result(&table(&rows.iter().map(line).collect::<Vec<_>>()), &json)?;
    Ok(0)
}

fn validate(context: &Context, file: Option<std::path::PathBuf>) -> Result<u8, Failure> {
    let named = file.as_ref().map(|file| file.display().to_string());
    match context.load(file) {
        Ok(loaded) => {
            let file = loaded.file.display().to_string();
            let what = if loaded.file_found { file.clone() } else { format!("there is no {file}; all else") };
            let mut text = format!("{what} is valid\n");
            let mut warnings = warnings(&loaded);
            let settings = &loaded.resolved.settings;
            warnings.extend(other_data_dir(context, settings));
            warnings
                .extend(check_tls(&settings.api, &settings.own_dir()).err().map(|error| error.to_string()));
            warnings.extend(can_be_log(&settings.node_log()).err().map(not_kept));
            warnings.iter().for_each(|warning| text.push_str(&format!("  note: {warning}\n")));
            let json = ValidateJson { valid: true, file: Some(file), errors: Vec::new(), warnings };
            context.screen.result(&text, &json)?;
            Ok(0)
        }
        Err(error) if context.screen.json => {
            let errors = match &error {
                LoadError::Invalid(errors) => errors.iter().map(ToString::to_string).collect(),
                other => vec![other.to_string()],
            };
            let json = ValidateJson { valid: false, file: named, errors, warnings: Vec::new() };
            context.screen.result("", &json)?;
            Ok(Failure::from(error).kind as u8)
        }
        Err(error) => Err(error.into()),
    }
}

fn not_kept(problem: NotAFile) -> String {
    format!("logs.file: {problem}: the node's output is not kept")
}

/// The running node's arguments name another data directory. Of a node that does not run they are not known.
fn other_data_dir(context: &Context, settings: &Settings) -> Option<String> {
    let live = Live::of(&context.home_of(settings).ok()?);
    let mut args = Vec::new();
    // Whoever cannot be asked has nothing to do with the file.
    let _ = block_on(async {
        args = live.status().await?.map(|status| status.node.args).unwrap_or_default();
        Ok(0)
    });
    settings.other_data_dir(&args)
}

fn warnings(loaded: &Loaded) -> Vec<String> {
    loaded.resolved.warnings.iter().map(ToString::to_string).collect()
}

impl SettingJson {
    fn of(row: &Row) -> Self {
        Self {
            key: row.key,
            value: row.value.clone(),
            origin: row.origin.to_string(),
            env: row.env,
            applies: row.applies.as_str(),
        }
    }
}
