//! `enctype-downgrade`: a ticket under a key type that the keytab does not have is not accepted, and a keytab of
//! retired types alone is not taken.

use obol_testbed::keytab::{AES256_CTS_HMAC_SHA1_96, ARCFOUR_HMAC};
use obol_testbed::realm::HTTP_SERVICE;
use obol_testbed::{Keytab, MitOptions, Realm, RealmOptions};
use obol_tests::kerberos::{self, config_with_keytab, login_with, negotiate};
use obol_tests::{Server, ServerOptions};
use serde_json::json;

#[test]
fn enctype_downgrade_a_ticket_under_rc4_is_refused_where_the_keytab_has_aes_only() {
    let mut mit = MitOptions::default();
    mit.supported_enctypes
        .push("arcfour-hmac:normal".to_owned());
    mit.libdefaults
        .push(("allow_weak_crypto".to_owned(), "true".to_owned()));
    let realm = Realm::start(RealmOptions {
        mit,
        ..RealmOptions::default()
    })
    .unwrap();
    let server = Server::ready(ServerOptions::default());
    kerberos::set_up(&server, &realm);
    let root = server.root();
    let aes = realm
        .kdc
        .keytab_with_enctypes(&[HTTP_SERVICE], &[AES256_CTS_HMAC_SHA1_96])
        .unwrap();
    kerberos::accepted(root.post("auth/kerberos/config", config_with_keytab(&aes)));
    login_with(&server, &negotiate(&realm, &realm.kinit("grace").unwrap())).expect(200);

    // Somebody makes the KDC seal tickets with RC4; the service's keytab was made for AES.
    let kvno = realm
        .kdc
        .change_enctypes(HTTP_SERVICE, &["arcfour-hmac"])
        .unwrap();
    let rc4 = Keytab::parse(&realm.kdc.keytab(&[HTTP_SERVICE]).unwrap()).unwrap();
    assert!(
        rc4.entries
            .iter()
            .any(|entry| entry.enctype == ARCFOUR_HMAC && entry.kvno == kvno)
    );
    let from = server.log().len();
    let reply = login_with(&server, &negotiate(&realm, &realm.kinit("grace").unwrap())).expect(401);
    assert!(
        reply.errors()[0].contains("the ticket was not accepted"),
        "{:?}",
        reply.errors()
    );
    let log = server.await_log(from, "refused");
    assert!(
        log.contains("arcfour") || log.contains("RC4") || log.contains(&format!("kvno {kvno}")),
        "{log}"
    );
}

#[test]
fn enctype_downgrade_a_keytab_of_retired_types_alone_is_not_taken() {
    let realm = obol_tests::realm();
    let mut keytab = Keytab::parse(realm.keytab()).unwrap();
    for entry in &mut keytab.entries {
        entry.enctype = DES_CBC_MD5;
        entry.key.truncate(8);
    }
    let server = Server::ready(ServerOptions::default());
    let root = server.root();
    root.post("sys/auth/kerberos", json!({"type": "kerberos"}))
        .expect(204);
    let reply = root
        .post(
            "auth/kerberos/config",
            config_with_keytab(&keytab.to_bytes()),
        )
        .expect(400);
    assert!(reply.errors()[0].contains("AES"), "{:?}", reply.errors());
}

const DES_CBC_MD5: u16 = 3;
