//! `sys/internal/counters`: how many tokens and entities there are, and how many clients used the server in a time. See
//! Vault's page "/sys/internal/counters".

mod activity;
mod export;
mod times;

use obol_mount::fields::Count;
use obol_mount::{Cx, Data, Error, Result, Routes, Written, get};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::System;
use crate::core::activity::{ConfigChange, Switch};
use crate::core::unix_now;

pub(super) fn routes() -> Routes<System> {
    Routes::new()
        .at(
            "internal/counters/tokens",
            "How many service tokens there are",
            get(tokens),
        )
        .at(
            "internal/counters/entities",
            "How many entities there are",
            get(entities),
        )
        .at(
            "internal/counters/config",
            "Whether clients are counted, and for how long they are kept",
            get(read_config).post(write_config),
        )
        .and(activity::routes())
        .and(export::routes())
}

/// How many tokens there are.
#[derive(Serialize, JsonSchema)]
struct TokensOut {
    counters: TokenCounters,
}

#[derive(Serialize, JsonSchema)]
struct TokenCounters {
    /// Batch tokens are not stored, so nobody knows how many there are.
    service_tokens: Total,
}

/// How many entities there are.
#[derive(Serialize, JsonSchema)]
struct EntitiesOut {
    counters: EntityCounters,
}

#[derive(Serialize, JsonSchema)]
struct EntityCounters {
    entities: Total,
}

#[derive(Serialize, JsonSchema)]
struct Total {
    /// How many there are now.
    total: u64,
}

async fn tokens(cx: Cx<System>) -> Result<Data<TokensOut>> {
    let total = cx.live()?.tokens.count(None, u64::MAX).await?;
    let service_tokens = Total { total };
    Ok(Data(TokensOut {
        counters: TokenCounters { service_tokens },
    }))
}

async fn entities(cx: Cx<System>) -> Result<Data<EntitiesOut>> {
    let total = cx.live()?.identity.count_entities().await?;
    let entities = Total { total };
    Ok(Data(EntitiesOut {
        counters: EntityCounters { entities },
    }))
}

/// Whether clients are counted, and for how long they are kept.
#[derive(Serialize, JsonSchema)]
struct ConfigOut {
    /// `default-enabled`, `enable` or `disable`.
    enabled: &'static str,
    /// How many months are kept beside the present one.
    retention_months: u64,
    /// The least that `retention_months` may be.
    minimum_retention_months: u64,
    /// Whether there are clients to report.
    queries_available: bool,
    /// Whether counts are sent anywhere: they never are.
    reporting_enabled: bool,
}

async fn read_config(cx: Cx<System>) -> Result<Data<ConfigOut>> {
    let live = cx.live()?;
    let activity = &live.activity;
    activity.flush().await?;
    activity.refresh(unix_now()).await?;
    let config = activity.config();
    Ok(Data(ConfigOut {
        enabled: match config.enabled {
            Switch::Default => "default-enabled",
            Switch::Enable => "enable",
            Switch::Disable => "disable",
        },
        retention_months: config.retention_months,
        minimum_retention_months: 0,
        queries_available: !activity.months().await?.is_empty(),
        reporting_enabled: false,
    }))
}

/// What is not given stays as it is.
#[derive(Deserialize, JsonSchema)]
struct ConfigInput {
    /// `enable`, `disable`, or `default`, which counts, too. Switching off drops the clients of the present month.
    enabled: Option<String>,
    /// How many months are kept beside the present one, at most 60. 0 keeps nothing, and needs counting to be switched off.
    retention_months: Option<Count>,
    /// Deprecated: without a start time the present month and the eleven before it are reported, whatever this says.
    default_report_months: Option<Count>,
}

async fn write_config(cx: Cx<System>, input: ConfigInput) -> Result<Written> {
    let enabled = match input.enabled.as_deref() {
        None => None,
        Some("default") => Some(Switch::Default),
        Some("enable") => Some(Switch::Enable),
        Some("disable") => Some(Switch::Disable),
        Some(_) => {
            return Err(Error::bad_request(
                "field \"enabled\": expected default, enable or disable",
            ));
        }
    };
    let mut warnings = Vec::new();
    match input.default_report_months {
        None => {}
        Some(Count(0)) => {
            return Err(Error::bad_request(
                "field \"default_report_months\": expected more than 0",
            ));
        }
        Some(_) => warnings.push(
            "default_report_months is deprecated and changes nothing: reports begin eleven months before the one that they end with"
                .into(),
        ),
    }
    let change = ConfigChange {
        enabled,
        retention_months: input.retention_months.map(|Count(months)| months),
    };
    warnings.extend(cx.live()?.activity.configure(change, unix_now()).await?);
    Ok(Written { warnings })
}
