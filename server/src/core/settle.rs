//! Settling what a handler answered: a proof that was accepted becomes a token, or nothing does.

use std::sync::Arc;

use obol_mount::{
    Auth, Error, Login, Reply, RequestInfo, Response, Result, Secret, TokenKind, cidr,
};

use super::identity::Who;
use super::mounts::{MountEntry, Mounted};
use super::policies::{DEFAULT, PolicyName, parse_policy_list};
use super::tokens::IssueError;
use super::tokens::{NewToken, TokenEntry};
use super::{Core, Live, unix_now};

impl Core {
    /// Returns the `auth` of the answer, if there is one.
    pub(super) async fn settle(
        &self,
        live: &Arc<Live>,
        mounted: &Mounted,
        request: &Arc<RequestInfo>,
        response: &mut Response,
    ) -> Result<Option<Box<Auth>>> {
        match std::mem::replace(&mut response.reply, Reply::Empty) {
            Reply::Login(login) => {
                Box::pin(self.issue_for_login(live, mounted, request, *login, response))
                    .await
                    .map(Some)
            }
            Reply::Auth(auth) => Ok(Some(auth)),
            other => {
                response.reply = other;
                Ok(None)
            }
        }
    }

    async fn issue_for_login(
        &self,
        live: &Arc<Live>,
        mounted: &Mounted,
        request: &RequestInfo,
        login: Login,
        response: &mut Response,
    ) -> Result<Box<Auth>> {
        let Login {
            alias,
            display_name,
            metadata,
            policies,
            data,
            group_aliases,
            token,
            renewable,
            commit,
            on_conflict,
            internal,
            headers,
            held: _held,
        } = login;
        let mut all = checked(policies.iter().chain(&token.policies))?;
        if !token.no_default_policy {
            all = all.with(default_policy()?);
        }
        // Who has no name at the mount has no entity.
        let who = (!alias.is_empty()).then(|| {
            Who::new(&mounted.entry, &alias)
                .with_metadata(&metadata)
                .with_groups(group_aliases)
        });
        let new = NewToken {
            policies: all.to_strings(),
            kind: kind_of(&mounted.entry, token.kind),
            display_name: display_name_of(
                &mounted.entry,
                if display_name.is_empty() {
                    &alias
                } else {
                    &display_name
                },
            ),
            metadata,
            path: [&*request.mount, &*request.path].concat(),
            issuer: Some(mounted.entry.uuid.clone()),
            ttl: token.ttl,
            max_ttl: token.max_ttl,
            explicit_max_ttl: token.explicit_max_ttl,
            period: token.period,
            num_uses: token.num_uses,
            renewable,
            bound_cidrs: cidr::parse_list("token_bound_cidrs", &token.bound_cidrs)?,
            internal,
            ..NewToken::default()
        };
        live.quotas.admit(live, Some(mounted)).await?;
        let limits = self.limits(Some(&mounted.entry));
        let issued = match &who {
            Some(who) => live.issue_for(who, new, limits, commit, unix_now()).await,
            None => live.tokens.issue(new, limits, commit, unix_now()).await,
        };
        let issued = match issued {
            Ok(issued) => issued,
            Err(IssueError::Refused(error)) => return Err(error),
            Err(IssueError::Conflict(error)) => {
                return Err(match on_conflict {
                    Some(on_conflict) => on_conflict.refuse(),
                    None => error.into(),
                });
            }
        };
        // The mount may have been disabled while this login was at work: its tokens were revoked then, and
        // this one must not be left behind.
        if live.mounts.by_uuid(&mounted.entry.uuid).is_none() {
            live.tokens.revoke(&issued.id, &live.forget()).await?;
            return Err(Error::not_found_because(
                "the auth method is being disabled",
            ));
        }
        live.activity
            .see_login(&live.mounts, &issued.entry, unix_now());
        if let Some(data) = data {
            response.reply = Reply::Json(data);
        }
        response.headers.extend(headers);
        response.warnings.extend(issued.warnings);
        let ttl = issued.entry.creation_ttl;
        let auth = auth_of(issued.entry, issued.token, ttl);
        live.with_identity(auth).await.map(Box::new)
    }
}

/// The `auth` of an answer: the one time that the token itself is seen.
pub(super) fn auth_of(entry: TokenEntry, token: Secret, ttl: u64) -> Auth {
    Auth {
        client_token: token,
        orphan: entry.is_orphan(),
        accessor: entry.accessor,
        policies: entry.policies.clone(),
        token_policies: entry.policies,
        identity_policies: None,
        metadata: Some(entry.metadata).filter(|metadata| !metadata.is_empty()),
        lease_duration: ttl,
        renewable: entry.renewable,
        entity_id: entry.entity_id,
        token_type: entry.kind,
        mfa_requirement: (),
        num_uses: entry.uses_left.unwrap_or(0),
    }
}

/// Policy names of a login, checked where they turn into rights: none of them may be root in any spelling
/// (threats: `policy-name-case`).
fn checked<T: AsRef<str>>(
    names: impl IntoIterator<Item = T>,
) -> Result<super::policies::PolicySet> {
    let set = parse_policy_list(names).map_err(|error| Error::bad_request(error.to_string()))?;
    if set.grants_root() {
        return Err(Error::bad_request("auth methods cannot create root tokens"));
    }
    Ok(set)
}

pub(super) fn default_policy() -> Result<PolicyName> {
    PolicyName::parse(DEFAULT).map_err(Error::internal)
}

/// What kind of token a login gets: the mount's tuning, then the method's own setting.
fn kind_of(mount: &MountEntry, asked: TokenKind) -> TokenKind {
    match (mount.config.token_type.unwrap_or_default(), asked) {
        (TokenKind::Service, _) => TokenKind::Service,
        (TokenKind::Batch, _) => TokenKind::Batch,
        (TokenKind::DefaultBatch, TokenKind::Default) => TokenKind::Batch,
        (_, TokenKind::Batch | TokenKind::DefaultBatch) => TokenKind::Batch,
        _ => TokenKind::Service,
    }
}

/// `kerberos-grace`, as Vault names login tokens.
fn display_name_of(mount: &MountEntry, name: &str) -> String {
    let path = mount
        .path
        .trim_start_matches("auth/")
        .trim_end_matches('/')
        .replace('/', "-");
    [path.as_str(), "-", name].concat()
}
