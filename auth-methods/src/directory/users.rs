//! The directory and what is made of its users, as logins use them: built from [`StoredDirectory`] and the `token_*`
//! settings beside it.

use std::sync::Arc;

use ipnet::IpNet;
use obol_directory::{Directory, SaslSource};
use obol_mount::fields::StoredTokenFields;
use obol_mount::{Result, TokenParams, cidr};

use super::settings::{self, StoredDirectory};

/// What is made of a user.
pub(crate) struct Users {
    pub(crate) directory: Directory,
    pub(crate) case_sensitive_names: bool,
    /// The alias in identity is the name that the directory is asked for.
    pub(crate) username_as_alias: bool,
    /// The directory knows the service account by what another part of the configuration holds (a keytab).
    pub(crate) binds_by_sasl: bool,
    pub(crate) upndomain: Option<String>,
    pub(crate) deny_null_bind: bool,
    pub(crate) token: TokenParams,
    pub(crate) bound_cidrs: Vec<IpNet>,
}

impl Users {
    /// The errors are for the operator who wrote the configuration.
    pub(crate) fn build(
        directory: &StoredDirectory,
        token: &StoredTokenFields,
        sasl: Option<Arc<dyn SaslSource>>,
    ) -> Result<Self> {
        let token = TokenParams::from(token.clone());
        let binds_by_sasl = sasl.is_some();
        let config = directory.config(sasl)?;
        Ok(Self {
            directory: Directory::new(&config).map_err(settings::refused)?,
            case_sensitive_names: directory.case_sensitive_names,
            username_as_alias: directory.username_as_alias,
            binds_by_sasl,
            upndomain: Some(directory.upndomain.clone()).filter(|domain| !domain.is_empty()),
            deny_null_bind: directory.deny_null_bind,
            bound_cidrs: cidr::parse_list("token_bound_cidrs", &token.bound_cidrs)?,
            token,
        })
    }
}
