//! What `auth` and `secrets` share: both list, enable, disable and tune mounts, below `sys/auth` and `sys/mounts`.

use std::thread::sleep;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Session;
use super::client::{Client, Request, seconds};
use super::failure::{Failure, Outcome, SUCCESS};
use super::logical::sanitised;
use super::output::{self, Format};

/// One of the two families.
pub(super) struct Family {
    /// Its path in the API.
    pub(super) api: &'static str,
    /// What one of its mounts is called.
    pub(super) noun: &'static str,
}

// Flattened into commands; a doc comment here would replace the command's own.
#[derive(clap::Args, Default)]
pub(super) struct TuneFlags {
    /// A note for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Lifetime of tokens and leases that ask for none: 30m, 8h; 0 for the server's
    #[arg(long, value_name = "DURATION")]
    default_lease_ttl: Option<String>,
    /// Longest lifetime; 0 for the server's
    #[arg(long, value_name = "DURATION")]
    max_lease_ttl: Option<String>,
    /// unauth shows the mount to clients that have not logged in; hidden does not
    #[arg(long, value_name = "unauth|hidden")]
    listing_visibility: Option<String>,
    /// Key of requests that the audit log shows in the clear; may be repeated
    #[arg(long, value_name = "KEY")]
    audit_non_hmac_request_keys: Vec<String>,
    /// Key of answers that the audit log shows in the clear; may be repeated
    #[arg(long, value_name = "KEY")]
    audit_non_hmac_response_keys: Vec<String>,
    /// Header of requests that the mount may see; may be repeated
    #[arg(long, value_name = "NAME")]
    passthrough_request_headers: Vec<String>,
    /// Header of answers that the mount may set; may be repeated
    #[arg(long, value_name = "NAME")]
    allowed_response_headers: Vec<String>,
    /// Kept and shown, as Vault does with it
    #[arg(long, value_name = "true|false", hide_possible_values = true)]
    force_no_cache: Option<bool>,
}

// As above.
#[derive(clap::Args, Default)]
pub(super) struct LockoutFlags {
    /// So many failed logins lock a name (userpass, ldap, approle)
    #[arg(long, value_name = "N")]
    user_lockout_threshold: Option<u64>,
    /// How long a name stays locked
    #[arg(long, value_name = "DURATION")]
    user_lockout_duration: Option<String>,
    /// After this time without a failure the count begins again
    #[arg(long, value_name = "DURATION")]
    user_lockout_counter_reset_duration: Option<String>,
    /// Count nothing and lock nobody
    #[arg(long, value_name = "true|false", hide_possible_values = true)]
    user_lockout_disable: Option<bool>,
}

impl LockoutFlags {
    fn config(&self) -> Result<Map<String, Value>, Failure> {
        let mut config = Map::new();
        if let Some(threshold) = self.user_lockout_threshold {
            config.insert("lockout_threshold".to_owned(), threshold.into());
        }
        for (flag, key, value) in [
            (
                "user-lockout-duration",
                "lockout_duration",
                &self.user_lockout_duration,
            ),
            (
                "user-lockout-counter-reset-duration",
                "lockout_counter_reset_duration",
                &self.user_lockout_counter_reset_duration,
            ),
        ] {
            if let Some(value) = value {
                config.insert(key.to_owned(), seconds(flag, value)?);
            }
        }
        if let Some(disable) = self.user_lockout_disable {
            config.insert("lockout_disable".to_owned(), disable.into());
        }
        Ok(config)
    }
}

/// What one family alone can be tuned with.
#[derive(Default)]
pub(super) struct TuneMore<'a> {
    pub(super) token_type: Option<&'a str>,
    pub(super) lockout: Option<&'a LockoutFlags>,
    pub(super) options: Map<String, Value>,
}

impl TuneFlags {
    /// What is given, as the API's fields; `description` apart, because `enable` wants it elsewhere.
    fn config(&self) -> Result<Map<String, Value>, Failure> {
        let mut config = Map::new();
        for (flag, key, value) in [
            (
                "default-lease-ttl",
                "default_lease_ttl",
                &self.default_lease_ttl,
            ),
            ("max-lease-ttl", "max_lease_ttl", &self.max_lease_ttl),
        ] {
            if let Some(value) = value {
                config.insert(key.to_owned(), seconds(flag, value)?);
            }
        }
        if let Some(value) = &self.listing_visibility {
            config.insert("listing_visibility".to_owned(), json!(value));
        }
        for (key, values) in [
            (
                "audit_non_hmac_request_keys",
                &self.audit_non_hmac_request_keys,
            ),
            (
                "audit_non_hmac_response_keys",
                &self.audit_non_hmac_response_keys,
            ),
            (
                "passthrough_request_headers",
                &self.passthrough_request_headers,
            ),
            ("allowed_response_headers", &self.allowed_response_headers),
        ] {
            if !values.is_empty() {
                // A lone empty value empties the list.
                let values: Vec<&String> =
                    values.iter().filter(|value| !value.is_empty()).collect();
                config.insert(key.to_owned(), json!(values));
            }
        }
        if let Some(value) = self.force_no_cache {
            config.insert("force_no_cache".to_owned(), value.into());
        }
        Ok(config)
    }
}

/// A mount to be enabled.
pub(super) struct NewMount<'a> {
    pub(super) kind: &'a str,
    pub(super) path: Option<&'a str>,
    pub(super) tune: &'a TuneFlags,
    pub(super) token_type: Option<&'a str>,
    pub(super) options: Map<String, Value>,
    pub(super) local: bool,
    pub(super) seal_wrap: bool,
}

pub(super) fn enable(
    session: &mut Session<'_>,
    client: &Client,
    family: &Family,
    new: NewMount<'_>,
) -> Outcome {
    let kind = new.kind.trim();
    let path = sanitised(new.path.unwrap_or(kind));
    let mut config = new.tune.config()?;
    if let Some(token_type) = new.token_type {
        config.insert("token_type".to_owned(), json!(token_type));
    }
    let mut body = json!({
        "type": kind,
        "description": new.tune.description.clone().unwrap_or_default(),
        "config": config,
        "local": new.local,
        "seal_wrap": new.seal_wrap,
    });
    if !new.options.is_empty() {
        body["options"] = Value::Object(new.options);
    }
    client
        .send(Request::post(format!("{}/{path}", family.api), body))
        .map_err(|failure| failure.doing(format!("enabling the {kind} {}", family.noun)))?;
    session.line(&format!(
        "Success! Enabled the {kind} {} at: {path}/",
        family.noun
    ))?;
    Ok(SUCCESS)
}

pub(super) fn disable(
    session: &mut Session<'_>,
    client: &Client,
    family: &Family,
    path: &str,
) -> Outcome {
    let path = sanitised(path);
    client
        .send(Request::delete(format!("{}/{path}", family.api)))
        .map_err(|failure| failure.doing(format!("disabling the {} at {path}/", family.noun)))?;
    session.line(&format!(
        "Success! Disabled the {} (if it existed) at: {path}/",
        family.noun
    ))?;
    Ok(SUCCESS)
}

pub(super) fn tune(
    session: &mut Session<'_>,
    client: &Client,
    family: &Family,
    path: &str,
    flags: &TuneFlags,
    more: TuneMore<'_>,
) -> Outcome {
    let path = sanitised(path);
    let mut body = flags.config()?;
    if let Some(description) = &flags.description {
        body.insert("description".to_owned(), json!(description));
    }
    if let Some(token_type) = more.token_type {
        body.insert("token_type".to_owned(), json!(token_type));
    }
    if !more.options.is_empty() {
        body.insert("options".to_owned(), Value::Object(more.options));
    }
    if let Some(lockout) = more.lockout {
        let config = lockout.config()?;
        if !config.is_empty() {
            body.insert("user_lockout_config".to_owned(), Value::Object(config));
        }
    }
    if body.is_empty() {
        return Err(Failure::local(
            "there is nothing to change: give at least one of the flags",
        ));
    }
    client
        .send(Request::post(
            format!("{}/{path}/tune", family.api),
            Value::Object(body),
        ))
        .map_err(|failure| failure.doing(format!("tuning the {} at {path}/", family.noun)))?;
    session.line(&format!("Success! Tuned the {} at: {path}/", family.noun))?;
    Ok(SUCCESS)
}

pub(super) fn list(
    session: &mut Session<'_>,
    client: &Client,
    family: &Family,
    format: Format,
    detailed: bool,
) -> Outcome {
    let answer = client
        .send(Request::get(family.api))
        .map_err(|failure| failure.doing(format!("listing every {}", family.noun)))?;
    let mounts = answer.data();
    if format != Format::Table {
        session.print_value(format, &Value::Object(mounts.clone()))?;
        return Ok(SUCCESS);
    }
    session.warnings(&answer.body);
    let header: &[&str] = match detailed {
        false => &["Path", "Type", "Accessor", "Description"],
        true => &[
            "Path",
            "Type",
            "Accessor",
            "Default TTL",
            "Max TTL",
            "Token Type",
            "Local",
            "Seal Wrap",
            "Options",
            "UUID",
            "Description",
        ],
    };
    let mut rows = vec![
        header
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>(),
    ];
    let mut paths: Vec<&String> = mounts.keys().collect();
    paths.sort_unstable();
    for path in paths {
        let mount = &mounts[path];
        let config = &mount["config"];
        let mut row = vec![
            path.clone(),
            output::cell(&mount["type"]),
            output::cell(&mount["accessor"]),
        ];
        if detailed {
            row.extend([
                ttl(&config["default_lease_ttl"]),
                ttl(&config["max_lease_ttl"]),
                config["token_type"].as_str().unwrap_or("n/a").to_owned(),
                output::cell(&mount["local"]),
                output::cell(&mount["seal_wrap"]),
                if mount["options"].is_null() {
                    "{}".to_owned()
                } else {
                    output::cell(&mount["options"])
                },
                output::cell(&mount["uuid"]),
            ]);
        }
        row.push(output::cell(&mount["description"]));
        rows.push(row);
    }
    session.line(&output::table(rows))?;
    Ok(SUCCESS)
}

/// Moves a mount to another path, and waits until it is there.
pub(super) fn r#move(
    session: &mut Session<'_>,
    client: &Client,
    family: &Family,
    from: &str,
    to: &str,
) -> Outcome {
    let named = |path: &str| {
        let path = sanitised(path);
        match family.api {
            "sys/auth" if !path.starts_with("auth/") => format!("auth/{path}"),
            _ => path.to_owned(),
        }
    };
    let (from, to) = (named(from), named(to));
    let doing = format!("moving the {} at {from}/ to {to}/", family.noun);
    let begun = client
        .send(Request::post(
            "sys/remount",
            json!({ "from": from, "to": to }),
        ))
        .map_err(|failure| failure.doing(&doing))?;
    let id = begun.data().get("migration_id").and_then(Value::as_str);
    let Some(id) = id else {
        // Servers before Vault 1.11 answer when it is done.
        session.line(&format!("Success! Moved {from}/ to {to}/"))?;
        return Ok(SUCCESS);
    };
    session.line(&format!(
        "Started moving {} {from}/ to {to}/, with migration ID {id}",
        family.noun
    ))?;
    let status_of = || -> Result<String, Failure> {
        let answer = client
            .send(Request::get(format!("sys/remount/status/{id}")).internal())
            .map_err(|failure| {
                failure.doing(&doing).hint(format!(
                    "The server goes on moving it: obol read sys/remount/status/{id}"
                ))
            })?;
        let status = &answer.body["data"]["migration_info"]["status"];
        Ok(status.as_str().unwrap_or_default().to_owned())
    };
    let mut pause = Duration::from_millis(50);
    loop {
        match status_of()?.as_str() {
            "in-progress" => {
                sleep(pause);
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            "success" => {
                session.line(&format!(
                    "Success! Finished moving {} {from}/ to {to}/",
                    family.noun
                ))?;
                return Ok(SUCCESS);
            }
            _ => {
                return Err(
                    Failure::remote("the server could not move it; its log says why").doing(doing),
                );
            }
        }
    }
}

/// 0 stands for the server's own.
fn ttl(value: &Value) -> String {
    if value.as_u64() == Some(0) {
        "system".to_owned()
    } else {
        output::seconds(value)
    }
}

/// `-options=key=value`, repeated.
pub(super) fn pairs(flag: &str, given: &[String]) -> Result<Map<String, Value>, Failure> {
    given
        .iter()
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), json!(value))),
            _ => Err(Failure::local(format!("-{flag} must look like KEY=VALUE"))),
        })
        .collect()
}
