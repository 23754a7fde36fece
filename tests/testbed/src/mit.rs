//! A real MIT KDC with a realm of its own: principals, keytabs, key versions, trusts and tickets.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{fmt, fs};

use crate::client::{self, CCache, Krb5Conf};
use crate::clock::ShiftedClock;
use crate::daemon::{Daemon, log_file, loopback};
use crate::error::{Doing, Error, Result, read, run, write};
use crate::keytab::Keytab;
use crate::ports::PortLease;
use crate::programs::{KADMIN_LOCAL, KDB5_UTIL, KRB5KDC};
use crate::scratch::Scratch;

/// What the realm is like. `MitOptions::realm("OTHER.REALM")` changes the name alone.
#[derive(Clone, Debug)]
pub struct MitOptions {
    pub realm: String,
    /// Encryption types of new keys, as kdc.conf spells them.
    pub supported_enctypes: Vec<String>,
    /// Lifetimes in seconds, for tickets and for their renewal.
    pub max_life: u32,
    pub max_renewable_life: u32,
    /// More lines for `[libdefaults]` of the clients' krb5.conf.
    pub libdefaults: Vec<(String, String)>,
    /// Seconds that the KDC's own clock is ahead. Needs the package `faketime` if not zero.
    pub clock_shift: i64,
}

impl MitOptions {
    pub fn realm(name: &str) -> Self {
        Self {
            realm: name.to_owned(),
            ..Self::default()
        }
    }
}

impl Default for MitOptions {
    fn default() -> Self {
        Self {
            realm: "EXAMPLE.COM".to_owned(),
            supported_enctypes: [
                "aes256-cts-hmac-sha1-96:normal",
                "aes128-cts-hmac-sha1-96:normal",
            ]
            .map(str::to_owned)
            .to_vec(),
            max_life: 10 * 3600,
            max_renewable_life: 7 * 24 * 3600,
            libdefaults: Vec::new(),
            clock_shift: 0,
        }
    }
}

/// A realm with a running KDC, on 127.0.0.1 over TCP and UDP. Dropping it kills the KDC.
pub struct MitRealm {
    options: MitOptions,
    port: PortLease,
    /// Name and address of each realm the clients' krb5.conf knows; our own comes first.
    known: Mutex<Vec<(String, String)>>,
    /// kadmin.local takes turns: the database is one file with one lock.
    admin: Mutex<()>,
    daemon: Mutex<Option<Daemon>>,
    clock: Option<ShiftedClock>,
    scratch: Scratch,
}

impl MitRealm {
    pub fn start(options: MitOptions) -> Result<Self> {
        let clock = match options.clock_shift {
            0 => None,
            seconds => Some(ShiftedClock::new(seconds)?),
        };
        let port = PortLease::new()?;
        let address = format!("127.0.0.1:{}", port.port());
        let realm = Self {
            known: Mutex::new(vec![(options.realm.clone(), address)]),
            options,
            port,
            admin: Mutex::new(()),
            daemon: Mutex::new(None),
            clock,
            scratch: Scratch::new("kdc")?,
        };
        realm.write_krb5_conf()?;
        write(&realm.scratch.join("kdc.conf"), realm.kdc_conf())?;
        let mut create = realm.command(KDB5_UTIL.find()?);
        create.args([
            "-r",
            &realm.options.realm,
            "-P",
            "master key of a test realm",
            "create",
            "-s",
            "-W",
        ]);
        run(&mut create, b"")?;
        realm.start_kdc()?;
        Ok(realm)
    }

    pub fn realm(&self) -> &str {
        &self.options.realm
    }

    /// `127.0.0.1:PORT`.
    pub fn kdc_addr(&self) -> String {
        format!("127.0.0.1:{}", self.port.port())
    }

    /// The krb5.conf of clients and acceptors.
    pub fn krb5_conf(&self) -> PathBuf {
        client::krb5_conf(&self.scratch)
    }

    /// The realm's own directory, which goes away with it.
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// KRB5_CONFIG, and a KRB5CCNAME that no other test uses.
    pub fn env(&self) -> Vec<(String, String)> {
        client::env(&self.scratch)
    }

    /// A command in this realm: [`env`](Self::env), and none of the caller's own Kerberos settings.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = client::command(&self.scratch, program);
        command.env("KRB5_KDC_PROFILE", self.scratch.join("kdc.conf"));
        command
    }

    // --- principals ---------------------------------------------------------------------------

    /// Adds `name`, such as `grace` or `grace/admin`, in kadmin's spelling: see [`escape_component`].
    pub fn add_principal(&self, name: &str, password: &str) -> Result<()> {
        self.kadmin(&["addprinc", "-pw", password, name]).map(drop)
    }

    /// Adds many at once, which is many times faster: one process for all of them.
    pub fn add_principals(&self, names_and_passwords: &[(String, &str)]) -> Result<()> {
        let script: String = names_and_passwords
            .iter()
            .map(|(name, password)| {
                format!(
                    "addprinc -pw {} {}\n",
                    script_word(password),
                    script_word(name)
                )
            })
            .collect();
        let _turn = lock(&self.admin);
        let shown = run(&mut self.command(KADMIN_LOCAL.find()?), script.as_bytes())?;
        // A script's failures do not show in the status.
        if shown.matches(" created.").count() == names_and_passwords.len() {
            Ok(())
        } else {
            Err(Error::Usage(format!(
                "kadmin.local did not add every principal:\n{shown}"
            )))
        }
    }

    /// Adds a principal with random keys, such as `HTTP/localhost`.
    pub fn add_service(&self, name: &str) -> Result<()> {
        self.kadmin(&["addprinc", "-randkey", name]).map(drop)
    }

    /// Adds a principal with random keys of these encryption types only, as kdc.conf spells them.
    pub fn add_service_with_enctypes(&self, name: &str, enctypes: &[&str]) -> Result<()> {
        self.kadmin(&["addprinc", "-randkey", "-e", &key_salts(enctypes), name])
            .map(drop)
    }

    pub fn remove_principal(&self, name: &str) -> Result<()> {
        self.kadmin(&["delprinc", "-force", name]).map(drop)
    }

    pub fn set_password(&self, name: &str, password: &str) -> Result<()> {
        self.kadmin(&["cpw", "-pw", password, name]).map(drop)
    }

    /// Gives the principal new random keys and returns their version number.
    pub fn change_key(&self, name: &str, old: KeepOldKeys) -> Result<u32> {
        match old {
            KeepOldKeys::Yes => self.kadmin(&["cpw", "-randkey", "-keepold", name])?,
            KeepOldKeys::No => self.kadmin(&["cpw", "-randkey", name])?,
        };
        self.kvno(name)
    }

    /// New random keys of other encryption types; returns their version number.
    pub fn change_enctypes(&self, name: &str, enctypes: &[&str]) -> Result<u32> {
        self.kadmin(&["cpw", "-randkey", "-e", &key_salts(enctypes), name])?;
        self.kvno(name)
    }

    /// The current key version of a principal.
    pub fn kvno(&self, name: &str) -> Result<u32> {
        let shown = self.kadmin(&["getprinc", name])?;
        shown
            .lines()
            .filter_map(|line| {
                line.strip_prefix("Key: vno ")?
                    .split(',')
                    .next()?
                    .trim()
                    .parse()
                    .ok()
            })
            .max()
            .ok_or_else(|| Error::Usage(format!("{name} has no keys:\n{shown}")))
    }

    /// Any query of kadmin.local, a word each: `&["modprinc", "+ok_as_delegate", "HTTP/localhost"]`.
    pub fn kadmin(&self, query: &[&str]) -> Result<String> {
        let _turn = lock(&self.admin);
        run(self.command(KADMIN_LOCAL.find()?).args(query), b"")
    }

    // --- keytabs ------------------------------------------------------------------------------

    /// A keytab with the present keys (all versions kept) of these principals.
    pub fn keytab(&self, principals: &[&str]) -> Result<Vec<u8>> {
        let file = self.scratch.fresh("keytab");
        let path = file.display().to_string();
        let mut query = vec!["ktadd", "-norandkey", "-k", &path];
        query.extend(principals);
        self.kadmin(&query)?;
        let bytes = read(&file)?;
        fs::remove_file(&file).doing(|| format!("removing {path}"))?;
        Ok(bytes)
    }

    /// The same, with the keys of these encryption types only (numbers of [`crate::keytab`]).
    pub fn keytab_with_enctypes(&self, principals: &[&str], enctypes: &[u16]) -> Result<Vec<u8>> {
        let keytab = Keytab::parse(&self.keytab(principals)?)?;
        Ok(keytab
            .retain(|entry| enctypes.contains(&entry.enctype))
            .to_bytes())
    }

    // --- tickets ------------------------------------------------------------------------------

    /// Logs in with a password, into a new credential cache. `user` may name another known realm.
    pub fn kinit(&self, user: &str, password: &str) -> Result<CCache> {
        self.kinit_with(&[], user, password)
    }

    /// The same with more of kinit's options, such as `&["-l", "5s"]` or `&["-f"]`.
    pub fn kinit_with(&self, options: &[&str], user: &str, password: &str) -> Result<CCache> {
        client::kinit(&self.scratch, options, user, password)
    }

    /// Logs in with a keytab file.
    pub fn kinit_keytab(&self, user: &str, keytab: &Path) -> Result<CCache> {
        client::kinit_keytab(&self.scratch, user, keytab)
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

    // --- the daemon ---------------------------------------------------------------------------

    pub fn stop_kdc(&self) -> Result<()> {
        match lock(&self.daemon).take() {
            Some(daemon) => daemon.stop(),
            None => Ok(()),
        }
    }

    /// Starts the KDC again, on the same port. Nothing happens if it runs.
    pub fn start_kdc(&self) -> Result<()> {
        let mut daemon = lock(&self.daemon);
        if daemon.is_none() {
            let mut command = self.command(KRB5KDC.find()?);
            command.arg("-n");
            if let Some(clock) = &self.clock {
                command.envs(clock.env());
            }
            let log = log_file(self.scratch.path(), "krb5kdc");
            *daemon = Some(Daemon::start(
                "krb5kdc",
                &command,
                &log,
                &[loopback(self.port.port())],
            )?);
        }
        Ok(())
    }

    /// The KDC keeps its connections and answers nothing, until [`resume_kdc`](Self::resume_kdc).
    pub fn pause_kdc(&self) -> Result<()> {
        lock(&self.daemon).as_ref().map_or(Ok(()), Daemon::pause)
    }

    pub fn resume_kdc(&self) -> Result<()> {
        lock(&self.daemon).as_ref().map_or(Ok(()), Daemon::resume)
    }

    /// Process id of the KDC while it runs.
    pub fn kdc_pid(&self) -> Option<u32> {
        lock(&self.daemon).as_ref().map(Daemon::pid)
    }

    /// What the KDC has logged.
    pub fn kdc_log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&read(&self.scratch.join("kdc.log"))?).into_owned())
    }

    // --- other realms -------------------------------------------------------------------------

    /// Trust in both directions: each realm's users get tickets for the other's services, and
    /// each krb5.conf names both KDCs.
    pub fn trust(&self, other: &MitRealm) -> Result<()> {
        for (to, from) in [(self, other), (other, self)] {
            let principal = format!("krbtgt/{}@{}", to.realm(), from.realm());
            let password = format!("{principal} shares this key");
            // Name and password make the key, so both sides get the same one.
            for side in [self, other] {
                side.add_principal(&principal, &password)?;
            }
        }
        self.know(other)?;
        other.know(self)
    }

    /// Puts the other realm's KDC into our krb5.conf, without any trust.
    pub fn know(&self, other: &MitRealm) -> Result<()> {
        self.know_kdc(other.realm(), &other.kdc_addr())
    }

    /// The same for a KDC of any kind.
    pub fn know_kdc(&self, realm: &str, address: &str) -> Result<()> {
        lock(&self.known).push((realm.to_owned(), address.to_owned()));
        self.write_krb5_conf()
    }

    fn write_krb5_conf(&self) -> Result<()> {
        let realms: Vec<_> = lock(&self.known)
            .iter()
            .map(|(name, address)| (name.clone(), vec![format!("kdc = {address}")]))
            .collect();
        let conf = Krb5Conf {
            default_realm: &self.options.realm,
            libdefaults: &self.options.libdefaults,
            realms: &realms,
            hosts: &["localhost"],
        };
        let draft = self.scratch.fresh("krb5.conf");
        write(&draft, conf.text(self.scratch.path()))?;
        fs::rename(&draft, self.krb5_conf()).doing(|| "replacing krb5.conf".to_owned())
    }

    fn kdc_conf(&self) -> String {
        let MitOptions {
            realm,
            supported_enctypes,
            max_life,
            max_renewable_life,
            ..
        } = &self.options;
        format!(
            "[kdcdefaults]\n\
             \tkdc_listen = {address}\n\
             \tkdc_tcp_listen = {address}\n\
             [realms]\n\
             \t{realm} = {{\n\
             \t\tdatabase_module = local\n\
             \t\tdatabase_name = {dir}/principal\n\
             \t\tkey_stash_file = {dir}/stash\n\
             \t\tacl_file = {dir}/kadm5.acl\n\
             \t\tsupported_enctypes = {enctypes}\n\
             \t\tmax_life = {max_life}s\n\
             \t\tmax_renewable_life = {max_renewable_life}s\n\
             \t\tdefault_principal_flags = +preauth\n\
             \t}}\n\
             [dbmodules]\n\
             \tlocal = {{\n\
             \t\tdb_library = db2\n\
             \t\tdatabase_name = {dir}/principal\n\
             \t}}\n",
            address = self.kdc_addr(),
            dir = self.scratch.path().display(),
            enctypes = supported_enctypes.join(" "),
        )
    }
}

impl fmt::Debug for MitRealm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MitRealm({} at {})", self.realm(), self.kdc_addr())
    }
}

/// Whether tickets sealed with the keys before the change can still be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepOldKeys {
    Yes,
    No,
}

/// A name as one component of a principal, in the spelling kadmin, kinit and GSSAPI take.
pub fn escape_component(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, '\\' | '/' | '@') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A word of a kadmin.local script: in double quotes, with quotes doubled.
fn script_word(word: &str) -> String {
    format!("\"{}\"", word.replace('"', "\"\""))
}

fn key_salts(enctypes: &[&str]) -> String {
    enctypes
        .iter()
        .map(|enctype| format!("{enctype}:normal"))
        .collect::<Vec<_>>()
        .join(",")
}

/// A lock is held for single steps, so a panic elsewhere leaves nothing half-done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
