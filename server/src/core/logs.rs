//! The server's own log, as `sys/loggers` and `sys/monitor` need it: levels that can be changed while it runs, and a
//! feed of what is logged. Where lines go otherwise is decided in `server/logging.rs`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use obol_mount::{Error, Result};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::{broadcast, watch};
use tracing::Level;
use tracing::field::{Field, Visit};

/// The parts of the server whose level can be set by itself, and the targets they log under.
pub const LOGGERS: [(&str, &str); 9] = [
    ("auth", "obol_auth_methods"),
    ("core", "obol::core"),
    ("directory", "obol_directory"),
    ("http", "obol::http"),
    ("kerberos", "obol_kerberos"),
    ("mount", "obol_mount"),
    ("secrets", "obol_secrets_engines"),
    ("server", "obol"),
    ("storage", "obol_storage"),
];

/// Levels, feed and monitors.
pub struct Logs {
    levels: Mutex<Levels>,
    /// Tells the subscriber new directives: of the log itself, and of the feed.
    apply: Box<dyn Fn(Directives<'_>) -> Result<()> + Send + Sync>,
    feed: broadcast::Sender<Arc<Line>>,
    /// Changed to end the monitors that there are.
    end: watch::Sender<()>,
}

/// What the subscriber is told to let through, in the notation of `tracing`'s filters.
pub enum Directives<'a> {
    Log(&'a str),
    Feed(&'a str),
}

struct Levels {
    configured: String,
    own: BTreeMap<&'static str, String>,
    /// The most talkative level that a monitor asks for.
    feed: Vec<LogLevel>,
}

/// A level, as Vault writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "off" => Self::Off,
            "error" | "err" => Self::Error,
            "warn" | "warning" => Self::Warn,
            "info" | "notice" => Self::Info,
            "debug" => Self::Debug,
            "trace" => Self::Trace,
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    fn of(level: Level) -> Self {
        match level {
            Level::ERROR => Self::Error,
            Level::WARN => Self::Warn,
            Level::INFO => Self::Info,
            Level::DEBUG => Self::Debug,
            Level::TRACE => Self::Trace,
        }
    }
}

/// One event, before anybody has written it.
#[derive(Debug)]
pub struct Line {
    level: LogLevel,
    target: &'static str,
    time: OffsetDateTime,
    message: String,
    fields: Map<String, Value>,
}

/// Lines for one `sys/monitor`, from when it was made. Dropping it ends it.
pub struct Monitor {
    pub level: LogLevel,
    lines: broadcast::Receiver<Arc<Line>>,
    end: watch::Receiver<()>,
    logs: Arc<Logs>,
}

impl Logs {
    pub fn new(
        configured: &str,
        apply: impl Fn(Directives<'_>) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            levels: Mutex::new(Levels {
                configured: level_of(configured).as_str().to_owned(),
                own: BTreeMap::new(),
                feed: Vec::new(),
            }),
            apply: Box::new(apply),
            feed: broadcast::Sender::new(FEED),
            end: watch::Sender::new(()),
        }
    }

    /// Where the subscriber sends what it lets through to the feed.
    pub fn feed(&self) -> broadcast::Sender<Arc<Line>> {
        self.feed.clone()
    }

    /// The level of every logger.
    pub fn levels(&self) -> BTreeMap<&'static str, String> {
        let levels = self.lock();
        let level = |name| levels.own.get(name).unwrap_or(&levels.configured);
        LOGGERS.map(|(name, _)| (name, level(name).clone())).into()
    }

    /// Sets one logger's level, or all; `None` is what is configured.
    pub fn set(&self, name: Option<&str>, level: Option<LogLevel>) -> Result<()> {
        let mut levels = self.lock();
        for (known, _) in LOGGERS {
            if name.is_none_or(|name| name == known) {
                match level {
                    Some(level) => levels.own.insert(known, level.as_str().to_owned()),
                    None => levels.own.remove(known),
                };
            }
        }
        (self.apply)(Directives::Log(&levels.directives()))
    }

    /// The configuration was read anew: its level counts for all.
    pub fn reconfigure(&self, configured: &str) -> Result<()> {
        let mut levels = self.lock();
        levels.configured = level_of(configured).as_str().to_owned();
        levels.own.clear();
        (self.apply)(Directives::Log(&levels.directives()))
    }

    /// Begins to listen. Refused when too many do already.
    pub fn monitor(self: &Arc<Self>, level: LogLevel) -> Result<Monitor> {
        let mut levels = self.lock();
        if levels.feed.len() >= MOST_MONITORS {
            return Err(Error::too_many("too many monitors are open; close one"));
        }
        levels.feed.push(level);
        (self.apply)(Directives::Feed(&levels.feed_directives()))?;
        Ok(Monitor {
            level,
            lines: self.feed.subscribe(),
            end: self.end.subscribe(),
            logs: self.clone(),
        })
    }

    /// Ends all monitors: the server is sealed or stops.
    pub fn end_monitors(&self) {
        self.end.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, Levels> {
        // Plain data: a panic elsewhere cannot have left it half-changed.
        self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Levels {
    fn directives(&self) -> String {
        let level = |name| self.own.get(name).unwrap_or(&self.configured).as_str();
        directives(LOGGERS.map(|(name, target)| (target, level(name))))
    }

    fn feed_directives(&self) -> String {
        let level = self.feed.iter().max().map_or("off", |level| level.as_str());
        directives(LOGGERS.map(|(_, target)| (target, level)))
    }
}

/// Libraries below us stay at `warn`: at `debug` some of them would log what passes through them.
fn directives(ours: [(&str, &str); 9]) -> String {
    let silent = ours.iter().all(|(_, level)| *level == "off");
    let mut all = String::from(if silent { "off" } else { "warn" });
    for (target, level) in ours {
        // Writing to a String cannot fail.
        let _ = write!(all, ",{target}={level}");
    }
    all
}

/// What every level of the configuration lets through from the start.
pub fn initial_directives(level: &str) -> String {
    let level = level_of(level).as_str();
    directives(LOGGERS.map(|(_, target)| (target, level)))
}

fn level_of(text: &str) -> LogLevel {
    LogLevel::parse(text).unwrap_or(LogLevel::Info)
}

impl Monitor {
    /// The next line that is important enough. Tells how many were lost when the client reads too slowly; `None` when
    /// the server ends.
    pub async fn next(&mut self, json: bool) -> Option<String> {
        loop {
            let line = tokio::select! {
                line = self.lines.recv() => line,
                _ = self.end.changed() => return None,
            };
            match line {
                Ok(line) if line.level <= self.level => return Some(line.write(json)),
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(lost)) => {
                    let line = Line {
                        level: LogLevel::Warn,
                        target: "obol::core::logs",
                        time: OffsetDateTime::now_utc(),
                        message: format!("{lost} lines were dropped: the monitor reads too slowly"),
                        fields: Map::new(),
                    };
                    return Some(line.write(json));
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let mut levels = self.logs.lock();
        if let Some(at) = levels.feed.iter().position(|level| *level == self.level) {
            levels.feed.swap_remove(at);
        }
        // The feed then says a little more than is wanted, to nobody.
        let _ = (self.logs.apply)(Directives::Feed(&levels.feed_directives()));
    }
}

impl Line {
    pub fn of(event: &tracing::Event<'_>) -> Self {
        let mut line = Self {
            level: LogLevel::of(*event.metadata().level()),
            target: event.metadata().target(),
            time: OffsetDateTime::now_utc(),
            message: String::new(),
            fields: Map::new(),
        };
        event.record(&mut line);
        line
    }

    fn write(&self, json: bool) -> String {
        let time = self.time.format(&Rfc3339).unwrap_or_default();
        if json {
            let mut object = Map::new();
            object.insert("@timestamp".into(), time.into());
            object.insert("@level".into(), self.level.as_str().into());
            object.insert("@module".into(), self.target.into());
            object.insert("@message".into(), self.message.as_str().into());
            let fields = self.fields.iter().map(|(k, v)| (k.clone(), v.clone()));
            object.extend(fields);
            return format!("{}\n", Value::Object(object));
        }
        let level = self.level.as_str().to_ascii_uppercase();
        let mut text = format!("{time} [{level}] {}: {}", self.target, self.message);
        for (name, value) in &self.fields {
            // Writing to a String cannot fail. JSON escapes what could end a line.
            let _ = write!(text, " {name}={value}");
        }
        text.push('\n');
        text
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text.replace(['\n', '\r'], " "),
            name => drop(self.fields.insert(name.to_owned(), text.into())),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.insert(field.name().to_owned(), value.into());
    }
}

/// Lines that wait for a slow monitor before it loses some.
const FEED: usize = 1024;
const MOST_MONITORS: usize = 16;
