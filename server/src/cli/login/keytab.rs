//! `remove_instance_name=true`: the key of `app/host@REALM` logs in as `app@REALM`. libkrb5 looks a key up by its full
//! name, so it is given a keytab with the shorter names, in memory alone.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use obol_kerberos::{Keytab, KeytabEntry};
use rustix::fs::{MemfdFlags, memfd_create};
use zeroize::Zeroizing;

use crate::cli::failure::{Failure, file_failure};

/// Lives as long as libkrb5 may read it.
pub(super) struct RenamedKeytab(File);

impl RenamedKeytab {
    pub(super) fn without_instances(path: &Path) -> Result<Self, Failure> {
        let bytes = std::fs::read(path)
            .map(Zeroizing::new)
            .map_err(|error| file_failure("read", path.display(), &error))?;
        let keytab = Keytab::parse(&bytes)
            .map_err(|error| Failure::local(format!("the keytab {}: {error}", path.display())))?;
        let bytes = renamed(&keytab);
        let write = || -> std::io::Result<File> {
            let mut file = File::from(memfd_create("keytab", MemfdFlags::CLOEXEC)?);
            file.write_all(&bytes)?;
            Ok(file)
        };
        write()
            .map(Self)
            .map_err(|error| Failure::local(format!("cannot hold the keytab in memory: {error}")))
    }

    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

/// The keytab file format, version 0x0502, as MIT documents it: big-endian, each record behind its length.
fn renamed(keytab: &Keytab) -> Zeroizing<Vec<u8>> {
    let mut out = Zeroizing::new(vec![5, 2]);
    for entry in keytab.entries() {
        let record = record(entry);
        out.extend_from_slice(&(record.len() as u32).to_be_bytes());
        out.extend_from_slice(&record);
    }
    out
}

fn record(entry: &KeytabEntry) -> Zeroizing<Vec<u8>> {
    // Room for all of it, so that no copy of the key stays behind in an outgrown buffer.
    let mut out = Zeroizing::new(Vec::with_capacity(1024 + entry.key().len()));
    let principal = entry.principal();
    let mut counted = |bytes: &[u8]| {
        out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
        out.extend_from_slice(bytes);
    };
    counted(&[]);
    counted(principal.realm().as_bytes());
    counted(principal.primary().as_bytes());
    // The first "counted" stands where the number of components belongs.
    out[..2].copy_from_slice(&1u16.to_be_bytes());
    out.extend_from_slice(&NT_PRINCIPAL.to_be_bytes());
    out.extend_from_slice(&entry.timestamp().to_be_bytes());
    out.push(entry.kvno() as u8);
    out.extend_from_slice(&(entry.enctype().number() as u16).to_be_bytes());
    out.extend_from_slice(&(entry.key().len() as u16).to_be_bytes());
    out.extend_from_slice(entry.key());
    out.extend_from_slice(&entry.kvno().to_be_bytes());
    out
}

/// KRB5_NT_PRINCIPAL of RFC 4120, section 6.2.
const NT_PRINCIPAL: u32 = 1;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn keytab() -> Vec<u8> {
        let mut record = Vec::new();
        record.extend_from_slice(&2u16.to_be_bytes());
        for part in ["EXAMPLE.COM", "app", "host"] {
            record.extend_from_slice(&(part.len() as u16).to_be_bytes());
            record.extend_from_slice(part.as_bytes());
        }
        record.extend_from_slice(&1u32.to_be_bytes());
        record.extend_from_slice(&77u32.to_be_bytes());
        record.push(3);
        record.extend_from_slice(&18u16.to_be_bytes());
        record.extend_from_slice(&32u16.to_be_bytes());
        record.extend_from_slice(&[9; 32]);
        record.extend_from_slice(&259u32.to_be_bytes());
        let mut file = vec![5, 2];
        file.extend_from_slice(&(record.len() as u32).to_be_bytes());
        file.extend_from_slice(&record);
        file
    }

    #[test]
    fn names_lose_their_instance_and_keys_stay() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), keytab()).unwrap();
        let renamed = RenamedKeytab::without_instances(file.path()).unwrap();
        let keytab = Keytab::parse(&std::fs::read(renamed.path()).unwrap()).unwrap();
        let [entry] = keytab.entries() else {
            panic!("one entry")
        };
        assert_eq!(entry.principal().to_string(), "app@EXAMPLE.COM");
        assert_eq!(
            (entry.kvno(), entry.timestamp(), entry.enctype().number()),
            (259, 77, 18)
        );
        assert_eq!(entry.key(), [9; 32]);
    }

    #[test]
    fn a_file_that_is_no_keytab_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2").unwrap();
        let error = RenamedKeytab::without_instances(file.path()).err().unwrap();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
