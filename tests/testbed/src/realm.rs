//! A KDC and a directory that know the same people: what a login needs, in one value.

use std::path::PathBuf;
use std::thread;

use crate::client::CCache;
use crate::error::{Error, Result, write};
use crate::ldap::people::{AWKWARD_NAMES, AWKWARD_PASSWORD, USERS};
use crate::ldap::{LdapOptions, OpenLdap};
use crate::mit::{MitOptions, MitRealm, escape_component};
use crate::scratch::Scratch;

/// What the two halves are like.
#[derive(Clone, Debug, Default)]
pub struct RealmOptions {
    pub mit: MitOptions,
    pub ldap: LdapOptions,
}

/// MIT KDC and OpenLDAP. Every user of the directory is a principal with the same password; there
/// are also `grace/admin` (in no directory), and the services [`HTTP_SERVICE`] and
/// [`SERVICE_ACCOUNT`].
#[derive(Debug)]
pub struct Realm {
    pub kdc: MitRealm,
    pub ldap: OpenLdap,
    keytab: Vec<u8>,
    files: Scratch,
}

/// The service that clients ask a ticket for.
pub const HTTP_SERVICE: &str = "HTTP/localhost";
/// An account name without a host, as Vault's documentation uses it.
pub const SERVICE_ACCOUNT: &str = "vault_svc";
/// Principal with an instance, and its password.
pub const GRACE_ADMIN: (&str, &str) = ("grace/admin", "grace-admin-password");

impl Realm {
    pub fn start(options: RealmOptions) -> Result<Self> {
        let RealmOptions { mit, ldap } = options;
        let (kdc, ldap) = thread::scope(|scope| {
            let ldap = scope.spawn(|| OpenLdap::start(ldap));
            let kdc = start_kdc(mit);
            (
                kdc,
                ldap.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            )
        });
        let (kdc, ldap) = (kdc?, ldap?);
        let keytab = kdc.keytab(&[HTTP_SERVICE, SERVICE_ACCOUNT])?;
        let files = Scratch::new("realm")?;
        write(&files.join("http.keytab"), &keytab)?;
        Ok(Self {
            kdc,
            ldap,
            keytab,
            files,
        })
    }

    /// A keytab of [`HTTP_SERVICE`] and [`SERVICE_ACCOUNT`].
    pub fn keytab(&self) -> &[u8] {
        &self.keytab
    }

    pub fn keytab_file(&self) -> PathBuf {
        self.files.join("http.keytab")
    }

    /// Logs a user of the directory in to the KDC, awkward names included.
    pub fn kinit(&self, uid: &str) -> Result<CCache> {
        let password =
            password(uid).ok_or_else(|| Error::Usage(format!("no user {uid:?} in this realm")))?;
        self.kdc.kinit(&escape_component(uid), password)
    }
}

/// The password of a user of the directory, and of the principal of that name.
pub fn password(uid: &str) -> Option<&'static str> {
    let user = USERS
        .iter()
        .find(|user| user.uid == uid)
        .map(|user| user.password);
    user.or_else(|| AWKWARD_NAMES.contains(&uid).then_some(AWKWARD_PASSWORD))
}

fn start_kdc(options: MitOptions) -> Result<MitRealm> {
    let kdc = MitRealm::start(options)?;
    let mut principals: Vec<(String, &str)> = Vec::new();
    principals.extend(
        USERS
            .iter()
            .map(|user| (user.uid.to_owned(), user.password)),
    );
    principals.extend(
        AWKWARD_NAMES
            .iter()
            .map(|uid| (escape_component(uid), AWKWARD_PASSWORD)),
    );
    principals.push((GRACE_ADMIN.0.to_owned(), GRACE_ADMIN.1));
    kdc.add_principals(&principals)?;
    kdc.add_service(HTTP_SERVICE)?;
    kdc.add_service(SERVICE_ACCOUNT)?;
    Ok(kdc)
}
