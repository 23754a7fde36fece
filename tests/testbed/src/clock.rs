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
