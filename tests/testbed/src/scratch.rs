//! A temporary directory that vanishes with its owner, even when the owner is killed with SIGKILL:
//! a shell waits at the end of a pipe, and removes the directory when the kernel closes it.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use crate::error::{Doing, Result};

/// A directory for one test bed, readable by its owner only.
#[derive(Debug)]
pub struct Scratch {
    dir: Option<TempDir>,
    watcher: Child,
    counter: AtomicUsize,
}

impl Scratch {
    pub fn new(what: &str) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix(&format!("obol-{what}-"))
            .tempdir()
            .doing(|| "making a temporary directory".to_owned())?;
        let watcher = Command::new("/bin/sh")
            .args(["-c", WATCH, "obol-testbed-watcher"])
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()
            .doing(|| "starting the watcher of a temporary directory".to_owned())?;
        Ok(Self {
            dir: Some(dir),
            watcher,
            counter: AtomicUsize::new(0),
        })
    }

    pub fn path(&self) -> &Path {
        self.dir
            .as_ref()
            .expect("the directory is taken in drop alone")
            .path()
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// A path in the directory that nobody was given before.
    pub fn fresh(&self, prefix: &str) -> PathBuf {
        let n = self.counter.fetch_add(1, Ordering::Relaxed);
        self.join(format!("{prefix}-{n}"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(dir) = self.dir.take() {
            // The watcher tries again if this fails.
            dir.close().ok();
        }
        drop(self.watcher.stdin.take());
        self.watcher.wait().ok();
    }
}

/// A daemon that is dying just then may write one more file, so a failed removal is repeated.
const WATCH: &str = r#"
trap "" INT TERM HUP
while read -r _; do :; done
rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }
"#;
