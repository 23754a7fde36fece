//! What `auth` and `secrets` share: both list, enable, disable and tune mounts, below `sys/auth` and `sys/mounts`.

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
        ] {
            if !values.is_empty() {
                config.insert(key.to_owned(), json!(values));
            }
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
    token_type: Option<&str>,
) -> Outcome {
    let path = sanitised(path);
    let mut body = flags.config()?;
    if let Some(description) = &flags.description {
        body.insert("description".to_owned(), json!(description));
    }
    if let Some(token_type) = token_type {
        body.insert("token_type".to_owned(), json!(token_type));
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
