//! Renewing tokens: who issued one looks at it again, and the present rules apply.

use std::time::Duration;

use obol_mount::{Cx, Error, Renewal, Result, Secret, TokenKind};

use super::{
    AccessorInput, IncrementInput, NewAuth, RenewInput, TokenBackend, find, found,
    found_by_accessor, limits_here, roles,
};
use crate::core::settle::auth_of;
use crate::core::tokens::Cached;
use crate::core::unix_now;

pub(super) async fn renew(cx: Cx<TokenBackend>, input: RenewInput) -> Result<NewAuth> {
    let (token, secret) = find(&cx, input.token).await?;
    let token = token.ok_or_else(|| Error::bad_request("token not found"))?;
    renew_one(&cx, &token, Some(secret), input.increment.0).await
}

pub(super) async fn renew_self(cx: Cx<TokenBackend>, input: IncrementInput) -> Result<NewAuth> {
    let secret = cx.request.token()?.clone();
    let (token, secret) = found(&cx, Some(secret)).await?;
    renew_one(&cx, &token, Some(secret), input.increment.0).await
}

pub(super) async fn renew_accessor(cx: Cx<TokenBackend>, input: AccessorInput) -> Result<NewAuth> {
    let token = found_by_accessor(&cx, &input.accessor).await?;
    renew_one(&cx, &token, None, input.increment.0).await
}

async fn renew_one(
    cx: &Cx<TokenBackend>,
    token: &Cached,
    secret: Option<Secret>,
    increment: Duration,
) -> Result<NewAuth> {
    let core = cx.core()?;
    let live = core.live()?;
    let entry = &token.entry;
    if entry.kind == TokenKind::Batch {
        return Err(Error::bad_request("batch tokens cannot be renewed"));
    }
    if !entry.renewable {
        return Err(Error::bad_request("this token is not renewable"));
    }
    // Who issued it looks at the proof again, and its present settings apply.
    let (
        Renewal {
            token: params,
            at_most,
            group_aliases,
        },
        limits,
    ) = match &entry.issuer {
        None => (
            Renewal {
                token: roles::params_at_renewal(&live, entry).await?,
                at_most: None,
                group_aliases: None,
            },
            limits_here(&core, &live),
        ),
        Some(issuer) => {
            let mounted = live.mounts.by_uuid(issuer).ok_or_else(Error::forbidden)?;
            let renewal = mounted
                .backend
                .renew(&entry.internal, &entry.policies)
                .await?;
            (renewal, core.limits(Some(&mounted.entry)))
        }
    };
    // Also when somebody else renews it: a disabled entity has nothing to renew.
    live.identity_of(&entry.entity_id).await?;
    if let Some(groups) = group_aliases
        && let Some(mounted) = entry.issuer.as_ref().and_then(|i| live.mounts.by_uuid(i))
        && !entry.entity_id.is_empty()
    {
        live.identity
            .refresh(&entry.entity_id, &mounted.entry.accessor, &groups)
            .await?;
    }
    let (entry, warnings) = live
        .tokens
        .renew(&token.id, increment, &params, at_most, limits, unix_now())
        .await?;
    // What renewed it by its accessor must not learn the token.
    let ttl = entry.ttl(unix_now());
    let auth = auth_of(entry, secret.unwrap_or_default(), ttl);
    Ok(NewAuth {
        auth: Box::new(live.with_identity(auth).await?),
        warnings,
    })
}
