//! `config/ldap`: the directory that knows users and groups ([`crate::directory`]), whether it is bound with the
//! keytab, and the `token_*` settings.

use obol_kerberos::Keytab;
use obol_mount::fields::{Flag, StoredTokenFields, TokenFields};
use obol_mount::{Cx, Data, Error, Result, TokenParams, Written};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::info;

use super::config::StoredConfig;
use super::{CONFIG, Kerberos, LDAP, bind};
use crate::directory::groups::{GROUPS, Group};
use crate::directory::settings::{DirectoryView, StoredDirectory, WriteDirectory};
use crate::directory::users::Users;
use crate::named;
use crate::store::{self, ATTEMPTS};

/// `GET config/ldap`.
pub(super) async fn read(cx: Cx<Kerberos>) -> Result<Option<Data<LdapView>>> {
    let stored: Option<StoredLdap> = cx.store.read(LDAP).await?;
    Ok(stored.map(|ldap| {
        Data(LdapView {
            directory: DirectoryView::of(ldap.directory),
            bind_with_keytab: ldap.bind_with_keytab,
            token: ldap.token,
        })
    }))
}

/// `POST config/ldap`. What is left out keeps its stored value.
pub(super) async fn write(cx: Cx<Kerberos>, input: WriteLdap) -> Result<Written> {
    for _ in 0..ATTEMPTS {
        let mut change = cx.store.begin().await?;
        let stored: Option<StoredLdap> = cx.store.read(LDAP).await?;
        let was_sensitive = stored
            .as_ref()
            .is_some_and(|ldap| ldap.directory.case_sensitive_names);
        let ldap = input.applied_to(stored)?;
        // Checks the configuration without any network; the login builds its own from the record.
        let config: Option<StoredConfig> = cx.store.read(CONFIG).await?;
        let keys = config.map(|config| config.keys()).transpose()?;
        let mut warnings = ldap.warnings(&ldap.users(keys.as_ref())?);
        match (was_sensitive, ldap.directory.case_sensitive_names) {
            (true, false) => {
                named::fold_all::<Group>(&cx.store, GROUPS, "groups", &mut change).await?;
            }
            (false, true) if named::any(&cx.store, GROUPS).await? => {
                warnings.push(named::NOW_TOLD_APART.into());
            }
            _ => {}
        }
        change.put(LDAP, &ldap)?;
        if change.commit().await? {
            info!(
                mount = &*cx.request.mount,
                url = ldap.directory.url,
                "the LDAP configuration was written"
            );
            return Ok(Written { warnings });
        }
    }
    Err(store::too_busy())
}

/// Configures the directory.
#[derive(Clone, Deserialize, JsonSchema)]
pub(super) struct WriteLdap {
    #[serde(flatten)]
    directory: WriteDirectory,
    /// Binds with Kerberos (SASL GSSAPI), as the service account with the keytab of `config`, instead of `binddn` and
    /// `bindpass`: no password anywhere. Over plain `ldap://` the connection is encrypted by Kerberos.
    bind_with_keytab: Option<Flag>,
    #[serde(flatten)]
    token: TokenFields,
}

/// The configuration without its secret.
#[derive(Serialize, JsonSchema)]
pub(super) struct LdapView {
    #[serde(flatten)]
    directory: DirectoryView,
    bind_with_keytab: bool,
    #[serde(flatten)]
    token: StoredTokenFields,
}

/// The record.
#[derive(Default, Deserialize, Serialize)]
pub(super) struct StoredLdap {
    #[serde(flatten)]
    directory: StoredDirectory,
    #[serde(default)]
    bind_with_keytab: bool,
    #[serde(flatten)]
    token: StoredTokenFields,
}

impl WriteLdap {
    fn applied_to(&self, stored: Option<StoredLdap>) -> Result<StoredLdap> {
        let (directory, bind_with_keytab, token) = match stored {
            Some(stored) => (
                Some(stored.directory),
                stored.bind_with_keytab,
                stored.token,
            ),
            None => (None, false, StoredTokenFields::default()),
        };
        let mut token = TokenParams::from(token);
        self.token.clone().apply(&mut token)?;
        Ok(StoredLdap {
            directory: self.directory.applied_to(directory)?,
            bind_with_keytab: self
                .bind_with_keytab
                .map_or(bind_with_keytab, |flag| flag.0),
            token: StoredTokenFields::from(&token),
        })
    }
}

impl StoredLdap {
    /// What logins use. The errors are for the operator who wrote the configuration.
    pub(super) fn users(&self, keytab: Option<&Keytab>) -> Result<Users> {
        let sasl = match (self.bind_with_keytab, keytab) {
            (false, _) => None,
            (true, Some(keytab)) => Some(bind::source(keytab)?),
            (true, None) => {
                return Err(Error::bad_request(
                    "bind_with_keytab: there is no keytab yet; write it to config first",
                ));
            }
        };
        Users::build(&self.directory, &self.token, sasl)
    }

    /// What works but deserves a second look.
    fn warnings(&self, users: &Users) -> Vec<String> {
        let mut warnings = users.directory.warnings().to_vec();
        if !self.bind_with_keytab && !self.directory.searches_for_users() {
            warnings.push(
                "binddn, discoverdn and upndomain are not set: users are not searched for, so one who is not in the directory logs in without groups, and tokens can be renewed only where the directory answers anonymous searches"
                    .to_owned(),
            );
        }
        warnings
    }
}
