//! A real Active Directory: a Samba domain controller with KDC, LDAP, StartTLS and LDAPS on a
//! loopback address of its own, with the people of [`people`]. It needs root, as Samba does.

mod address;
mod conf;
mod directory;
pub mod people;
mod seed;
mod template;
mod trust;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{fmt, fs};

use crate::client::{self, CCache, Krb5Conf};
use crate::daemon::{Daemon, log_file};
use crate::error::{Doing, Error, Result, read, write};
use crate::keytab::Keytab;
use crate::programs::SAMBA;
use crate::scratch::Scratch;
use crate::tls::Ca;
use address::{AddressLease, KERBEROS, KPASSWD, LDAP, LDAPS};
use conf::SmbConf;
pub use directory::escape_filter;

/// What the domain is like.
#[derive(Clone, Debug)]
pub struct AdOptions {
    pub realm: String,
    /// Further lines of smb.conf's `[global]`, such as `tls priority = NORMAL:-VERS-TLS1.3`.
    pub global_config: String,
    /// More lines for `[libdefaults]` of the clients' krb5.conf.
    pub libdefaults: Vec<(String, String)>,
    /// Where provisioned domains are kept to be copied; `None` provisions each anew, in its own
    /// time, with a SID and keys of its own. Copies of one domain share them.
    pub cache: Option<PathBuf>,
}

impl AdOptions {
    pub fn realm(name: &str) -> Self {
        Self {
            realm: name.to_owned(),
            ..Self::default()
        }
    }
}

impl Default for AdOptions {
    fn default() -> Self {
        Self {
            realm: "AD.EXAMPLE.COM".to_owned(),
            global_config: String::new(),
            libdefaults: Vec::new(),
            cache: template::default_cache(),
        }
    }
}

/// A domain with a running domain controller. Dropping it kills it.
pub struct SambaAd {
    options: AdOptions,
    address: AddressLease,
    ca: Ca,
    other_ca: Ca,
    /// By account name, as they were last set.
    passwords: Mutex<HashMap<String, String>>,
    /// The keys that accounts had before their passwords were set anew.
    old_keys: Mutex<HashMap<String, Keytab>>,
    /// Other realms of the clients' krb5.conf, with their lines.
    known: Mutex<Vec<(String, Vec<String>)>>,
    daemon: Mutex<Option<Daemon>>,
    scratch: Scratch,
}

impl SambaAd {
    pub fn start(options: AdOptions) -> Result<Self> {
        Self::start_telling(options, &|_| {})
    }

    /// The same, and says what it does while a domain is provisioned.
    pub fn start_telling(options: AdOptions, progress: &dyn Fn(&str)) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err(Error::Usage(
                "a Samba domain controller runs as root only: try again with sudo, or in a container"
                    .to_owned(),
            ));
        }
        let known = people::USERS
            .iter()
            .map(|user| (user.name, user.password))
            .chain([
                (people::SERVICE_ACCOUNT, people::SERVICE_PASSWORD),
                people::ADMINISTRATOR,
            ])
            .map(|(name, password)| (name.to_owned(), password.to_owned()));
        let domain = Self {
            address: AddressLease::new()?,
            ca: Ca::new("Test domain CA")?,
            other_ca: Ca::new("A CA that signed nothing here")?,
            passwords: Mutex::new(known.collect()),
            old_keys: Mutex::default(),
            known: Mutex::default(),
            daemon: Mutex::new(None),
            scratch: Scratch::new("ad")?,
            options,
        };
        template::domain(
            &domain.dc_dir(),
            domain.realm(),
            domain.options.cache.as_deref(),
            progress,
        )?;
        domain.write_files()?;
        // Clients that cannot resolve the domain controller's name reach it by its address, and
        // ask for a ticket of that name.
        domain.name_address()?;
        domain.start_again()?;
        Ok(domain)
    }

    pub fn realm(&self) -> &str {
        &self.options.realm
    }

    /// `dc1.ad.example.com`. No resolver knows it; its certificate and its service `ldap/` do.
    pub fn dc_name(&self) -> String {
        format!("{}.{}", conf::HOST, self.realm().to_lowercase())
    }

    /// The domain controller's own loopback address.
    pub fn address(&self) -> Ipv4Addr {
        self.address.address()
    }

    /// `ADDRESS:88`.
    pub fn kdc_addr(&self) -> String {
        format!("{}:{KERBEROS}", self.address())
    }

    /// `ldap://ADDRESS`, which takes StartTLS, and SASL GSSAPI for the service `ldap/ADDRESS`.
    /// Simple binds are refused without TLS.
    pub fn ldap_url(&self) -> String {
        format!("ldap://{}", self.address())
    }

    /// `ldaps://ADDRESS`.
    pub fn ldaps_url(&self) -> String {
        format!("ldaps://{}", self.address())
    }

    /// The CA that signed the directory's certificate, for its address and its name.
    pub fn ca_pem(&self) -> String {
        self.ca.pem()
    }

    /// A CA that did not.
    pub fn other_ca_pem(&self) -> String {
        self.other_ca.pem()
    }

    /// The same certificates as files.
    pub fn ca_file(&self) -> PathBuf {
        self.scratch.join("ca.pem")
    }

    pub fn other_ca_file(&self) -> PathBuf {
        self.scratch.join("other-ca.pem")
    }

    /// For `samba-tool` and ldb's tools: `samba-tool spn list vault_svc -s SMB_CONF`.
    pub fn smb_conf(&self) -> PathBuf {
        self.scratch.join("smb.conf")
    }

    /// The krb5.conf of clients and acceptors.
    pub fn krb5_conf(&self) -> PathBuf {
        client::krb5_conf(&self.scratch)
    }

    /// The domain's own directory, which goes away with it.
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// KRB5_CONFIG, and a KRB5CCNAME that no other test uses.
    pub fn env(&self) -> Vec<(String, String)> {
        client::env(&self.scratch)
    }

    /// A command in this realm: [`env`](Self::env), and none of the caller's own Kerberos settings.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        client::command(&self.scratch, program)
    }

    /// A program of ldap-utils (`ldapsearch`, `ldapwhoami`) that trusts `ca` and reads no one's
    /// settings. Give it `-H` and a way to bind.
    pub fn ldap_command(&self, program: impl AsRef<std::ffi::OsStr>, ca: &Path) -> Command {
        let mut command = self.command(program);
        command
            .env("HOME", self.scratch.path())
            .env("LDAPCONF", "/dev/null")
            .env("LDAPTLS_CACERT", ca)
            .env("LDAPTLS_REQCERT", "demand")
            .current_dir("/");
        command
    }

    // --- tickets ------------------------------------------------------------------------------

    /// Logs in with a password, into a new credential cache.
    pub fn kinit(&self, user: &str, password: &str) -> Result<CCache> {
        self.kinit_with(&[], user, password)
    }

    /// The same with more of kinit's options, such as `&["-l", "5s"]`, or `&["-E"]` for a UPN.
    pub fn kinit_with(&self, options: &[&str], user: &str, password: &str) -> Result<CCache> {
        client::kinit(&self.scratch, options, user, password)
    }

    /// Logs in an account of [`people`] or one that was added here.
    pub fn kinit_as(&self, account: &str) -> Result<CCache> {
        let password = self.password(account)?;
        self.kinit(&crate::mit::escape_component(account), &password)
    }

    /// Logs in with a keytab file.
    pub fn kinit_keytab(&self, account: &str, keytab: &Path) -> Result<CCache> {
        client::kinit_keytab(&self.scratch, account, keytab)
    }

    /// Puts a ticket for `service` into the cache, so that it is at hand when the KDC is gone, and
    /// returns the version of the key it is sealed with.
    pub fn service_ticket(&self, ccache: &CCache, service: &str) -> Result<u32> {
        client::service_ticket(&self.scratch, ccache, service)
    }

    /// A credential cache that does not exist yet.
    pub fn new_ccache(&self) -> CCache {
        CCache::fresh(&self.scratch)
    }

    /// The password of an account as it was last set here.
    pub fn password(&self, account: &str) -> Result<String> {
        lock(&self.passwords)
            .get(account)
            .cloned()
            .ok_or_else(|| Error::Usage(format!("no account {account:?} with a known password")))
    }

    // --- the daemon ---------------------------------------------------------------------------

    pub fn stop(&self) -> Result<()> {
        match lock(&self.daemon).take() {
            Some(daemon) => daemon.stop(),
            None => Ok(()),
        }
    }

    /// Starts a stopped domain controller again, on the same address and with its contents. Nothing happens if it runs.
    pub fn start_again(&self) -> Result<()> {
        let mut daemon = lock(&self.daemon);
        if daemon.is_none() {
            let mut command = self.command(SAMBA.find()?);
            command
                .args(["--interactive", "--model=single", "--configfile"])
                .arg(self.smb_conf())
                .current_dir("/");
            let ports = [LDAP, LDAPS, KERBEROS, KPASSWD];
            *daemon = Some(Daemon::start(
                "samba",
                &command,
                &self.log_file(),
                &ports.map(|port| SocketAddr::from((self.address(), port))),
            )?);
        }
        Ok(())
    }

    /// KDC and directory keep their connections and answer nothing, until [`resume`](Self::resume).
    pub fn pause(&self) -> Result<()> {
        lock(&self.daemon).as_ref().map_or(Ok(()), Daemon::pause)
    }

    pub fn resume(&self) -> Result<()> {
        lock(&self.daemon).as_ref().map_or(Ok(()), Daemon::resume)
    }

    /// Process id of the domain controller while it runs.
    pub fn pid(&self) -> Option<u32> {
        lock(&self.daemon).as_ref().map(Daemon::pid)
    }

    /// What the domain controller has logged. `log level = 3` in the options makes it talk.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&read(&self.log_file())?).into_owned())
    }

    // --- files --------------------------------------------------------------------------------

    fn dc_dir(&self) -> PathBuf {
        self.scratch.join("dc")
    }

    fn log_file(&self) -> PathBuf {
        log_file(self.scratch.path(), "samba")
    }

    fn write_files(&self) -> Result<()> {
        let dir = self.dc_dir();
        for name in ["run", "tls"] {
            let dir = dir.join(name);
            fs::create_dir(&dir).doing(|| format!("making {}", dir.display()))?;
        }
        let hosts = [
            self.dc_name(),
            self.realm().to_lowercase(),
            self.address().to_string(),
        ];
        let (certificate, key) = self.ca.issue(&hosts)?;
        let smb_conf = SmbConf {
            dir: &dir,
            realm: self.realm(),
            address: Some(self.address()),
            extra: &self.options.global_config,
        };
        for (path, contents) in [
            (self.ca_file(), self.ca.pem()),
            (self.other_ca_file(), self.other_ca.pem()),
            (dir.join("tls/ca.pem"), self.ca.pem()),
            (dir.join("tls/cert.pem"), certificate),
            (dir.join("tls/key.pem"), key),
            (self.smb_conf(), smb_conf.text()),
        ] {
            write(&path, contents)?;
        }
        self.write_krb5_conf()?;
        let key = dir.join("tls/key.pem");
        // Samba refuses a key that others may read.
        fs::set_permissions(&key, PermissionsExt::from_mode(0o600))
            .doing(|| format!("hiding {}", key.display()))
    }

    fn write_krb5_conf(&self) -> Result<()> {
        let address = self.address().to_string();
        let domain = self.realm().to_lowercase();
        let own = vec![
            format!("kdc = {}", self.kdc_addr()),
            format!("kpasswd_server = {address}:{KPASSWD}"),
        ];
        let mut realms = vec![(self.realm().to_owned(), own)];
        realms.extend(lock(&self.known).iter().cloned());
        let conf = Krb5Conf {
            default_realm: self.realm(),
            libdefaults: &self.options.libdefaults,
            realms: &realms,
            hosts: &["localhost", &address, &domain, &format!(".{domain}")],
        };
        let draft = self.scratch.fresh("krb5.conf");
        write(&draft, conf.text(self.scratch.path()))?;
        fs::rename(&draft, self.krb5_conf()).doing(|| "replacing krb5.conf".to_owned())
    }
}

impl fmt::Debug for SambaAd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SambaAd({} at {})", self.realm(), self.address())
    }
}

/// A lock is held for single steps, so a panic elsewhere leaves nothing half-done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
