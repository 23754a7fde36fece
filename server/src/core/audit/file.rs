//! The `file` device: a file that is appended to, or standard output.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use obol_mount::{Error, Result};

use super::options::check_known;

pub(super) enum AuditFile {
    Stdout,
    File {
        path: PathBuf,
        mode: u32,
        file: Option<File>,
    },
}

impl AuditFile {
    pub(super) fn read(options: &BTreeMap<String, String>) -> Result<Self> {
        check_known("file", options, &["file_path", "path", "mode"])?;
        let path = options
            .get("file_path")
            .or(options.get("path"))
            .map(String::as_str)
            .unwrap_or_default();
        let mode = options.get("mode").map(String::as_str).unwrap_or("0600");
        let mode = u32::from_str_radix(mode, 8)
            .map_err(|_| Error::bad_request("mode must be octal, such as 0600"))?;
        if mode & !0o666 != 0 {
            return Err(Error::bad_request(
                "mode of an audit file may not make it executable, set-id or sticky",
            ));
        }
        match path {
            "" => Err(Error::bad_request(
                "file_path is required: an absolute path, or stdout",
            )),
            "stdout" => Ok(Self::Stdout),
            path => {
                let path = Path::new(path);
                let plain = path
                    .components()
                    .all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
                if !path.is_absolute() || !plain {
                    return Err(Error::bad_request(
                        "file_path must be absolute and without . or .. segments",
                    ));
                }
                Ok(Self::File {
                    path: path.to_owned(),
                    mode: if mode == 0 { 0o600 } else { mode },
                    file: None,
                })
            }
        }
    }

    pub(super) fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(line)?;
                out.flush()
            }
            Self::File { path, mode, file } => {
                if file.is_none() {
                    *file = Some(open_file(path, *mode)?);
                }
                let result = match file {
                    Some(file) => file.write_all(line),
                    None => Ok(()),
                };
                if result.is_err() {
                    // Opened anew for the next line: the disk may have been mended meanwhile.
                    *file = None;
                }
                result
            }
        }
    }

    pub(super) fn close(&mut self) {
        if let Self::File { file, .. } = self {
            *file = None;
        }
    }
}

/// Opens for appending. Never through a symbolic link, and never anything but a plain file or a
/// character device such as /dev/null (threats: `audit-path`).
fn open_file(path: &Path, mode: u32) -> io::Result<File> {
    if let Ok(existing) = std::fs::symlink_metadata(path) {
        let kind = existing.file_type();
        if !kind.is_file() && !kind.is_char_device() {
            return Err(io::Error::other(
                "the audit file's path names a link, a directory or a special file",
            ));
        }
        if kind.is_file() && existing.permissions().mode() & 0o111 != 0 {
            return Err(io::Error::other(
                "the audit file's path names an executable file",
            ));
        }
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(mode)
        .open(path)
}
