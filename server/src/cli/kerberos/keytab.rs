//! `kerberos keytab inspect`: what a keytab holds and what of it will not work, without any key.

use std::collections::BTreeMap;
use std::path::Path;

use obol_kerberos::{Keytab, KeytabEntry, MAX_KEYTAB_BYTES};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zeroize::Zeroizing;

use crate::cli::failure::{Failure, Outcome, SUCCESS, file_failure};
use crate::cli::output::{Format, FormatFlag, table};
use crate::cli::{Command, Example, Session};

/// Show what a keytab holds, and what of it will not work; never a key
///
/// The file is read on this computer and sent nowhere. With -service-account it is also checked whether
/// auth/kerberos/config would take it for that account; the exit status is 1 when it would not.
#[derive(clap::Args)]
pub(in crate::cli) struct Inspect {
    /// The keytab, or - for standard input
    #[arg(value_name = "FILE")]
    file: String,
    /// The account whose keys are wanted: vault_svc, HTTP/vault.example.com, each with or without @REALM
    #[arg(long, value_name = "NAME")]
    service_account: Option<String>,
    /// With -service-account: compare without the instance, as remove_instance_name=true has it
    #[arg(long)]
    remove_instance_name: bool,
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for Inspect {
    const NAME: &'static str = "kerberos keytab inspect";
    const EXAMPLES: &'static [Example] = &[
        (
            "Principals, key versions and encryption types",
            "obol kerberos keytab inspect vault.keytab",
        ),
        (
            "Will it do for this account?",
            "obol kerberos keytab inspect -service-account=vault_svc vault.keytab",
        ),
        (
            "From another program, for a script",
            "obol kerberos keytab inspect -format=json - < vault.keytab",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        if self.remove_instance_name && self.service_account.is_none() {
            return Err(Failure::local(
                "-remove-instance-name goes with -service-account",
            ));
        }
        let bytes = self.read(session)?;
        let keytab = Keytab::parse(&bytes).map_err(|error| {
            let failure = Failure::local(format!("{}: {error}", self.name()));
            if looks_like_base64(&bytes) {
                failure
                    .hint("It looks like base64: base64 -d FILE | obol kerberos keytab inspect -")
            } else {
                failure
            }
        })?;
        let entries = keytab.entries();
        let mut warnings = warnings(entries);
        let refused = self.service_account.as_deref().and_then(|account| {
            keytab
                .for_service_account(account, self.remove_instance_name)
                .err()
        });
        if let Some(error) = &refused {
            warnings.insert(0, error.to_string());
        }
        if format == Format::Table {
            session.line(&table(rows(entries)))?;
            for warning in &warnings {
                session.note(&format!("\nWARNING! {warning}"));
            }
        } else {
            let entries: Vec<Value> = entries.iter().map(as_json).collect();
            let all = json!({ "entries": entries, "warnings": warnings });
            session.print_value(format, &all)?;
        }
        match refused {
            None => Ok(SUCCESS),
            // The warning has said it.
            Some(_) => Err(Failure::quiet(crate::cli::failure::LOCAL)),
        }
    }
}

impl Inspect {
    fn read(&self, session: &mut Session<'_>) -> Result<Zeroizing<Vec<u8>>, Failure> {
        use std::io::Read;

        // One byte more than a keytab may have: the parser says that it is too large.
        let limit = MAX_KEYTAB_BYTES as u64 + 1;
        // Room for all of it, so that no key stays behind in an outgrown buffer.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_KEYTAB_BYTES + 64));
        let read = if self.file == "-" {
            (&mut session.stdin).take(limit).read_to_end(&mut bytes)
        } else {
            std::fs::File::open(Path::new(&self.file))
                .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        };
        read.map_err(|error| file_failure("read", self.name(), &error))?;
        Ok(bytes)
    }

    fn name(&self) -> &str {
        if self.file == "-" {
            "standard input"
        } else {
            &self.file
        }
    }
}

fn rows(entries: &[KeytabEntry]) -> Vec<Vec<String>> {
    let header = ["Principal", "Kvno", "Enctype", "Written", "Remark"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(entries.iter().map(|entry| {
        vec![
            entry.principal().to_string(),
            entry.kvno().to_string(),
            entry.enctype().to_string(),
            written(entry.timestamp()).unwrap_or_else(|| "n/a".to_owned()),
            remark(entry).unwrap_or_default().to_owned(),
        ]
    }));
    rows
}

fn as_json(entry: &KeytabEntry) -> Value {
    json!({
        "principal": entry.principal().to_string(),
        "kvno": entry.kvno(),
        "enctype": entry.enctype().to_string(),
        "enctype_number": entry.enctype().number(),
        "timestamp": written(entry.timestamp()),
        "warning": remark(entry),
    })
}

/// When the entry was written; ktpass writes no time.
fn written(timestamp: u32) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp(i64::from(timestamp)).ok()?;
    (timestamp != 0).then(|| time.format(&Rfc3339).ok())?
}

fn remark(entry: &KeytabEntry) -> Option<&'static str> {
    let enctype = entry.enctype();
    if !enctype.is_usable() {
        Some("retired: tickets of this type are not accepted")
    } else if enctype.is_weak() {
        Some("weak: replace it with AES")
    } else {
        None
    }
}

/// What will not work, or not for long, over all entries.
fn warnings(entries: &[KeytabEntry]) -> Vec<String> {
    let mut by_principal: BTreeMap<String, Vec<&KeytabEntry>> = BTreeMap::new();
    for entry in entries {
        by_principal
            .entry(entry.principal().to_string())
            .or_default()
            .push(entry);
    }
    let mut warnings = Vec::new();
    for (principal, entries) in &by_principal {
        let newest = entries.iter().map(|entry| entry.kvno()).max().unwrap_or(0);
        let of_newest = || entries.iter().filter(|entry| entry.kvno() == newest);
        if !of_newest().any(|entry| entry.enctype().is_usable()) {
            warnings.push(format!(
                "No key of {principal} in its newest version {newest} is of a type that is still accepted. Export \
                 it again with AES: ktpass /crypto AES256-SHA1, or kadmin ktadd -e aes256-cts:normal"
            ));
        } else if !of_newest().any(|entry| !entry.enctype().is_weak()) {
            warnings.push(format!(
                "{principal} has no AES key in its newest version {newest}: every ticket for it is RC4. In Active \
                 Directory set msDS-SupportedEncryptionTypes to 24 (AES), change the account's password, then \
                 export the keytab again"
            ));
        }
        for (index, entry) in entries.iter().enumerate() {
            let contradicts = |other: &&&KeytabEntry| {
                other.kvno() == entry.kvno()
                    && other.enctype() == entry.enctype()
                    && other.key() != entry.key()
            };
            if entries[..index].iter().any(|other| contradicts(&other)) {
                warnings.push(format!(
                    "{principal} has two different keys of version {} and type {}: at most one is right",
                    entry.kvno(),
                    entry.enctype()
                ));
            }
        }
    }
    for principal in entries_of_services(entries) {
        let instance = principal.instance().unwrap_or_default();
        if instance.contains(':') {
            warnings.push(format!(
                "{principal} names a port. Browsers and curl ask for the name without one, unless they are told otherwise"
            ));
        } else if !instance.contains('.') && instance != "localhost" {
            warnings.push(format!(
                "{principal} is a short name. It serves those alone who use {instance} in the address, without a domain"
            ));
        }
        if principal.primary() != "HTTP" {
            warnings.push(format!(
                "{principal} is not written HTTP in capitals, as clients ask for it; MIT Kerberos sees another name in it"
            ));
        }
    }
    warnings
}

/// The HTTP services among the names, each once.
fn entries_of_services(entries: &[KeytabEntry]) -> Vec<&obol_kerberos::Principal> {
    let mut found: Vec<&obol_kerberos::Principal> = Vec::new();
    for entry in entries {
        let principal = entry.principal();
        let is_http = principal.primary().eq_ignore_ascii_case("HTTP");
        if is_http && principal.instance().is_some() && !found.contains(&principal) {
            found.push(principal);
        }
    }
    found
}

/// Every byte of the alphabet, or a line break: a keytab has zeros in its first record.
/// What 05 02 and a length become, which is below 2^24 in every keytab.
fn looks_like_base64(bytes: &[u8]) -> bool {
    bytes.starts_with(b"BQIA")
}
