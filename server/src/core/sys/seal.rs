//! `sys/init`, `sys/seal-status`, `sys/unseal`, `sys/seal`, `sys/health`, `sys/leader`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_mount::fields::{Count, Flag};
use obol_mount::{
    Access, Bare, Cx, Error, NoContent, Output, Part, Reply, Response, Result, Routes, Secret, get,
    post,
};
use obol_storage::seal::{SealKind, Share};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{System, required};
use crate::core::handing_out::{HandedOut, recipient, recipients};
use crate::core::sealing::Status;
use crate::core::{Core, VERSION, unix_now};

pub(super) fn routes() -> Routes<System> {
    Routes::new()
        .with(
            Access::WhileSealed,
            "init",
            "Whether the server is initialized; initialize it",
            get(read_init).post(init),
        )
        .with(
            Access::WhileSealed,
            "seal-status",
            "Whether the server is sealed, and how far unsealing has come",
            get(status),
        )
        .with(
            Access::WhileSealed,
            "unseal",
            "Give one unseal key",
            post(unseal),
        )
        .with(
            Access::WhileSealed,
            "health",
            "The server's state as an HTTP status, for load balancers",
            get(health),
        )
        .with(
            Access::WhileSealed,
            "leader",
            "Which server is active",
            get(leader),
        )
        .sudo(
            "seal",
            "Seal the server: drop its keys from memory",
            post(seal),
        )
        .sudo(
            "step-down",
            "Give up being active; a server without standbys stays what it is",
            post(step_down),
        )
}

/// Whether the server is initialized.
#[derive(Serialize, JsonSchema)]
pub(super) struct Initialized {
    /// Whether the server was initialized, which gave it its keys.
    initialized: bool,
}

pub(super) async fn read_init(cx: Cx<System>) -> Result<Bare<Initialized>> {
    let initialized = cx.core()?.seal_status().await?.initialized;
    Ok(Bare(Initialized { initialized }))
}

/// Initializes the server.
#[derive(Deserialize, JsonSchema)]
pub(super) struct InitInput {
    /// Into how many unseal keys the seal's key is split.
    secret_shares: Option<Count>,
    /// How many of them unseal the server.
    secret_threshold: Option<Count>,
    /// With an auto-unseal: into how many recovery keys.
    recovery_shares: Option<Count>,
    /// With an auto-unseal: how many recovery keys prove an operator.
    recovery_threshold: Option<Count>,
    /// Public PGP keys in base64, one for each unseal key: it is encrypted for the holder of the one in its place.
    pgp_keys: Option<Vec<String>>,
    /// A public PGP key in base64 that the root token is encrypted with.
    root_token_pgp_key: Option<String>,
    /// As `pgp_keys`, for recovery keys.
    recovery_pgp_keys: Option<Vec<String>>,
    /// Must equal `secret_shares` where it is given.
    stored_shares: Option<Count>,
}

/// What a new server gives out, this once.
#[derive(Serialize, JsonSchema)]
pub(super) struct NewKeys {
    /// The unseal keys, in hexadecimal; none where the server unseals itself. Where they are encrypted, a PGP message
    /// each, which holds the key in hexadecimal.
    keys: Vec<String>,
    /// The same in base64.
    keys_base64: Vec<String>,
    /// The first token, which may do everything. Where it is encrypted, a PGP message in base64.
    root_token: String,
    /// Where the server unseals itself: the keys that prove an operator, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_keys: Option<Vec<String>>,
    /// The same in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_keys_base64: Option<Vec<String>>,
}

pub(super) async fn init(cx: Cx<System>, input: InitInput) -> Result<Bare<NewKeys>> {
    let core = cx.core()?;
    let kind = core.sealing.kind();
    let (shares, threshold, pgp_keys, names) = match kind {
        SealKind::Shamir => {
            if input.recovery_shares.unwrap_or_default().0 > 0
                || input.recovery_threshold.unwrap_or_default().0 > 0
            {
                return Err(Error::bad_request(
                    "recovery keys belong to an auto-unseal; with Shamir's shares use secret_shares and secret_threshold",
                ));
            }
            refuse_pgp(&input.recovery_pgp_keys, "recovery_pgp_keys", "pgp_keys")?;
            if input.stored_shares.is_some_and(|stored| stored.0 != 0) {
                return Err(Error::bad_request(
                    "stored_shares must be 0 with Shamir's shares",
                ));
            }
            (
                input.secret_shares,
                input.secret_threshold,
                input.pgp_keys,
                ["secret_shares", "secret_threshold", "pgp_keys"],
            )
        }
        SealKind::Static => {
            if input.secret_shares.is_some_and(|n| n.0 > 1)
                || input.secret_threshold.is_some_and(|n| n.0 > 1)
            {
                return Err(Error::bad_request(
                    "this server unseals itself: use recovery_shares and recovery_threshold",
                ));
            }
            refuse_pgp(&input.pgp_keys, "pgp_keys", "recovery_pgp_keys")?;
            (
                input.recovery_shares,
                input.recovery_threshold,
                input.recovery_pgp_keys,
                ["recovery_shares", "recovery_threshold", "recovery_pgp_keys"],
            )
        }
    };
    let shares = small(shares, names[0])?;
    let threshold = small(threshold, names[1])?;
    let holders = recipients(pgp_keys, shares, names[2])?;
    let root_holder = recipient(input.root_token_pgp_key, "root_token_pgp_key")?;
    let new = core.initialize(shares, threshold, None).await?;
    let keys = HandedOut::new(&new.shares, &holders)?;
    let (hexadecimal, base64) = (keys.hexadecimal(), keys.base64());
    let root_token = match root_holder {
        None => new.root_token.expose().to_owned(),
        Some(holder) => {
            let message = holder.encrypt(new.root_token.expose().as_bytes());
            STANDARD.encode(message.map_err(Error::internal)?)
        }
    };
    Ok(Bare(match kind {
        SealKind::Shamir => NewKeys {
            keys: hexadecimal,
            keys_base64: base64,
            root_token,
            recovery_keys: None,
            recovery_keys_base64: None,
        },
        SealKind::Static => NewKeys {
            keys: Vec::new(),
            keys_base64: Vec::new(),
            root_token,
            recovery_keys: Some(hexadecimal),
            recovery_keys_base64: Some(base64),
        },
    }))
}

fn refuse_pgp(given: &Option<Vec<String>>, field: &str, right: &str) -> Result<()> {
    match given {
        Some(keys) if !keys.is_empty() => Err(Error::bad_request(format!(
            "field {field:?}: this server's kind of seal has no such keys; use {right:?}"
        ))),
        _ => Ok(()),
    }
}

pub(super) fn small(count: Option<Count>, name: &str) -> Result<u8> {
    let count =
        count.ok_or_else(|| Error::bad_request(format!("missing required field {name:?}")))?;
    match u8::try_from(count.0) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(Error::bad_request(format!(
            "{name:?}: expected a number from 1 to 255"
        ))),
    }
}

/// Whether the server is sealed, and how far unsealing has come.
#[derive(Serialize, JsonSchema)]
pub(super) struct SealStatus {
    /// `shamir`, or `static` where the server unseals itself.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Whether the server was initialized, which gave it its keys.
    initialized: bool,
    /// Whether it is sealed; a server that is not initialized is sealed, too.
    sealed: bool,
    /// How many keys unseal the server.
    t: u8,
    /// How many keys there are.
    n: u8,
    /// How many different ones were given so far.
    progress: usize,
    /// Names this round of giving keys; empty when there is none.
    nonce: String,
    /// The version of the server.
    version: &'static str,
    /// Always empty: a build says its version alone.
    build_date: &'static str,
    /// Whether the configuration has another kind of seal than the storage: the keys change it, given with `migrate`.
    migration: bool,
    /// Whether the keys are recovery keys: the server unseals itself.
    recovery_seal: bool,
    /// The storage engine.
    storage_type: &'static str,
    /// Not while sealed.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_name: Option<String>,
}

pub(super) async fn status(cx: Cx<System>) -> Result<Bare<SealStatus>> {
    let core = cx.core()?;
    let status = core.seal_status().await?;
    Ok(Bare(SealStatus::of(&core, status)))
}

impl SealStatus {
    fn of(core: &Core, status: Status) -> Self {
        Self {
            kind: status.kind.as_str(),
            initialized: status.initialized,
            sealed: status.sealed,
            t: status.threshold,
            n: status.shares,
            progress: status.progress,
            nonce: status.nonce,
            version: VERSION,
            build_date: "",
            migration: status.migration,
            recovery_seal: status.kind == SealKind::Static,
            storage_type: core.engine.name(),
            cluster_name: (!status.sealed).then(|| core.settings.cluster_name.clone()),
        }
    }
}

/// One unseal key, or a reset of those given so far.
#[derive(Deserialize, JsonSchema)]
pub(super) struct UnsealInput {
    /// One unseal key, or recovery key to give up a static key, in hexadecimal or base64.
    key: Option<Secret>,
    /// Forget the keys given so far.
    #[serde(default)]
    reset: Flag,
    /// Put the storage under the configuration's seal, which is of another kind than the storage's: true with every key.
    #[serde(default)]
    migrate: Flag,
}

pub(super) async fn unseal(cx: Cx<System>, input: UnsealInput) -> Result<Bare<SealStatus>> {
    let core = cx.core()?;
    if input.reset.0 {
        core.reset_unseal();
    } else {
        let key = required(input.key, "key")?;
        core.unseal(parse_share(&key)?, input.migrate.0).await?;
    }
    let status = core.seal_status().await?;
    Ok(Bare(SealStatus::of(&core, status)))
}

/// Hexadecimal as init prints it in `keys`, or base64 as in `keys_base64`.
pub(super) fn parse_share(key: &Secret) -> Result<Share> {
    let text = key.expose().trim();
    let from_hex = || -> Option<zeroize::Zeroizing<Vec<u8>>> {
        let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let is_hex = text.len().is_multiple_of(2) && text.bytes().all(|b| b.is_ascii_hexdigit());
        if is_hex {
            text.as_bytes()
                .chunks(2)
                .map(digits)
                .collect::<Option<Vec<u8>>>()
                .map(Into::into)
        } else {
            None
        }
    };
    let bytes = from_hex().or_else(|| STANDARD.decode(text).ok().map(Into::into));
    let bytes = bytes
        .ok_or_else(|| Error::bad_request("the unseal key is neither hexadecimal nor base64"))?;
    Share::from_bytes(&bytes)
        .map_err(|error| Error::bad_request(format!("this is not an unseal key: {error}")))
}

pub(super) async fn seal(cx: Cx<System>) -> Result<NoContent> {
    let core = cx.core()?;
    // The answer to this request is audited and sent before the keys go.
    tokio::spawn(async move {
        core.seal().await;
    })
    .await
    .map_err(Error::internal)?;
    Ok(NoContent)
}

/// As Vault without high availability: there is nobody to step down for, and that is no error.
pub(super) async fn step_down(_: Cx<System>) -> Result<NoContent> {
    Ok(NoContent)
}

/// Which status stands for which state. Codes of states that this version does not have (standbys, replication) are
/// checked like the others, so that a probe written for a cluster works unchanged.
#[derive(Deserialize, JsonSchema)]
pub(super) struct HealthInput {
    /// A standby counts as active; this version has no standbys.
    standbyok: Option<Flag>,
    /// A performance standby counts as active; this version has none.
    perfstandbyok: Option<Flag>,
    /// The status for an active server; 200 by default.
    activecode: Option<Count>,
    /// The status for a standby; 429 by default.
    standbycode: Option<Count>,
    /// The status for a DR secondary; 472 by default.
    drsecondarycode: Option<Count>,
    /// The status for a performance standby; 473 by default.
    performancestandbycode: Option<Count>,
    /// The status for a sealed server; 503 by default.
    sealedcode: Option<Count>,
    /// The status for a server that is not initialized; 501 by default.
    uninitcode: Option<Count>,
    /// The status for a node that was removed; 530 by default.
    removedcode: Option<Count>,
    /// The status for a standby that cannot reach the active server; 474 by default.
    haunhealthycode: Option<Count>,
}

/// The server's state. The status of the answer says it, too.
#[derive(Serialize, JsonSchema)]
pub(super) struct Health {
    /// Whether the server was initialized, which gave it its keys.
    initialized: bool,
    /// Whether it is sealed; a server that is not initialized is sealed, too.
    sealed: bool,
    /// Always false: there is one server.
    standby: bool,
    /// Always false.
    performance_standby: bool,
    /// `disabled`.
    replication_performance_mode: &'static str,
    /// `disabled`.
    replication_dr_mode: &'static str,
    /// Seconds since 1970.
    server_time_utc: u64,
    /// The version of the server.
    version: &'static str,
    /// Always false.
    enterprise: bool,
    /// Always 0: there is no other server to ask.
    echo_duration_ms: u64,
    /// Always 0, likewise.
    clock_skew_ms: u64,
    /// Not while sealed.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_name: Option<String>,
    #[serde(skip)]
    status: u16,
}

impl Output for Health {
    fn into_response(self) -> Result<Response> {
        let body = serde_json::to_value(&self).map_err(Error::internal)?;
        Ok(Response::new(Reply::Bare(body)).with_status(self.status))
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<Self>())
    }

    const PART: Part = Part::Body;
    const ALSO: &'static [u16] = &[429, 472, 473, 474, 501, 503, 530];
}

pub(super) async fn health(cx: Cx<System>, input: HealthInput) -> Result<Health> {
    let HealthInput {
        standbyok: None | Some(_),
        perfstandbyok: None | Some(_),
        ..
    } = input;
    let of_other_states = [
        (input.standbycode, 429),
        (input.drsecondarycode, 472),
        (input.performancestandbycode, 473),
        (input.removedcode, 530),
        (input.haunhealthycode, 474),
    ];
    for (asked, usual) in of_other_states {
        code(asked, usual)?;
    }
    let core = cx.core()?;
    let status = core.seal_status().await?;
    let http = match (status.initialized, status.sealed) {
        (false, _) => code(input.uninitcode, 501)?,
        (true, true) => code(input.sealedcode, 503)?,
        (true, false) => code(input.activecode, 200)?,
    };
    Ok(Health {
        initialized: status.initialized,
        sealed: status.sealed,
        standby: false,
        performance_standby: false,
        replication_performance_mode: "disabled",
        replication_dr_mode: "disabled",
        server_time_utc: unix_now(),
        version: VERSION,
        enterprise: false,
        echo_duration_ms: 0,
        clock_skew_ms: 0,
        cluster_name: (!status.sealed).then(|| core.settings.cluster_name.clone()),
        status: http,
    })
}

fn code(asked: Option<Count>, usual: u16) -> Result<u16> {
    match asked {
        None => Ok(usual),
        Some(Count(code)) => u16::try_from(code)
            .ok()
            .filter(|code| (200..=599).contains(code))
            .ok_or_else(|| Error::bad_request("a status code must be from 200 to 599")),
    }
}

/// Which server is active.
#[derive(Serialize, JsonSchema)]
pub(super) struct Leader {
    /// Always false: there is one server.
    ha_enabled: bool,
    /// Whether this server is active: it is when it is unsealed.
    is_self: bool,
    /// The address that clients should use.
    leader_address: String,
    /// Always empty: there is one server.
    leader_cluster_address: &'static str,
    /// Always false.
    performance_standby: bool,
}

pub(super) async fn leader(cx: Cx<System>) -> Result<Bare<Leader>> {
    let core = cx.core()?;
    Ok(Bare(Leader {
        ha_enabled: false,
        is_self: !core.is_sealed(),
        leader_address: core.settings.api_addr.clone(),
        leader_cluster_address: "",
        performance_standby: false,
    }))
}
