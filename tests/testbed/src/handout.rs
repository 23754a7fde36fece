//! What the binary hands out of a realm: an environment, and the files it leads to.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use obol_testbed::ldap::{BIND_DN, BIND_PASSWORD};
use obol_testbed::people::{GROUP_DN, USER_DN, USERS};
use obol_testbed::realm::{GRACE_ADMIN, HTTP_SERVICE, SERVICE_ACCOUNT};
use obol_testbed::{Error, Realm, SambaAd, samba};

use crate::doing;

/// Of either kind of realm, under the same names.
pub(crate) struct Handout {
    env: Vec<(String, String)>,
    krb5_conf: PathBuf,
    keytab: Vec<u8>,
    ca_pem: String,
    other_ca_pem: String,
}

impl Handout {
    pub(crate) fn of_mit(realm: &Realm) -> Self {
        let mut env = pairs(&[
            ("REALM", realm.kdc.realm()),
            ("KDC_ADDR", &realm.kdc.kdc_addr()),
            ("HTTP_SERVICE", HTTP_SERVICE),
            ("SERVICE_ACCOUNT", SERVICE_ACCOUNT),
            ("LDAP_URL", &realm.ldap.url()),
            ("LDAPS_URL", &realm.ldap.ldaps_url()),
            ("LDAP_BIND_DN", BIND_DN),
            ("LDAP_BIND_PASSWORD", BIND_PASSWORD),
            ("LDAP_USER_DN", USER_DN),
            ("LDAP_GROUP_DN", GROUP_DN),
            ("GRACE_ADMIN_PASSWORD", GRACE_ADMIN.1),
        ]);
        env.extend(passwords(
            USERS.iter().map(|user| (user.uid, user.password)),
        ));
        Self {
            env,
            krb5_conf: realm.kdc.krb5_conf(),
            keytab: realm.keytab().to_vec(),
            ca_pem: realm.ldap.ca_pem(),
            other_ca_pem: realm.ldap.other_ca_pem(),
        }
    }

    pub(crate) fn of_ad(ad: &SambaAd) -> Result<Self, Error> {
        use samba::people::{
            ADMINISTRATOR, HTTP_SERVICE, SERVICE_ACCOUNT, SERVICE_PASSWORD, USERS,
        };
        let mut env = pairs(&[
            ("REALM", ad.realm()),
            ("KDC_ADDR", &ad.kdc_addr()),
            ("HTTP_SERVICE", HTTP_SERVICE),
            ("SERVICE_ACCOUNT", SERVICE_ACCOUNT),
            ("LDAP_URL", &ad.ldap_url()),
            ("LDAPS_URL", &ad.ldaps_url()),
            ("LDAP_BIND_DN", &ad.dn_of(SERVICE_ACCOUNT)?),
            ("LDAP_BIND_PASSWORD", SERVICE_PASSWORD),
            ("LDAP_BASE_DN", &ad.base_dn()),
            ("LDAP_USER_DN", &ad.user_dn()),
            ("LDAP_GROUP_DN", &ad.group_dn()),
            ("DOMAIN_SID", &ad.domain_sid()?),
            ("SMB_CONF", &ad.smb_conf().display().to_string()),
        ]);
        let plain = USERS
            .iter()
            .filter(|user| user.name.bytes().all(|b| b.is_ascii_alphanumeric()))
            .map(|user| (user.name, user.password));
        env.extend(passwords(plain.chain([ADMINISTRATOR])));
        Ok(Self {
            env,
            krb5_conf: ad.krb5_conf(),
            keytab: ad.keytab(SERVICE_ACCOUNT)?,
            ca_pem: ad.ca_pem(),
            other_ca_pem: ad.other_ca_pem(),
        })
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

/// `GRACE_PASSWORD` and so on.
fn passwords<'a>(
    accounts: impl Iterator<Item = (&'a str, &'a str)>,
) -> impl Iterator<Item = (String, String)> {
    accounts.map(|(name, password)| {
        (
            format!("{}_PASSWORD", name.to_uppercase()),
            password.to_owned(),
        )
    })
}

/// The files in DIR. Dropping this removes them, for they lead nowhere once the realm is gone.
pub(crate) struct Files {
    written: Vec<PathBuf>,
    pub(crate) env: Vec<(String, String)>,
}

impl Files {
    pub(crate) fn write(dir: &Path, handout: Handout) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(doing(&format!("making {}", dir.display())))?;
        let dir = fs::canonicalize(dir).map_err(doing(&format!("finding {}", dir.display())))?;
        let path = |name: &str| dir.join(name).display().to_string();
        let mut env = handout.env;
        env.extend(pairs(&[
            ("KRB5_CONFIG", &path("krb5.conf")),
            ("KRB5CCNAME", &format!("FILE:{}", path("ccache"))),
            ("HTTP_KEYTAB", &path("http.keytab")),
            ("LDAP_CA_FILE", &path("ca.pem")),
            ("LDAP_OTHER_CA_FILE", &path("other-ca.pem")),
        ]));
        let mut files = Self {
            written: vec![dir.join("ccache")],
            env,
        };
        let krb5_conf = fs::read(&handout.krb5_conf).map_err(doing("reading krb5.conf"))?;
        for (name, contents) in [
            ("krb5.conf", krb5_conf.as_slice()),
            ("http.keytab", &handout.keytab),
            ("ca.pem", handout.ca_pem.as_bytes()),
            ("other-ca.pem", handout.other_ca_pem.as_bytes()),
        ] {
            files.put(dir.join(name), contents)?;
        }
        // Last: whoever waits for this file finds the others complete.
        let lines: String = files
            .env
            .iter()
            .map(|(name, value)| format!("export {name}={}\n", quoted(value)))
            .collect();
        files.put(dir.join("env"), lines.as_bytes())?;
        Ok(files)
    }

    fn put(&mut self, path: PathBuf, contents: &[u8]) -> Result<(), Error> {
        let draft = path.with_extension("part");
        // A draft left behind may have other permissions.
        fs::remove_file(&draft).ok();
        let write = || {
            let mut file = File::options()
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(contents)?;
            fs::rename(&draft, &path)
        };
        write().map_err(doing(&format!("writing {}", path.display())))?;
        self.written.push(path);
        Ok(())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for path in &self.written {
            fs::remove_file(path).ok();
        }
    }
}

/// A word for a POSIX shell.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}
