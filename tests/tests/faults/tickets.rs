//! Tokens that are good for something else: used before, no Kerberos, of another realm.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_testbed::MitRealm;
use obol_testbed::mit::MitOptions;
use obol_tests::kerberos::{
    accepted, config_payload, ldap_payload, negotiate, own_realm, set_up, with,
};
use obol_tests::{ServerOptions, realm, ticket};
use serde_json::json;

use super::story::{Method, NO_COMMANDS, Site, ad, ad_account, ad_ldap, config, mit};

const KLIST: [&str; 2] = ["klist get HTTP/", "kvno HTTP/"];

#[test]
fn replay() {
    let method = mit().method("replay", &config_payload(realm()), &ldap_payload(realm()));
    let header = mit().header(&ticket("grace"), "localhost");
    let shown = json!({"authorization": header});
    method.diagnose(shown.clone()).passes("client ticket");
    method.login(&header).expect(200);
    let cause = "was used for a login before";
    method.refuses(
        &header,
        401,
        &[cause],
        "a client that retries must make a new token",
    );
    method
        .diagnose(shown)
        .fails(
            "client ticket",
            &[cause],
            "must make a new token",
            NO_COMMANDS,
        )
        .in_short(&["client ticket", cause]);
}

#[test]
fn ntlm() {
    let type_1 = b"NTLMSSP\0\x01\0\0\0\x97\x82\x08\xe2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0a\0\x63\x45\0\0\0\x0f";
    let header = format!("Negotiate {}", STANDARD.encode(type_1));
    let mend = "check that it is in the domain, that the URL's host has an SPN";
    for (site, name) in [(&mit().server, "ntlm"), (&ad().server, "ntlm")] {
        obol_tests::kerberos::enable(
            &site.root(),
            name,
            &config_payload(realm()),
            &ldap_payload(realm()),
        );
        let method = Method { server: site, name };
        method.refuses(&header, 401, &["the client sent NTLM"], mend);
        assert_eq!(method.login(&header).header("www-authenticate"), None);
        method.diagnose(json!({"authorization": header})).fails(
            "client ticket",
            &["NTLM"],
            mend,
            KLIST,
        );
    }
    mit()
        .method("ntlm-2", &config_payload(realm()), &ldap_payload(realm()))
        .diagnose(json!({"authorization": header}))
        .in_short(&["client ticket: the client sent NTLM", mend]);
}

#[test]
fn a_user_of_another_realm_until_it_is_allowed() {
    let other = MitRealm::start(MitOptions::realm("OTHER.REALM")).unwrap();
    other.add_principal("grace", "the other grace").unwrap();
    let site = Site::new(own_realm(), ServerOptions::default());
    let realm = &site.realm;
    realm.kdc.trust(&other).unwrap();
    set_up(&site.server, realm);
    let method = Method {
        server: &site.server,
        name: "kerberos",
    };
    let foreign = realm
        .kdc
        .kinit("grace@OTHER.REALM", "the other grace")
        .unwrap();
    let header = site.header(&foreign, "localhost");
    let cause = "grace@OTHER.REALM is of a realm that the keytab has no keys of";
    let mend = "name the realm in allowed_realms of config";
    method.refuses(&header, 400, &[cause], mend);
    method
        .diagnose(json!({"authorization": header}))
        .passes("client ticket")
        .fails("user", &[cause], mend, NO_COMMANDS)
        .in_short(&["user", cause, mend]);

    // Allowed, it is still nobody whom the directory knows: never this realm's grace.
    let allowed = json!({"allowed_realms": "OTHER.REALM"});
    accepted(site.server.root().post("auth/kerberos/config", allowed));
    let header = site.header(&foreign, "localhost");
    method.refuses(
        &header,
        403,
        &["grace@OTHER.REALM", "found nothing"],
        "check userdn, userattr",
    );
    method
        .diagnose(json!({"authorization": header}))
        .fails(
            "user entry",
            &["grace@OTHER.REALM"],
            "check userdn, userattr",
            NO_COMMANDS,
        )
        .in_short(&["user entry", "grace@OTHER.REALM"]);
    realm
        .ldap
        .add_user("grace@OTHER.REALM", "any-password")
        .unwrap();
    method
        .login(&site.header(&foreign, "localhost"))
        .expect(200);
}

#[test]
fn a_ticket_that_another_realm_issued() {
    let stranger = own_realm_named("STRANGE.REALM");
    let tickets = stranger.kdc.kinit("grace", "grace-password").unwrap();
    let header = negotiate(&stranger, &tickets);
    let method = mit().method("strange", &config_payload(realm()), &ldap_payload(realm()));
    let cause = [
        "was issued by realm STRANGE.REALM",
        "the keytab holds keys of EXAMPLE.COM",
    ];
    let mend = "export a keytab from the realm that issues the tickets";
    method.refuses(&header, 401, &cause, mend);
    method
        .diagnose(json!({"authorization": header}))
        .passes("service ticket")
        .fails(
            "client ticket",
            &cause,
            mend,
            ["ktpass -princ HTTP/localhost@", "ktadd"],
        )
        .in_short(&["client ticket", "STRANGE.REALM"]);
}

fn own_realm_named(name: &str) -> obol_testbed::Realm {
    obol_testbed::Realm::start(obol_testbed::RealmOptions {
        mit: MitOptions::realm(name),
        ..obol_testbed::RealmOptions::default()
    })
    .unwrap()
}

#[test]
fn upndomain_in_the_wrong_case() {
    let lower = with(ldap_payload(realm()), json!({"upndomain": "example.com"}));
    let method = mit().method("upn", &config_payload(realm()), &lower);
    let cause = "is of realm EXAMPLE.COM, and upndomain is spelled example.com";
    let mend = "spell upndomain in config/ldap as the realm is spelled";
    let header = mit().header(&ticket("grace"), "localhost");
    method.refuses(&header, 400, &[cause], mend);
    method
        .diagnose(json!({"authorization": header}))
        .passes("client ticket")
        .fails("user", &[cause], mend, NO_COMMANDS)
        .in_short(&["user", cause, mend]);
}

#[test]
fn upndomain_in_the_wrong_case_in_a_domain() {
    let site = ad();
    let ad = &site.realm;
    ad_account(ad, "svc-upn", &["HTTP/upn.test"]);
    let config = config(&ad.keytab("svc-upn").unwrap(), "svc-upn");
    let lower = with(
        ad_ldap(ad, "svc-upn"),
        json!({"upndomain": "ad.example.com"}),
    );
    let method = site.method("upn", &config, &lower);
    let header = site.header(&ad.kinit_as("grace").unwrap(), "upn.test");
    let cause = "is of realm AD.EXAMPLE.COM, and upndomain is spelled ad.example.com";
    method.refuses(&header, 400, &[cause], "case counts");
    method
        .diagnose(json!({"service": "HTTP/upn.test", "authorization": header}))
        .fails("user", &[cause], "case counts", NO_COMMANDS)
        .in_short(&["user", cause]);
}
