//! The steps about keys and tickets that need no network: what the keytab holds, and whether it opens a client's
//! ticket.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_kerberos::{
    AcceptError, Accepted, ChannelBindings, Enctype, Mismatch, PacState, TokenError,
    parse_authorization_header,
};
use obol_mount::{RequestInfo, Result, Secret};
use obol_storage::View;

use super::super::live::Service;
use super::super::login::{accept, replayed};
use super::super::replay;
use super::super::user::Refusal;
use super::commands::{self, Commands, Names};
use super::report::{Step, Steps};

/// What the keytab holds.
pub(super) fn keytab(steps: &mut Steps, service: &Service) {
    let keys = service.acceptor.keys();
    let mut versions: BTreeMap<String, BTreeMap<u32, Vec<Enctype>>> = BTreeMap::new();
    for key in keys {
        versions
            .entry(key.principal.to_string())
            .or_default()
            .entry(key.kvno)
            .or_default()
            .push(key.enctype);
    }
    let listed: Vec<String> = versions
        .iter()
        .flat_map(|(principal, versions)| {
            versions.iter().rev().map(move |(kvno, enctypes)| {
                let enctypes: Vec<String> = enctypes.iter().map(Enctype::to_string).collect();
                format!("{principal} kvno {kvno} ({})", enctypes.join(", "))
            })
        })
        .collect();
    let finding = format!("it holds {}", listed.join("; "));
    let names = names(service, "");
    let only_weak = versions.values().any(|versions| {
        versions
            .last_key_value()
            .is_some_and(|(_, enctypes)| enctypes.iter().all(|enctype| enctype.is_weak()))
    });
    match only_weak {
        false => steps.ok("keytab", finding),
        true => with(
            steps
                .warn(
                    "keytab",
                    format!("{finding}; the newest keys are RC4 or older alone"),
                )
                .mend("give the account AES keys and export the keytab again"),
            names.enable_aes(),
        ),
    };
}

/// Whether a client's own token would be accepted. Returns what it says when it would.
pub(super) async fn of_client(
    steps: &mut Steps,
    service: &Service,
    request: &RequestInfo,
    authorization: Option<&Secret>,
    proofs: &View,
) -> Result<Option<Accepted>> {
    let Some(sent) = authorization.filter(|sent| !sent.is_empty()) else {
        steps.skip(
            "client ticket",
            "no client's token was sent; `obol kerberos doctor` with a ticket sends one",
        );
        return Ok(None);
    };
    let text = sent.expose().trim();
    let token = match parse_authorization_header(text) {
        Ok(token) => token,
        Err(_) => {
            match STANDARD.decode(text) {
                Ok(token) => token,
                Err(error) => {
                    steps
                    .fail("client ticket", format!("authorization is no token: {error}"))
                    .mend("send `Negotiate` and the token in base64, as the client's header has it");
                    return Ok(None);
                }
            }
        }
    };
    let bindings = request
        .end_point
        .as_deref()
        .map(ChannelBindings::tls_server_end_point_hash);
    match accept(&service.acceptor, token, bindings).await {
        Ok(accepted)
            if replay::is_known(proofs, &accepted.authenticator_digest, request.now_unix())
                .await? =>
        {
            let Refusal { cause, mend } = replayed();
            steps.fail("client ticket", cause).mend(mend);
            Ok(Some(accepted))
        }
        Ok(accepted) => {
            let pac = match &accepted.pac {
                PacState::NotRead => String::new(),
                PacState::Absent => "; it has no PAC".to_owned(),
                PacState::Unverified => "; its PAC is not vouched for".to_owned(),
                PacState::Malformed(error) => format!("; its PAC cannot be read: {error}"),
                PacState::Verified(pac) => format!(
                    "; its PAC says {} in {} groups of {}",
                    pac.user_sid(),
                    pac.group_sids().len(),
                    pac.logon_domain_name
                ),
            };
            steps.ok(
                "client ticket",
                format!(
                    "accepted: {} for {} ({}){pac}",
                    accepted.client, accepted.ticket_service, accepted.ticket_enctype
                ),
            );
            Ok(Some(accepted))
        }
        Err(error) => {
            refused(steps, "client ticket", service, &error);
            Ok(None)
        }
    }
}

/// A step for a ticket that was not accepted.
pub(super) fn refused<'s>(
    steps: &'s mut Steps,
    name: &'static str,
    service: &Service,
    error: &AcceptError,
) -> &'s mut Step {
    let step = steps.fail(name, error.cause()).mend(error.mend());
    with(step, mend(service, error))
}

/// The commands for a ticket that was not accepted.
fn mend(service: &Service, error: &AcceptError) -> Commands {
    match error {
        AcceptError::NoMatchingKey { ticket, mismatch } => {
            let names = names(service, &ticket.service.components().join("/"));
            match mismatch {
                // Somebody else's key: who owns the SPN is the question.
                Mismatch::Key { .. } => names.find_spn(),
                Mismatch::Service { .. } => names.other_name(),
                Mismatch::Kvno { held }
                    if ticket
                        .kvno
                        .is_some_and(|kvno| held.iter().all(|held| *held > kvno)) =>
                {
                    commands::drop_tickets()
                }
                _ => names.new_keytab(),
            }
        }
        AcceptError::EnctypeNotAllowed { ticket, .. }
        | AcceptError::EnctypeNotPermitted { ticket } => {
            names(service, &ticket.service.components().join("/")).enable_aes()
        }
        AcceptError::ClockSkew { .. } | AcceptError::TicketNotYetValid { .. } => {
            commands::set_clock()
        }
        AcceptError::TicketExpired { .. } => commands::drop_tickets(),
        AcceptError::Token(TokenError::Ntlm | TokenError::OtherMechanism(_)) => Commands {
            windows: "klist get HTTP/HOST   (HOST as in the browser's address bar)".to_owned(),
            mit: "kvno HTTP/HOST".to_owned(),
        },
        _ => Commands::default(),
    }
}

/// Names for the commands; without an SPN the keytab's own, or a pattern.
pub(super) fn names(service: &Service, spn: &str) -> Names {
    let keys = service.acceptor.keys();
    let account = keys
        .iter()
        .map(|key| &key.principal)
        .find(|principal| principal.components().len() == 1)
        .or_else(|| keys.first().map(|key| &key.principal));
    let spn = match spn {
        "" => keys
            .iter()
            .map(|key| &key.principal)
            .find(|principal| principal.components().len() > 1)
            .map_or_else(
                || "HTTP/HOST".to_owned(),
                |principal| principal.components().join("/"),
            ),
        spn => spn.to_owned(),
    };
    match account {
        Some(account) => Names::new(account, &spn),
        None => Names {
            account: "ACCOUNT".to_owned(),
            principal: spn.clone(),
            spn,
            realm: "REALM".to_owned(),
        },
    }
}

/// Adds commands to a step.
pub(super) fn with(step: &mut Step, commands: Commands) -> &mut Step {
    step.windows(commands.windows).mit(commands.mit)
}
