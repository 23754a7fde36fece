//! Secret IDs: handed out, chosen, looked up and destroyed by operators.

use std::collections::BTreeMap;

use ipnet::IpNet;
use obol_mount::fields::{CommaList, Count, Ttl};
use obol_mount::{Begun, Cx, Data, DataOrNothing, Error, Keys, NoContent, Result, Secret, cidr};
use obol_storage::Batch;
use ring::rand::{SecureRandom, SystemRandom};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::Approle;
use super::role::Role;
use super::secret::{Found, SecretId};

/// What a new secret ID is like; what is absent is as the role says.
#[derive(Deserialize, JsonSchema)]
pub(super) struct IssueInput {
    /// The name of the role; upper and lower case are the same.
    role_name: String,
    /// Texts by name, as JSON; they are shown with tokens and in the audit log.
    metadata: Option<Value>,
    /// Addresses (CIDR blocks) from which it may log in, within the role's secret_id_bound_cidrs.
    #[serde(default)]
    cidr_list: CommaList,
    /// Addresses (CIDR blocks) from which its tokens may be used, within the role's token_bound_cidrs.
    #[serde(default)]
    token_bound_cidrs: CommaList,
    /// How often it may log in, at most the role's secret_id_num_uses.
    num_uses: Option<Count>,
    /// How long it lives, at most the role's secret_id_ttl.
    ttl: Option<Ttl>,
}

/// A chosen secret ID.
#[derive(Deserialize, JsonSchema)]
pub(super) struct CustomInput {
    /// The secret ID: long and random, or it can be guessed.
    #[serde(default)]
    secret_id: Secret,
    #[serde(flatten)]
    issue: IssueInput,
}

/// A new secret ID: the one time that it is seen.
#[derive(Serialize, JsonSchema)]
pub(super) struct Issued {
    /// The secret ID: the random one that was made, or the chosen one.
    secret_id: String,
    /// A name of it with which it can be looked up and destroyed, but not used.
    secret_id_accessor: String,
    /// How many logins it is good for; 0: without limit.
    secret_id_num_uses: u64,
    /// Seconds; 0: without end.
    secret_id_ttl: u64,
}

/// A page of the listing.
#[derive(Deserialize, JsonSchema)]
pub(super) struct ListInput {
    /// The name of the role; upper and lower case are the same.
    role_name: String,
    /// Start after this accessor.
    after: Option<String>,
    /// At most so many.
    limit: Option<Count>,
}

/// A secret ID of a role.
#[derive(Deserialize, JsonSchema)]
pub(super) struct SecretInput {
    /// The name of the role; upper and lower case are the same.
    role_name: String,
    /// The secret ID.
    #[serde(default)]
    secret_id: Secret,
}

/// A secret ID of a role, by its accessor.
#[derive(Deserialize, JsonSchema)]
pub(super) struct AccessorInput {
    /// The name of the role; upper and lower case are the same.
    role_name: String,
    /// The accessor, as the listing shows it.
    #[serde(default)]
    secret_id_accessor: String,
}

/// What is known of a secret ID.
#[derive(Serialize, JsonSchema)]
pub(super) struct Shown {
    /// From where it may be used; empty: from everywhere that the role allows.
    cidr_list: Vec<String>,
    /// RFC 3339.
    creation_time: String,
    /// RFC 3339; `0001-01-01T00:00:00Z` for one without an end.
    expiration_time: String,
    /// RFC 3339.
    last_updated_time: String,
    /// What its tokens have for metadata.
    metadata: BTreeMap<String, String>,
    /// A name of it with which it can be looked up and destroyed, but not used.
    secret_id_accessor: String,
    /// Logins that are left; 0: without limit.
    secret_id_num_uses: u64,
    /// Seconds; 0: without end.
    secret_id_ttl: u64,
    /// From where its tokens may be used; empty: from everywhere that the role allows.
    token_bound_cidrs: Vec<String>,
}

pub(super) async fn generate(cx: Cx<Approle>, input: IssueInput) -> Result<Data<Issued>> {
    let secret_id = random_id()?;
    issue(&cx, secret_id, input).await
}

pub(super) async fn custom(cx: Cx<Approle>, input: CustomInput) -> Result<Data<Issued>> {
    let secret_id = input.secret_id.expose();
    if secret_id.is_empty() || secret_id.len() > MAX_SECRET {
        return Err(Error::bad_request(format!(
            "secret_id: expected 1 to {MAX_SECRET} bytes"
        )));
    }
    issue(&cx, secret_id.to_owned(), input.issue).await
}

async fn issue(cx: &Cx<Approle>, secret_id: String, input: IssueInput) -> Result<Data<Issued>> {
    let now = cx.request.now_unix();
    let (role, role_seen) = cx.roles.must_get(&input.role_name).await?;
    let settings = &role.settings;
    if !settings.bind_secret_id {
        return Err(Error::bad_request(
            "bind_secret_id is not set on the role: its logins need no secret ID",
        ));
    }
    let num_uses = within(
        "num_uses",
        "secret_id_num_uses",
        input.num_uses.map(|count| count.0),
        settings.secret_id_num_uses,
    )?;
    let ttl = within(
        "ttl",
        "secret_id_ttl",
        input.ttl.map(Ttl::as_secs),
        settings.secret_id_ttl.as_secs(),
    )?;
    subset(
        "cidr_list",
        "secret_id_bound_cidrs",
        &input.cidr_list.0,
        &settings.secret_id_bound_cidrs.0,
    )?;
    subset(
        "token_bound_cidrs",
        "token_bound_cidrs",
        &input.token_bound_cidrs.0,
        &settings.token.token_bound_cidrs.0,
    )?;
    let secret = SecretId {
        accessor: Uuid::new_v4().to_string(),
        metadata: metadata(input.metadata)?,
        cidr_list: input.cidr_list.0,
        token_bound_cidrs: input.token_bound_cidrs.0,
        uses_left: (num_uses > 0).then_some(num_uses),
        ttl,
        created: now,
        updated: now,
        expires: (ttl > 0).then(|| now.saturating_add(ttl)),
    };
    let mut batch = Batch::new();
    // A role that is deleted meanwhile must leave no secret ID behind.
    cx.roles.expect_in(&mut batch, &role, &role_seen);
    let hash = cx.secrets.hash(&role.id, &secret_id);
    if !cx
        .secrets
        .add_in(&mut batch, &role.id, &hash, &secret)
        .await?
    {
        return Err(Error::bad_request(
            "secret_id: the role has this secret ID already",
        ));
    }
    if !cx.secrets.commit(batch).await? {
        return Err(Error::unavailable(
            "the role changed while this request was at work; try again",
        ));
    }
    Ok(Data(Issued {
        secret_id,
        secret_id_accessor: secret.accessor,
        secret_id_num_uses: num_uses,
        secret_id_ttl: ttl,
    }))
}

pub(super) async fn accessors(cx: Cx<Approle>, input: ListInput) -> Result<Keys> {
    let (role, _) = cx.roles.must_get(&input.role_name).await?;
    let limit = input.limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit.0.max(1)).unwrap_or(usize::MAX)
    });
    let after = input.after.as_deref();
    Ok(Keys {
        keys: cx.secrets.accessors(&role.id, after, limit).await?,
    })
}

pub(super) async fn lookup(cx: Cx<Approle>, input: SecretInput) -> Result<DataOrNothing<Shown>> {
    let (_, found) = by_secret(&cx, &input).await?;
    // Vault answers 204 for a secret ID that is not there.
    let found = found.map(|found| shown(found.secret)).transpose()?;
    Ok(DataOrNothing(found))
}

pub(super) async fn lookup_accessor(cx: Cx<Approle>, input: AccessorInput) -> Result<Data<Shown>> {
    let (_, found) = by_accessor(&cx, &input).await?;
    let found = found.ok_or_else(no_accessor)?;
    Ok(Data(shown(found.secret)?))
}

pub(super) async fn destroy(cx: Cx<Approle>, input: SecretInput) -> Result<NoContent> {
    for _ in 0..ATTEMPTS {
        let (role, found) = by_secret(&cx, &input).await?;
        match found {
            Some(found) if !cx.secrets.destroy(&role.id, &found).await? => {}
            _ => return Ok(NoContent),
        }
    }
    Err(busy())
}

pub(super) async fn destroy_accessor(cx: Cx<Approle>, input: AccessorInput) -> Result<NoContent> {
    for _ in 0..ATTEMPTS {
        let (role, found) = by_accessor(&cx, &input).await?;
        let found = found.ok_or_else(no_accessor)?;
        if cx.secrets.destroy(&role.id, &found).await? {
            return Ok(NoContent);
        }
    }
    Err(busy())
}

/// `tidy/secret-id`: 202, and the work goes on by itself.
pub(super) async fn tidy(cx: Cx<Approle>) -> Result<Begun> {
    let secrets = cx.secrets.clone();
    let (now, mount) = (cx.request.now_unix(), cx.request.mount.clone());
    tokio::spawn(async move {
        if let Err(error) = secrets.tidy(now).await {
            tracing::warn!(mount = &*mount, %error, "expired secret IDs could not be dropped");
        }
    });
    Ok(Begun {
        now: true,
        warning: "Tidy operation successfully started. Any information from the operation will be printed to the server's log.",
    })
}

async fn by_secret(cx: &Cx<Approle>, input: &SecretInput) -> Result<(Role, Option<Found>)> {
    if input.secret_id.is_empty() {
        return Err(Error::bad_request("missing secret_id"));
    }
    let (role, _) = cx.roles.must_get(&input.role_name).await?;
    let hash = cx.secrets.hash(&role.id, input.secret_id.expose());
    let found = cx.secrets.find(&role.id, hash, cx.request.now_unix());
    let found = found.await?;
    Ok((role, found))
}

async fn by_accessor(cx: &Cx<Approle>, input: &AccessorInput) -> Result<(Role, Option<Found>)> {
    if input.secret_id_accessor.is_empty() {
        return Err(Error::bad_request("missing secret_id_accessor"));
    }
    let (role, _) = cx.roles.must_get(&input.role_name).await?;
    let now = cx.request.now_unix();
    let found = cx
        .secrets
        .find_by_accessor(&role.id, &input.secret_id_accessor, now)
        .await?;
    Ok((role, found))
}

fn shown(secret: SecretId) -> Result<Shown> {
    Ok(Shown {
        cidr_list: secret.cidr_list,
        creation_time: rfc3339(secret.created)?,
        // Go's zero time, as Vault shows what never comes.
        expiration_time: match secret.expires {
            Some(expires) => rfc3339(expires)?,
            None => "0001-01-01T00:00:00Z".to_owned(),
        },
        last_updated_time: rfc3339(secret.updated)?,
        metadata: secret.metadata,
        secret_id_accessor: secret.accessor,
        secret_id_num_uses: secret.uses_left.unwrap_or(0),
        secret_id_ttl: secret.ttl,
        token_bound_cidrs: secret.token_bound_cidrs,
    })
}

fn rfc3339(unix: u64) -> Result<String> {
    let unix = i64::try_from(unix).map_err(Error::internal)?;
    let time = OffsetDateTime::from_unix_timestamp(unix).map_err(Error::internal)?;
    time.format(&Rfc3339).map_err(Error::internal)
}

/// What was asked for, or what the role says; 0 is without limit, which a role that has one does not give.
fn within(field: &str, of_role: &str, asked: Option<u64>, role: u64) -> Result<u64> {
    let asked = asked.unwrap_or(role);
    if role > 0 && (asked == 0 || asked > role) {
        return Err(Error::bad_request(format!(
            "{field} cannot be higher than the role's {of_role}"
        )));
    }
    Ok(asked)
}

/// Every block that was asked for must lie in one of the role's, where it has some.
fn subset(field: &str, of_role: &str, asked: &[String], role: &[String]) -> Result<()> {
    let asked: Vec<IpNet> = cidr::parse_list(field, asked)?;
    let role = cidr::parse_list(of_role, role)?;
    let inside = |block: &IpNet| role.iter().any(|wide| wide.contains(block));
    match role.is_empty() || asked.iter().all(inside) {
        true => Ok(()),
        false => Err(Error::bad_request(format!(
            "{field}: not a subset of the role's {of_role}"
        ))),
    }
}

/// Metadata comes as a text that holds JSON, or as the object itself.
fn metadata(sent: Option<Value>) -> Result<BTreeMap<String, String>> {
    let wrong = || Error::bad_request("metadata: expected a JSON object of texts");
    let metadata: BTreeMap<String, String> = match sent {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::String(text)) if text.is_empty() => return Ok(BTreeMap::new()),
        Some(Value::String(text)) => serde_json::from_str(&text).map_err(|_| wrong())?,
        Some(object) => serde_json::from_value(object).map_err(|_| wrong())?,
    };
    let long = |text: &str| text.len() > MAX_TEXT || text.contains(char::is_control);
    if metadata.len() > MAX_METADATA
        || metadata
            .iter()
            .any(|(key, value)| key.is_empty() || long(key) || long(value))
    {
        return Err(Error::bad_request(format!(
            "metadata may have {MAX_METADATA} entries of {MAX_TEXT} bytes without control characters"
        )));
    }
    Ok(metadata)
}

/// A UUID, of 122 bits from the system.
fn random_id() -> Result<String> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::internal("no randomness"))?;
    Ok(uuid::Builder::from_random_bytes(bytes)
        .into_uuid()
        .to_string())
}

fn no_accessor() -> Error {
    Error::not_found_because("failed to find accessor entry for secret_id_accessor")
}

fn busy() -> Error {
    Error::unavailable("the secret ID is in heavy use; try again")
}

/// In bytes.
const MAX_SECRET: usize = 4096;
const MAX_TEXT: usize = 512;
const MAX_METADATA: usize = 64;
const ATTEMPTS: u32 = 32;
