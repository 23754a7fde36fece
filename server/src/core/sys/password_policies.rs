//! `sys/policies/password`: how passwords for other systems are made.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_mount::fields::Count;
use obol_mount::{Cx, Data, Error, Keys, NoContent, Result, Routes, get, list as on_list};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::System;

pub(super) fn routes() -> Routes<System> {
    Routes::new()
        .at(
            "policies/password",
            "The names of all password policies",
            on_list(list),
        )
        .at(
            "policies/password/{name}",
            "One password policy",
            get(read).post(write).delete(remove),
        )
        .at(
            "policies/password/{name}/generate",
            "A password made by the policy",
            get(generate),
        )
}

/// A page of a listing.
#[derive(Deserialize, JsonSchema)]
struct ListInput {
    /// Start after this name.
    after: Option<String>,
    /// At most so many names.
    limit: Option<Count>,
}

/// A password policy by its name.
#[derive(Deserialize, JsonSchema)]
struct NameInput {
    name: String,
}

/// A password policy to be written.
#[derive(Deserialize, JsonSchema)]
struct WriteInput {
    name: String,
    /// The policy in HCL or JSON, in the clear or in base64: `length` and `rule "charset"` blocks with `charset` and
    /// `min-chars`.
    policy: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct PolicyOut {
    policy: String,
}

#[derive(Serialize, JsonSchema)]
struct Generated {
    /// The new password; the server does not keep it.
    password: String,
}

async fn list(cx: Cx<System>, input: ListInput) -> Result<Keys> {
    let limit = input.limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit.0.max(1)).unwrap_or(usize::MAX)
    });
    let live = cx.live()?;
    let names = live.password_policies.names(input.after.as_deref(), limit);
    Ok(Keys { keys: names.await? })
}

async fn read(cx: Cx<System>, input: NameInput) -> Result<Option<Data<PolicyOut>>> {
    let text = cx.live()?.password_policies.text(&input.name).await?;
    Ok(text.map(|policy| Data(PolicyOut { policy })))
}

async fn write(cx: Cx<System>, input: WriteInput) -> Result<NoContent> {
    let policy = input.policy.filter(|policy| !policy.trim().is_empty());
    let policy = policy.ok_or_else(|| Error::bad_request("missing required field \"policy\""))?;
    // Vault takes base64 too. No policy is valid base64 by accident: it holds quotes.
    let decoded = STANDARD
        .decode(policy.trim())
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let text = decoded.as_deref().unwrap_or(&policy);
    cx.live()?.password_policies.put(&input.name, text).await?;
    Ok(NoContent)
}

async fn remove(cx: Cx<System>, input: NameInput) -> Result<NoContent> {
    cx.live()?.password_policies.delete(&input.name).await?;
    Ok(NoContent)
}

async fn generate(cx: Cx<System>, input: NameInput) -> Result<Option<Data<Generated>>> {
    let made = cx.live()?.password_policies.generate(&input.name).await?;
    Ok(made.map(|password| {
        Data(Generated {
            password: password.to_string(),
        })
    }))
}
