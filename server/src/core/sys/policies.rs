//! `sys/policies/acl` and the older `sys/policy`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_mount::fields::Count;
use obol_mount::{Cx, Data, Error, NoContent, Result, Routes, get};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::System;
use crate::core::policies::PolicyName;

pub(super) fn routes() -> Routes<System> {
    Routes::new()
        .at(
            "policies/acl",
            "The names of all ACL policies",
            get(list).list(list),
        )
        .at(
            "policies/acl/{name}",
            "One ACL policy",
            get(read).post(write).patch(write).delete(remove),
        )
        .at(
            "policy",
            "The names of all ACL policies (older path)",
            get(list_legacy).list(list_legacy),
        )
        .at(
            "policy/{name}",
            "One ACL policy (older path)",
            get(read_legacy).post(write).delete(remove),
        )
}

/// A page of a listing.
#[derive(Deserialize, JsonSchema)]
pub(super) struct ListInput {
    /// Start after this name.
    after: Option<String>,
    /// At most so many names.
    limit: Option<Count>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct PolicyList {
    /// The names.
    keys: Vec<String>,
    /// The same: older clients read them here.
    policies: Vec<String>,
}

/// A policy by its name.
#[derive(Deserialize, JsonSchema)]
pub(super) struct NameInput {
    name: String,
}

/// A policy to be written.
#[derive(Deserialize, JsonSchema)]
pub(super) struct WriteInput {
    name: String,
    /// The policy: HCL or JSON, in the clear or in base64.
    #[serde(alias = "rules")]
    #[schemars(extend("x-aliases" = ["rules"]))]
    policy: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct PolicyOut {
    /// Its name, in lower case.
    name: String,
    policy: String,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct LegacyPolicyOut {
    /// Its name, in lower case.
    name: String,
    /// The policy as it was written, in HCL or JSON; empty for `root`, which has no text.
    rules: String,
}

fn name_of(text: &str) -> Result<PolicyName> {
    PolicyName::parse(text).map_err(|error| Error::bad_request(error.to_string()))
}

async fn names(cx: &Cx<System>, input: ListInput) -> Result<Vec<String>> {
    let limit = input.limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit.0.max(1)).unwrap_or(usize::MAX)
    });
    cx.live()?
        .policies
        .names(input.after.as_deref(), limit)
        .await
}

pub(super) async fn list(cx: Cx<System>, input: ListInput) -> Result<Data<PolicyList>> {
    let keys = names(&cx, input).await?;
    Ok(Data(PolicyList {
        policies: keys.clone(),
        keys,
    }))
}

pub(super) async fn list_legacy(cx: Cx<System>, input: ListInput) -> Result<Data<PolicyList>> {
    list(cx, input).await
}

pub(super) async fn read(cx: Cx<System>, input: NameInput) -> Result<Option<Data<PolicyOut>>> {
    let name = name_of(&input.name)?;
    let text = cx.live()?.policies.text(&name).await?;
    Ok(text.map(|policy| {
        Data(PolicyOut {
            name: name.to_string(),
            policy,
        })
    }))
}

pub(super) async fn read_legacy(
    cx: Cx<System>,
    input: NameInput,
) -> Result<Option<Data<LegacyPolicyOut>>> {
    let name = name_of(&input.name)?;
    let text = cx.live()?.policies.text(&name).await?;
    Ok(text.map(|rules| {
        Data(LegacyPolicyOut {
            name: name.to_string(),
            rules,
        })
    }))
}

pub(super) async fn write(cx: Cx<System>, input: WriteInput) -> Result<NoContent> {
    let name = name_of(&input.name)?;
    let policy = input.policy.filter(|p| !p.trim().is_empty());
    let policy =
        policy.ok_or_else(|| Error::bad_request("'policy' parameter not supplied or empty"))?;
    // Vault takes base64 too. No policy is valid base64 by accident: it holds blanks and quotes.
    let decoded = STANDARD
        .decode(policy.trim())
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    cx.live()?
        .policies
        .put(&name, decoded.as_deref().unwrap_or(&policy))
        .await?;
    Ok(NoContent)
}

pub(super) async fn remove(cx: Cx<System>, input: NameInput) -> Result<NoContent> {
    cx.live()?.policies.delete(&name_of(&input.name)?).await?;
    Ok(NoContent)
}
