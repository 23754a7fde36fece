//! A loopback address of one's own, with every port where clients expect it: Samba's LDAP ports cannot
//! be moved. Held by a file lock like a [`PortLease`](crate::PortLease).

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Doing, Error, Result};
use crate::ports::locks_dir;

/// An address in 127.0.0.0/8 on which the ports of LDAP and Kerberos were free when it was leased, and leased
/// to nobody else who asks here until this value is dropped or the process ends.
#[derive(Debug)]
pub(super) struct AddressLease {
    address: Ipv4Addr,
    _lock: File,
}

impl AddressLease {
    pub(super) fn new() -> Result<Self> {
        let dir = locks_dir();
        fs::create_dir_all(&dir).doing(|| format!("making {}", dir.display()))?;
        // Processes start at different places, so that they rarely meet.
        let start = process::id().wrapping_mul(97);
        let mut refusal = None;
        for _ in 0..ADDRESSES {
            let n = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % ADDRESSES;
            let [_, _, high, low] = n.to_be_bytes();
            // 1 to 254 in the last place: no network's and no broadcast address.
            let address = Ipv4Addr::new(127, 88, high, low.clamp(1, 254));
            let path = dir.join(address.to_string());
            let lock = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .doing(|| format!("opening {}", path.display()))?;
            if lock.try_lock().is_err() {
                continue;
            }
            match is_free(address) {
                Ok(()) => {
                    return Ok(Self {
                        address,
                        _lock: lock,
                    });
                }
                // Somebody listens on this port on every address: the next one is no better.
                Err(error) if refusal.is_some() => return Err(error),
                Err(error) => refusal = Some(error),
            }
        }
        Err(refusal.unwrap_or_else(|| {
            Error::Usage("every address from 127.88.0.1 on is in use".to_owned())
        }))
    }

    pub(super) fn address(&self) -> Ipv4Addr {
        self.address
    }
}

fn is_free(address: Ipv4Addr) -> Result<()> {
    let bound = |port: u16, bind: io::Result<()>| {
        bind.doing(|| {
            format!("listening on {address}:{port} (is an LDAP server or a KDC running on this machine?)")
        })
    };
    for port in [
        LDAP,
        LDAPS,
        GLOBAL_CATALOGUE,
        GLOBAL_CATALOGUE_TLS,
        KERBEROS,
        KPASSWD,
    ] {
        bound(port, TcpListener::bind((address, port)).map(drop))?;
    }
    for port in [LDAP, KERBEROS, KPASSWD] {
        bound(port, UdpSocket::bind((address, port)).map(drop))?;
    }
    Ok(())
}

static NEXT: AtomicU32 = AtomicU32::new(0);

pub(super) const LDAP: u16 = 389;
pub(super) const LDAPS: u16 = 636;
pub(super) const KERBEROS: u16 = 88;
pub(super) const KPASSWD: u16 = 464;
const GLOBAL_CATALOGUE: u16 = 3268;
const GLOBAL_CATALOGUE_TLS: u16 = 3269;
const ADDRESSES: u32 = 1 << 10;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_is_leased_once_at_a_time() {
        let leases: Vec<_> = (0..20).map(|_| AddressLease::new().unwrap()).collect();
        let mut addresses: Vec<_> = leases.iter().map(AddressLease::address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), leases.len());
    }
}
