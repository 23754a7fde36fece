//! The steps that ask the KDC and DNS: can the service account log in with its keytab, does the SPN exist, is the
//! ticket that clients get for it one that the keytab opens. The whole way of a client, walked by the server itself.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use dns_lookup::{AddrInfo, AddrInfoHints, getaddrinfo};
use obol_kerberos::{InitiateError, Initiator};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::super::live::Service;
use super::super::login::accept;
use super::commands::{self, Commands};
use super::report::{Step, Steps};
use super::ticket::{names, refused, with};

/// From the keytab to a ticket that opens.
pub(super) async fn check(steps: &mut Steps, service: &Service, spn: Option<&str>) {
    let spn = asked_spn(service, spn);
    if let Some(spn) = &spn {
        self::spn(steps, service, spn);
        dns(steps, spn).await;
    }
    let keys = service.keys().clone();
    let outcome = blocking(move || Initiator::from_keytab_bytes(&keys, None)).await;
    let initiator = match outcome {
        None => {
            steps
                .fail("kdc", "no KDC answered within 20 seconds")
                .mend("check the network and the KDC's address in krb5.conf or DNS");
            steps.skip("service ticket", "no KDC answers");
            return;
        }
        Some(Err(error)) => {
            initiate_failed(steps, "kdc", service, &error, spn.as_deref());
            steps.skip("service ticket", "the service account cannot log in");
            return;
        }
        Some(Ok(initiator)) => initiator,
    };
    steps.ok(
        "kdc",
        format!(
            "it answers, and {} logs in with the keytab",
            initiator.client()
        ),
    );
    let Some(spn) = spn else {
        steps
            .skip(
                "service ticket",
                "the keytab holds the account alone, so the SPN is not known here",
            )
            .mend("say which one clients use: service=HTTP/vault.example.com");
        return;
    };
    let asked = spn.clone();
    let negotiated = blocking(move || initiator.negotiate(&asked, None)).await;
    let token = match negotiated {
        None => {
            steps.fail("service ticket", "no KDC answered within 20 seconds");
            return;
        }
        Some(Err(error)) => {
            initiate_failed(steps, "service ticket", service, &error, Some(&spn));
            return;
        }
        Some(Ok((token, _))) => token,
    };
    let acceptor = match service.acceptor_without_bindings() {
        Ok(acceptor) => acceptor,
        Err(error) => {
            steps.fail("service ticket", format!("the keytab: {error}"));
            return;
        }
    };
    match accept(&acceptor, token, None).await {
        Ok(accepted) => {
            let kvno = accepted.ticket_kvno.unwrap_or_default();
            let finding = format!(
                "the KDC gives a ticket for {spn} (kvno {kvno}, {}), and the keytab opens it",
                accepted.ticket_enctype
            );
            let mut keys = acceptor.keys().iter();
            if kvno == 0 || keys.any(|key| key.is_of_version(kvno)) {
                steps.ok("service ticket", finding);
            } else {
                // Here any number will do; what else reads this keytab, and whoever compares numbers, is misled.
                steps
                    .warn(
                        "service ticket",
                        format!("{finding}, with a key of another version number"),
                    )
                    .mend("export the keytab again, without stating the version (/kvno of ktpass)");
            }
        }
        Err(error) => {
            refused(steps, "service ticket", service, &error);
        }
    }
}

/// The SPN's form, before anybody is asked.
fn spn(steps: &mut Steps, service: &Service, spn: &str) {
    let Some((class, host)) = spn.split_once('/') else {
        with(
            steps
                .warn("spn", format!("{spn} is no SPN"))
                .mend("write it as HTTP/host"),
            Commands::default(),
        );
        return;
    };
    let host = host.split('@').next().unwrap_or(host);
    if !class.eq_ignore_ascii_case("HTTP") {
        steps
            .warn("spn", format!("{spn}: browsers and curl ask for HTTP/host"))
            .mend("use an SPN of the class HTTP, for https as well");
    } else if let Some((name, port)) = host.rsplit_once(':') {
        with(
            steps
                .warn(
                    "spn",
                    format!("{spn} names the port {port}: browsers leave it out unless they are told otherwise, and so does curl"),
                )
                .mend(format!("register HTTP/{name} without the port")),
            names(service, &format!("HTTP/{name}")).register_spn(),
        );
    } else if host.parse::<IpAddr>().is_ok() {
        steps
            .warn(
                "spn",
                format!("{spn} is for an address: clients make no SPN of one"),
            )
            .mend("let clients use a name");
    } else if let Some(held) = held_with_port(service, spn) {
        with(
            steps
                .warn(
                    "spn",
                    format!("clients ask for {spn}, and the keytab holds {held}: a name with a port is another name"),
                )
                .mend(format!("register {spn} without the port, and export its keytab")),
            names(service, spn).register_spn(),
        );
    } else {
        steps.ok("spn", format!("clients ask for {spn}"));
    }
}

/// The name in the keytab that is the asked one with a port, where the keytab lacks that itself.
fn held_with_port(service: &Service, spn: &str) -> Option<String> {
    let spn = spn.split('@').next().unwrap_or(spn);
    let held: Vec<String> = service
        .acceptor
        .keys()
        .iter()
        .map(|key| key.principal.components().join("/"))
        .collect();
    if held.iter().any(|held| held.eq_ignore_ascii_case(spn)) {
        return None;
    }
    held.into_iter().find(|held| {
        held.rsplit_once(':')
            .is_some_and(|(name, _)| name.eq_ignore_ascii_case(spn))
    })
}

/// Names forward and back: clients with `rdns` make their SPN of the name that the address leads back to, and those
/// that follow an alias make it of the name behind it.
async fn dns(steps: &mut Steps, spn: &str) {
    let Some((_, host)) = spn.split_once('/') else {
        return;
    };
    let host = host.split(['@', ':']).next().unwrap_or(host).to_owned();
    if host.parse::<IpAddr>().is_ok() {
        return;
    }
    let asked = host.clone();
    match blocking(move || look_up(&asked)).await {
        None => steps.warn("dns", format!("no answer about {host} within 20 seconds")),
        Some(Err(error)) => steps
            .warn("dns", format!("this host cannot resolve {host}: {error}"))
            .mend("check the name; clients must resolve it too"),
        Some(Ok(found)) => named(steps, &host, &found),
    };
}

/// What this host's resolver knows of a name.
struct Resolved {
    addresses: Vec<IpAddr>,
    /// The name at the end of its aliases.
    canonical: Option<String>,
    /// The name that its first address leads back to.
    back: Option<String>,
}

fn look_up(host: &str) -> io::Result<Resolved> {
    let hints = AddrInfoHints {
        flags: libc::AI_CANONNAME,
        ..AddrInfoHints::default()
    };
    let found: Vec<AddrInfo> =
        getaddrinfo(Some(host), None, Some(hints))?.collect::<io::Result<_>>()?;
    let mut addresses: Vec<IpAddr> = found.iter().map(|found| found.sockaddr.ip()).collect();
    addresses.dedup();
    let back = addresses
        .first()
        .and_then(|address| dns_lookup::lookup_addr(address).ok());
    Ok(Resolved {
        canonical: found.into_iter().find_map(|found| found.canonname),
        addresses,
        back,
    })
}

/// Says whether clients may take another name for the host's.
fn named<'a>(steps: &'a mut Steps, host: &str, found: &Resolved) -> &'a mut Step {
    let listed: Vec<String> = found.addresses.iter().map(IpAddr::to_string).collect();
    let listed = listed.join(", ");
    let other = |name: &Option<String>| {
        let name = name.as_deref()?.trim_end_matches('.');
        (!name.eq_ignore_ascii_case(host) && name.parse::<IpAddr>().is_err())
            .then(|| name.to_owned())
    };
    if let Some(canonical) = other(&found.canonical) {
        return steps
            .warn("dns", format!("{host} is another name for {canonical} (an alias, CNAME in DNS): Chrome, Edge, and clients whose krb5.conf canonicalizes names, ask for HTTP/{canonical}"))
            .mend(format!("register HTTP/{canonical} too, or give {host} an address (A, AAAA) of its own in DNS, or tell clients not to follow aliases: DisableAuthNegotiateCnameLookup in Chrome and Edge, dns_canonicalize_hostname = false in krb5.conf"))
            .windows(format!("setspn -S HTTP/{canonical} ACCOUNT"))
            .mit("[libdefaults] dns_canonicalize_hostname = false");
    }
    match (other(&found.back), &found.back) {
        (Some(back), _) => steps
            .warn("dns", format!("{host} is {listed}, which leads back to {back}: clients whose krb5.conf has rdns, or canonicalize names, ask for HTTP/{back}"))
            .mend(format!("set rdns = false and dns_canonicalize_hostname = false in clients' krb5.conf, or register HTTP/{back} too"))
            .windows(format!("setspn -S HTTP/{back} ACCOUNT"))
            .mit("[libdefaults] rdns = false, dns_canonicalize_hostname = false"),
        (None, Some(back)) if back.parse::<IpAddr>().is_err() => {
            steps.ok("dns", format!("{host} is {listed}, which leads back to it"))
        }
        _ => steps.ok("dns", format!("{host} is {listed}; the address leads back to no name")),
    }
}

/// The SPN that was named, or else the first service of the keytab.
pub(super) fn asked_spn(service: &Service, named: Option<&str>) -> Option<String> {
    if let Some(spn) = named.map(str::trim).filter(|spn| !spn.is_empty()) {
        return Some(spn.to_owned());
    }
    service
        .acceptor
        .keys()
        .iter()
        .map(|key| key.principal.components())
        .find(|components| components.len() == 2)
        .map(|components| components.join("/"))
}

fn initiate_failed(
    steps: &mut Steps,
    name: &'static str,
    service: &Service,
    error: &InitiateError,
    spn: Option<&str>,
) {
    let names = names(service, spn.unwrap_or_default());
    let (mend, commands) = match error {
        InitiateError::UnknownService { spn } => (
            format!("register {spn} for the service account, on that account alone"),
            names.register_spn(),
        ),
        InitiateError::UnknownClient { client } if client.contains('/') => (
            "export a keytab that holds the account's own name too, or set service_account to it: in Active Directory a service's name does not log in unless it is the account's userPrincipalName"
                .to_owned(),
            names.new_keytab(),
        ),
        InitiateError::WrongPassword { .. } => (
            "export a new keytab: the account's password was changed since".to_owned(),
            names.new_keytab(),
        ),
        InitiateError::PasswordExpired { .. } => (
            "set the service account's password anew, so that it does not expire, and export the keytab".to_owned(),
            names.renew_password(),
        ),
        InitiateError::AccountDisabled { .. } => {
            ("enable the service account".to_owned(), names.enable_account())
        }
        InitiateError::NoPreauth { .. } => (
            "export a keytab with all of the account's encryption types".to_owned(),
            names.new_keytab(),
        ),
        InitiateError::NoCommonEnctype { .. } => (error.mend().to_owned(), names.enable_aes()),
        InitiateError::ClockSkew => (error.mend().to_owned(), commands::set_clock()),
        other => (other.mend().to_owned(), Commands::default()),
    };
    with(steps.fail(name, error.to_string()).mend(mend), commands);
}

/// Runs what blocks, and waits twenty seconds for it at most.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    timeout(Duration::from_secs(20), spawn_blocking(work))
        .await
        .ok()?
        .ok()
}
