//! A real OpenLDAP directory: ldap, StartTLS and ldaps under a CA of its own, with the people of
//! [`people`], and switches for everything a client must survive.

pub mod people;
mod seed;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, fs, thread};

use crate::daemon::{Daemon, log_file, loopback};
use crate::error::{Doing, Result, read, run, write};
use crate::ldif::Ldif;
use crate::ports::PortLease;
use crate::programs::{LDAPADD, LDAPDELETE, LDAPMODIFY, LDAPSEARCH, LDAPWHOAMI, SLAPD};
use crate::scratch::Scratch;
use crate::tls::{Ca, loopback_names};
use people::{SUFFIX, group_dn, user_dn};
use seed::NOBODY_DN;

/// Account that a server binds with. It may read everything but passwords.
pub const BIND_DN: &str = "cn=vault,ou=Users,dc=example,dc=com";
pub const BIND_PASSWORD: &str = "vault-bind-password";
/// Account that may do anything.
pub const ADMIN_DN: &str = "cn=admin,dc=example,dc=com";
pub const ADMIN_PASSWORD: &str = "directory-admin-password";

#[derive(Clone, Debug, Default)]
pub struct LdapOptions {
    /// Anonymous connections may search everything but passwords.
    pub anonymous_search: bool,
    /// A DN with an empty password binds, anonymously, and the server says it succeeded: what
    /// careless directories do.
    pub unauthenticated_bind: bool,
    /// Oldest and newest version of TLS that is spoken. Debian's slapd uses GnuTLS, which ignores
    /// TLSProtocolMin: a priority string in TLSCipherSuite does it, for both ends of the range.
    pub tls_min: Option<TlsVersion>,
    pub tls_max: Option<TlsVersion>,
    /// Most entries that a search by anybody but the administrator returns.
    pub size_limit: Option<u32>,
    /// Seconds after which an idle connection is closed.
    pub idle_timeout: Option<u32>,
    /// Further lines of slapd.conf: global ones, and ones of the database.
    pub global_config: String,
    pub database_config: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    Tls10,
    Tls11,
    Tls12,
    Tls13,
}

/// How a client reaches the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Plain,
    StartTls,
    Ldaps,
}

/// A running directory. Dropping it kills it.
pub struct OpenLdap {
    options: LdapOptions,
    plain: PortLease,
    tls: PortLease,
    ca: Ca,
    other_ca: Ca,
    daemon: Mutex<Option<Daemon>>,
    /// Connections that were made to see whether slapd is up.
    probes: AtomicUsize,
    scratch: Scratch,
}

impl OpenLdap {
    pub fn start(options: LdapOptions) -> Result<Self> {
        let directory = Self {
            options,
            plain: PortLease::new()?,
            tls: PortLease::new()?,
            ca: Ca::new("Test directory CA")?,
            other_ca: Ca::new("A CA that signed nothing here")?,
            daemon: Mutex::new(None),
            probes: AtomicUsize::new(0),
            scratch: Scratch::new("ldap")?,
        };
        directory.write_files()?;
        let mut slapadd = directory.slapd()?;
        slapadd
            .args(["-T", "add", "-q", "-f"])
            .arg(directory.scratch.join("slapd.conf"));
        run(&mut slapadd, seed::seed().as_bytes())?;
        directory.start_again()?;
        Ok(directory)
    }

    /// `ldap://localhost:PORT`, which also takes StartTLS.
    pub fn url(&self) -> String {
        format!("ldap://localhost:{}", self.plain.port())
    }

    /// `ldaps://localhost:PORT`.
    pub fn ldaps_url(&self) -> String {
        format!("ldaps://localhost:{}", self.tls.port())
    }

    /// The CA that signed the directory's certificate (for localhost, 127.0.0.1 and ::1).
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

    // --- contents -----------------------------------------------------------------------------

    /// Adds entries, as the administrator.
    pub fn add_ldif(&self, ldif: &str) -> Result<()> {
        run(&mut self.as_admin(LDAPADD.find()?), ldif.as_bytes()).map(drop)
    }

    /// Changes entries (`changetype: modify` and the like), as the administrator.
    pub fn modify_ldif(&self, ldif: &str) -> Result<()> {
        run(&mut self.as_admin(LDAPMODIFY.find()?), ldif.as_bytes()).map(drop)
    }

    pub fn delete(&self, dn: &str) -> Result<()> {
        run(self.as_admin(LDAPDELETE.find()?).arg(dn), b"").map(drop)
    }

    /// Adds a user in the way of [`people::USERS`].
    pub fn add_user(&self, uid: &str, password: &str) -> Result<()> {
        let mut ldif = Ldif::default();
        ldif.line("dn", &user_dn(uid));
        for (name, value) in [
            ("objectClass", "inetOrgPerson"),
            ("objectClass", "adAccount"),
            ("uid", uid),
            ("cn", uid),
            ("sn", uid),
            ("userPassword", password),
            ("sAMAccountName", uid),
            ("userPrincipalName", &format!("{uid}@example.com")),
        ] {
            ldif.line(name, value);
        }
        self.add_ldif(&ldif.0)
    }

    /// Adds a groupOfNames with these users.
    pub fn add_group(&self, cn: &str, users: &[&str]) -> Result<()> {
        let mut ldif = Ldif::default();
        ldif.line("dn", &group_dn(cn));
        ldif.line("objectClass", "groupOfNames");
        ldif.line("cn", cn);
        ldif.line("member", NOBODY_DN);
        for uid in users {
            ldif.line("member", &user_dn(uid));
        }
        self.add_ldif(&ldif.0)
    }

    pub fn remove_group(&self, cn: &str) -> Result<()> {
        self.delete(&group_dn(cn))
    }

    pub fn add_member(&self, cn: &str, uid: &str) -> Result<()> {
        self.change_member(cn, uid, "add")
    }

    pub fn remove_member(&self, cn: &str, uid: &str) -> Result<()> {
        self.change_member(cn, uid, "delete")
    }

    fn change_member(&self, cn: &str, uid: &str, change: &str) -> Result<()> {
        let mut ldif = Ldif::default();
        ldif.line("dn", &group_dn(cn));
        ldif.0
            .push_str(&format!("changetype: modify\n{change}: member\n"));
        ldif.line("member", &user_dn(uid));
        self.modify_ldif(&ldif.0)
    }

    // --- looking from outside -----------------------------------------------------------------

    /// Binds and asks the directory who it thinks that is: `dn:uid=grace,...`, or `anonymous`.
    pub fn whoami(
        &self,
        dn: &str,
        password: &str,
        transport: Transport,
        ca: &Path,
    ) -> Result<String> {
        let mut command = self.client(LDAPWHOAMI.find()?, transport, ca);
        run(command.args(["-D", dn, "-w", password]), b"").map(|who| who.trim().to_owned())
    }

    /// Searches the whole directory as the bind account; returns LDIF.
    pub fn search(&self, filter: &str, attributes: &[&str]) -> Result<String> {
        let mut command = self.client(LDAPSEARCH.find()?, Transport::Ldaps, &self.ca_file());
        command.args([
            "-D",
            BIND_DN,
            "-w",
            BIND_PASSWORD,
            "-b",
            SUFFIX,
            "-o",
            "ldif-wrap=no",
            "-LLL",
        ]);
        run(command.arg(filter).args(attributes), b"")
    }

    /// What slapd has logged: each connection (`ACCEPT from`) and each operation (`BIND dn=`, `SRCH base=`).
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&read(&log_file(self.scratch.path(), "slapd"))?).into_owned())
    }

    /// How many connections the directory has accepted since it was first started, this value's
    /// own [`search`](Self::search)es and changes included.
    pub fn connections_seen(&self) -> Result<usize> {
        Ok(self
            .accepted()?
            .saturating_sub(self.probes.load(Ordering::Relaxed)))
    }

    fn accepted(&self) -> Result<usize> {
        Ok(self.log()?.matches(" ACCEPT from ").count())
    }

    // --- the daemon ---------------------------------------------------------------------------

    pub fn stop(&self) -> Result<()> {
        match lock(&self.daemon).take() {
            Some(daemon) => daemon.stop(),
            None => Ok(()),
        }
    }

    /// Starts a stopped directory again, on the same ports and with its contents. Nothing happens
    /// if it runs.
    pub fn start_again(&self) -> Result<()> {
        let mut daemon = lock(&self.daemon);
        if daemon.is_none() {
            let ports = [self.plain.port(), self.tls.port()];
            let urls = format!(
                "ldap://127.0.0.1:{}/ ldaps://127.0.0.1:{}/",
                ports[0], ports[1]
            );
            let mut command = self.slapd()?;
            command
                .args(["-d", "stats", "-h", &urls, "-f"])
                .arg(self.scratch.join("slapd.conf"));
            let log = log_file(self.scratch.path(), "slapd");
            let accepted = if log.exists() { self.accepted()? } else { 0 };
            *daemon = Some(Daemon::start(
                "slapd",
                &command,
                &log,
                &ports.map(loopback),
            )?);
            // Each port was tried once. Their lines are awaited, or they would count as a client's.
            self.probes.fetch_add(ports.len(), Ordering::Relaxed);
            let deadline = Instant::now() + Duration::from_secs(10);
            while self.accepted()? < accepted + ports.len() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(())
    }

    /// The directory keeps its connections, takes new ones, and answers nothing.
    pub fn pause(&self) -> Result<()> {
        lock(&self.daemon).as_ref().map_or(Ok(()), Daemon::pause)
    }

    pub fn resume(&self) -> Result<()> {
        lock(&self.daemon).as_ref().map_or(Ok(()), Daemon::resume)
    }

    /// Process id of slapd while it runs.
    pub fn pid(&self) -> Option<u32> {
        lock(&self.daemon).as_ref().map(Daemon::pid)
    }

    // --- files --------------------------------------------------------------------------------

    fn write_files(&self) -> Result<()> {
        let (certificate, key) = self.ca.issue(&loopback_names())?;
        for (name, contents) in [
            ("ca.pem", self.ca.pem()),
            ("other-ca.pem", self.other_ca.pem()),
            ("cert.pem", certificate),
            ("key.pem", key),
            ("ad.schema", AD_SCHEMA.to_owned()),
            ("slapd.conf", self.slapd_conf()),
        ] {
            write(&self.scratch.join(name), contents)?;
        }
        for name in ["data", "sasl"] {
            let dir = self.scratch.join(name);
            fs::create_dir(&dir).doing(|| format!("making {}", dir.display()))?;
        }
        Ok(())
    }

    fn slapd_conf(&self) -> String {
        let options = &self.options;
        let mut global = options.global_config.clone();
        if let Some(priority) = gnutls_priority(options.tls_min, options.tls_max) {
            global.push_str(&format!("\nTLSCipherSuite {priority}\n"));
        }
        if let Some(limit) = options.size_limit {
            global.push_str(&format!("\nsizelimit {limit}\n"));
        }
        if let Some(seconds) = options.idle_timeout {
            global.push_str(&format!("\nidletimeout {seconds}\n"));
        }
        if options.unauthenticated_bind {
            global.push_str("\nallow bind_anon_dn\n");
        }
        let anonymous = if options.anonymous_search {
            "read"
        } else {
            "auth"
        };
        format!(
            "include {SCHEMA}/core.schema\n\
             include {SCHEMA}/cosine.schema\n\
             include {SCHEMA}/inetorgperson.schema\n\
             include {SCHEMA}/nis.schema\n\
             include {dir}/ad.schema\n\
             modulepath {MODULES}\n\
             moduleload back_mdb\n\
             moduleload memberof\n\
             pidfile {dir}/slapd.pid\n\
             argsfile {dir}/slapd.args\n\
             TLSCACertificateFile {dir}/ca.pem\n\
             TLSCertificateFile {dir}/cert.pem\n\
             TLSCertificateKeyFile {dir}/key.pem\n\
             {global}\n\
             database mdb\n\
             suffix \"{SUFFIX}\"\n\
             rootdn \"{ADMIN_DN}\"\n\
             rootpw {ADMIN_PASSWORD}\n\
             directory {dir}/data\n\
             maxsize 67108864\n\
             dbnosync\n\
             index objectClass,uid,cn,sAMAccountName,userPrincipalName,member,uniqueMember,memberUid eq\n\
             access to attrs=userPassword by self =xw by anonymous auth by * none\n\
             access to * by users read by anonymous {anonymous}\n\
             {database}\n\
             overlay memberof\n\
             memberof-refint true\n",
            dir = self.scratch.path().display(),
            database = options.database_config,
        )
    }

    fn slapd(&self) -> Result<Command> {
        let mut program = SLAPD.find()?;
        if Path::new(APPARMOR_PROFILE).exists() {
            // Ubuntu confines the program, by its path, to the system's own directories.
            let copy = self.scratch.join("slapd");
            if !copy.exists() {
                fs::copy(&program, &copy).doing(|| "copying slapd".to_owned())?;
            }
            program = copy;
        }
        let mut command = Command::new(program);
        // An empty directory of plugins: no SASL mechanism is offered.
        command
            .env("SASL_PATH", self.scratch.join("sasl"))
            .env("LC_ALL", "C.UTF-8")
            .current_dir("/");
        Ok(command)
    }

    fn as_admin(&self, program: PathBuf) -> Command {
        let mut command = self.client(program, Transport::Ldaps, &self.ca_file());
        command.args(["-D", ADMIN_DN, "-w", ADMIN_PASSWORD]);
        command
    }

    /// A client of ldap-utils that reads no one's settings.
    fn client(&self, program: PathBuf, transport: Transport, ca: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env("HOME", self.scratch.path())
            .env("LDAPCONF", "/dev/null")
            .env("LDAPTLS_CACERT", ca)
            .env("LDAPTLS_REQCERT", "demand")
            .env("LC_ALL", "C.UTF-8")
            .current_dir("/")
            .args(["-x", "-o", "nettimeout=10", "-H"]);
        // By address: libldap compares `localhost` with the machine's name.
        match transport {
            Transport::Plain => command.arg(format!("ldap://127.0.0.1:{}", self.plain.port())),
            Transport::StartTls => command
                .arg(format!("ldap://127.0.0.1:{}", self.plain.port()))
                .arg("-ZZ"),
            Transport::Ldaps => command.arg(format!("ldaps://127.0.0.1:{}", self.tls.port())),
        };
        command
    }
}

impl fmt::Debug for OpenLdap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenLdap({}, {})", self.url(), self.ldaps_url())
    }
}

/// TLS versions as a GnuTLS priority string; nothing when the library's own choice is left alone.
fn gnutls_priority(min: Option<TlsVersion>, max: Option<TlsVersion>) -> Option<String> {
    if min.is_none() && max.is_none() {
        return None;
    }
    let range = min.unwrap_or(TlsVersion::Tls10)..=max.unwrap_or(TlsVersion::Tls13);
    let versions = [
        (TlsVersion::Tls10, ":+VERS-TLS1.0"),
        (TlsVersion::Tls11, ":+VERS-TLS1.1"),
        (TlsVersion::Tls12, ":+VERS-TLS1.2"),
        (TlsVersion::Tls13, ":+VERS-TLS1.3"),
    ];
    let chosen: String = versions
        .iter()
        .filter(|(version, _)| range.contains(version))
        .map(|(_, name)| *name)
        .collect();
    Some(format!("NORMAL:-VERS-ALL{chosen}"))
}

/// A lock is held for single steps, so a panic elsewhere leaves nothing half-done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const SCHEMA: &str = "/etc/ldap/schema";
const MODULES: &str = "/usr/lib/ldap";
const APPARMOR_PROFILE: &str = "/etc/apparmor.d/usr.sbin.slapd";

/// The two account names of Active Directory under its own identifiers, and a class to carry them.
const AD_SCHEMA: &str = "\
attributetype ( 1.2.840.113556.1.4.221 NAME 'sAMAccountName'
  EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.656 NAME 'userPrincipalName'
  EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.4203.666.99.1 NAME 'adAccount' AUXILIARY
  MAY ( sAMAccountName $ userPrincipalName ) )
";
