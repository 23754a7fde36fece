//! One field of a role at a time, each at a path of its own: read, written, and set back to its default by DELETE.

use std::time::Duration;

use obol_mount::fields::{CommaList, Count, Flag, Ttl};
use obol_mount::{Cx, Data, Error, Methods, NoContent, Result, Routes, get};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::Approle;
use super::role::{RoleFields, RoleName, Settings};

pub(super) fn routes() -> Routes<Approle> {
    Routes::new()
        .at(
            "role/{role_name}/policies",
            "The policies of the role's tokens",
            methods::<Policies>(),
        )
        .at(
            "role/{role_name}/bind-secret-id",
            "Whether a login needs a secret ID",
            methods::<BindSecretId>(),
        )
        .at(
            "role/{role_name}/secret-id-bound-cidrs",
            "From which addresses the role's secret IDs may log in",
            methods::<SecretIdBoundCidrs>(),
        )
        .at(
            "role/{role_name}/bound-cidr-list",
            "Older path of secret-id-bound-cidrs",
            methods::<BoundCidrList>(),
        )
        .at(
            "role/{role_name}/secret-id-num-uses",
            "How often a secret ID may log in",
            methods::<SecretIdNumUses>(),
        )
        .at(
            "role/{role_name}/secret-id-ttl",
            "How long a secret ID lives",
            methods::<SecretIdTtl>(),
        )
        .at(
            "role/{role_name}/token-bound-cidrs",
            "From which addresses the role's tokens may be used",
            methods::<TokenBoundCidrs>(),
        )
        .at(
            "role/{role_name}/token-num-uses",
            "How often a token of the role may be used",
            methods::<TokenNumUses>(),
        )
        .at(
            "role/{role_name}/token-ttl",
            "The first TTL of the role's tokens",
            methods::<TokenTtl>(),
        )
        .at(
            "role/{role_name}/token-max-ttl",
            "The TTL that renewals cannot exceed",
            methods::<TokenMaxTtl>(),
        )
        .at(
            "role/{role_name}/token-period",
            "The period of the role's tokens",
            methods::<Period>(),
        )
        .at(
            "role/{role_name}/period",
            "The period of the role's tokens (Vault's path)",
            methods::<Period>(),
        )
}

/// One field.
trait Part: Send + Sync + 'static {
    type Input: DeserializeOwned + JsonSchema + Send + 'static;
    type Shown: Serialize + JsonSchema + Send + 'static;
    /// The role's name, and what was sent as a write of the whole role; `None`: nothing was.
    fn read(input: Self::Input) -> (String, Option<RoleFields>);
    fn reset(settings: &mut Settings) -> Result<()>;
    fn show(settings: &Settings) -> Self::Shown;
    const FIELD: &'static str;
}

fn methods<P: Part>() -> Methods<Approle> {
    get(read::<P>).post(write::<P>).delete(reset::<P>)
}

async fn read<P: Part>(cx: Cx<Approle>, input: RoleName) -> Result<Option<Data<P::Shown>>> {
    let found = cx.roles.get(&input.role_name).await?;
    Ok(found.map(|(role, _)| Data(P::show(&role.settings))))
}

async fn write<P: Part>(cx: Cx<Approle>, input: P::Input) -> Result<NoContent> {
    let (name, fields) = P::read(input);
    let fields = fields
        .ok_or_else(|| Error::bad_request(format!("missing required field {:?}", P::FIELD)))?;
    cx.roles
        .change(&name, |role| fields.clone().apply(&mut role.settings))
        .await?;
    Ok(NoContent)
}

async fn reset<P: Part>(cx: Cx<Approle>, input: RoleName) -> Result<NoContent> {
    cx.roles
        .change(&input.role_name, |role| P::reset(&mut role.settings))
        .await?;
    Ok(NoContent)
}

/// A field by its name: what it takes, what it shows, how it is shown, and its default.
macro_rules! part {
    (
        $part:ident, $input:ident, $shown_as:ident,
        #[doc = $about:literal] $field:ident $(, #[doc = $older_about:literal] #[x = $x:literal] $older:ident)? :
        $type:ty => $shown:ty,
        |$sent:ident, $value:ident| $set:expr,
        |$settings:ident| $show:expr,
        |$to:ident| $reset:expr
    ) => {
        struct $part;

        #[doc = $about]
        #[derive(Deserialize, JsonSchema)]
        struct $input {
            /// The name; upper and lower case are the same.
            role_name: String,
            #[doc = $about]
            $field: Option<$type>,
            $(
                #[doc = $older_about]
                #[schemars(extend("x-aliases" = [$x]))]
                $older: Option<$type>,
            )?
        }

        #[derive(Serialize, JsonSchema)]
        struct $shown_as {
            $field: $shown,
        }

        impl Part for $part {
            type Input = $input;
            type Shown = $shown_as;

            fn read(input: $input) -> (String, Option<RoleFields>) {
                let $value = input.$field$(.or(input.$older))?;
                let is_there = $value.is_some();
                let mut $sent = RoleFields::default();
                $set;
                (input.role_name, is_there.then_some($sent))
            }

            fn reset($to: &mut Settings) -> Result<()> {
                $reset
            }

            fn show($settings: &Settings) -> $shown_as {
                $shown_as { $field: $show }
            }

            const FIELD: &'static str = stringify!($field);
        }
    };
}

part!(
    Policies, PoliciesInput, ShownPolicies,
    /// The policies of the role's tokens.
    token_policies,
    /// Older name of token_policies.
    #[x = "token_policies"]
    policies: CommaList => CommaList,
    |sent, value| sent.token.token_policies = value,
    |settings| settings.token.token_policies.clone(),
    |settings| {
        settings.token.token_policies = CommaList::default();
        Ok(())
    }
);

part!(
    BindSecretId, BindSecretIdInput, ShownBindSecretId,
    /// Whether a login needs a secret ID.
    bind_secret_id: Flag => bool,
    |sent, value| sent.bind_secret_id = value,
    |settings| settings.bind_secret_id,
    |settings| {
        settings.bind_secret_id = true;
        Ok(())
    }
);

part!(
    SecretIdBoundCidrs, SecretIdBoundCidrsInput, ShownSecretIdBoundCidrs,
    /// Addresses (CIDR blocks) from which the role's secret IDs may log in.
    secret_id_bound_cidrs: CommaList => CommaList,
    |sent, value| sent.secret_id_bound_cidrs = value,
    |settings| settings.secret_id_bound_cidrs.clone(),
    |settings| {
        settings.secret_id_bound_cidrs = CommaList::default();
        Ok(())
    }
);

part!(
    BoundCidrList, BoundCidrListInput, ShownBoundCidrList,
    /// Addresses (CIDR blocks) from which the role's secret IDs may log in.
    bound_cidr_list: CommaList => CommaList,
    |sent, value| sent.secret_id_bound_cidrs = value,
    |settings| settings.secret_id_bound_cidrs.clone(),
    |settings| {
        settings.secret_id_bound_cidrs = CommaList::default();
        Ok(())
    }
);

part!(
    SecretIdNumUses, SecretIdNumUsesInput, ShownSecretIdNumUses,
    /// How often a secret ID may log in; 0 means without limit.
    secret_id_num_uses: Count => u64,
    |sent, value| sent.secret_id_num_uses = value,
    |settings| settings.secret_id_num_uses,
    |settings| {
        settings.secret_id_num_uses = 0;
        Ok(())
    }
);

part!(
    SecretIdTtl, SecretIdTtlInput, ShownSecretIdTtl,
    /// How long a secret ID lives; 0 means without end.
    secret_id_ttl: Ttl => Ttl,
    |sent, value| sent.secret_id_ttl = value,
    |settings| settings.secret_id_ttl,
    |settings| {
        settings.secret_id_ttl = Ttl::default();
        Ok(())
    }
);

part!(
    TokenBoundCidrs, TokenBoundCidrsInput, ShownTokenBoundCidrs,
    /// Addresses (CIDR blocks) from which the role's tokens may be used.
    token_bound_cidrs: CommaList => CommaList,
    |sent, value| sent.token.token_bound_cidrs = value,
    |settings| settings.token.token_bound_cidrs.clone(),
    |settings| {
        settings.token.token_bound_cidrs = CommaList::default();
        Ok(())
    }
);

part!(
    TokenNumUses, TokenNumUsesInput, ShownTokenNumUses,
    /// How often a token may be used; 0 means without limit.
    token_num_uses: Count => u64,
    |sent, value| sent.token.token_num_uses = value,
    |settings| settings.token.token_num_uses,
    |settings| {
        settings.token.token_num_uses = 0;
        Ok(())
    }
);

part!(
    TokenTtl, TokenTtlInput, ShownTokenTtl,
    /// The first TTL of a token; 0 means the mount's default.
    token_ttl: Ttl => Ttl,
    |sent, value| sent.token.token_ttl = value,
    |settings| settings.token.token_ttl,
    |settings| settings.set_token(|params| {
        params.ttl = Duration::ZERO;
        Ok(())
    })
);

part!(
    TokenMaxTtl, TokenMaxTtlInput, ShownTokenMaxTtl,
    /// The TTL that renewals cannot exceed; 0 means the mount's maximum.
    token_max_ttl: Ttl => Ttl,
    |sent, value| sent.token.token_max_ttl = value,
    |settings| settings.token.token_max_ttl,
    |settings| settings.set_token(|params| {
        params.max_ttl = Duration::ZERO;
        Ok(())
    })
);

part!(
    Period, PeriodInput, ShownPeriod,
    /// Makes tokens periodic: each renewal sets the TTL to this period; 0 means none.
    token_period,
    /// Older name of token_period.
    #[x = "token_period"]
    period: Ttl => Ttl,
    |sent, value| sent.token.token_period = value,
    |settings| settings.token.token_period,
    |settings| settings.set_token(|params| {
        params.period = Duration::ZERO;
        Ok(())
    })
);
