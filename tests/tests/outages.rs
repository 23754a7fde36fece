//! What a login leans on fails: the directory, the KDC, the clock, the keytab. Each time the client is told one plain
//! sentence, and the operator's log names the cause and what to do about it.
#![allow(clippy::unwrap_used)]

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use obol_testbed::keytab::{AES128_CTS_HMAC_SHA1_96, AES256_CTS_HMAC_SHA1_96};
use obol_testbed::realm::HTTP_SERVICE;
use obol_testbed::{KeepOldKeys, Keytab, PortLease, ShiftedClock};
use obol_tests::http::Reply;
use obol_tests::kerberos::{
    self, config_payload, config_with_keytab, ldap_payload, login_at, login_with, negotiate,
    negotiate_from, own_realm, with,
};
use obol_tests::{Server, ServerOptions, holds, realm, ticket};
use serde_json::{Value, json};

/// A server for tests that bring a mount of their own; the realm stays as it is.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(kerberos::kerberized)
}

/// The refusal of a login: the status, one sentence with the request's id for the client, and in the log under the
/// same id all of `words`.
#[track_caller]
fn explained(server: &Server, reply: &Reply, status: u16, words: &[&str]) {
    assert_eq!(reply.status, status, "{}", reply.text());
    assert!(reply.json().get("auth").is_none(), "{}", reply.text());
    let [sentence] = &reply.errors()[..] else {
        panic!("{}", reply.text())
    };
    for inside in [
        "ldap",
        "kvno",
        "keytab",
        "aes",
        "127.0.0.1",
        "EXAMPLE",
        "bind",
        "certificate",
        "\n",
    ] {
        assert!(
            !sentence.to_lowercase().contains(&inside.to_lowercase()),
            "the client is told too much: {sentence}"
        );
    }
    let (_, id) = sentence
        .split_once("(request ")
        .unwrap_or_else(|| panic!("no request id: {sentence}"));
    let id = id.trim_end_matches(')');
    let line = obol_tests::eventually("a line with the request's id in the log", || {
        server
            .log()
            .lines()
            .find(|line| line.contains(id) && line.contains("mend"))
            .map(str::to_owned)
    });
    for word in words {
        assert!(line.contains(word), "{word:?} is not in: {line}");
    }
}

/// Enables a mount of the shared server with this configuration, and logs grace in there.
fn attempt(mount: &str, config: &Value, ldap: &Value) -> Reply {
    kerberos::enable(&server().root(), mount, config, ldap);
    login_at(server(), mount, &negotiate(realm(), &ticket("grace")))
}

// --- the directory --------------------------------------------------------------------------------

#[test]
fn the_directory_is_down_and_comes_back() {
    let realm = own_realm();
    let server = Server::ready(ServerOptions::default());
    kerberos::set_up(&server, &realm);
    let tickets = realm.kinit("grace").unwrap();
    login_with(&server, &negotiate(&realm, &tickets)).expect(200);

    realm.ldap.stop().unwrap();
    let header = negotiate(&realm, &tickets);
    let reply = login_with(&server, &header);
    explained(
        &server,
        &reply,
        502,
        &["cannot connect", "check the host and port in url"],
    );
    // What needs no directory goes on.
    server.root().get("secret/data/works/plan").expect(200);

    realm.ldap.start_again().unwrap();
    // The refused login was none: the same request may be sent again.
    login_with(&server, &header).expect(200);
    login_with(&server, &header).expect(401);
}

#[test]
fn a_directory_that_does_not_answer_holds_up_logins_for_the_timeout_and_nothing_else() {
    let realm = own_realm();
    let server = Server::ready(ServerOptions::default());
    kerberos::set_up(&server, &realm);
    let root = server.root();
    root.post(
        "auth/kerberos/config/ldap",
        json!({"request_timeout": "1s", "connection_timeout": "1s"}),
    )
    .expect(204);
    let tickets = realm.kinit("grace").unwrap();
    let headers = kerberos::negotiate_many(&realm, &tickets, 9);
    login_with(&server, &headers[8]).expect(200);

    realm.ldap.pause().unwrap();
    std::thread::scope(|scope| {
        let server = &server;
        let logins: Vec<_> = headers[..8]
            .iter()
            .map(|header| {
                scope.spawn(move || {
                    let start = Instant::now();
                    (login_with(server, header), start.elapsed())
                })
            })
            .collect();
        // Reads are served while logins wait.
        for _ in 0..20 {
            let start = Instant::now();
            root.get("secret/data/works/plan").expect(200);
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "a read waited for the directory"
            );
        }
        for login in logins {
            let (reply, took) = login.join().unwrap();
            assert!(took < Duration::from_secs(15), "{took:?}");
            explained(server, &reply, 502, &["within 1s"]);
        }
    });
    realm.ldap.resume().unwrap();
    holds("logins work again", || {
        login_with(&server, &negotiate(&realm, &tickets)).status == 200
    });
}

#[test]
fn a_wrong_bind_password_is_the_operators_to_mend() {
    let ldap = with(
        ldap_payload(realm()),
        json!({"bindpass": "not-the-password"}),
    );
    let reply = attempt("wrong-password", &config_payload(realm()), &ldap);
    explained(
        server(),
        &reply,
        502,
        &["invalidCredentials (49)", "check binddn and bindpass"],
    );
    assert!(!server().log().contains("not-the-password"));
}

#[test]
fn a_directory_whose_certificate_another_authority_signed_is_not_believed() {
    let ldap = with(
        ldap_payload(realm()),
        json!({"certificate": realm().ldap.other_ca_pem()}),
    );
    let reply = attempt("wrong-ca", &config_payload(realm()), &ldap);
    explained(
        server(),
        &reply,
        502,
        &["no TLS with ldaps://localhost", "put the PEM of the CA"],
    );
    // The same over StartTLS.
    let starttls = with(ldap, json!({"url": realm().ldap.url(), "starttls": true}));
    let reply = attempt("wrong-ca-starttls", &config_payload(realm()), &starttls);
    explained(server(), &reply, 502, &["no TLS with ldap://localhost"]);
}

#[test]
fn starttls_and_every_way_to_believe_a_certificate_log_in() {
    for (mount, changes) in [
        (
            "starttls",
            json!({"url": realm().ldap.url(), "starttls": true}),
        ),
        ("insecure", json!({"certificate": "", "insecure_tls": true})),
        (
            "plain",
            json!({"url": realm().ldap.url(), "certificate": ""}),
        ),
        (
            "tls13",
            json!({"tls_min_version": "tls13", "tls_max_version": "tls13"}),
        ),
        (
            "tls12",
            json!({"tls_min_version": "tls12", "tls_max_version": "tls12"}),
        ),
    ] {
        let reply = attempt(
            mount,
            &config_payload(realm()),
            &with(ldap_payload(realm()), changes),
        );
        assert_eq!(reply.status, 200, "{mount}: {}", reply.text());
    }
}

#[test]
fn the_first_url_is_dead_and_the_second_serves() {
    let dead = PortLease::new().unwrap();
    let urls = format!(
        "ldaps://localhost:{},{}",
        dead.port(),
        realm().ldap.ldaps_url()
    );
    let reply = attempt(
        "two-urls",
        &config_payload(realm()),
        &with(ldap_payload(realm()), json!({"url": urls})),
    );
    assert_eq!(reply.status, 200, "{}", reply.text());

    let both = format!("ldaps://localhost:{0},ldap://localhost:{0}", dead.port());
    let reply = attempt(
        "no-url",
        &config_payload(realm()),
        &with(ldap_payload(realm()), json!({"url": both})),
    );
    explained(
        server(),
        &reply,
        502,
        &[
            "no directory server is usable",
            "ldaps://localhost",
            "ldap://localhost",
        ],
    );
}

#[test]
fn a_search_base_that_does_not_exist_is_named_in_the_log() {
    let ldap = with(
        ldap_payload(realm()),
        json!({"groupdn": "ou=Nowhere,dc=example,dc=com"}),
    );
    let reply = attempt("no-base", &config_payload(realm()), &ldap);
    explained(
        server(),
        &reply,
        502,
        &["noSuchObject", "check userdn and groupdn"],
    );
}

// --- the KDC --------------------------------------------------------------------------------------

#[test]
fn the_kdc_is_gone_and_tickets_in_hand_still_log_in() {
    let realm = own_realm();
    let server = Server::ready(ServerOptions::default());
    kerberos::set_up(&server, &realm);
    let tickets = realm.kinit("grace").unwrap();
    realm.kdc.service_ticket(&tickets, HTTP_SERVICE).unwrap();
    realm.kdc.stop_kdc().unwrap();
    for _ in 0..3 {
        login_with(&server, &negotiate(&realm, &tickets)).expect(200);
    }
    server.kill();
    // Not even a server that has just started needs it.
    let fresh = Server::ready(ServerOptions::default());
    kerberos::set_up(&fresh, &realm);
    login_with(&fresh, &negotiate(&realm, &tickets)).expect(200);
}

// --- clocks ---------------------------------------------------------------------------------------

#[test]
fn a_client_whose_clock_is_ahead_by_ten_minutes_is_told_nothing_and_the_operator_all() {
    let tickets = ticket("grace");
    // In hand, because a KDC would refuse such a client too.
    realm().kdc.service_ticket(&tickets, HTTP_SERVICE).unwrap();
    let clock = ShiftedClock::new(600).unwrap();
    let mut curl = kerberos::command(realm(), &tickets, "curl");
    curl.envs(clock.env());
    let reply = login_with(server(), &negotiate_from(curl, 1).remove(0));
    explained(server(), &reply, 401, &["clocks", "synchronise the clocks"]);
    // (One that is behind does not use a ticket from its future at all. The next test has that the other way round:
    // the server is ahead.) Within the allowed five minutes:
    for seconds in [120, -120] {
        let clock = ShiftedClock::new(seconds).unwrap();
        let mut curl = kerberos::command(realm(), &tickets, "curl");
        curl.envs(clock.env());
        login_with(server(), &negotiate_from(curl, 1).remove(0)).expect(200);
    }
}

#[test]
fn a_server_whose_clock_is_off_by_ten_minutes_refuses_until_it_is_right() {
    for seconds in [600, -600] {
        let clock = ShiftedClock::new(seconds).unwrap();
        let server = Server::ready(ServerOptions {
            env: clock.env(),
            ..ServerOptions::default()
        });
        kerberos::set_up(&server, realm());
        let reply = login_with(&server, &negotiate(realm(), &ticket("grace")));
        explained(&server, &reply, 401, &["synchronise the clocks"]);
        clock.set(0).unwrap();
        login_with(&server, &negotiate(realm(), &ticket("grace"))).expect(200);
    }
}

#[test]
fn an_expired_ticket_is_refused() {
    // A ticket of half an hour, at a server that lives in an hour.
    let tickets = realm()
        .kdc
        .kinit_with(&["-l", "30m"], "grace", "grace-password")
        .unwrap();
    realm().kdc.service_ticket(&tickets, HTTP_SERVICE).unwrap();
    let clock = ShiftedClock::new(3600).unwrap();
    let server = Server::ready(ServerOptions {
        env: clock.env(),
        ..ServerOptions::default()
    });
    kerberos::set_up(&server, realm());
    let reply = login_with(&server, &negotiate(realm(), &tickets));
    // An hour between the two clocks: that is the cause, not the ticket's age.
    explained(
        &server,
        &reply,
        401,
        &["expired", "seconds behind it", "synchronise the clocks"],
    );
}

// --- the keytab -----------------------------------------------------------------------------------

#[test]
fn a_keytab_with_another_key_version_number_opens_tickets_if_the_key_is_right() {
    // libkrb5 tries the account's keys whatever their number says: exported by another tool, it may be anything.
    let keytab = Keytab::parse(realm().keytab()).unwrap().with_kvno(77);
    let reply = attempt(
        "renumbered",
        &config_with_keytab(&keytab.to_bytes()),
        &ldap_payload(realm()),
    );
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[test]
fn a_keytab_from_before_the_password_changed_is_named_as_such() {
    let realm = own_realm();
    let server = Server::ready(ServerOptions::default());
    kerberos::set_up(&server, &realm);
    let old_tickets = realm.kinit("grace").unwrap();
    login_with(&server, &negotiate(&realm, &old_tickets)).expect(200);

    let kvno = realm
        .kdc
        .change_key(HTTP_SERVICE, KeepOldKeys::Yes)
        .unwrap();
    let tickets = realm.kinit("grace").unwrap();
    let reply = login_with(&server, &negotiate(&realm, &tickets));
    explained(
        &server,
        &reply,
        401,
        &[&format!("kvno {kvno}"), "export a new keytab"],
    );
    // Tickets from before are good until they end.
    login_with(&server, &negotiate(&realm, &old_tickets)).expect(200);

    // A keytab with both versions takes both, so a rotation locks nobody out.
    let both = realm.kdc.keytab(&[HTTP_SERVICE]).unwrap();
    kerberos::accepted(
        server
            .root()
            .post("auth/kerberos/config", config_with_keytab(&both)),
    );
    login_with(&server, &negotiate(&realm, &tickets)).expect(200);
    login_with(&server, &negotiate(&realm, &old_tickets)).expect(200);
}

#[test]
fn a_keytab_with_the_wrong_key_is_named_as_such() {
    let keytab = Keytab::parse(realm().keytab()).unwrap().with_wrong_keys();
    let reply = attempt(
        "wrong-key",
        &config_with_keytab(&keytab.to_bytes()),
        &ldap_payload(realm()),
    );
    explained(
        server(),
        &reply,
        401,
        &["no key opens", "export a new keytab"],
    );
}

#[test]
fn a_keytab_without_the_tickets_encryption_type_is_named_as_such() {
    let aes128 = realm()
        .kdc
        .keytab_with_enctypes(&[HTTP_SERVICE], &[AES128_CTS_HMAC_SHA1_96])
        .unwrap();
    let reply = attempt(
        "wrong-enctype",
        &config_with_keytab(&aes128),
        &ldap_payload(realm()),
    );
    explained(
        server(),
        &reply,
        401,
        &["aes256", "aes128", "export a keytab with all"],
    );
    let aes256 = realm()
        .kdc
        .keytab_with_enctypes(&[HTTP_SERVICE], &[AES256_CTS_HMAC_SHA1_96])
        .unwrap();
    let reply = attempt(
        "right-enctype",
        &config_with_keytab(&aes256),
        &ldap_payload(realm()),
    );
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[test]
fn a_ticket_of_a_realm_that_nobody_here_trusts_is_refused() {
    let stranger = own_realm();
    let header = negotiate(&stranger, &stranger.kinit("grace").unwrap());
    let reply = login_with(server(), &header);
    explained(server(), &reply, 401, &["HTTP/localhost@EXAMPLE.COM"]);
}

#[test]
fn a_method_that_is_not_configured_says_what_is_missing() {
    let root = server().root();
    root.post("sys/auth/bare", json!({"type": "kerberos"}))
        .expect(204);
    let header = negotiate(realm(), &ticket("grace"));
    let reply = login_at(server(), "bare", &header).expect(400);
    assert!(
        reply.errors()[0].contains("auth/bare/config"),
        "{:?}",
        reply.errors()
    );
    kerberos::accepted(root.post("auth/bare/config", config_payload(realm())));
    let reply = login_at(server(), "bare", &header).expect(400);
    assert!(
        reply.errors()[0].contains("auth/bare/config/ldap"),
        "{:?}",
        reply.errors()
    );
}
