//! What an audit line says. Every string that came from or goes to a client is an HMAC, keys are not; raw bytes
//! and headers never appear (threats: `audit-raw`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use obol_mount::{Caller, Error, Family, Operation, Result};
use ring::hmac;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::headers::Sent;
use super::options::Style;
use crate::core::activity::ClientId;
use crate::core::{MountEntry, rfc3339};

/// A device's keyed hash.
pub struct Hasher(hmac::Key);

impl Hasher {
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// `hmac-sha256:` and 64 hexadecimal digits.
    pub fn hash(&self, text: &str) -> String {
        let tag = hmac::sign(&self.0, text.as_bytes());
        format!("hmac-sha256:{}", hex::encode(tag))
    }

    /// Every string inside, hashed; numbers, booleans and the keys of objects as they are. `shown` keys of the
    /// top level stay readable.
    fn hash_map(&self, map: &Map<String, Value>, shown: &[String]) -> Value {
        let hashed = map.iter().map(|(key, value)| {
            let value = if shown.iter().any(|s| s == key) {
                value.clone()
            } else {
                self.hash_value(value)
            };
            (key.clone(), value)
        });
        Value::Object(hashed.collect())
    }

    fn hash_value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.hash(text)),
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.hash_value(item)).collect())
            }
            Value::Object(map) => self.hash_map(map, &[]),
            other => other.clone(),
        }
    }
}

/// The request that an entry is about.
pub struct Subject<'a> {
    pub id: &'a str,
    pub operation: Operation,
    pub path: &'a str,
    pub mount: Option<&'a MountEntry>,
    pub data: &'a Map<String, Value>,
    pub peer: Option<IpAddr>,
    pub port: Option<u16>,
    pub caller: Option<&'a Caller>,
    /// What the caller has by its entity.
    pub identity_policies: &'a [String],
    /// The token as it came. Only its HMAC is written.
    pub token: Option<&'a str>,
    pub wrap_ttl: Option<u64>,
    /// The headers that are audited.
    pub headers: &'a [Sent],
    /// Keys of the request that are shown in the clear.
    pub shown: &'a [String],
}

/// What came of it.
pub(super) struct Outcome<'a> {
    pub data: Option<&'a Map<String, Value>>,
    pub auth: Option<&'a Value>,
    pub wrap_info: Option<&'a Value>,
    pub warnings: &'a [String],
    pub shown: &'a [String],
}

/// One entry.
pub struct Record<'a> {
    subject: &'a Subject<'a>,
    outcome: Option<Outcome<'a>>,
    error: Option<&'a Error>,
}

impl<'a> Record<'a> {
    pub fn request(subject: &'a Subject<'a>, error: Option<&'a Error>) -> Self {
        Self {
            subject,
            outcome: None,
            error,
        }
    }

    pub fn response(
        subject: &'a Subject<'a>,
        data: Option<&'a Map<String, Value>>,
        auth: Option<&'a Value>,
        wrap_info: Option<&'a Value>,
        warnings: &'a [String],
        shown: &'a [String],
    ) -> Self {
        Self {
            subject,
            outcome: Some(Outcome {
                data,
                auth,
                wrap_info,
                warnings,
                shown,
            }),
            error: None,
        }
    }

    pub fn failure(subject: &'a Subject<'a>, error: &'a Error) -> Self {
        let outcome = Outcome {
            data: None,
            auth: None,
            wrap_info: None,
            warnings: &[],
            shown: &[],
        };
        Self {
            subject,
            outcome: Some(outcome),
            error: Some(error),
        }
    }

    /// The entry as one line of JSON for a device.
    pub(super) fn line(&self, hasher: &Hasher, style: &Style) -> Result<Vec<u8>> {
        let s = self.subject;
        let raw_accessor = !style.hmac_accessor;
        let written = |map: &Map<String, Value>, shown: &[String]| match style.raw {
            true => Value::Object(map.clone()),
            false => hasher.hash_map(map, shown),
        };
        let accessor = |accessor: &str| {
            if raw_accessor {
                accessor.to_owned()
            } else {
                hasher.hash(accessor)
            }
        };
        let mut request = json!({
            "id": s.id,
            "operation": s.operation.as_str(),
            "path": s.path,
            "data": written(s.data, s.shown),
            "namespace": {"id": "root"},
        });
        say_mount(&mut request, s.mount);
        if let Some(peer) = s.peer {
            request["remote_address"] = peer.to_string().into();
        }
        if let Some(port) = s.port {
            request["remote_port"] = port.into();
        }
        if let Some(token) = s.token {
            request["client_token"] = hasher.hash(token).into();
        }
        if let Some(ttl) = s.wrap_ttl {
            request["wrap_ttl"] = ttl.into();
        }
        if !s.headers.is_empty() {
            let headers = s.headers.iter().map(|header| {
                let hashed = |value: &String| match header.hmac {
                    true => hasher.hash(value),
                    false => value.clone(),
                };
                let values: Vec<String> = header.values.iter().map(hashed).collect();
                (header.name.clone(), values.into())
            });
            request["headers"] = Value::Object(headers.collect());
        }
        let mut auth = json!({});
        if let Some(caller) = s.caller {
            request["client_token_accessor"] = accessor(&caller.accessor).into();
            // Under which it is counted, in `sys/internal/counters/activity/export` too. Root tokens are not.
            if !caller.is_root {
                let client = ClientId::new(&caller.policies, &caller.entity_id);
                request["client_id"] = client.name().into();
            }
            auth = json!({
                "accessor": accessor(&caller.accessor),
                "display_name": &*caller.display_name,
                "policies": &*caller.policies,
                "token_policies": &*caller.policies,
                "token_type": caller.kind,
                "metadata": &*caller.metadata,
                "entity_id": &*caller.entity_id,
            });
            auth["token_issue_time"] = rfc3339(caller.issued).into();
            if caller.ttl > 0 {
                auth["token_ttl"] = caller.ttl.into();
            }
            if let Some(token) = s.token {
                auth["client_token"] = hasher.hash(token).into();
            }
            if !s.identity_policies.is_empty() {
                let own = caller.policies.iter();
                let all: BTreeSet<&String> = own.chain(s.identity_policies).collect();
                auth["policies"] = json!(all);
                auth["identity_policies"] = s.identity_policies.into();
            }
        }
        let time = OffsetDateTime::now_utc()
            .format(&Rfc3339)
            .map_err(Error::internal)?;
        let kind = if self.outcome.is_some() {
            "response"
        } else {
            "request"
        };
        let mut entry = BTreeMap::from([
            ("time", Value::String(time)),
            ("type", kind.into()),
            ("auth", auth),
            ("request", request),
        ]);
        if let Some(outcome) = &self.outcome {
            let mut response = json!({});
            say_mount(&mut response, s.mount);
            if let Some(data) = outcome.data {
                response["data"] = match style.elide_lists && s.operation == Operation::List {
                    true => written(&elided(data), outcome.shown),
                    false => written(data, outcome.shown),
                };
            }
            if let Some(Value::Object(auth)) = outcome.auth {
                response["auth"] = with_tokens_hashed(hasher, auth, raw_accessor);
            }
            if let Some(Value::Object(info)) = outcome.wrap_info {
                response["wrap_info"] = with_tokens_hashed(hasher, info, raw_accessor);
            }
            if !outcome.warnings.is_empty() {
                response["warnings"] = outcome.warnings.into();
            }
            entry.insert("response", response);
        }
        if let Some(error) = self.error {
            // What the client is told; the cause stays in the operator's log.
            let text = match error.messages() {
                [] => format!("status {}", error.status()),
                messages => messages.join("; "),
            };
            entry.insert("error", text.into());
        }
        let mut line = style.prefix.clone().into_bytes();
        serde_json::to_writer(&mut line, &entry).map_err(Error::internal)?;
        line.push(b'\n');
        Ok(line)
    }
}

/// Where it went, under Vault's names.
fn say_mount(part: &mut Value, mount: Option<&MountEntry>) {
    let Some(mount) = mount else {
        return;
    };
    part["mount_point"] = mount.path.as_str().into();
    part["mount_type"] = mount.kind.as_str().into();
    part["mount_accessor"] = mount.accessor.as_str().into();
    part["mount_class"] = match mount.family() {
        Family::Auth => "auth",
        Family::Secrets => "secret",
    }
    .into();
}

/// A listing, of which only the lengths are recorded: with many keys its lines would be long.
fn elided(data: &Map<String, Value>) -> Map<String, Value> {
    let shortened = |(key, value): (&String, &Value)| {
        let value = match (key.as_str(), value) {
            ("keys", Value::Array(keys)) => keys.len().into(),
            ("key_info", Value::Object(info)) => info.len().into(),
            (_, other) => other.clone(),
        };
        (key.clone(), value)
    };
    data.iter().map(shortened).collect()
}

/// A new token's `auth` or `wrap_info`: policies and times as they are, tokens and accessors hashed.
fn with_tokens_hashed(hasher: &Hasher, map: &Map<String, Value>, raw_accessor: bool) -> Value {
    let audited = map.iter().map(|(key, value)| {
        let hash = match key.as_str() {
            "client_token" | "token" => true,
            "accessor" | "wrapped_accessor" => !raw_accessor,
            _ => false,
        };
        (
            key.clone(),
            if hash {
                hasher.hash_value(value)
            } else {
                value.clone()
            },
        )
    });
    Value::Object(audited.collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn audit_raw_no_string_of_a_request_or_response_is_written_in_the_clear() {
        let data = json!({"password": "hunter2", "deep": [{"key": "hunter2"}], "n": 5});
        let data = data.as_object().unwrap();
        let auth = json!({"client_token": "obs.hunter2", "accessor": "hunter2acc", "policies": ["default"]});
        let mount = MountEntry::new(Family::Secrets, "secret", "kv");
        let subject = Subject {
            id: "1",
            operation: Operation::Update,
            path: "secret/data/x",
            mount: Some(&mount),
            data,
            peer: None,
            port: None,
            caller: None,
            identity_policies: &[],
            token: Some("obs.hunter2"),
            wrap_ttl: None,
            headers: &[],
            shown: &[],
        };
        let style = Style::read(&BTreeMap::new()).unwrap();
        let hasher = Hasher::new(b"key");
        let line = Record::response(&subject, Some(data), Some(&auth), None, &[], &[])
            .line(&hasher, &style)
            .unwrap();
        let text = String::from_utf8(line).unwrap();
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains(&hasher.hash("hunter2")));
        assert!(text.contains("\"default\""));
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn shown_keys_stay_readable_at_the_top_level_alone() {
        let hasher = Hasher::new(b"key");
        let data = json!({"user": "grace", "inner": {"user": "joan"}});
        let hashed = hasher.hash_map(data.as_object().unwrap(), &["user".to_owned()]);
        assert_eq!(hashed["user"], "grace");
        assert_ne!(hashed["inner"]["user"], "joan");
    }
}
