//! `config`: the directory ([`crate::directory`]) and the `token_*` settings.

use obol_mount::fields::{StoredTokenFields, TokenFields};
use obol_mount::{Cx, Data, Result, TokenParams, Written};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::info;

use super::users::{USERS, User};
use super::{CONFIG, Ldap};
use crate::directory::groups::{GROUPS, Group};
use crate::directory::settings::{DirectoryView, StoredDirectory, WriteDirectory};
use crate::directory::users::Users;
use crate::named;
use crate::store::{self, ATTEMPTS};

/// `GET config`.
pub(super) async fn read(cx: Cx<Ldap>) -> Result<Option<Data<ConfigView>>> {
    let stored: Option<StoredConfig> = cx.store.read(CONFIG).await?;
    Ok(stored.map(|config| {
        Data(ConfigView {
            directory: DirectoryView::of(config.directory),
            token: config.token,
        })
    }))
}

/// `POST config`. What is left out keeps its stored value.
pub(super) async fn write(cx: Cx<Ldap>, input: WriteConfig) -> Result<Written> {
    for _ in 0..ATTEMPTS {
        let mut change = cx.store.begin().await?;
        let stored: Option<StoredConfig> = cx.store.read(CONFIG).await?;
        let was_sensitive = stored
            .as_ref()
            .is_some_and(|config| config.directory.case_sensitive_names);
        let config = input.applied_to(stored)?;
        // Checks the configuration without any network; the login builds its own from the record.
        let mut warnings = config.warnings(&config.users()?);
        match (was_sensitive, config.directory.case_sensitive_names) {
            (true, false) => {
                named::fold_all::<Group>(&cx.store, GROUPS, "groups", &mut change).await?;
                named::fold_all::<User>(&cx.store, USERS, "users", &mut change).await?;
            }
            (false, true)
                if named::any(&cx.store, GROUPS).await? || named::any(&cx.store, USERS).await? =>
            {
                warnings.push(named::NOW_TOLD_APART.into());
            }
            _ => {}
        }
        change.put(CONFIG, &config)?;
        if change.commit().await? {
            info!(
                mount = &*cx.request.mount,
                url = config.directory.url,
                "the LDAP configuration was written"
            );
            return Ok(Written { warnings });
        }
    }
    Err(store::too_busy())
}

/// Configures the directory.
#[derive(Clone, Deserialize, JsonSchema)]
pub(super) struct WriteConfig {
    #[serde(flatten)]
    directory: WriteDirectory,
    #[serde(flatten)]
    token: TokenFields,
}

/// The configuration without its secrets.
#[derive(Serialize, JsonSchema)]
pub(super) struct ConfigView {
    #[serde(flatten)]
    directory: DirectoryView,
    #[serde(flatten)]
    token: StoredTokenFields,
}

/// The record.
#[derive(Deserialize, Serialize)]
pub(super) struct StoredConfig {
    #[serde(flatten)]
    directory: StoredDirectory,
    #[serde(flatten)]
    token: StoredTokenFields,
}

impl WriteConfig {
    fn applied_to(&self, stored: Option<StoredConfig>) -> Result<StoredConfig> {
        let (directory, token) = match stored {
            Some(stored) => (Some(stored.directory), stored.token),
            None => (None, StoredTokenFields::default()),
        };
        let mut token = TokenParams::from(token);
        self.token.clone().apply(&mut token)?;
        Ok(StoredConfig {
            directory: self.directory.applied_to(directory)?,
            token: StoredTokenFields::from(&token),
        })
    }
}

impl StoredConfig {
    /// What logins use. The errors are for the operator who wrote the configuration.
    pub(super) fn users(&self) -> Result<Users> {
        Users::build(&self.directory, &self.token, None)
    }

    /// What works but deserves a second look.
    fn warnings(&self, users: &Users) -> Vec<String> {
        let mut warnings = users.directory.warnings().to_vec();
        if !self.directory.has_account() {
            warnings.push(
                "binddn and discoverdn are not set: groups are searched for with each user's own rights, and tokens can be renewed only where the directory answers anonymous searches"
                    .to_owned(),
            );
        }
        let is_alias = self.directory.upndomain.is_empty() && !self.directory.username_as_alias;
        if is_alias && !users.directory.finds_by_userattr() {
            let attribute = &self.directory.userattr;
            warnings.push(format!(
                "userattr: userfilter does not compare {attribute}, which is a user's name in identity: two users with one {attribute} are one there; set userattr to the attribute that users log in with, or username_as_alias"
            ));
        }
        warnings
    }
}
