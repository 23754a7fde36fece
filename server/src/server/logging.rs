//! Logs on standard error, as text for people or JSON for machines, and a feed of them for `sys/monitor`. Levels can be
//! changed while running.

use std::error::Error;
use std::io::IsTerminal;
use std::sync::Arc;

use tokio::sync::broadcast;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::LogFormat;
use crate::core::logs::{Directives, Line, LogLevel, Logs, initial_directives};

type Boxed = Box<dyn Layer<Registry> + Send + Sync>;

pub(super) fn start(level: &str, format: LogFormat) -> Result<Arc<Logs>, Box<dyn Error>> {
    if !level.is_empty() && LogLevel::parse(level).is_none() {
        return Err(format!(
            "unknown log level {level:?}: use trace, debug, info, warn, error or off"
        )
        .into());
    }
    let (log_filter, log) = reload::Layer::new(EnvFilter::try_new(initial_directives(level))?);
    let (feed_filter, feed) = reload::Layer::new(EnvFilter::try_new("off")?);
    let logs = Arc::new(Logs::new(level, move |directives| {
        let (handle, text) = match directives {
            Directives::Log(text) => (&log, text),
            Directives::Feed(text) => (&feed, text),
        };
        let filter = EnvFilter::try_new(text).map_err(obol_mount::Error::internal)?;
        handle.reload(filter).map_err(obol_mount::Error::internal)
    }));
    let lines: Boxed = match format {
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(std::io::stderr)
            .with_filter(log_filter)
            .boxed(),
        LogFormat::Text => fmt::layer()
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
            .with_writer(std::io::stderr)
            .with_filter(log_filter)
            .boxed(),
    };
    let feed = Feed(logs.feed()).with_filter(feed_filter).boxed();
    tracing_subscriber::registry()
        .with(vec![lines, feed])
        .try_init()?;
    Ok(logs)
}

/// Passes on what is logged, while somebody listens.
struct Feed(broadcast::Sender<Arc<Line>>);

impl<S: Subscriber> Layer<S> for Feed {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if self.0.receiver_count() > 0 {
            // It fails when the last listener has just gone.
            let _ = self.0.send(Arc::new(Line::of(event)));
        }
    }
}
