//! A service account that may not do anything any more: its password has expired, or it is disabled.

use obol_tests::kerberos::{ldap_payload, with};
use obol_tests::{realm, ticket};
use serde_json::json;

use super::story::{ACCOUNT_PASSWORD, ad, ad_account, ad_ldap, config, mit, mit_service};

const RENEW: [&str; 2] = ["-PasswordNeverExpires", "modprinc -pwexpire never"];
const ENABLE: [&str; 2] = ["Enable-ADAccount ", "modprinc +allow_tix -unlock "];

#[test]
fn service_password_expired_in_a_domain() {
    let site = ad();
    let ad = &site.realm;
    ad_account(ad, "svc-expired", &["HTTP/expired.test"]);
    let config = config(&ad.keytab("svc-expired").unwrap(), "svc-expired");
    let by_password = ad_ldap(ad, "svc-expired");
    let by_keytab = with(
        by_password.clone(),
        json!({"bind_with_keytab": true, "binddn": "", "bindpass": ""}),
    );
    let by_password = site.method("expired", &config, &by_password);
    let by_keytab = site.method("expired-keytab", &config, &by_keytab);
    let grace = ad.kinit_as("grace").unwrap();
    ad.service_ticket(&grace, "HTTP/expired.test").unwrap();
    ad.expire_password("svc-expired").unwrap();

    // Clients' tickets open as before. It is the directory that the account may not enter.
    let header = site.header(&grace, "expired.test");
    let state = "the password must be changed first";
    by_password.refuses(
        &header,
        502,
        &["invalidCredentials (49)", state],
        "mend the service account",
    );
    by_password
        .diagnose(json!({"service": "HTTP/expired.test", "authorization": header}))
        .fails(
            "kdc",
            &["the password of svc-expired@AD.EXAMPLE.COM has expired"],
            "so that it does not expire",
            RENEW,
        )
        .passes("client ticket")
        .fails("ldap bind", &[state], "mend the service account", ["", ""])
        .in_short(&["kdc", "has expired", "export the keytab"]);
    let header = site.header(&grace, "expired.test");
    by_keytab.refuses(&header, 502, &["svc-expired", "expired"], "password");
    by_keytab
        .diagnose(json!({"service": "HTTP/expired.test"}))
        .fails("kdc", &["has expired"], "so that it does not expire", RENEW)
        .fails("ldap bind", &["expired"], "password", ["", ""]);
    // Set anew, and the keytab exported again.
    ad.set_password("svc-expired", "another-Password-2")
        .unwrap();
    let keytab = super::story::config(&ad.keytab("svc-expired").unwrap(), "svc-expired");
    obol_tests::kerberos::accepted(
        site.server
            .root()
            .post("auth/expired-keytab/config", keytab),
    );
    let grace = ad.kinit_as("grace").unwrap();
    by_keytab
        .login(&site.header(&grace, "expired.test"))
        .expect(200);
}

#[test]
fn service_password_expired_in_a_realm() {
    let kdc = &mit().realm.kdc;
    let spn = mit_service("expired.test");
    kdc.kadmin(&["modprinc", "-pwexpire", "2020-01-01", &spn])
        .unwrap();
    let keytab = kdc.keytab(&[&spn]).unwrap();
    let method = mit().method("expired", &config(&keytab, &spn), &ldap_payload(realm()));
    // Nobody who logs in notices: an MIT KDC gives tickets for it all the same.
    method
        .login(&mit().header(&ticket("grace"), "expired.test"))
        .expect(200);
    method
        .diagnose(json!({}))
        .fails(
            "kdc",
            &["the password of HTTP/expired.test", "has expired"],
            "password",
            RENEW,
        )
        .in_short(&["kdc", "has expired"]);
}

#[test]
fn service_account_disabled_in_a_domain() {
    let site = ad();
    let ad = &site.realm;
    ad_account(ad, "svc-disabled", &["HTTP/disabled.test"]);
    let config = config(&ad.keytab("svc-disabled").unwrap(), "svc-disabled");
    let method = site.method("disabled", &config, &ad_ldap(ad, "svc-disabled"));
    let grace = ad.kinit_as("grace").unwrap();
    ad.service_ticket(&grace, "HTTP/disabled.test").unwrap();
    ad.disable("svc-disabled").unwrap();

    let header = site.header(&grace, "disabled.test");
    let state = "the account is disabled";
    method.refuses(&header, 502, &[state], "mend the service account");
    let enable = ["Enable-ADAccount svc-disabled", ENABLE[1]];
    method
        .diagnose(json!({"service": "HTTP/disabled.test", "authorization": header}))
        .fails(
            "kdc",
            &["svc-disabled@AD.EXAMPLE.COM is locked, disabled"],
            "enable the service account",
            enable,
        )
        .passes("client ticket")
        .fails("ldap bind", &[state], "mend the service account", ["", ""])
        .in_short(&["kdc", "disabled", "enable the service account"]);
    ad.enable("svc-disabled").unwrap();
    assert_eq!(ad.password("svc-disabled").unwrap(), ACCOUNT_PASSWORD);
    method
        .login(&site.header(&grace, "disabled.test"))
        .expect(200);
    method
        .diagnose(json!({"service": "HTTP/disabled.test"}))
        .works();
}

#[test]
fn service_account_disabled_in_a_realm() {
    let kdc = &mit().realm.kdc;
    let spn = mit_service("disabled.test");
    let keytab = kdc.keytab(&[&spn]).unwrap();
    kdc.kadmin(&["modprinc", "-allow_tix", &spn]).unwrap();
    let method = mit().method("disabled", &config(&keytab, &spn), &ldap_payload(realm()));
    method
        .diagnose(json!({}))
        .fails(
            "kdc",
            &["HTTP/disabled.test@EXAMPLE.COM is locked, disabled"],
            "enable the service account",
            ENABLE,
        )
        .in_short(&["kdc", "disabled"]);
    let said = mit().doctor(
        &ticket("grace"),
        &["-mount=disabled", "-service=HTTP/disabled.test"],
    );
    assert!(said.expect(2).stdout.contains("FAIL  service ticket"));
}
