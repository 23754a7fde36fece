//! One realm for all tests of this binary. libkrb5 reads KRB5_CONFIG from the environment, which must
//! not change once threads run; so the first test that wants the realm starts the whole binary again
//! with the path of a krb5.conf in its environment, which the realm inside then fills.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use obol_kerberos::{InitiateError, Initiator, Negotiation};
use obol_testbed::realm::{GRACE_ADMIN, HTTP_SERVICE};
use obol_testbed::{CCache, MitRealm, Realm, RealmOptions};

/// The realm and what was logged.
pub struct World {
    pub realm: Realm,
    logs: Logs,
    krb5_conf: PathBuf,
}

/// The world of this process. Tests that stop or change a directory start one of their own.
pub fn world() -> &'static World {
    static WORLD: LazyLock<World> = LazyLock::new(World::start);
    &WORLD
}

impl World {
    fn start() -> Self {
        let Some(krb5_conf) = std::env::var_os(INSIDE) else {
            run_inside()
        };
        let logs = Logs::default();
        let writer = logs.clone();
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .init();
        let realm = Realm::start(RealmOptions::default()).unwrap();
        let world = Self {
            realm,
            logs,
            krb5_conf: krb5_conf.into(),
        };
        world.write_krb5_conf();
        world
    }

    /// The realm's own file changes place; this one stays where KRB5_CONFIG says.
    fn write_krb5_conf(&self) {
        let include = format!("include {}\n", self.realm.kdc.krb5_conf().display());
        let draft = self.krb5_conf.with_extension("new");
        std::fs::write(&draft, include).unwrap();
        std::fs::rename(draft, &self.krb5_conf).unwrap();
    }

    /// The lines that were logged and hold `text`. Every test has requests with ids of their own.
    pub fn logged(&self, text: &str) -> Vec<String> {
        let logs = self.logs.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&logs)
            .lines()
            .filter(|line| line.contains(text))
            .map(str::to_owned)
            .collect()
    }
}

/// A user with a ticket for the server.
pub struct Client {
    initiator: Initiator,
}

impl Client {
    /// A user of the directory.
    pub fn of(uid: &str) -> Self {
        Self::with(&world().realm.kinit(uid).unwrap())
    }

    /// `grace/admin`, who is in no directory.
    pub fn grace_admin() -> Self {
        Self::login(&world().realm.kdc, GRACE_ADMIN.0, GRACE_ADMIN.1)
    }

    pub fn login(kdc: &MitRealm, user: &str, password: &str) -> Self {
        Self::with(&kdc.kinit(user, password).unwrap())
    }

    fn with(ccache: &CCache) -> Self {
        Self {
            initiator: Initiator::from_ccache(Some(ccache.path())).unwrap(),
        }
    }

    /// A fresh token for the server.
    pub fn token(&self) -> Vec<u8> {
        self.negotiate().0
    }

    pub fn negotiate(&self) -> (Vec<u8>, Negotiation) {
        self.token_for(HTTP_SERVICE)
    }

    pub fn token_for(&self, service: &str) -> (Vec<u8>, Negotiation) {
        let spn = format!("{service}@EXAMPLE.COM");
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match self.initiator.negotiate(&spn, None) {
                // A test has made the realm known since. libkrb5 looks once a second whether krb5.conf has
                // changed, but not at what it includes.
                Err(InitiateError::UnknownRealm { .. }) if Instant::now() < deadline => {
                    world().write_krb5_conf();
                    thread::sleep(Duration::from_millis(100));
                }
                made => return made.unwrap(),
            }
        }
    }
}

/// Runs this binary with the same arguments as a child that has its own KRB5_CONFIG, and ends as it did.
fn run_inside() -> ! {
    let scratch = tempfile::tempdir().unwrap();
    let krb5_conf = scratch.path().join("krb5.conf");
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(arguments)
        .env(INSIDE, &krb5_conf)
        .env("KRB5_CONFIG", &krb5_conf)
        .env(
            "KRB5CCNAME",
            format!("FILE:{}", scratch.path().join("none").display()),
        )
        .status()
        .unwrap();
    drop(scratch);
    std::process::exit(status.code().unwrap_or(1));
}

#[derive(Clone, Default)]
struct Logs(Arc<Mutex<Vec<u8>>>);

impl Write for Logs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const INSIDE: &str = "OBOL_AUTH_TEST_KRB5_CONFIG";
