//! Keytabs whose keys are not those that tickets are sealed with.

use obol_testbed::keytab::{AES128_CTS_HMAC_SHA1_96, AES256_CTS_HMAC_SHA1_96};
use obol_testbed::{KeepOldKeys, Keytab};
use obol_tests::kerberos::{ldap_payload, with};
use obol_tests::ticket;
use serde_json::json;

use super::story::{ad, ad_account, ad_ldap, config, mit, mit_service};

const KTADD: [&str; 2] = ["ktpass -princ ", "ktadd -k vault.keytab "];

#[test]
fn kvno_mismatch_in_a_realm() {
    let kdc = &mit().realm.kdc;
    let spn = mit_service("kvno.test");
    let old = kdc.keytab(&[&spn]).unwrap();
    let kvno = kdc.change_key(&spn, KeepOldKeys::No).unwrap();
    let method = mit().method("kvno", &config(&old, &spn), &ldap_payload(mit().realm));
    let header = mit().header(&ticket("grace"), "kvno.test");
    let differ = [
        &*format!("encrypted with kvno {kvno}"),
        "the keytab holds kvno 1",
    ];
    method.refuses(&header, 401, &differ, "export a new keytab");
    method
        .diagnose(json!({"service": spn, "authorization": header}))
        .fails(
            "kdc",
            &["the password"],
            "export a new keytab",
            ["-mapuser ACCOUNT", "ktadd -k vault.keytab HTTP/kvno.test\""],
        )
        .fails("client ticket", &differ, "export a new keytab", KTADD)
        .in_short(&["export a new keytab"]);
}

#[test]
fn kvno_mismatch_in_a_domain() {
    let ad = &ad().realm;
    ad_account(ad, "svc-kvno", &["HTTP/kvno.test"]);
    let old = ad.keytab("svc-kvno").unwrap();
    let held = format!("the keytab holds kvno {}", ad.kvno("svc-kvno").unwrap());
    let kvno = ad.set_password("svc-kvno", "another-Password-2").unwrap();
    let site = super::story::ad();
    let method = site.method("kvno", &config(&old, "svc-kvno"), &ad_ldap(ad, "svc-kvno"));
    let header = site.header(&ad.kinit_as("grace").unwrap(), "kvno.test");
    let differ = [&*format!("encrypted with kvno {kvno}"), &held];
    method.refuses(&header, 401, &differ, "export a new keytab");
    method
        .diagnose(json!({"service": "HTTP/kvno.test", "authorization": header}))
        .fails(
            "kdc",
            &["svc-kvno"],
            "export a new keytab",
            [
                &format!("-princ svc-kvno@{} -mapuser svc-kvno ", ad.realm()),
                "ktadd -k vault.keytab svc-kvno\"",
            ],
        )
        .fails("client ticket", &differ, "export a new keytab", KTADD)
        .passes("spn owner")
        .in_short(&["kdc", "export a new keytab"]);
}

#[test]
fn kvno_mismatch_of_a_keytab_that_was_given_a_number() {
    let spn = mit_service("number.test");
    let keytab = mit().realm.kdc.keytab(&[&spn]).unwrap();
    let renumbered = Keytab::parse(&keytab).unwrap().with_kvno(77).to_bytes();
    let ldap = ldap_payload(mit().realm);
    let method = mit().method("number", &config(&renumbered, &spn), &ldap);
    method.diagnose(json!({"service": spn})).warns(
        "service ticket",
        &["kvno 1", "the keytab opens it, with a key of another"],
        "without stating the version",
        ["", ""],
    );
    let method = mit().method("number-right", &config(&keytab, &spn), &ldap);
    method
        .diagnose(json!({"service": spn}))
        .passes("service ticket");
}

#[test]
fn kvno_mismatch_of_a_client_that_keeps_an_old_ticket() {
    let kdc = &mit().realm.kdc;
    let spn = mit_service("old-ticket.test");
    let tickets = ticket("grace");
    kdc.service_ticket(&tickets, &spn).unwrap();
    let kvno = kdc.change_key(&spn, KeepOldKeys::No).unwrap();
    let keytab = kdc.keytab(&[&spn]).unwrap();
    let method = mit().method(
        "old-ticket",
        &config(&keytab, &spn),
        &ldap_payload(mit().realm),
    );
    let header = mit().header(&tickets, "old-ticket.test");
    let held = format!("the keytab holds kvno {kvno}");
    method.refuses(
        &header,
        401,
        &["encrypted with kvno 1", &held],
        "klist purge",
    );
    method
        .diagnose(json!({"service": spn, "authorization": header}))
        .passes("service ticket")
        .fails(
            "client ticket",
            &[&held],
            "fetch new tickets",
            ["klist purge", "kdestroy"],
        )
        .in_short(&["client ticket"]);
}

#[test]
fn right_kvno_with_wrong_key_in_a_realm() {
    let kdc = &mit().realm.kdc;
    let spn = mit_service("wrong-key.test");
    let keytab = Keytab::parse(&kdc.keytab(&[&spn]).unwrap())
        .unwrap()
        .with_wrong_keys();
    let config = config(&keytab.to_bytes(), &spn);
    let method = mit().method("wrong-key", &config, &ldap_payload(mit().realm));
    let header = mit().header(&ticket("grace"), "wrong-key.test");
    let cause = [
        "no key opens the ticket for HTTP/wrong-key.test",
        "has that version and type",
    ];
    method.refuses(&header, 401, &cause, "export a new keytab");
    method
        .diagnose(json!({"service": spn, "authorization": header}))
        .fails(
            "kdc",
            &["HTTP/wrong-key.test"],
            "export a new keytab",
            KTADD,
        )
        .fails(
            "client ticket",
            &cause,
            "export a new keytab",
            ["setspn -Q", "getprinc"],
        )
        .in_short(&["kdc", "export a new keytab"]);
}

#[test]
fn right_kvno_with_the_key_of_another_account_in_a_domain() {
    let site = ad();
    let ad = &site.realm;
    // Two accounts at the same key version; the SPN is on the one, the keytab of the other.
    ad_account(ad, "svc-owner", &["HTTP/other-owner.test"]);
    ad_account(ad, "svc-holder", &[]);
    let keytab = ad.keytab("svc-holder").unwrap();
    let method = site.method(
        "other-owner",
        &config(&keytab, "svc-holder"),
        &ad_ldap(ad, "svc-holder"),
    );
    let header = site.header(&ad.kinit_as("grace").unwrap(), "other-owner.test");
    let cause = [
        "no key opens the ticket for HTTP/other-owner.test",
        "(of svc-holder@",
    ];
    method.refuses(&header, 401, &cause, "the SPN belongs to another account");
    method
        .diagnose(json!({"service": "HTTP/other-owner.test", "authorization": header}))
        .passes("kdc")
        .fails(
            "service ticket",
            &cause,
            "another account",
            ["setspn -Q HTTP/other-owner.test", "getprinc"],
        )
        .fails(
            "spn owner",
            &["belongs to svc-owner"],
            "move the SPN",
            ["setspn -Q", "getprinc"],
        )
        .in_short(&["svc-owner"]);
}

#[test]
fn enctype_not_in_the_keytab_in_a_realm() {
    let kdc = &mit().realm.kdc;
    let spn = mit_service("enctype.test");
    let aes128 = kdc
        .keytab_with_enctypes(&[&spn], &[AES128_CTS_HMAC_SHA1_96])
        .unwrap();
    let method = mit().method(
        "enctype",
        &config(&aes128, &spn),
        &ldap_payload(mit().realm),
    );
    let header = mit().header(&ticket("grace"), "enctype.test");
    let cause = [
        "encrypted with aes256-cts-hmac-sha1-96",
        "holds only aes128-cts-hmac-sha1-96",
    ];
    let mend = "export a keytab with all of the account's encryption types";
    method.refuses(&header, 401, &cause, mend);
    method
        .diagnose(json!({"service": spn, "authorization": header}))
        .passes("kdc")
        .fails("service ticket", &cause, mend, KTADD)
        .fails("client ticket", &cause, mend, KTADD)
        .in_short(&["service ticket", "aes256", mend]);
}

#[test]
fn enctype_not_in_the_keytab_in_a_domain() {
    let site = ad();
    let ad = &site.realm;
    ad_account(ad, "svc-enctype", &["HTTP/enctype.test"]);
    let aes128 = ad
        .keytab_with_enctypes("svc-enctype", &[AES128_CTS_HMAC_SHA1_96])
        .unwrap();
    let method = site.method(
        "enctype",
        &config(&aes128, "svc-enctype"),
        &ad_ldap(ad, "svc-enctype"),
    );
    let header = site.header(&ad.kinit_as("grace").unwrap(), "enctype.test");
    let cause = [
        "encrypted with aes256-cts-hmac-sha1-96",
        "holds only aes128-cts-hmac-sha1-96",
    ];
    let mend = "export a keytab with all of the account's encryption types";
    method.refuses(&header, 401, &cause, mend);
    method
        .diagnose(json!({"service": "HTTP/enctype.test", "authorization": header}))
        .fails(
            "kdc",
            &["no key of the type that the KDC asks for"],
            mend,
            KTADD,
        )
        .fails("client ticket", &cause, mend, KTADD)
        .in_short(&["kdc", mend]);
}

#[test]
fn an_rc4_ticket_where_aes_is_required() {
    let site = ad();
    let ad = &site.realm;
    ad_account(ad, "svc-rc4", &["HTTP/rc4.test"]);
    // As administrators leave it: the KDC then takes RC4 for the account's services.
    ad.set_enctypes("svc-rc4", &[]).unwrap();
    let keytab = ad.keytab("svc-rc4").unwrap();
    let strict = with(
        config(&keytab, "svc-rc4"),
        json!({"allowed_enctypes": "aes256-cts-hmac-sha1-96,aes128-cts-hmac-sha1-96"}),
    );
    let method = site.method("rc4", &strict, &ad_ldap(ad, "svc-rc4"));
    let header = site.header(&ad.kinit_as("grace").unwrap(), "rc4.test");
    let cause = [
        "its ticket is of type arcfour-hmac",
        "allows aes256-cts-hmac-sha1-96",
    ];
    let mend = "enable AES for the service account";
    method.refuses(&header, 401, &cause, mend);
    let aes = [
        "Set-ADUser svc-rc4 -KerberosEncryptionType AES",
        "cpw -randkey -e aes256",
    ];
    method
        .diagnose(json!({"service": "HTTP/rc4.test", "authorization": header}))
        .fails("service ticket", &cause, mend, aes)
        .fails("client ticket", &cause, mend, aes)
        .in_short(&["service ticket", "arcfour-hmac", mend]);
    // Mended as it says, with the same keytab: its AES keys were there.
    ad.set_enctypes("svc-rc4", &[AES256_CTS_HMAC_SHA1_96])
        .unwrap();
    let header = site.header(&ad.kinit_as("grace").unwrap(), "rc4.test");
    method.login(&header).expect(200);
    method
        .diagnose(json!({"service": "HTTP/rc4.test"}))
        .passes("service ticket")
        .works();
}
