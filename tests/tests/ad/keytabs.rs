//! Keytabs as they come from Windows, and what happens to them when passwords and encryption types change.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_testbed::keytab::{AES256_CTS_HMAC_SHA1_96, ARCFOUR_HMAC};
use obol_testbed::samba::people::{DISABLED, SERVICE_ACCOUNT};
use obol_tests::ad::{self, ad};
use obol_tests::kerberos::{accepted, login_at};
use obol_tests::server::Server;
use serde_json::json;

fn write_keytab(server: &Server, keytab: &[u8]) {
    let body = json!({"keytab": STANDARD.encode(keytab), "service_account": SERVICE_ACCOUNT});
    accepted(server.root().post("auth/kerberos/config", body));
}

#[test]
fn tickets_of_two_key_versions_log_in_through_a_password_rotation() {
    let ad = ad::own_ad();
    let server = ad::server(&ad);
    ad::set_up(&server, &ad, json!({"group_source": "pac"}), json!({}));
    let before = ad.kinit_as("grace").unwrap();
    let old = ad.service_ticket(&before, "HTTP/localhost").unwrap();
    login_at(&server, "kerberos", &ad::negotiate(&ad, &before)).expect(200);

    let new = ad
        .set_password(SERVICE_ACCOUNT, "rotated-Password-2")
        .unwrap();
    assert!(new > old, "{new} after {old}");
    let after = ad.kinit_as("grace").unwrap();
    // The keytab knows the old password alone.
    login_at(&server, "kerberos", &ad::negotiate(&ad, &after)).expect(401);
    write_keytab(&server, &ad.keytab_of_versions(SERVICE_ACCOUNT).unwrap());
    for tickets in [&before, &after] {
        login_at(&server, "kerberos", &ad::negotiate(&ad, tickets)).expect(200);
    }
    // Once the old tickets are gone, the old keys may go.
    write_keytab(&server, &ad.keytab(SERVICE_ACCOUNT).unwrap());
    login_at(&server, "kerberos", &ad::negotiate(&ad, &after)).expect(200);
}

#[test]
fn a_keytab_under_the_services_name_works_like_one_under_the_accounts() {
    let server = ad::server(ad());
    let keytab = ad().keytab_as(SERVICE_ACCOUNT, "HTTP/localhost").unwrap();
    // Such a keytab cannot log in by itself, so the directory is not asked with it.
    ad::set_up(
        &server,
        ad(),
        json!({
            "keytab": STANDARD.encode(keytab),
            "service_account": "HTTP/localhost",
            "group_source": "pac",
        }),
        json!({
            "bind_with_keytab": false,
            "binddn": ad().dn_of(SERVICE_ACCOUNT).unwrap(),
            "bindpass": obol_testbed::samba::people::SERVICE_PASSWORD,
        }),
    );
    ad::log_in(&server, ad(), "kerberos", "grace").expect(200);
}

#[test]
fn enctype_downgrade_an_rc4_ticket_is_refused_where_aes_is_required() {
    let ad = ad::own_ad();
    ad.set_enctypes(SERVICE_ACCOUNT, &[ARCFOUR_HMAC]).unwrap();
    let server = ad::server(&ad);
    ad::set_up(&server, &ad, json!({"group_source": "pac"}), json!({}));
    let tickets = ad.kinit_as("grace").unwrap();
    let config = "auth/kerberos/config";
    login_at(&server, "kerberos", &ad::negotiate(&ad, &tickets)).expect(200);
    let aes = json!({"allowed_enctypes": "aes256-cts-hmac-sha1-96,aes128-cts-hmac-sha1-96"});
    accepted(server.root().post(config, aes));
    login_at(&server, "kerberos", &ad::negotiate(&ad, &tickets)).expect(401);
    ad.set_enctypes(SERVICE_ACCOUNT, &[AES256_CTS_HMAC_SHA1_96])
        .unwrap();
    let tickets = ad.kinit_as("grace").unwrap();
    login_at(&server, "kerberos", &ad::negotiate(&ad, &tickets)).expect(200);
}

#[test]
fn group_gone_an_account_that_has_expired_keeps_neither_its_ticket_nor_its_renewals() {
    let ad = ad::own_ad();
    let server = ad::server(&ad);
    ad::set_up(&server, &ad, json!({}), json!({}));
    let grace = ad.kinit_as("grace").unwrap();
    let log_in = || login_at(&server, "kerberos", &ad::negotiate(&ad, &grace));
    let client = server.client().with_token(log_in().client_token());
    let expires = |file_time: u64| {
        let dn = ad.dn_of("grace").unwrap();
        let change = format!(
            "dn: {dn}\nchangetype: modify\nreplace: accountExpires\naccountExpires: {file_time}\n"
        );
        ad.modify_ldif(&change).unwrap();
    };
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    // Steps of 100 ns since 1601.
    let file_time = |unix: u64| (unix + 11_644_473_600) * 10_000_000;
    expires(file_time(now.as_secs() + 3600));
    log_in().expect(200);
    client.post("auth/token/renew-self", json!({})).expect(200);

    expires(file_time(now.as_secs() - 60));
    assert!(ad.kinit_as("grace").is_err());
    log_in().expect(403);
    assert!(server.log().contains("the account has expired"));
    client.post("auth/token/renew-self", json!({})).expect(400);
    let root = server.root();
    for source in ["ldap", "pac"] {
        root.post("auth/kerberos/config", json!({"group_source": source}));
        let body = json!({"service": "HTTP/localhost", "user": "grace"});
        let report = root.post("auth/kerberos/diagnose", body).expect(200).data();
        let steps = report["steps"].as_array().unwrap();
        let account = steps.iter().find(|step| step["name"] == "account").unwrap();
        assert_eq!(account["status"], "failed", "{account}");
        assert_eq!(report["ok"], false, "{report:#?}");
    }
}

#[test]
fn an_account_that_is_disabled_gets_no_ticket_and_keeps_none_of_its_renewals() {
    let ad = ad::own_ad();
    let server = ad::server(&ad);
    ad::set_up(&server, &ad, json!({}), json!({}));
    assert!(ad.kinit_as(DISABLED).is_err());
    let grace = ad.kinit_as("grace").unwrap();
    let login = login_at(&server, "kerberos", &ad::negotiate(&ad, &grace)).expect(200);
    let client = server.client().with_token(login.client_token());
    client.post("auth/token/renew-self", json!({})).expect(200);
    ad.disable("grace").unwrap();
    client.post("auth/token/renew-self", json!({})).expect(400);
    // The ticket is still good for hours; the directory's word counts.
    login_at(&server, "kerberos", &ad::negotiate(&ad, &grace)).expect(403);
    assert!(server.log().contains("the account is disabled"));
    ad.enable("grace").unwrap();
    login_at(&server, "kerberos", &ad::negotiate(&ad, &grace)).expect(200);
}
