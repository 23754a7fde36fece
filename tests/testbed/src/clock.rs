//! A clock that is wrong on purpose: an environment under which a program sees another time
//! (libfaketime), and which can be moved while the program runs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Doing, Error, Result, write};
use crate::scratch::Scratch;

/// The environment of a program that lives at another time.
///
/// Only the wall clock is moved; the monotonic clock, and with it every timeout, runs as usual.
#[derive(Debug)]
pub struct ShiftedClock {
    scratch: Scratch,
    library: PathBuf,
}

impl ShiftedClock {
    /// A clock `seconds` ahead of the real one, or behind it when negative.
    pub fn new(seconds: i64) -> Result<Self> {
        let clock = Self {
            scratch: Scratch::new("clock")?,
            library: library()?,
        };
        clock.set(seconds)?;
        Ok(clock)
    }

    /// Moves the clock, also for programs that are running under it.
    pub fn set(&self, seconds: i64) -> Result<()> {
        // Renamed into place: a running program reads this file at any time.
        let draft = self.scratch.fresh("draft");
        write(&draft, format!("{seconds:+}\n"))?;
        fs::rename(&draft, self.file()).doing(|| "moving the clock".to_owned())
    }

    /// What to give to `Command::envs`.
    pub fn env(&self) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    fn file(&self) -> PathBuf {
        self.scratch.join("faketime")
    }
}

impl Drop for ShiftedClock {
    /// libfaketime gives each process two files of shared memory, and a process that was killed
    /// leaves them behind.
    fn drop(&mut self) {
        let since = fs::metadata(self.scratch.path())
            .and_then(|meta| meta.created())
            .ok();
        for entry in fs::read_dir(SHARED_MEMORY).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name
                .strip_prefix("faketime_shm_")
                .or_else(|| name.strip_prefix("sem.faketime_sem_"));
            let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else {
                continue;
            };
            let made = entry.metadata().and_then(|meta| meta.modified()).ok();
            if made >= since && !Path::new("/proc").join(pid.to_string()).exists() {
                fs::remove_file(entry.path()).ok();
            }
        }
    }
}

const SHARED_MEMORY: &str = "/dev/shm";

fn library() -> Result<PathBuf> {
    let missing = || Error::MissingProgram {
        program: "libfaketime".to_owned(),
        package: "faketime",
    };
    let roots = fs::read_dir("/usr/lib").doing(|| "reading /usr/lib".to_owned())?;
    roots
        .flatten()
        .map(|entry| entry.path())
        .chain([Path::new("/usr/lib").to_owned()])
        .map(|dir| dir.join("faketime/libfaketimeMT.so.1"))
        .find(|file| file.exists())
        .ok_or_else(missing)
}
