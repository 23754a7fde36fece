//! `debug`: what somebody who looks for a fault asks first, collected over a while into one file. No secret is in it:
//! the configuration is the one without secrets, and the log is what `monitor` shows.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use obol_mount::duration;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::client::{Client, HttpFlags, Request};
use super::failure::{Failure, Outcome, REMOTE, SUCCESS, file_failure};
use super::interrupt;
use super::{Command, Example, Session};

/// Collect what is needed to look into a fault: status, configuration, machine, metrics, requests in flight, log
///
/// Asks the server again and again for -duration and writes each answer down at once; Ctrl-C ends it early and keeps
/// what there is. What the token may not read is left out, and index.json says so. There are no secrets in it.
#[derive(clap::Args)]
pub(super) struct Debug {
    /// For how long
    #[arg(long, value_name = "DURATION", default_value = "2m")]
    duration: String,
    /// How often status, machine and requests are asked for
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    interval: String,
    /// How often metrics are asked for
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    metrics_interval: String,
    /// Where to write: a file that ends in .tar.gz, or a directory with -compress=false
    #[arg(long, value_name = "PATH")]
    output: Option<String>,
    /// Whether to make one file of the directory, true by default
    #[arg(long, value_name = "true|false", hide_possible_values = true)]
    compress: Option<bool>,
    /// What to collect, everything by default; may be repeated: config, host, metrics, requests, server-status, log
    #[arg(long, value_name = "WHAT", value_delimiter = ',', value_parser = TARGETS.map(|(name, _)| name), hide_possible_values = true)]
    target: Vec<String>,
    /// How important a line of the log must be: trace, debug, info, warn or error
    #[arg(long, value_name = "LEVEL", value_parser = ["trace", "debug", "info", "warn", "error"], default_value = "info", hide_possible_values = true)]
    log_level: String,
    #[command(flatten)]
    http: HttpFlags,
}

impl Command for Debug {
    const NAME: &'static str = "debug";
    const EXAMPLES: &'static [Example] = &[
        ("Two minutes of everything", "obol debug"),
        (
            "Metrics alone, often, into a directory",
            "obol debug -target=metrics -metrics-interval=1s -duration=30s -compress=false -output=metrics",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let length = span("duration", &self.duration, Duration::ZERO)?;
        let interval = span("interval", &self.interval, SHORTEST)?;
        let metrics_interval = span("metrics-interval", &self.metrics_interval, SHORTEST)?;
        let compress = self.compress.unwrap_or(true);
        let client = Client::new(&self.http, &session.env)?;
        // Reached at all? Otherwise there is nothing to collect, and nothing is written.
        client
            .send(Request::get("sys/seal-status").without_wrapping())
            .map_err(|failure| failure.doing("reaching the server"))?;
        let place = Place::new(self.output.as_deref(), compress)?;
        let wants = |name: &str| self.target.is_empty() || self.target.iter().any(|t| t == name);
        session.note(&format!(
            "Collecting for {} into {}. Ctrl-C ends it early and keeps what there is.",
            duration::format(length),
            place.end.display()
        ));
        let mut book = Book::new(&place.directory);
        if wants("log") {
            self.follow_log(session, &place.directory)?;
        }
        let early = interrupt::noticing(|interrupted| -> Result<bool, Failure> {
            let begun = Instant::now();
            let mut next: Vec<Duration> = vec![Duration::ZERO; TARGETS.len()];
            loop {
                let now = begun.elapsed();
                for ((name, paths), due) in TARGETS.iter().zip(&mut next) {
                    if !wants(name) || now < *due || paths.is_empty() {
                        continue;
                    }
                    for path in *paths {
                        book.ask(&client, name, path)?;
                        if interrupted() {
                            return Ok(true);
                        }
                    }
                    *due = match *name {
                        // It does not change while the server runs.
                        "config" => Duration::MAX,
                        "metrics" => now + metrics_interval,
                        _ => now + interval,
                    };
                }
                if begun.elapsed() >= length {
                    return Ok(false);
                }
                sleep(TICK.min(length.saturating_sub(begun.elapsed())));
                if interrupted() {
                    return Ok(true);
                }
            }
        })?;
        let complete = book.close(client.address().to_string(), early)?;
        for (what, error) in &book.failed {
            let first = error.lines().next().unwrap_or_default();
            session.note(&format!("Left out: {what}: {first}"));
        }
        place.finish()?;
        let how = if early {
            "ended early and kept"
        } else {
            "wrote"
        };
        session.line(&format!("Success! Debugging {how} {}", place.end.display()))?;
        Ok(if complete { SUCCESS } else { REMOTE })
    }
}

impl Debug {
    /// The log goes into its file as it comes, beside everything else; its end is that of the command.
    fn follow_log(&self, session: &Session<'_>, directory: &Path) -> Result<(), Failure> {
        let client = Client::new(&self.http, &session.env)?;
        let mut file = new_file(&directory.join("server.log"))?;
        let request = Request::get("sys/monitor")
            .query("log_level", self.log_level.clone())
            .without_wrapping();
        std::thread::spawn(move || {
            let told = client.download(request, &mut |piece| Ok(file.write_all(piece).is_ok()));
            if let Err(failure) = told {
                let _ = writeln!(file, "{failure}");
            }
        });
        Ok(())
    }
}

/// The directory that fills, and what it becomes.
struct Place {
    directory: PathBuf,
    end: PathBuf,
    compress: bool,
}

impl Place {
    fn new(output: Option<&str>, compress: bool) -> Result<Self, Failure> {
        let given = output.map(str::to_owned).unwrap_or_else(|| {
            let now = OffsetDateTime::now_utc();
            let (date, time) = (now.date(), now.time());
            let (hour, minute, second) = time.as_hms();
            format!("obol-debug-{date}T{hour:02}-{minute:02}-{second:02}Z")
        });
        let stem = given
            .strip_suffix(".tar.gz")
            .or_else(|| given.strip_suffix(".tgz"));
        let (directory, end) = match (compress, stem) {
            (false, None) => (given.clone(), given),
            (false, Some(_)) => {
                return Err(Failure::local(
                    "-compress=false writes a directory, and -output names a file",
                ));
            }
            (true, Some(stem)) => (stem.to_owned(), given.clone()),
            (true, None) => (given.clone(), format!("{given}.tar.gz")),
        };
        let (directory, end) = (PathBuf::from(directory), PathBuf::from(end));
        if end.exists() {
            return Err(
                Failure::local(format!("{} is there already", end.display()))
                    .hint("-output names another place."),
            );
        }
        DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(|error| file_failure("make the directory", directory.display(), &error))?;
        Ok(Self {
            directory,
            end,
            compress,
        })
    }

    fn finish(&self) -> Result<(), Failure> {
        if !self.compress {
            return Ok(());
        }
        let failed = |error: std::io::Error| {
            file_failure("write", self.end.display(), &error).hint(format!(
                "What was collected is in {}.",
                self.directory.display()
            ))
        };
        let parent = self
            .end
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let file = tempfile::Builder::new()
            .prefix(".obol-")
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(parent.unwrap_or(Path::new(".")))
            .map_err(failed)?;
        let partial = file.path().to_owned();
        let cleanup = move || {
            let _ = std::fs::remove_file(partial);
        };
        let name = self
            .directory
            .file_name()
            .unwrap_or(self.directory.as_os_str());
        let file = interrupt::restoring(cleanup, || {
            let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
            archive.append_dir_all(name, &self.directory)?;
            archive.into_inner()?.finish()
        })
        .map_err(failed)?;
        interrupt::hold(|| -> std::io::Result<()> {
            file.persist(&self.end).map_err(|error| error.error)?;
            std::fs::remove_dir_all(&self.directory)
        })
        .map_err(failed)
    }
}

/// What was written where, and what could not be had.
struct Book<'a> {
    directory: &'a Path,
    begun: OffsetDateTime,
    files: BTreeMap<String, (File, u64)>,
    failed: BTreeMap<String, String>,
}

impl<'a> Book<'a> {
    fn new(directory: &'a Path) -> Self {
        Self {
            directory,
            begun: OffsetDateTime::now_utc(),
            files: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// One answer, one line. What is refused once is not asked for again.
    fn ask(&mut self, client: &Client, target: &str, path: &str) -> Result<(), Failure> {
        if self.failed.contains_key(path) {
            return Ok(());
        }
        let answer = match client.send(Request::get(path).without_wrapping()) {
            Ok(answer) => answer,
            Err(failure) if failure.replacement().is_some() => return Err(failure),
            // A server that does not answer now may answer the next time, and its silence is worth a line.
            Err(failure) => {
                if failure.status().is_some_and(|status| status < 500) {
                    self.failed.insert(path.to_owned(), failure.to_string());
                    return Ok(());
                }
                return self.note(target, path, "error", json!(failure.to_string()));
            }
        };
        let shown = match answer.body.get("data") {
            Some(data) if !data.is_null() => data.clone(),
            _ => answer.body,
        };
        self.note(target, path, "answer", shown)
    }

    fn note(&mut self, target: &str, path: &str, key: &str, value: Value) -> Result<(), Failure> {
        let name = format!("{}.jsonl", target.replace('-', "_"));
        let place = self.directory.join(&name);
        let entry = match self.files.entry(name) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert((new_file(&place)?, 0))
            }
        };
        let line =
            json!({ "timestamp": timestamp(OffsetDateTime::now_utc()), "path": path, key: value });
        entry.1 += 1;
        writeln!(entry.0, "{line}").map_err(|error| file_failure("write", place.display(), &error))
    }

    /// Writes the table of contents; whether everything could be had.
    fn close(&mut self, address: String, early: bool) -> Result<bool, Failure> {
        let files: BTreeMap<&String, u64> = self
            .files
            .iter()
            .map(|(name, (_, lines))| (name, *lines))
            .collect();
        let index = json!({
            "address": address,
            "client_version": env!("CARGO_PKG_VERSION"),
            "begun": timestamp(self.begun),
            "ended": timestamp(OffsetDateTime::now_utc()),
            "ended_early": early,
            "files": files,
            "left_out": self.failed,
        });
        let place = self.directory.join("index.json");
        let text = format!("{index:#}\n");
        new_file(&place)?
            .write_all(text.as_bytes())
            .map_err(|error| file_failure("write", place.display(), &error))?;
        Ok(self.failed.is_empty())
    }
}

fn new_file(path: &Path) -> Result<File, Failure> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| file_failure("make", path.display(), &error))
}

fn timestamp(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}

fn span(flag: &str, text: &str, least: Duration) -> Result<Duration, Failure> {
    let span =
        duration::parse(text).map_err(|error| Failure::local(format!("-{flag}: {error}")))?;
    if span < least {
        return Err(Failure::local(format!(
            "-{flag} is at least {}",
            duration::format(least)
        )));
    }
    Ok(span)
}

/// What is asked for, and where. The log comes by itself.
const TARGETS: [(&str, &[&str]); 6] = [
    ("config", &["sys/config/state/sanitized"]),
    ("host", &["sys/host-info"]),
    ("metrics", &["sys/metrics"]),
    ("requests", &["sys/in-flight-req"]),
    ("server-status", &["sys/seal-status", "sys/leader"]),
    ("log", &[]),
];
const SHORTEST: Duration = Duration::from_secs(1);
/// How soon Ctrl-C is noticed.
const TICK: Duration = Duration::from_millis(100);
