//! A user's own bind: is the password right, and who is it then.
//!
//! What LDAP permits against telling users from others by the time: an unknown user costs a search and a bind, as a
//! known one does. The bind is as nobody, with a password made up for it, so that it counts against no account.

use openssl::rand::rand_bytes;
use tokio::time::Instant;
use tracing::debug;

use crate::error::{DirectoryError, ResultCode};
use crate::lookup::{Directory, Membership, Names, Via};
use crate::pool::UserSession;
use crate::user::UserEntry;

impl Directory {
    /// Checks a user's password by binding with it, and finds the user's groups. An empty password
    /// is refused before any network unless `deny_null_bind` is off. The password is sent as it is: on
    /// `ldap://` without StartTLS in the clear, whatever the searches are bound by.
    ///
    /// The bind is never remembered; with a `cache_ttl` the groups are.
    pub async fn authenticate(
        &self,
        username: &str,
        password: &str,
    ) -> Result<Membership, DirectoryError> {
        let settings = &self.inner().settings;
        self.check_name(username)?;
        if settings.deny_null_bind && password.is_empty() {
            return Err(DirectoryError::NullBind);
        }
        if !settings.discover {
            return self.authenticate_with_own_rights(username, password).await;
        }
        // Others may search while this user binds.
        let found = self
            .user_entry(username, &mut Via::service(&self.inner().pool))
            .await;
        let user = match found {
            Ok(user) => user,
            Err(error) => {
                if error.is_refusal() {
                    self.bind_as_nobody().await?;
                }
                return Err(error);
            }
        };
        self.bound(&user.dn, password).await?.close().await;
        if !settings.limits.cache_ttl.is_zero() {
            let known = self.lookup(username).await?;
            if known.user_dn == user.dn {
                return Ok(Membership {
                    standing: user.standing,
                    ..Membership::clone(&known)
                });
            }
        }
        self.groups_of_user(user, username, Via::service(&self.inner().pool))
            .await
    }

    /// Costs what [`Directory::authenticate`] costs for a user whose password is wrong, and tries no password of the
    /// user: for one who must not guess any more. Errors are outages.
    pub async fn pretend(&self, username: &str) -> Result<(), DirectoryError> {
        if self.inner().settings.discover {
            let found = self
                .user_entry(username, &mut Via::service(&self.inner().pool))
                .await;
            if let Err(error) = found
                && !error.is_refusal()
            {
                return Err(error);
            }
        }
        self.bind_as_nobody().await
    }

    /// Without a service account the user's own rights are all there is to search with.
    async fn authenticate_with_own_rights(
        &self,
        username: &str,
        password: &str,
    ) -> Result<Membership, DirectoryError> {
        match &self.inner().settings.upn_domain {
            Some(domain) => {
                let name = format!("{username}@{domain}");
                let mut via = Via::User(self.bound(&name, password).await?);
                let user = self.user_entry(username, &mut via).await?;
                self.groups_of_user(user, username, via).await
            }
            None => {
                let dn = self.composed_dn(username);
                let mut via = Via::User(self.bound(&dn, password).await?);
                let user = self.composed_entry(username, dn, &mut via).await?;
                self.groups_of_user(user, username, via).await
            }
        }
    }

    async fn groups_of_user(
        &self,
        user: UserEntry,
        username: &str,
        mut via: Via,
    ) -> Result<Membership, DirectoryError> {
        let (membership, _) = self
            .membership(user, username, &mut via, Names::Kept)
            .await?;
        if let Via::User(user) = via {
            user.close().await;
        }
        Ok(membership)
    }

    /// A session on which the user is bound.
    async fn bound(&self, name: &str, password: &str) -> Result<UserSession, DirectoryError> {
        let mut user = self.inner().pool.user_session().await?;
        let deadline = Instant::now() + self.inner().pool.request_timeout();
        let (code, text) = user.session.bind(name, password, deadline).await?;
        let url = user.session.url().to_owned();
        match code {
            ResultCode::SUCCESS => Ok(user),
            // The server's terms for any bind, not a verdict on this user.
            ResultCode::STRONGER_AUTH_REQUIRED | ResultCode::CONFIDENTIALITY_REQUIRED => {
                Err(DirectoryError::Bind {
                    url,
                    binddn: name.to_owned(),
                    code,
                    text,
                })
            }
            _ => Err(DirectoryError::Credentials {
                url,
                user: name.to_owned(),
                code,
                text,
            }),
        }
    }

    /// Takes the time of a bind that fails. Errors are outages, which a known user would meet as well.
    async fn bind_as_nobody(&self) -> Result<(), DirectoryError> {
        let mut random = [0; 16];
        rand_bytes(&mut random).map_err(|error| DirectoryError::Protocol {
            url: "this server".into(),
            cause: error.to_string(),
        })?;
        let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let nobody = self.composed_dn(&format!("nobody-{random}"));
        match self.bound(&nobody, &random).await {
            Ok(user) => user.close().await,
            Err(error) if error.is_refusal() => {
                debug!(error = %error, "the bind for an unknown user was refused, as it should be");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
