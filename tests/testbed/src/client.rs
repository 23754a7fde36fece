//! What clients of any realm share: their krb5.conf, credential caches, and MIT's kinit and kvno.

use std::ffi::OsStr;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result, run};
use crate::programs::{KINIT, KVNO};
use crate::scratch::Scratch;

/// A credential cache file.
#[derive(Clone, Debug)]
pub struct CCache {
    path: PathBuf,
}

impl CCache {
    /// One in the realm's own directory that does not exist yet.
    pub(crate) fn fresh(scratch: &Scratch) -> Self {
        Self {
            path: scratch.fresh("ccache"),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// KRB5CCNAME alone: KRB5_CONFIG comes from the realm's own `env`.
    pub fn env(&self) -> [(String, String); 1] {
        [(
            "KRB5CCNAME".to_owned(),
            format!("FILE:{}", self.path.display()),
        )]
    }
}

/// The krb5.conf of a realm's clients and acceptors, in the realm's own directory.
pub(crate) fn krb5_conf(scratch: &Scratch) -> PathBuf {
    scratch.join("krb5.conf")
}

/// KRB5_CONFIG, and a KRB5CCNAME that no other test uses.
pub(crate) fn env(scratch: &Scratch) -> Vec<(String, String)> {
    let mut env = vec![(
        "KRB5_CONFIG".to_owned(),
        krb5_conf(scratch).display().to_string(),
    )];
    env.extend(CCache::fresh(scratch).env());
    env
}

/// A command with that environment, and none of the caller's own Kerberos settings.
pub(crate) fn command(scratch: &Scratch, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for name in [
        "KRB5_KTNAME",
        "KRB5_CLIENT_KTNAME",
        "KRB5_TRACE",
        "KRB5RCACHENAME",
        "KRB5RCACHETYPE",
    ] {
        command.env_remove(name);
    }
    command.envs(env(scratch)).env("LC_ALL", "C.UTF-8");
    command
}

/// kinit with a password.
pub(crate) fn kinit(
    scratch: &Scratch,
    options: &[&str],
    user: &str,
    password: &str,
) -> Result<CCache> {
    let ccache = CCache::fresh(scratch);
    let mut kinit = command(scratch, KINIT.find()?);
    kinit.envs(ccache.env()).args(options).arg(user);
    run(&mut kinit, format!("{password}\n").as_bytes())?;
    Ok(ccache)
}

/// kinit with a keytab file.
pub(crate) fn kinit_keytab(scratch: &Scratch, user: &str, keytab: &Path) -> Result<CCache> {
    let ccache = CCache::fresh(scratch);
    let mut kinit = command(scratch, KINIT.find()?);
    kinit
        .envs(ccache.env())
        .arg("-k")
        .arg("-t")
        .arg(keytab)
        .arg(user);
    run(&mut kinit, b"")?;
    Ok(ccache)
}

/// Puts a service ticket into the cache and returns the version of the key it is sealed with.
pub(crate) fn service_ticket(scratch: &Scratch, ccache: &CCache, service: &str) -> Result<u32> {
    let mut kvno = command(scratch, KVNO.find()?);
    let shown = run(kvno.envs(ccache.env()).arg(service), b"")?;
    shown
        .rsplit("kvno = ")
        .next()
        .and_then(|kvno| kvno.trim().parse().ok())
        .ok_or_else(|| Error::Usage(format!("kvno printed no version: {shown}")))
}

/// What goes into a krb5.conf. Names are never looked up in DNS.
pub(crate) struct Krb5Conf<'a> {
    pub(crate) default_realm: &'a str,
    /// More lines of `[libdefaults]`.
    pub(crate) libdefaults: &'a [(String, String)],
    /// Each realm with its own lines, such as `kdc = 127.0.0.1:88`.
    pub(crate) realms: &'a [(String, Vec<String>)],
    /// Hosts and domains of the default realm.
    pub(crate) hosts: &'a [&'a str],
}

impl Krb5Conf<'_> {
    pub(crate) fn text(&self, log_dir: &Path) -> String {
        let realm = self.default_realm;
        let mut text = format!(
            "[libdefaults]\n\
             \tdefault_realm = {realm}\n\
             \tdns_lookup_kdc = false\n\
             \tdns_lookup_realm = false\n\
             \tdns_uri_lookup = false\n\
             \tdns_canonicalize_hostname = false\n\
             \trdns = false\n\
             \tqualify_shortname = \"\"\n\
             \tudp_preference_limit = 1\n"
        );
        let mut put = |line: std::fmt::Arguments<'_>| {
            text.write_fmt(line).expect("a String takes every write");
        };
        for (name, value) in self.libdefaults {
            put(format_args!("\t{name} = {value}\n"));
        }
        put(format_args!("[realms]\n"));
        for (name, lines) in self.realms {
            put(format_args!("\t{name} = {{\n"));
            for line in lines {
                put(format_args!("\t\t{line}\n"));
            }
            put(format_args!("\t}}\n"));
        }
        put(format_args!("[domain_realm]\n"));
        for host in self.hosts {
            put(format_args!("\t{host} = {realm}\n"));
        }
        let dir = log_dir.display();
        put(format_args!(
            "[logging]\n\tdefault = FILE:{dir}/krb5.log\n\tkdc = FILE:{dir}/kdc.log\n"
        ));
        text
    }
}
