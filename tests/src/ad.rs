//! Logging in in an Active Directory: the domain that a test program shares, the method's configuration for it, and
//! its users' Negotiate headers. Nothing here has a bind password: the server binds with its keytab.

use std::process::Command;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_testbed::samba::people::SERVICE_ACCOUNT;
use obol_testbed::{AdOptions, CCache, SambaAd};
use serde_json::{Value, json};

use crate::http::Reply;
use crate::kerberos::{enable, login_at, map_group, negotiate_from, with_tickets};
use crate::server::{Server, ServerOptions, Storage};

/// A domain for all tests of a program that do not change it.
pub fn ad() -> &'static SambaAd {
    static AD: OnceLock<SambaAd> = OnceLock::new();
    AD.get_or_init(own_ad)
}

/// A domain to stop and change.
#[track_caller]
pub fn own_ad() -> SambaAd {
    SambaAd::start(AdOptions::default()).expect("a domain starts")
}

/// Body of `config`: a keytab of the account alone, as ktpass and msktutil make it.
pub fn config_payload(ad: &SambaAd) -> Value {
    let keytab = ad
        .keytab(SERVICE_ACCOUNT)
        .expect("the account has a keytab");
    json!({"keytab": STANDARD.encode(keytab), "service_account": SERVICE_ACCOUNT})
}

/// Body of `config/ldap`: LDAPS, bound with the keytab; nested groups by the in-chain filter.
pub fn ldap_payload(ad: &SambaAd) -> Value {
    json!({
        "url": ad.ldaps_url(),
        "certificate": ad.ca_pem(),
        "bind_with_keytab": true,
        "userdn": ad.user_dn(),
        "userattr": "sAMAccountName",
        "groupdn": ad.group_dn(),
        "groupattr": "cn",
        "groupfilter": IN_CHAIN,
    })
}

/// Groups that have the user as a member, through other groups as well (MS-ADTS 3.1.1.3.4.4.3).
pub const IN_CHAIN: &str = "(&(objectClass=group)(member:1.2.840.113556.1.4.1941:={{.UserDN}}))";

/// A server that knows the domain's KDC.
#[track_caller]
pub fn server(ad: &SambaAd) -> Server {
    server_with(ad, ServerOptions::default())
}

#[track_caller]
pub fn server_with(ad: &SambaAd, options: ServerOptions) -> Server {
    let storage = if cfg!(feature = "rocksdb") {
        Storage::RocksDb
    } else {
        Storage::Memory
    };
    Server::ready(ServerOptions {
        storage,
        env: ad.env(),
        ..options
    })
}

/// Enables the method at `auth/kerberos` with these changes to the payloads, and maps each of [`MAPPED`] to a policy
/// of its name.
#[track_caller]
pub fn set_up(server: &Server, ad: &SambaAd, config: Value, ldap: Value) {
    let root = server.root();
    enable(
        &root,
        "kerberos",
        &crate::kerberos::with(config_payload(ad), config),
        &crate::kerberos::with(ldap_payload(ad), ldap),
    );
    for group in MAPPED {
        let text = format!("path \"secret/data/{group}/*\" {{ capabilities = [\"read\"] }}");
        root.put(
            &format!("sys/policies/acl/{group}"),
            json!({ "policy": text }),
        )
        .expect(204);
        map_group(&root, group, group);
    }
}

/// Groups with a policy of their name. `grace` is an engineer, `joan` a scientist; both are in `all-hands` by `staff`.
pub const MAPPED: [&str; 6] = [
    "engineers",
    "scientists",
    "staff",
    "all-hands",
    "loop-a",
    "team-299",
];

/// A program in the domain, with these tickets and nothing of the caller's own settings.
pub fn command(ad: &SambaAd, tickets: &CCache, program: impl AsRef<std::ffi::OsStr>) -> Command {
    with_tickets(ad.command(program), tickets)
}

/// One fresh `Negotiate ...` header, made by curl for `HTTP/localhost`.
#[track_caller]
pub fn negotiate(ad: &SambaAd, tickets: &CCache) -> String {
    negotiate_from(command(ad, tickets, "curl"), 1).remove(0)
}

/// An account of the domain logs in at `auth/<mount>` with fresh tickets.
#[track_caller]
pub fn log_in(server: &Server, ad: &SambaAd, mount: &str, account: &str) -> Reply {
    let tickets = ad.kinit_as(account).expect("a user gets a ticket");
    login_at(server, mount, &negotiate(ad, &tickets))
}
