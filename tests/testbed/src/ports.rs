//! Free loopback ports that stay ours. A port is taken from below the range the kernel hands to
//! outgoing connections, so that a stopped daemon finds its port free when it is started again,
//! and is held by a file lock, so that test beds of other processes choose another.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Doing, Error, Result};

/// A loopback port, free for TCP and UDP when it was leased, and leased to nobody else who asks
/// here until this value is dropped or the process ends.
#[derive(Debug)]
pub struct PortLease {
    port: u16,
    _lock: File,
}

impl PortLease {
    pub fn new() -> Result<Self> {
        let dir = locks_dir();
        fs::create_dir_all(&dir).doing(|| format!("making {}", dir.display()))?;
        let (low, high) = range();
        // Processes start at different places, so that they rarely meet.
        let start = process::id().wrapping_mul(97);
        for _ in 0..(high - low) {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let offset = start.wrapping_add(step) % u32::from(high - low);
            let port = low
                + u16::try_from(offset).expect("an offset into a range of ports is below 65536");
            let path = dir.join(port.to_string());
            let lock = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .doing(|| format!("opening {}", path.display()))?;
            if lock.try_lock().is_ok() && is_free(port) {
                return Ok(Self { port, _lock: lock });
            }
        }
        Err(Error::Usage(format!(
            "no free port between {low} and {high} on 127.0.0.1"
        )))
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

static NEXT: AtomicU32 = AtomicU32::new(0);

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        && UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// One directory for each user, for nobody can lock a file that another user has made; and the same
/// whatever TMPDIR says, for ports are the machine's.
pub(crate) fn locks_dir() -> PathBuf {
    let uid = fs::metadata("/proc/self").map_or(0, |meta| meta.uid());
    PathBuf::from(format!("/tmp/obol-testbed-ports-{uid}"))
}

/// Ports that need no privilege and that the kernel does not give to outgoing connections.
fn range() -> (u16, u16) {
    let ephemeral =
        fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let lowest = ephemeral
        .split_whitespace()
        .next()
        .and_then(|low| low.parse().ok())
        .unwrap_or(32768);
    if lowest > LOWEST + 2000 {
        (LOWEST, lowest)
    } else {
        (LOWEST, 65535)
    }
}

/// Above the ports that services are usually found at.
const LOWEST: u16 = 15000;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_port_is_leased_once_at_a_time() {
        let leases: Vec<PortLease> = (0..50).map(|_| PortLease::new().unwrap()).collect();
        let mut ports: Vec<u16> = leases.iter().map(PortLease::port).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), leases.len());
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_not_free() {
        let lease = PortLease::new().unwrap();
        assert!(is_free(lease.port()));
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, lease.port())).unwrap();
        assert!(!is_free(lease.port()));
    }
}
