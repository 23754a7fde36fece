//! Where things are in a domain controller's directory, and the smb.conf that says so.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The domain controller's name without the domain.
pub(super) const HOST: &str = "dc1";

/// The domain's short name: the first label, of at most 15 characters.
pub(super) fn netbios_domain(realm: &str) -> String {
    let label = realm.split('.').next().unwrap_or(realm);
    label.to_uppercase().chars().take(15).collect()
}

/// The directory's database, for ldb's tools. They see a running server's changes, and it theirs.
pub(super) fn database(dir: &Path) -> PathBuf {
    dir.join("private/sam.ldb")
}

/// The part of the database that holds the domain, without any of the rules of a directory.
pub(super) fn raw_database(dir: &Path, base_dn: &str) -> PathBuf {
    dir.join(format!("private/sam.ldb.d/{}.ldb", base_dn.to_uppercase()))
}

pub(super) struct SmbConf<'a> {
    pub(super) dir: &'a Path,
    pub(super) realm: &'a str,
    /// Where a server listens, on the usual ports.
    pub(super) address: Option<Ipv4Addr>,
    /// Further lines of `[global]`.
    pub(super) extra: &'a str,
}

impl<'a> SmbConf<'a> {
    /// For tools alone.
    pub(super) fn offline(dir: &'a Path, realm: &'a str) -> Self {
        Self {
            dir,
            realm,
            address: None,
            extra: "",
        }
    }

    pub(super) fn text(&self) -> String {
        let Self { dir, realm, .. } = self;
        let dir = dir.display();
        let network = self.address.map_or_else(String::new, |address| {
            // Nothing but directory and KDC: no file server, no RPC, no winbindd. One process.
            format!(
                "\tserver services = ldap, cldap, kdc\n\
                 \tinterfaces = {address}/8\n\
                 \tbind interfaces only = yes\n\
                 \ttls enabled = yes\n\
                 \ttls certfile = {dir}/tls/cert.pem\n\
                 \ttls keyfile = {dir}/tls/key.pem\n\
                 \ttls cafile = {dir}/tls/ca.pem\n\
                 \tldap server require strong auth = allow_sasl_over_tls\n"
            )
        });
        format!(
            "[global]\n\
             \tserver role = active directory domain controller\n\
             \tnetbios name = {host}\n\
             \tworkgroup = {domain}\n\
             \trealm = {realm}\n\
             \tprivate dir = {dir}/private\n\
             \tstate directory = {dir}/state\n\
             \tcache directory = {dir}/run\n\
             \tlock directory = {dir}/run\n\
             \tpid directory = {dir}/run\n\
             \tncalrpc dir = {dir}/run/ncalrpc\n\
             \tbinddns dir = {dir}/run/bind-dns\n\
             \tntp signd socket directory = {dir}/run/ntp\n\
             \twinbindd socket directory = {dir}/run/winbindd\n\
             \tlog file = {dir}/run/log\n\
             \tload printers = no\n\
             \tdisable spoolss = yes\n\
             {network}{extra}\n",
            host = HOST.to_uppercase(),
            domain = netbios_domain(realm),
            extra = self.extra,
        )
    }
}
