//! Tests that call libkrb5 inside the process. libkrb5 reads KRB5_CONFIG from the environment,
//! which must not change once threads run; so each test starts itself again as a process of its
//! own, with the path of a krb5.conf that the realm inside then fills.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

pub mod forge;
pub mod logon_info;

use std::path::{Path, PathBuf};
use std::process::Command;

use obol_kerberos::{AcceptError, Accepted, Acceptor, AcceptorOptions, Initiator, Keytab};
use obol_testbed::{CCache, MitOptions, MitRealm, ShiftedClock};

pub const SERVICE: &str = "HTTP/localhost";
pub const SPN: &str = "HTTP/localhost@EXAMPLE.COM";
pub const PASSWORD: &str = "grace-password";

/// Declares tests whose bodies run in a process of their own.
#[macro_export]
macro_rules! own_process {
    ($($(#[$meta:meta])* fn $name:ident() $body:block)*) => {$(
        #[test]
        $(#[$meta])*
        fn $name() {
            $crate::common::run(stringify!($name), || $body);
        }
    )*};
}

pub fn run(name: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let scratch = tempfile::tempdir().unwrap();
    let path = |file: &str| scratch.path().join(file);
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, scratch.path())
        .env("KRB5_CONFIG", path("krb5.conf"))
        .env("KRB5_KTNAME", path("default.keytab"))
        .env(
            "KRB5CCNAME",
            format!("FILE:{}", path("default.ccache").display()),
        )
        .env("KRB5RCACHEDIR", scratch.path());
    // Some tests move their clock; all of them may.
    let clock = ShiftedClock::new(0).ok().filter(|_| name.contains("clock"));
    if let Some(clock) = &clock {
        child.envs(clock.env());
    }
    let output = child.output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{name}: {}\n{}{}",
        output.status,
        said(&output.stdout),
        said(&output.stderr)
    );
    assert!(
        said(&output.stdout).contains("1 passed"),
        "{name} did not run"
    );
}

/// The scratch directory of this process; it starts without a file in it.
pub fn scratch() -> PathBuf {
    std::env::var_os(INSIDE).unwrap().into()
}

/// Makes the realm the one that libkrb5 in this process knows.
pub fn adopt(realm: &MitRealm) {
    configure(&format!("include {}\n", realm.krb5_conf().display()));
}

/// The contents of this process's krb5.conf.
pub fn configure(krb5_conf: &str) {
    std::fs::write(scratch().join("krb5.conf"), krb5_conf).unwrap();
}

/// Moves this process's clock, and with it the KDC's, which it started. For tests with `clock` in
/// their names.
pub fn move_clock(seconds: i64) {
    let file =
        PathBuf::from(std::env::var_os("FAKETIME_TIMESTAMP_FILE").expect("the package faketime"));
    let draft = file.with_extension("draft");
    std::fs::write(&draft, format!("{seconds:+}\n")).unwrap();
    std::fs::rename(draft, file).unwrap();
}

/// A realm with grace and a web server.
pub fn realm() -> MitRealm {
    realm_with(MitOptions::default())
}

pub fn realm_with(options: MitOptions) -> MitRealm {
    let realm = MitRealm::start(options).unwrap();
    realm.add_principal("grace", PASSWORD).unwrap();
    realm.add_service(SERVICE).unwrap();
    adopt(&realm);
    realm
}

/// A user's tickets, the way a client has them.
pub struct Client {
    pub ccache: CCache,
    pub initiator: Initiator,
}

impl Client {
    pub fn grace(realm: &MitRealm) -> Self {
        Self::login(realm, "grace", PASSWORD)
    }

    pub fn login(realm: &MitRealm, user: &str, password: &str) -> Self {
        let ccache = realm.kinit(user, password).unwrap();
        let initiator = Initiator::from_ccache(Some(ccache.path())).unwrap();
        Self { ccache, initiator }
    }

    pub fn token(&self) -> Vec<u8> {
        self.initiator.negotiate(SPN, None).unwrap().0
    }
}

pub fn keytab(realm: &MitRealm) -> Keytab {
    Keytab::parse(&realm.keytab(&[SERVICE]).unwrap()).unwrap()
}

pub fn acceptor(realm: &MitRealm) -> Acceptor {
    acceptor_of(&realm.keytab(&[SERVICE]).unwrap())
}

pub fn acceptor_of(keytab: &[u8]) -> Acceptor {
    Acceptor::new(&Keytab::parse(keytab).unwrap(), AcceptorOptions::default()).unwrap()
}

pub fn accept(acceptor: &Acceptor, token: &[u8]) -> Result<Accepted, AcceptError> {
    acceptor.accept(token, None)
}

/// Every file below a directory.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

const INSIDE: &str = "OBOL_KERBEROS_TEST_SCRATCH";
