//! `users`: policies and groups that one user has beside those that the directory's groups give.

use obol_mount::fields::CommaList;
use obol_mount::{Cx, Data, Error, Keys, NoContent, Result, assignable_policies};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Ldap;
use crate::directory::case_sensitive_names;
use crate::named::{self, Name};
use crate::store::{self, ATTEMPTS};

/// `LIST users`.
pub(super) async fn list(cx: Cx<Ldap>) -> Result<Keys> {
    let keys = named::list(&cx.store, USERS).await?;
    Ok(Keys { keys })
}

/// `GET users/{name}`.
pub(super) async fn read(cx: Cx<Ldap>, input: UserPath) -> Result<Option<Data<UserView>>> {
    let name = name(&cx, &input.name).await?;
    let user: Option<User> = cx.store.read(&name.path(USERS)).await?;
    Ok(user.map(|user| {
        Data(UserView {
            groups: user.groups.join(","),
            policies: user.policies,
        })
    }))
}

/// `POST users/{name}`. Replaces both lists.
pub(super) async fn write(cx: Cx<Ldap>, input: WriteUser) -> Result<NoContent> {
    let user = User {
        policies: assignable_policies("policies", &input.policies.0)?,
        groups: checked_groups(input.groups.0)?,
    };
    for _ in 0..ATTEMPTS {
        let mut change = cx.store.begin().await?;
        let name = name(&cx, &input.name).await?;
        change.put(&name.path(USERS), &user)?;
        if change.commit().await? {
            return Ok(NoContent);
        }
    }
    Err(store::too_busy())
}

/// `DELETE users/{name}`. A user who is not there is deleted already; the directory is not touched.
pub(super) async fn delete(cx: Cx<Ldap>, input: UserPath) -> Result<NoContent> {
    for _ in 0..ATTEMPTS {
        let mut change = cx.store.begin().await?;
        let name = name(&cx, &input.name).await?;
        change.delete(&name.path(USERS));
        if change.commit().await? {
            return Ok(NoContent);
        }
    }
    Err(store::too_busy())
}

async fn name(cx: &Cx<Ldap>, text: &str) -> Result<Name> {
    Name::parse("a user's", text, case_sensitive_names(&*cx.backend).await?)
}

/// Groups are names as those of `groups/` are; which case they have is looked at when they are mapped.
fn checked_groups(groups: Vec<String>) -> Result<Vec<String>> {
    for (index, group) in groups.iter().enumerate() {
        Name::parse("a group's", group, true).map_err(|error| {
            let why = error.messages().join(" ");
            let why = why.trim_start_matches("name: ");
            Error::bad_request(format!("groups: number {}: {why}", index + 1))
        })?;
    }
    Ok(groups)
}

/// One user.
#[derive(Deserialize, JsonSchema)]
pub(super) struct UserPath {
    /// The user's name, as it is given to log in.
    name: String,
}

/// Gives a user policies and groups.
#[derive(Deserialize, JsonSchema)]
pub(super) struct WriteUser {
    /// The user's name, as it is given to log in.
    name: String,
    /// Policies of the user, as a list or comma-separated.
    #[serde(default)]
    policies: CommaList,
    /// Groups that count for the user as if the directory had said them, as a list or comma-separated.
    #[serde(default)]
    groups: CommaList,
}

/// What one user has here, as Vault shows it.
#[derive(Serialize, JsonSchema)]
pub(super) struct UserView {
    /// With commas between.
    groups: String,
    policies: Vec<String>,
}

/// The record.
#[derive(Default, Deserialize, Serialize)]
pub(super) struct User {
    pub(super) policies: Vec<String>,
    pub(super) groups: Vec<String>,
}

pub(super) const USERS: &str = "user/";
