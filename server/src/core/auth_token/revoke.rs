//! Revoking tokens, and tidying what is left of them.

use std::sync::Arc;

use obol_mount::{Begun, Cx, Error, NoContent, Result, TokenKind, Written};

use super::{AccessorInput, TokenBackend, TokenInput, find, found};
use crate::core::sys::leases::begun;
use crate::core::tokens::Cached;
use crate::core::{Live, unix_now};

pub(super) async fn revoke(cx: Cx<TokenBackend>, input: TokenInput) -> Result<NoContent> {
    let token = input
        .token
        .filter(|t| !t.is_empty())
        .ok_or_else(|| Error::bad_request("missing required field \"token\""))?;
    let live = cx.live()?;
    if let Some(found) = live.tokens.find(token.expose(), unix_now()).await? {
        revoke_one(live, &found, false).await?;
    }
    Ok(NoContent)
}

pub(super) async fn revoke_self(cx: Cx<TokenBackend>) -> Result<NoContent> {
    let (token, _) = found(&cx, Some(cx.request.token()?.clone())).await?;
    revoke_one(cx.live()?, &token, false).await?;
    Ok(NoContent)
}

/// Done, too, when there is no such token any more: who cleans up may try again.
pub(super) async fn revoke_accessor(cx: Cx<TokenBackend>, input: AccessorInput) -> Result<Written> {
    let live = cx.live()?;
    let found = live.tokens.by_accessor(&input.accessor, unix_now()).await?;
    let Some(token) = found else {
        return Ok(Written {
            warnings: vec!["there is no token with this accessor".to_owned()],
        });
    };
    revoke_one(live, &token, false).await?;
    Ok(Written::default())
}

pub(super) async fn revoke_orphan(cx: Cx<TokenBackend>, input: TokenInput) -> Result<NoContent> {
    let (token, _) = find(&cx, input.token).await?;
    let token = token.ok_or_else(|| Error::bad_request("token to revoke not found"))?;
    revoke_one(cx.live()?, &token, true).await?;
    Ok(NoContent)
}

/// Goes on when the client goes away: the head of a tree is dead, and the rest must follow.
async fn revoke_one(live: Arc<Live>, token: &Cached, orphaning: bool) -> Result<()> {
    if token.entry.kind == TokenKind::Batch {
        return Err(Error::bad_request(
            "batch tokens cannot be revoked: they end by themselves",
        ));
    }
    let id = token.id.clone();
    let work = tokio::spawn(async move {
        if orphaning {
            live.tokens.revoke_orphaning(&id, &live.forget()).await
        } else {
            live.tokens.revoke(&id, &live.forget()).await
        }
    });
    work.await.map_err(Error::internal)?
}

pub(super) async fn tidy(cx: Cx<TokenBackend>) -> Result<Begun> {
    Ok(begun(cx.live()?.start_tidying_tokens()))
}
