//! Files without a name, in memory: the way to hand libkrb5 what it wants as a file and what must
//! not lie on a disk.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags};

/// A file that nobody can change any more, this process included. Not inherited by children, and
/// gone with its descriptor. `name` is what /proc shows.
pub(crate) fn sealed_memfd(name: &CStr, contents: &[u8]) -> rustix::io::Result<OwnedFd> {
    let memfd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::fchmod(&memfd, rustix::fs::Mode::RUSR)?;
    let mut left = contents;
    while !left.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&memfd, left))?;
        left = &left[written..];
    }
    rustix::fs::fcntl_add_seals(
        &memfd,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(memfd)
}
