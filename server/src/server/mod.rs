//! Starting and stopping: from the configuration to a server that answers, and down again without losing anything.

mod hardening;
mod logging;

use std::error::Error;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_mount::Secret;
use obol_storage::seal::Seal;
use obol_storage::{Engine, Memory};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::{Config, SealConfig, StorageConfig};
use crate::core::logs::Logs;
use crate::core::sealing::DevSetup;
use crate::core::{Core, Settings};
use crate::http::{self, Bound, Limits};

/// What `obol server` was asked for.
#[derive(Debug, Default)]
pub struct Options {
    /// Files or directories of configuration.
    pub config_paths: Vec<PathBuf>,
    /// Everything in memory, unsealed from the start.
    pub dev: Option<Dev>,
    /// Wins over the configuration's `log_level`.
    pub log_level: Option<String>,
}

/// What a development server is started with.
#[derive(Debug, Default)]
pub struct Dev {
    pub root_token_id: Option<String>,
    pub listen_address: Option<SocketAddr>,
}

type Failure = Box<dyn Error + Send + Sync>;

/// Runs a server until it is told to stop (SIGTERM, SIGINT). SIGHUP reloads certificates and the log level and
/// opens audit files anew.
pub fn run(options: Options) -> Result<(), Box<dyn Error>> {
    hardening::no_core_dumps();
    small_pages();
    let config = match &options.dev {
        Some(dev) => Config::for_dev(
            dev.listen_address
                .unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 8200))),
        ),
        None => Config::load(&options.config_paths)?,
    };
    let level = options.log_level.as_deref().unwrap_or(&config.log_level);
    let logs = logging::start(level, config.log_format)?;
    if !config.disable_mlock && options.dev.is_none() {
        hardening::lock_memory();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("obol")
        .build()?;
    runtime
        .block_on(serve(config, options, logs))
        .map_err(|error| -> Box<dyn Error> { error })
}

/// Keeps the kernel from giving a process that is idle most of the time 2 MiB wherever it touches 4 KiB. What that costs
/// is measured: 9 MiB of an idle server. Reads, transit, writes and tokens were not faster with them.
fn small_pages() {
    // Can only fail where the kernel knows no huge pages.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

async fn serve(config: Config, options: Options, logs: Arc<Logs>) -> Result<(), Failure> {
    let engine = open_engine(&config.storage)?;
    let settings = Settings {
        default_lease_ttl: config.default_lease_ttl,
        max_lease_ttl: config.max_lease_ttl,
        api_addr: config.api_addr.clone().unwrap_or_default(),
        cluster_name: config.cluster_name.clone().unwrap_or_else(|| "obol".into()),
        telemetry: config.telemetry,
        sanitized: config.sanitized(),
        raw_storage: config.raw_storage_endpoint,
        lockout: config.user_lockout.clone(),
    };
    let core = Core::new(engine.clone(), open_seal(&config.seal)?, settings)?;
    core.attach_logs(logs.clone());
    let mut listeners = Vec::new();
    for listener in &config.listeners {
        let bound = Bound::new(http_options(listener)).await?;
        listeners.push(bound.with_pages(config.ui));
    }
    if let Some(dev) = &options.dev {
        start_dev(&core, dev, &listeners).await?;
    } else {
        core.auto_unseal().await?;
        for bound in &listeners {
            let scheme = if bound.tls().is_some() {
                "https"
            } else {
                "http"
            };
            tracing::info!(address = %format!("{scheme}://{}", bound.address()?), storage = engine.name(), sealed = core.is_sealed(), "Obol is listening");
        }
    }
    let pid_file = config.pid_file.clone().map(PidFile::write).transpose()?;

    // Before the first request is answered: who sees the server up may at once tell it to stop.
    let (mut terminate, mut interrupt, mut hangup) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
        signal(SignalKind::hangup())?,
    );

    let (stop, stopped) = watch::channel(false);
    let certificates: Vec<_> = listeners.iter().filter_map(Bound::tls).collect();
    let serving: Vec<_> = listeners
        .into_iter()
        .map(|bound| tokio::spawn(http::serve(bound, core.clone(), stopped.clone())))
        .collect();
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                tracing::info!("SIGHUP: reloading certificates, log level and audit files");
                for tls in &certificates {
                    if let Err(error) = tls.reload() {
                        tracing::error!(%error, "a certificate could not be reloaded; the present one stays");
                    }
                }
                if options.dev.is_none() && options.log_level.is_none() {
                    match Config::load(&options.config_paths) {
                        Ok(config) => {
                            if let Err(error) = logs.reconfigure(&config.log_level) {
                                tracing::error!(%error, "the log level could not be changed");
                            }
                        }
                        Err(error) => tracing::error!(%error, "the configuration could not be reloaded"),
                    }
                }
                core.reopen_audit();
            }
        }
    }
    tracing::info!("stopping: no new requests, those under way are finished");
    // All receivers may be gone already when every listener has failed.
    let _ = stop.send(true);
    core.end_streams();
    for task in serving {
        let _ = task.await;
    }
    core.seal().await;
    engine.close().await?;
    drop(pid_file);
    tracing::info!("stopped");
    Ok(())
}

fn open_engine(storage: &StorageConfig) -> Result<Arc<dyn Engine>, Failure> {
    match storage {
        StorageConfig::Memory => Ok(Arc::new(Memory::new())),
        #[cfg(feature = "rocksdb")]
        StorageConfig::RocksDb { path } => Ok(Arc::new(obol_storage::RocksDb::open(
            path,
            obol_storage::RocksDbOptions::default(),
        )?)),
        #[cfg(not(feature = "rocksdb"))]
        StorageConfig::RocksDb { .. } => {
            Err("this build has no RocksDB: build it with the feature \"rocksdb\"".into())
        }
    }
}

fn open_seal(seal: &SealConfig) -> Result<Seal, Failure> {
    match seal {
        SealConfig::Shamir => Ok(Seal::Shamir),
        SealConfig::Static(keys) => Ok(Seal::Static(keys.read()?)),
        SealConfig::Leaving(keys) => Ok(Seal::Leaving(keys.read()?)),
    }
}

fn http_options(listener: &crate::config::ListenerConfig) -> http::Options {
    listener.http_options(Limits::default())
}

/// Initializes, unseals and says how to use it.
async fn start_dev(core: &Arc<Core>, dev: &Dev, listeners: &[Bound]) -> Result<(), Failure> {
    let setup = DevSetup {
        root_token_id: dev.root_token_id.clone().map(Secret::new),
    };
    let new = core.initialize(1, 1, Some(setup)).await?;
    let address = listeners
        .first()
        .ok_or("a development server has one listener")?
        .address()?;
    let key = new
        .shares
        .first()
        .map(|share| STANDARD.encode(share.expose()))
        .unwrap_or_default();
    let banner =
        crate::cli::dev_banner(&format!("http://{address}"), &key, new.root_token.expose());
    let mut out = std::io::stdout().lock();
    // A closed standard output is no reason not to serve.
    let _ = out.write_all(banner.as_bytes()).and_then(|()| out.flush());
    Ok(())
}

/// Removed when the server stops.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: PathBuf) -> Result<Self, Failure> {
        std::fs::write(&path, format!("{}\n", std::process::id()))
            .map_err(|error| format!("cannot write the pid file {}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
