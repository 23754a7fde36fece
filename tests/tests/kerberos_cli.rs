//! What the command line does with Kerberos beside using a ticket: logging in by password, looking into keytabs, and
//! finding out what is wrong.
#![allow(clippy::unwrap_used)]

use std::sync::OnceLock;

use obol_testbed::realm::{HTTP_SERVICE, SERVICE_ACCOUNT};
use obol_testbed::samba::people::{DISABLED, EXPIRED};
use obol_testbed::{AdOptions, CCache, KeepOldKeys, Realm, SambaAd, Scratch};
use obol_tests::clients::{Cli, Ended, curl};
use obol_tests::server::Tls;
use obol_tests::{Server, ServerOptions, kerberos, realm, ticket};
use serde_json::json;

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(kerberos::kerberized)
}

/// In the realm, with a ticket cache that is not there, and which no login by password may make.
fn log_in(password: &str, arguments: &[&str]) -> Ended {
    let tickets = realm().kdc.new_ccache();
    let cli = Cli::new(server()).tickets(realm(), &tickets);
    let mut line = vec!["login", "-method=kerberos", "-token-only", "password=-"];
    line.extend(arguments);
    let ended = cli.run_with_input(&line, password);
    assert!(!tickets.path().exists());
    assert!(!ended.stderr.contains(password.trim()), "{}", ended.stderr);
    ended
}

#[test]
fn a_password_becomes_a_ticket_in_memory_and_that_a_token() {
    for arguments in [
        &["username=joan"][..],
        &["username=joan", "realm=EXAMPLE.COM"],
        &["username=joan@EXAMPLE.COM", "-service=HTTP/localhost"],
    ] {
        let said = log_in("joan-password\n", arguments).ok();
        let client = server().client().with_token(said.text());
        client.get("secret/data/lab/formula").expect(200);
        assert_eq!(
            client.get("auth/token/lookup-self").data()["display_name"],
            "kerberos-joan"
        );
    }
}

#[test]
fn a_password_comes_from_a_file_too() {
    let file = server().dir().join("grace.password");
    std::fs::write(&file, "grace-password\n").unwrap();
    let cli = Cli::new(server()).tickets(realm(), &realm().kdc.new_ccache());
    cli.run(&[
        "login",
        "-method=kerberos",
        "-no-store",
        "username=grace",
        &format!("password=@{}", file.display()),
    ])
    .ok();
}

#[test]
fn a_login_by_password_that_fails_says_why() {
    let said = log_in("not-her-password", &["username=joan"]).expect(1);
    assert!(said.stderr.contains("password"), "{}", said.stderr);
    let said = log_in("any-password", &["username=nobody-knows"]).expect(1);
    assert!(
        said.stderr.contains("nobody-knows") && said.stderr.contains("spelling"),
        "{}",
        said.stderr
    );
    let said = log_in(
        "joan-password",
        &["username=joan", "-service=HTTP/nowhere.example.com"],
    )
    .expect(1);
    assert!(
        said.stderr.contains("HTTP/nowhere.example.com"),
        "{}",
        said.stderr
    );
    let said = log_in("joan-password", &["username=joan", "realm=NO.SUCH.REALM"]).expect(1);
    assert!(said.stderr.contains("realm"), "{}", said.stderr);
}

/// Who may not log in, and why, as a domain controller and a KDC tell it.
#[test]
fn accounts_that_may_not_log_in_are_told_apart() {
    let ad = SambaAd::start(AdOptions::default()).unwrap();
    let log_in = |user: &str, password: &str| {
        let mut cli = Cli::new(server());
        for (name, value) in ad.env() {
            cli = cli.env(&name, &value);
        }
        cli.run_with_input(
            &[
                "login",
                "-method=kerberos",
                "password=-",
                &format!("username={user}@{}", ad.realm()),
            ],
            password,
        )
        .expect(1)
        .stderr
    };
    for (user, password, cause, mend) in [
        (DISABLED, "dora-password", "disabled", "administrators"),
        (EXPIRED, "percy-password", "expired", "password"),
        ("grace", "not-her-password", "wrong", "again"),
    ] {
        let said = log_in(user, password);
        assert!(
            said.contains(cause) && said.contains(mend),
            "{user}: {said}"
        );
    }
    ad.stop().unwrap();
    let said = log_in("grace", "grace-password");
    assert!(said.contains("KDC") && said.contains("port 88"), "{said}");
}

#[test]
fn a_keytab_of_the_realm_is_shown_with_its_versions_and_without_its_keys() {
    let path = realm().keytab_file().display().to_string();
    let inspect = |more: &[&str]| {
        let mut line = vec!["kerberos", "keytab", "inspect"];
        line.extend(more);
        line.push(&path);
        Cli::new(server()).run(&line)
    };
    let said = inspect(&["-service-account=vault_svc"]).ok();
    for text in [HTTP_SERVICE, SERVICE_ACCOUNT, "aes256-cts-hmac-sha1-96"] {
        assert!(said.stdout.contains(text), "{}", said.stdout);
    }
    let all = inspect(&["-format=json"]).ok().json();
    let klist = realm()
        .kdc
        .command("klist")
        .args(["-k", "-K", &path])
        .output()
        .unwrap();
    let klist = String::from_utf8(klist.stdout).unwrap();
    let keys: Vec<&str> = klist
        .split("(0x")
        .skip(1)
        .map(|rest| rest.split(')').next().unwrap())
        .collect();
    assert_eq!(all["entries"].as_array().unwrap().len(), keys.len());
    let all = all.to_string();
    assert!(keys.iter().all(|key| key.len() >= 32 && !all.contains(key)));
    inspect(&["-service-account=HTTP/elsewhere"]).expect(1);
}

#[test]
fn a_login_over_https_is_bound_to_the_servers_certificate() {
    let files = Scratch::new("tls").unwrap();
    let tls = Tls::on_loopback(&files);
    let ca = tls.ca.clone();
    let server = Server::start(ServerOptions {
        tls: Some(tls),
        ..ServerOptions::default()
    });
    let root = Cli::make_ready(&server, &ca);
    let ca = ca.display().to_string();
    root.run(&["auth", "enable", "kerberos"]).ok();
    let config = kerberos::with(
        kerberos::config_payload(realm()),
        json!({"channel_bindings": "require"}),
    );
    root.run_with_input(&["write", "auth/kerberos/config", "-"], &config.to_string())
        .ok();
    let ldap = kerberos::ldap_payload(realm()).to_string();
    root.run_with_input(&["write", "auth/kerberos/config/ldap", "-"], &ldap)
        .ok();
    let tickets = ticket("grace");
    Cli::new(&server)
        .env("VAULT_CACERT", &ca)
        .tickets(realm(), &tickets)
        .run(&["login", "-method=kerberos", "-no-store"])
        .ok();
    // A client that binds to nothing is refused, so that the login above was let in for what it sent.
    let header = kerberos::negotiate(realm(), &tickets);
    let reply = curl(&[
        "--cacert",
        &ca,
        "-X",
        "POST",
        "-H",
        &format!("Authorization: {header}"),
        &format!("{}/v1/auth/kerberos/login", server.url()),
    ]);
    assert_eq!(reply.status, 401, "{}", reply.text());
}

/// A server that finds the realm's KDC, as one in a domain does, with the doctor for whoever runs it.
struct Patient {
    server: Server,
    realm: Realm,
}

impl Patient {
    fn new() -> Self {
        let realm = kerberos::own_realm();
        let server = Server::ready(ServerOptions {
            env: realm.kdc.env(),
            ..ServerOptions::default()
        });
        kerberos::set_up(&server, &realm);
        Self { server, realm }
    }

    fn doctor(&self, tickets: &CCache, arguments: &[&str]) -> Ended {
        let mut line = vec!["kerberos", "doctor"];
        line.extend(arguments);
        Cli::root(&self.server)
            .tickets(&self.realm, tickets)
            .run(&line)
    }
}

#[test]
fn the_doctor_finds_a_healthy_login_healthy_and_shows_the_user() {
    let patient = Patient::new();
    let grace = patient.realm.kinit("grace").unwrap();
    let said = patient.doctor(&grace, &["-user=joan"]).ok();
    for text in [
        "ok    tickets",
        "ok    service ticket",
        "ok    clock",
        "ok    keytab",
        "ok    client ticket",
        "The user joan",
        "lab",
        "scientists  (ldap)",
    ] {
        assert!(said.stdout.contains(text), "{text:?}: {}", said.stdout);
    }
    // What was shown to the doctor can still log in: it was looked at, not used.
    let all = patient.doctor(&grace, &["-format=json"]).ok().json();
    assert_eq!(all["ok"], true, "{all}");
    assert_eq!(all["server"]["user"]["name"], "grace", "{all}");
    assert!(
        all["client"].as_array().unwrap().len() >= 3
            && all["server"]["steps"].as_array().unwrap().len() >= 5,
        "{all}"
    );
}

#[test]
fn the_doctor_looks_at_the_server_also_without_a_ticket() {
    let patient = Patient::new();
    let none = patient.realm.kdc.new_ccache();
    let said = patient.doctor(&none, &[]).ok();
    assert!(
        said.stdout.contains("warn  tickets") && said.stdout.contains("kinit"),
        "{}",
        said.stdout
    );
    assert!(
        said.stdout.contains("-     client ticket"),
        "{}",
        said.stdout
    );
}

#[test]
fn the_doctor_tells_a_key_that_was_changed_and_a_service_that_nobody_has() {
    let patient = Patient::new();
    let grace = patient.realm.kinit("grace").unwrap();
    let said = patient
        .doctor(&grace, &["-service=HTTP/nowhere.example.com"])
        .expect(2);
    assert!(
        said.stdout.contains("FAIL  service ticket")
            && said.stdout.contains("setspn -S HTTP/nowhere.example.com")
            && said
                .stdout
                .contains("addprinc -randkey HTTP/nowhere.example.com"),
        "{}",
        said.stdout
    );
    patient
        .realm
        .kdc
        .change_key(HTTP_SERVICE, KeepOldKeys::No)
        .unwrap();
    let said = patient.doctor(&grace, &[]).expect(2);
    for text in ["FAIL  client ticket", "ktpass", "ktadd"] {
        assert!(said.stdout.contains(text), "{text:?}: {}", said.stdout);
    }
}

#[test]
fn the_doctor_is_for_those_who_run_the_server() {
    let grace = ticket("grace");
    let cli = Cli::new(server()).tickets(realm(), &grace);
    let token = cli.run(&["login", "-method=kerberos", "-token-only"]).ok();
    let said = cli
        .env("VAULT_TOKEN", token.text())
        .run(&["kerberos", "doctor"])
        .expect(2);
    assert!(
        said.stderr.contains("permission denied") && said.stderr.contains("sudo"),
        "{}",
        said.stderr
    );
}
