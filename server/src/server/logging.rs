//! Logs on standard error, as text for people or JSON for machines. The level can be changed while running.

use std::error::Error;
use std::io::IsTerminal;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::LogFormat;

pub(super) struct Logging(reload::Handle<EnvFilter, Registry>);

impl Logging {
    pub(super) fn start(level: &str, format: LogFormat) -> Result<Self, Box<dyn Error>> {
        let (filter, handle) = reload::Layer::new(filter(level)?);
        let registry = tracing_subscriber::registry().with(filter);
        let started = match format {
            LogFormat::Json => registry
                .with(
                    fmt::layer()
                        .json()
                        .flatten_event(true)
                        .with_writer(std::io::stderr),
                )
                .try_init(),
            LogFormat::Text => {
                let colours = std::io::stderr().is_terminal();
                registry
                    .with(
                        fmt::layer()
                            .with_ansi(colours)
                            .with_target(false)
                            .with_writer(std::io::stderr),
                    )
                    .try_init()
            }
        };
        started?;
        Ok(Self(handle))
    }

    pub(super) fn set_level(&self, level: &str) {
        match filter(level) {
            Ok(filter) => {
                if let Err(error) = self.0.reload(filter) {
                    tracing::error!(%error, "the log level could not be changed");
                }
            }
            Err(error) => tracing::error!(%error, "the log level stays as it is"),
        }
    }
}

/// `trace`, `debug`, `info`, `warn`, `error`, `off`. Libraries below us stay at `warn`: at `debug` some of them
/// would log what passes through them.
fn filter(level: &str) -> Result<EnvFilter, Box<dyn Error>> {
    let level = match level.to_ascii_lowercase().as_str() {
        "" => "info".to_owned(),
        "err" => "error".to_owned(),
        known @ ("trace" | "debug" | "info" | "warn" | "error" | "off") => known.to_owned(),
        other => {
            return Err(format!(
                "unknown log level {other:?}: use trace, debug, info, warn, error or off"
            )
            .into());
        }
    };
    let others = if level == "off" { "off" } else { "warn" };
    let ours = [
        "obol",
        "obol_storage",
        "obol_kerberos",
        "obol_directory",
        "obol_mount",
        "obol_auth_methods",
        "obol_secrets_engines",
    ];
    let ours: Vec<String> = ours
        .iter()
        .map(|target| format!("{target}={level}"))
        .collect();
    Ok(EnvFilter::try_new(format!("{others},{}", ours.join(",")))?)
}
