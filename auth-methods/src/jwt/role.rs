//! `role/{name}`: which of the issuer's tokens may log in with this role, as whom, and what they get. Names of roles
//! are folded to lower case, as Vault folds them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use obol_mount::fields::{
    CommaList, Count, Flag, OlderTokenFields, StoredTokenFields, TokenFields, Ttl,
};
use obol_mount::{Cx, Data, Error, Keys, NoContent, Result, TokenParams, duration};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::claims::Leeways;
use super::config::{NO_BROWSER_FLOW, is_empty};
use super::{Jwt, ROLES};
use crate::named::{self, Name};
use crate::store::{self, ATTEMPTS};

/// `LIST role`.
pub(super) async fn list(cx: Cx<Jwt>) -> Result<Keys> {
    let keys = named::list(&cx.store, ROLES).await?;
    Ok(Keys { keys })
}

/// `GET role/{name}`.
pub(super) async fn read(cx: Cx<Jwt>, input: RolePath) -> Result<Option<Data<RoleView>>> {
    let role = stored(&cx.backend, &input.name).await?;
    Ok(role.map(|role| {
        Data(RoleView {
            role_type: ROLE_TYPE,
            role,
        })
    }))
}

/// Whether a write updates.
pub(super) async fn exists(cx: Cx<Jwt>, input: RolePath) -> Result<bool> {
    Ok(stored(&cx.backend, &input.name).await?.is_some())
}

/// `POST role/{name}`. What is left out keeps its stored value.
pub(super) async fn write(cx: Cx<Jwt>, input: WriteRole) -> Result<NoContent> {
    let name = name(&input.name)?;
    for _ in 0..ATTEMPTS {
        let mut change = cx.store.begin().await?;
        let role = input.applied_to(cx.store.read(&name.path(ROLES)).await?)?;
        change.put(&name.path(ROLES), &role)?;
        if change.commit().await? {
            return Ok(NoContent);
        }
    }
    Err(store::too_busy())
}

/// `DELETE role/{name}`. A role that is not there is deleted already.
pub(super) async fn delete(cx: Cx<Jwt>, input: RolePath) -> Result<NoContent> {
    let name = name(&input.name)?;
    for _ in 0..ATTEMPTS {
        let mut change = cx.store.begin().await?;
        change.delete(&name.path(ROLES));
        if change.commit().await? {
            return Ok(NoContent);
        }
    }
    Err(store::too_busy())
}

/// The role of this name.
pub(super) async fn stored(jwt: &Jwt, text: &str) -> Result<Option<Role>> {
    jwt.store.read(&name(text)?.path(ROLES)).await
}

fn name(text: &str) -> Result<Name> {
    Name::parse("a role's", text, false)
}

/// One role.
#[derive(Deserialize, JsonSchema)]
pub(super) struct RolePath {
    /// The name of the role.
    name: String,
}

/// Says which tokens may log in. At least one of `bound_audiences`, `bound_subject`, `bound_claims` and
/// `token_bound_cidrs` is needed.
#[derive(Deserialize, JsonSchema)]
pub(super) struct WriteRole {
    /// The name of the role.
    name: String,
    /// `jwt`: the only type there is.
    role_type: Option<String>,
    /// A token's `aud` must be or hold one of these. Needed for tokens that have an `aud`.
    bound_audiences: Option<CommaList>,
    /// What `sub` must be.
    bound_subject: Option<String>,
    /// Claims and what each must be: a value, or a list of which one must be met; a claim that is a list must hold
    /// one of them. A claim that begins with `/` is a JSON pointer (RFC 6901).
    bound_claims: Option<Map<String, Value>>,
    /// How `bound_claims` are compared: `string` exactly, `glob` with `*` for any text.
    bound_claims_type: Option<String>,
    /// Claims (or JSON pointers) and under which name each goes into the token's metadata.
    claim_mappings: Option<BTreeMap<String, String>>,
    /// The claim that names who logs in: the alias in identity. Needed the first time.
    user_claim: Option<String>,
    /// Takes `user_claim` for a JSON pointer (RFC 6901).
    user_claim_json_pointer: Option<Flag>,
    /// The claim (or JSON pointer) with the list of groups, for the group aliases of identity.
    groups_claim: Option<String>,
    /// How far the issuer's clock may be from this host's, in seconds. 0: 60. -1: none.
    clock_skew_leeway: Option<Leeway>,
    /// How long after `iat` or `nbf` a token without `exp` is good, in seconds. 0: 150. -1: none.
    expiration_leeway: Option<Leeway>,
    /// How long before `exp` a token without `iat` and `nbf` begins, in seconds. 0: 150. -1: none.
    not_before_leeway: Option<Leeway>,
    /// How long ago the user may have proved who they are (`auth_time`, which is needed then). 0: not looked at.
    max_age: Option<Ttl>,
    /// Of the browser flow, which is not there: must be empty.
    allowed_redirect_uris: Option<Value>,
    /// Of the browser flow, which is not there: must be empty.
    oidc_scopes: Option<Value>,
    /// Of the browser flow, which is not there: must be empty.
    callback_mode: Option<Value>,
    /// Tokens are never logged: must be false.
    #[serde(default)]
    verbose_oidc_logging: Flag,
    #[serde(flatten)]
    token: TokenFields,
    #[serde(flatten)]
    older: OlderTokenFields,
    /// Older name of token_period.
    #[schemars(extend("x-aliases" = ["token_period"]))]
    period: Option<Ttl>,
    /// Older name of token_num_uses.
    #[schemars(extend("x-aliases" = ["token_num_uses"]))]
    num_uses: Option<Count>,
}

/// A role as it is returned.
#[derive(Serialize, JsonSchema)]
pub(super) struct RoleView {
    /// Always `jwt`.
    role_type: &'static str,
    #[serde(flatten)]
    role: Role,
}

/// The record.
#[derive(Default, Deserialize, Serialize, JsonSchema)]
pub(super) struct Role {
    pub(super) bound_audiences: Vec<String>,
    pub(super) bound_subject: String,
    /// What each of these claims must be: a text, a number, true or false, or a list of which one must fit.
    pub(super) bound_claims: Map<String, Value>,
    pub(super) bound_claims_type: Comparison,
    pub(super) claim_mappings: BTreeMap<String, String>,
    pub(super) user_claim: String,
    pub(super) user_claim_json_pointer: bool,
    pub(super) groups_claim: String,
    /// Seconds.
    clock_skew_leeway: i64,
    /// Seconds.
    expiration_leeway: i64,
    /// Seconds.
    not_before_leeway: i64,
    pub(super) max_age: Ttl,
    #[serde(flatten)]
    pub(super) token: StoredTokenFields,
}

/// How claims are compared with what is asked of them.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Comparison {
    #[default]
    String,
    Glob,
}

impl Role {
    pub(super) fn leeways(&self) -> Leeways {
        let of = |seconds: i64, usual| match seconds {
            0 => usual,
            seconds => seconds.max(0),
        };
        Leeways {
            clock_skew: of(self.clock_skew_leeway, 60),
            expiration: of(self.expiration_leeway, 150),
            not_before: of(self.not_before_leeway, 150),
        }
    }

    /// All of the role that decides who may log in as whom, in a fixed form.
    pub(super) fn conditions(&self) -> Value {
        serde_json::json!([
            self.bound_audiences,
            self.bound_subject,
            self.bound_claims,
            self.bound_claims_type,
            self.claim_mappings,
            self.user_claim,
            self.user_claim_json_pointer,
            self.groups_claim,
        ])
    }
}

impl WriteRole {
    /// The settings of tokens, each by whichever name it was sent.
    fn token_fields(&self) -> TokenFields {
        let mut fields = self.token.clone().or_older(&self.older);
        fields.token_period = fields.token_period.or(self.period);
        fields.token_num_uses = fields.token_num_uses.or(self.num_uses);
        fields
    }

    fn applied_to(&self, stored: Option<Role>) -> Result<Role> {
        self.refuse_browser_flow()?;
        let mut role = stored.unwrap_or_default();
        if let Some(CommaList(audiences)) = &self.bound_audiences {
            role.bound_audiences.clone_from(audiences);
        }
        if let Some(subject) = &self.bound_subject {
            role.bound_subject.clone_from(subject);
        }
        if let Some(claims) = &self.bound_claims {
            role.bound_claims.clone_from(claims);
        }
        if let Some(comparison) = &self.bound_claims_type {
            role.bound_claims_type = match comparison.as_str() {
                "string" => Comparison::String,
                "glob" => Comparison::Glob,
                _ => {
                    return Err(Error::bad_request(
                        "bound_claims_type: expected string or glob",
                    ));
                }
            };
        }
        if let Some(mappings) = &self.claim_mappings {
            role.claim_mappings.clone_from(mappings);
        }
        if let Some(claim) = &self.user_claim {
            role.user_claim.clone_from(claim);
        }
        if let Some(Flag(is_pointer)) = self.user_claim_json_pointer {
            role.user_claim_json_pointer = is_pointer;
        }
        if let Some(claim) = &self.groups_claim {
            role.groups_claim.clone_from(claim);
        }
        for (to, from) in [
            (&mut role.clock_skew_leeway, self.clock_skew_leeway),
            (&mut role.expiration_leeway, self.expiration_leeway),
            (&mut role.not_before_leeway, self.not_before_leeway),
        ] {
            if let Some(Leeway(seconds)) = from {
                *to = seconds;
            }
        }
        if let Some(max_age) = self.max_age {
            role.max_age = max_age;
        }
        let mut token = TokenParams::from(role.token);
        self.token_fields().apply(&mut token)?;
        role.token = StoredTokenFields::from(&token);
        check(&role)?;
        Ok(role)
    }

    fn refuse_browser_flow(&self) -> Result<()> {
        match self.role_type.as_deref() {
            None | Some("" | ROLE_TYPE) => {}
            Some("oidc") => {
                return Err(Error::bad_request(format!("role_type: {NO_BROWSER_FLOW}")));
            }
            Some(_) => return Err(Error::bad_request("role_type: expected jwt")),
        }
        for (field, value) in [
            ("allowed_redirect_uris", &self.allowed_redirect_uris),
            ("oidc_scopes", &self.oidc_scopes),
            ("callback_mode", &self.callback_mode),
        ] {
            if !is_empty(value) {
                return Err(Error::bad_request(format!("{field}: {NO_BROWSER_FLOW}")));
            }
        }
        match self.verbose_oidc_logging.0 {
            true => Err(Error::bad_request(
                "verbose_oidc_logging: tokens are never logged",
            )),
            false => Ok(()),
        }
    }
}

/// What makes no sense as a whole.
fn check(role: &Role) -> Result<()> {
    let refuse = |why: &str| Err(Error::bad_request(why));
    if role.user_claim.is_empty() {
        return refuse("user_claim is required");
    }
    if role.user_claim_json_pointer && !role.user_claim.starts_with('/') {
        return refuse("user_claim: a JSON pointer begins with a slash");
    }
    if role.bound_audiences.is_empty()
        && role.bound_subject.is_empty()
        && role.bound_claims.is_empty()
        && role.token.token_bound_cidrs.0.is_empty()
    {
        return refuse(
            "a role must ask for something: set bound_audiences, bound_subject, bound_claims or token_bound_cidrs",
        );
    }
    for (claim, wanted) in &role.bound_claims {
        let one = std::slice::from_ref(wanted);
        let all = wanted.as_array().map_or(one, Vec::as_slice);
        let is_text = all.iter().all(Value::is_string);
        let is_plain = all
            .iter()
            .all(|value| value.is_string() || value.is_number() || value.is_boolean());
        let fits = match role.bound_claims_type {
            Comparison::Glob => is_text,
            Comparison::String => is_plain,
        };
        if claim.is_empty() || all.is_empty() || !fits {
            return refuse(match role.bound_claims_type {
                Comparison::Glob => {
                    "bound_claims: with bound_claims_type glob each claim has a text or a list of texts"
                }
                Comparison::String => {
                    "bound_claims: each claim has a text, a number, true or false, or a list of such"
                }
            });
        }
    }
    let mut targets = BTreeSet::new();
    for (claim, target) in &role.claim_mappings {
        if claim.is_empty() || target.is_empty() {
            return refuse("claim_mappings: a claim or its name in the metadata is empty");
        }
        if target == METADATA_ROLE {
            return refuse("claim_mappings: the metadata's role is the role's name");
        }
        if !targets.insert(target) {
            return refuse("claim_mappings: two claims have one name in the metadata");
        }
    }
    Ok(())
}

/// Seconds, or a text such as `2m`; negative for none.
#[derive(Clone, Copy)]
pub(super) struct Leeway(i64);

impl<'de> Deserialize<'de> for Leeway {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct LeewayVisitor;
        impl Visitor<'_> for LeewayVisitor {
            type Value = Leeway;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("seconds, a duration such as \"2m\", or -1")
            }
            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Leeway, E> {
                match seconds <= MAX_LEEWAY {
                    true => Ok(Leeway(seconds)),
                    false => Err(E::custom("expected no more than a day")),
                }
            }
            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Leeway, E> {
                self.visit_i64(i64::try_from(seconds).unwrap_or(i64::MAX))
            }
            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Leeway, E> {
                match seconds.fract() == 0.0 && seconds.abs() < 1e12 {
                    true => self.visit_i64(seconds as i64),
                    false => Err(E::custom("expected whole seconds")),
                }
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Leeway, E> {
                let text = text.trim();
                match text.parse::<i64>() {
                    Ok(seconds) => self.visit_i64(seconds),
                    Err(_) if text.is_empty() => Ok(Leeway(0)),
                    Err(_) if text.starts_with('-') => Ok(Leeway(-1)),
                    Err(_) => duration::parse(text)
                        .map_err(E::custom)
                        .and_then(|time| self.visit_u64(time.as_secs())),
                }
            }
        }
        d.deserialize_any(LeewayVisitor)
    }
}

impl JsonSchema for Leeway {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Leeway".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "examples": [150, "2m", -1] })
    }
}

pub(super) const METADATA_ROLE: &str = "role";
const ROLE_TYPE: &str = "jwt";
const MAX_LEEWAY: i64 = 24 * 3600;
