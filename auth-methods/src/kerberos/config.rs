//! `config`: the keytab, the service account whose keys in it count, and what is asked of a ticket.
//! The keytab is checked down to a credential of libkrb5 before it is stored, rests encrypted and
//! whole, and comes back through nothing.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use obol_kerberos::{Keytab, KeytabError, MAX_KEYTAB_BYTES, ServiceAccount};
use obol_mount::fields::Flag;
use obol_mount::{Cx, Data, Error, Result, Secret, Written};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use tracing::info;
use zeroize::Zeroizing;

use super::live::Service;
use super::ticket_rules::{TicketRules, WriteTicketRules};
use super::{CONFIG, Kerberos};
use crate::store::{self, ATTEMPTS};

/// `GET config`.
pub(super) async fn read(cx: Cx<Kerberos>) -> Result<Option<Data<ConfigView>>> {
    let stored: Option<StoredConfig> = cx.store.read(CONFIG).await?;
    Ok(stored.map(|config| {
        Data(ConfigView {
            add_group_aliases: config.add_group_aliases,
            remove_instance_name: config.remove_instance_name,
            service_account: config.service_account,
            ticket: config.ticket,
        })
    }))
}

/// `POST config`. What is left out keeps its stored value.
pub(super) async fn write(cx: Cx<Kerberos>, input: WriteConfig) -> Result<Written> {
    for _ in 0..ATTEMPTS {
        let mut change = cx.store.begin().await?;
        let config = input.applied_to(cx.store.read(CONFIG).await?)?;
        // Checks everything that a login will need; the login builds its own from the record.
        let service = Service::build(&config)?;
        change.put(CONFIG, &config)?;
        if change.commit().await? {
            info!(
                mount = &*cx.request.mount,
                service_account = config.service_account,
                keytab = service.acceptor.fingerprint(),
                "the Kerberos configuration was written"
            );
            return Ok(Written {
                warnings: service.warnings(),
            });
        }
    }
    Err(store::too_busy())
}

/// Configures the keytab.
#[derive(Deserialize, JsonSchema)]
pub(super) struct WriteConfig {
    /// The keytab in base64, as `base64 vault.keytab` prints it. Needed the first time; later, leaving it
    /// out keeps the stored one. Never returned.
    keytab: Option<Secret>,
    /// The account whose keys in the keytab are used, such as `vault_svc` or `HTTP/vault.example.com`,
    /// with or without `@REALM`. Needed the first time.
    service_account: Option<String>,
    /// Takes names without their instance: keytab entries when they are compared with the service account
    /// (`foo/localhost@EXAMPLE.COM` is `foo`), and users when they are looked up in LDAP (`grace/admin` is
    /// `grace`, and gets the policies of `grace`).
    remove_instance_name: Option<Flag>,
    /// Makes the user's groups group aliases of identity.
    add_group_aliases: Option<Flag>,
    #[serde(flatten)]
    ticket: WriteTicketRules,
}

/// The configuration without its secret.
#[derive(Serialize, JsonSchema)]
pub(super) struct ConfigView {
    add_group_aliases: bool,
    remove_instance_name: bool,
    service_account: String,
    #[serde(flatten)]
    ticket: TicketRules,
}

/// The record.
#[derive(Deserialize, Serialize)]
pub(super) struct StoredConfig {
    /// The whole keytab, base64 without line breaks.
    #[serde(serialize_with = "expose")]
    keytab: Secret,
    pub(super) service_account: String,
    pub(super) remove_instance_name: bool,
    pub(super) add_group_aliases: bool,
    #[serde(default)]
    pub(super) ticket: TicketRules,
}

impl WriteConfig {
    fn applied_to(&self, stored: Option<StoredConfig>) -> Result<StoredConfig> {
        let (keytab, account, remove_instance_name, add_group_aliases, mut ticket) = match stored {
            None => (None, None, false, false, TicketRules::default()),
            Some(old) => (
                Some(old.keytab),
                Some(old.service_account),
                old.remove_instance_name,
                old.add_group_aliases,
                old.ticket,
            ),
        };
        self.ticket.clone().apply(&mut ticket)?;
        let required = |field| move || Error::bad_request(format!("{field} is required"));
        let keytab = match &self.keytab {
            Some(sent) => without_line_breaks(sent)?,
            None => keytab.ok_or_else(required("keytab"))?,
        };
        let service_account = match &self.service_account {
            Some(sent) => checked_account(sent)?,
            None => account.ok_or_else(required("service_account"))?,
        };
        Ok(StoredConfig {
            keytab,
            service_account,
            remove_instance_name: self
                .remove_instance_name
                .map_or(remove_instance_name, |f| f.0),
            add_group_aliases: self.add_group_aliases.map_or(add_group_aliases, |f| f.0),
            ticket,
        })
    }
}

impl StoredConfig {
    /// The keys of the service account. The errors are for the operator who wrote the configuration, and
    /// repeat nothing of it: somebody may have mixed up the two fields.
    pub(super) fn keys(&self) -> Result<Keytab> {
        let bytes = decode(&self.keytab)?;
        Keytab::parse(&bytes)
            .and_then(|whole| {
                whole.for_service_account(&self.service_account, self.remove_instance_name)
            })
            .map_err(|error| Error::bad_request(explain(&error)))
    }
}

/// Base64 without the line breaks that `base64` puts in.
fn without_line_breaks(sent: &Secret) -> Result<Secret> {
    let sent = sent.expose();
    // Four characters for three bytes, and a line break (two, from Windows) for every 64.
    if sent.len() > MAX_KEYTAB_BYTES / 3 * 4 / 64 * 66 + 66 {
        return Err(Error::bad_request(format!(
            "keytab: it has more than {MAX_KEYTAB_BYTES} bytes"
        )));
    }
    // With room for all of it at once: a string that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(sent.len()));
    text.extend(sent.chars().filter(|c| !c.is_ascii_whitespace()));
    if text.is_empty() {
        return Err(Error::bad_request("keytab: it is empty"));
    }
    Ok(Secret::new(std::mem::take(&mut *text)))
}

fn decode(keytab: &Secret) -> Result<Zeroizing<Vec<u8>>> {
    use base64::DecodeError::{InvalidByte, InvalidLastSymbol};
    BASE64
        .decode(keytab.expose())
        .map(Zeroizing::new)
        .map_err(|error| {
            // Which character is wrong says where; the character itself would be a part of the secret.
            Error::bad_request(match error {
                InvalidByte(at, _) | InvalidLastSymbol(at, _) => {
                    format!("keytab: it is not base64 (at character {})", at + 1)
                }
                _ => "keytab: it is not base64 (its length is wrong: was it cut off?)".to_owned(),
            })
        })
}

fn checked_account(sent: &str) -> Result<String> {
    match ServiceAccount::parse(sent) {
        Ok(_) if sent.len() <= MAX_ACCOUNT_BYTES => Ok(sent.to_owned()),
        Ok(_) => Err(Error::bad_request(format!(
            "service_account: it has more than {MAX_ACCOUNT_BYTES} bytes"
        ))),
        Err(error) => Err(Error::bad_request(format!(
            "service_account: it is no Kerberos name such as vault_svc or HTTP/vault.example.com: {error}"
        ))),
    }
}

/// In our own words where the error would repeat what was sent. Names of principals in the keytab are
/// told: the operator needs them, and they are no secret.
fn explain(error: &KeytabError) -> String {
    match error {
        KeytabError::NotAKeytab { .. } => {
            "keytab: this is no keytab: one starts with the bytes 05 02 (was it encoded in base64 twice?)"
                .to_owned()
        }
        KeytabError::NoSuchAccount {
            present,
            instances_removed,
            ..
        } => {
            let removed = if *instances_removed {
                " (compared without instances)"
            } else {
                ""
            };
            format!("keytab: it has no entry for the service account{removed}; it holds: {present}")
        }
        KeytabError::BadAccount { reason, .. } => {
            format!("service_account: it is no Kerberos name: {reason}")
        }
        KeytabError::NoUsableEnctype { enctypes, .. } => format!(
            "keytab: it has only keys of type {enctypes} for the service account, which are not accepted any more; export one with AES keys"
        ),
        other => format!("keytab: {other}"),
    }
}

fn expose<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

const MAX_ACCOUNT_BYTES: usize = 512;
