//! Roles: what their secret IDs and tokens are like.
//!
//! Layout: `role/NAME` holds a role, `role-id/HASH` the name of the role that has this role ID.

use obol_mount::fields::{CommaList, Count, Flag, StoredTokenFields, TokenFields, Ttl};
use obol_mount::{Cx, Data, Error, Keys, NoContent, Result, TokenParams, cidr};
use obol_storage::{Batch, Error as StorageError, Seen, View};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Approle;
use super::key::Hasher;
use super::secret;
use crate::names;

/// The roles of a mount.
pub(super) struct Roles {
    view: View,
    hasher: Hasher,
}

/// A role as it rests.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Role {
    /// The role's own, never seen outside: a role that is deleted and made again is another role.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) role_id: String,
    pub(super) settings: Settings,
}

/// What a role says. Nested as it rests, because each login reads it.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) bind_secret_id: bool,
    pub(super) local_secret_ids: bool,
    pub(super) secret_id_bound_cidrs: CommaList,
    pub(super) secret_id_num_uses: u64,
    pub(super) secret_id_ttl: Ttl,
    pub(super) token: StoredTokenFields,
}

/// A role as it is read back.
#[derive(Serialize, JsonSchema)]
pub(super) struct ShownRole {
    bind_secret_id: bool,
    local_secret_ids: bool,
    secret_id_bound_cidrs: CommaList,
    secret_id_num_uses: u64,
    secret_id_ttl: Ttl,
    #[serde(flatten)]
    token: StoredTokenFields,
}

impl From<Settings> for ShownRole {
    fn from(settings: Settings) -> Self {
        Self {
            bind_secret_id: settings.bind_secret_id,
            local_secret_ids: settings.local_secret_ids,
            secret_id_bound_cidrs: settings.secret_id_bound_cidrs,
            secret_id_num_uses: settings.secret_id_num_uses,
            secret_id_ttl: settings.secret_id_ttl,
            token: settings.token,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bind_secret_id: true,
            local_secret_ids: false,
            secret_id_bound_cidrs: CommaList::default(),
            secret_id_num_uses: 0,
            secret_id_ttl: Ttl::default(),
            token: StoredTokenFields::default(),
        }
    }
}

impl Role {
    fn new(name: &str) -> Self {
        Self {
            id: Uuid::new_v4().to_string(),
            name: name.to_owned(),
            role_id: Uuid::new_v4().to_string(),
            settings: Settings::default(),
        }
    }

    pub(super) fn token(&self) -> TokenParams {
        self.settings.token.clone().into()
    }

    /// Without any of these, everybody who knows the role ID could log in.
    fn check(&self) -> Result<()> {
        let settings = &self.settings;
        if !settings.bind_secret_id
            && settings.secret_id_bound_cidrs.0.is_empty()
            && settings.token.token_bound_cidrs.0.is_empty()
        {
            return Err(Error::bad_request(
                "at least one constraint should be enabled on the role: bind_secret_id, secret_id_bound_cidrs or token_bound_cidrs",
            ));
        }
        Ok(())
    }
}

impl Roles {
    pub(super) fn new(view: View, hasher: Hasher) -> Self {
        Self { view, hasher }
    }

    /// A role by the name that an operator gave.
    pub(super) async fn get(&self, name: &str) -> Result<Option<(Role, Seen)>> {
        let path = role_path(&names::fold("role_name", name)?);
        Ok(self.view.get_json_seen(&path).await?)
    }

    /// The same, where there must be one.
    pub(super) async fn must_get(&self, name: &str) -> Result<(Role, Seen)> {
        self.get(name).await?.ok_or_else(no_role)
    }

    /// The role that a program names.
    pub(super) async fn by_role_id(&self, role_id: &str) -> Result<Option<(Role, Seen)>> {
        let index = self.index_path(role_id);
        let Some(name) = self.view.get_json::<String>(&index).await? else {
            return Ok(None);
        };
        let found: Option<(Role, Seen)> = self.view.get_json_seen(&role_path(&name)).await?;
        // Between the two reads it may have become another's.
        Ok(found.filter(|(role, _)| role.role_id == role_id))
    }

    /// Adds to a batch that the role must be what it was.
    pub(super) fn expect_in(&self, batch: &mut Batch, role: &Role, seen: &Seen) {
        self.view.expect_in(batch, &role_path(&role.name), seen);
    }

    /// Changes a role that there is.
    pub(super) async fn change(
        &self,
        name: &str,
        change: impl Fn(&mut Role) -> Result<()>,
    ) -> Result<()> {
        let name = names::fold("role_name", name)?;
        let change = |role: Option<Role>| {
            let mut role = role.ok_or_else(no_role)?;
            change(&mut role)?;
            Ok(role)
        };
        self.save(&name, change).await
    }

    /// Writes a role and the index of its role ID together.
    async fn save(&self, name: &str, change: impl Fn(Option<Role>) -> Result<Role>) -> Result<()> {
        let path = role_path(name);
        let mut in_use = false;
        for _ in 0..ATTEMPTS {
            let mut batch = Batch::new();
            let before = match self.view.get_json_seen::<Role>(&path).await? {
                Some((role, seen)) => {
                    self.view.expect_in(&mut batch, &path, &seen);
                    Some(role)
                }
                None => {
                    self.view.expect_absent_in(&mut batch, &path);
                    None
                }
            };
            let old_id = before.as_ref().map(|role| role.role_id.clone());
            let role = change(before)?;
            role.check()?;
            if old_id.as_ref() != Some(&role.role_id) {
                let index = self.index_path(&role.role_id);
                if in_use || self.view.get(&index).await?.is_some() {
                    return Err(Error::bad_request(
                        "role_id: another role of this mount has it already",
                    ));
                }
                self.view.expect_absent_in(&mut batch, &index);
                self.view.put_json_in(&mut batch, &index, &role.name)?;
                if let Some(old) = old_id {
                    self.view.delete_in(&mut batch, &self.index_path(&old));
                }
            }
            self.view.put_json_in(&mut batch, &path, &role)?;
            match self.view.commit(batch).await {
                Ok(()) => return Ok(()),
                Err(StorageError::Conflict { path }) => in_use = path.contains(INDEX),
                Err(other) => return Err(other.into()),
            }
        }
        Err(Error::unavailable(
            "the role changed while this request was at work; try again",
        ))
    }

    /// Removes a role with its index and all its secret IDs, in one commit.
    async fn delete(&self, name: &str) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let Some((role, seen)) = self.get(name).await? else {
                return Ok(());
            };
            let mut batch = Batch::new();
            self.expect_in(&mut batch, &role, &seen);
            self.view.delete_in(&mut batch, &role_path(&role.name));
            self.view
                .delete_in(&mut batch, &self.index_path(&role.role_id));
            secret::forget_role_in(&self.view, &mut batch, &role.id);
            match self.view.commit(batch).await {
                Ok(()) => return Ok(()),
                Err(StorageError::Conflict { .. }) => {}
                Err(other) => return Err(other.into()),
            }
        }
        Err(Error::unavailable(
            "the role changed while this request was at work; try again",
        ))
    }

    fn index_path(&self, role_id: &str) -> String {
        [INDEX, &self.hasher.hash("role", role_id)].concat()
    }
}

/// A page of the listing.
#[derive(Deserialize, JsonSchema)]
pub(super) struct ListInput {
    /// Start after this name.
    after: Option<String>,
    /// At most so many names.
    limit: Option<Count>,
}

/// A role by its name.
#[derive(Deserialize, JsonSchema)]
pub(super) struct RoleName {
    /// The name; upper and lower case are the same.
    pub(super) role_name: String,
}

/// A role; what is absent stays as it is.
#[derive(Deserialize, JsonSchema)]
pub(super) struct RoleInput {
    /// The name; upper and lower case are the same.
    role_name: String,
    /// A role ID of one's own choice; by default a random one.
    role_id: Option<String>,
    /// Whether the secret IDs belong to this cluster alone; can be set when the role is made, and not changed.
    local_secret_ids: Option<Flag>,
    #[serde(flatten)]
    fields: RoleFields,
}

/// The fields of a role that can be changed at any time.
#[derive(Clone, Default, Deserialize, JsonSchema)]
pub(super) struct RoleFields {
    /// Whether a login needs a secret ID (true).
    pub(super) bind_secret_id: Option<Flag>,
    /// Addresses (CIDR blocks) from which the role's secret IDs may log in.
    pub(super) secret_id_bound_cidrs: Option<CommaList>,
    /// Older name of secret_id_bound_cidrs.
    #[schemars(extend("x-aliases" = ["secret_id_bound_cidrs"]))]
    pub(super) bound_cidr_list: Option<CommaList>,
    /// How often a secret ID may log in; 0 means without limit.
    pub(super) secret_id_num_uses: Option<Count>,
    /// How long a secret ID lives; 0 means without end.
    pub(super) secret_id_ttl: Option<Ttl>,
    /// Older name of token_policies.
    #[schemars(extend("x-aliases" = ["token_policies"]))]
    pub(super) policies: Option<CommaList>,
    /// Older name of token_period.
    #[schemars(extend("x-aliases" = ["token_period"]))]
    pub(super) period: Option<Ttl>,
    #[serde(flatten)]
    pub(super) token: TokenFields,
}

impl RoleFields {
    /// Sets what was sent, and leaves the rest as it is.
    pub(super) fn apply(self, settings: &mut Settings) -> Result<()> {
        if let Some(Flag(value)) = self.bind_secret_id {
            settings.bind_secret_id = value;
        }
        if let Some(blocks) = self.secret_id_bound_cidrs.or(self.bound_cidr_list) {
            cidr::parse_list("secret_id_bound_cidrs", &blocks.0)?;
            settings.secret_id_bound_cidrs = blocks;
        }
        if let Some(Count(value)) = self.secret_id_num_uses {
            settings.secret_id_num_uses = value;
        }
        if let Some(ttl) = self.secret_id_ttl {
            settings.secret_id_ttl = ttl;
        }
        let mut token = self.token;
        token.token_policies = token.token_policies.or(self.policies);
        token.token_period = token.token_period.or(self.period);
        settings.set_token(|params| token.apply(params))
    }
}

impl Settings {
    pub(super) fn set_token(
        &mut self,
        change: impl FnOnce(&mut TokenParams) -> Result<()>,
    ) -> Result<()> {
        let mut params = TokenParams::from(self.token.clone());
        change(&mut params)?;
        self.token = StoredTokenFields::from(&params);
        Ok(())
    }
}

#[derive(Serialize, JsonSchema)]
pub(super) struct ShownId {
    role_id: String,
}

#[derive(Serialize, JsonSchema)]
pub(super) struct ShownLocal {
    /// Whether the secret IDs belong to this cluster alone.
    local_secret_ids: bool,
}

/// A role ID of one's own choice.
#[derive(Deserialize, JsonSchema)]
pub(super) struct IdInput {
    /// The name; upper and lower case are the same.
    role_name: String,
    /// The role ID.
    role_id: String,
}

pub(super) async fn list(cx: Cx<Approle>, input: ListInput) -> Result<Keys> {
    let limit = input.limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit.0.max(1)).unwrap_or(usize::MAX)
    });
    let view = &cx.roles.view;
    let keys = view.list(FOLDER, input.after.as_deref(), limit).await?;
    Ok(Keys { keys })
}

pub(super) async fn exists(cx: Cx<Approle>, input: RoleName) -> Result<bool> {
    Ok(cx.roles.get(&input.role_name).await?.is_some())
}

pub(super) async fn read(cx: Cx<Approle>, input: RoleName) -> Result<Option<Data<ShownRole>>> {
    let found = cx.roles.get(&input.role_name).await?;
    Ok(found.map(|(role, _)| Data(role.settings.into())))
}

pub(super) async fn write(cx: Cx<Approle>, input: RoleInput) -> Result<NoContent> {
    let name = names::fold("role_name", &input.role_name)?;
    if let Some(id) = &input.role_id {
        check_id(id)?;
    }
    let change = |role: Option<Role>| {
        let is_new = role.is_none();
        let mut role = role.unwrap_or_else(|| Role::new(&name));
        if let Some(Flag(local)) = input.local_secret_ids {
            if !is_new && local != role.settings.local_secret_ids {
                return Err(Error::bad_request(
                    "local_secret_ids can be set when the role is made, and not changed",
                ));
            }
            role.settings.local_secret_ids = local;
        }
        if let Some(id) = &input.role_id {
            role.role_id.clone_from(id);
        }
        input.fields.clone().apply(&mut role.settings)?;
        Ok(role)
    };
    cx.roles.save(&name, change).await?;
    Ok(NoContent)
}

pub(super) async fn delete(cx: Cx<Approle>, input: RoleName) -> Result<NoContent> {
    cx.roles.delete(&input.role_name).await?;
    Ok(NoContent)
}

pub(super) async fn read_id(cx: Cx<Approle>, input: RoleName) -> Result<Option<Data<ShownId>>> {
    let found = cx.roles.get(&input.role_name).await?;
    Ok(found.map(|(role, _)| {
        Data(ShownId {
            role_id: role.role_id,
        })
    }))
}

pub(super) async fn write_id(cx: Cx<Approle>, input: IdInput) -> Result<NoContent> {
    check_id(&input.role_id)?;
    cx.roles
        .change(&input.role_name, |role| {
            role.role_id.clone_from(&input.role_id);
            Ok(())
        })
        .await?;
    Ok(NoContent)
}

pub(super) async fn read_local(
    cx: Cx<Approle>,
    input: RoleName,
) -> Result<Option<Data<ShownLocal>>> {
    let found = cx.roles.get(&input.role_name).await?;
    Ok(found.map(|(role, _)| {
        Data(ShownLocal {
            local_secret_ids: role.settings.local_secret_ids,
        })
    }))
}

fn check_id(id: &str) -> Result<()> {
    let odd = id.is_empty() || id.len() > MAX_ID || id.contains(char::is_control);
    if odd || id != id.trim() {
        return Err(Error::bad_request(format!(
            "role_id: expected 1 to {MAX_ID} bytes without control characters and without blanks at its ends"
        )));
    }
    Ok(())
}

fn no_role() -> Error {
    Error::not_found_because("role does not exist")
}

fn role_path(name: &str) -> String {
    [FOLDER, name].concat()
}

const FOLDER: &str = "role/";
const INDEX: &str = "role-id/";
/// In bytes.
const MAX_ID: usize = 512;
/// How often a write begins again that met another.
const ATTEMPTS: u32 = 32;
