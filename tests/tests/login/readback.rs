//! `keytab-readback`: neither the keytab nor the bind password comes back, through anything: answers, logs at their
//! most talkative, audit lines, errors, or the files on disk.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_testbed::Keytab;
use obol_testbed::ldap::BIND_PASSWORD;
use obol_tests::kerberos::{self, config_payload, login_with, negotiate};
use obol_tests::{Server, ServerOptions, Storage, realm, ticket};
use serde_json::json;

#[test]
fn keytab_readback_nothing_gives_a_key_away() {
    let server = Server::ready(ServerOptions {
        storage: if cfg!(feature = "rocksdb") {
            Storage::RocksDb
        } else {
            Storage::Memory
        },
        log_level: "trace",
        ..ServerOptions::default()
    });
    let root = server.root();
    let audit = server.dir().join("audit.log");
    let options = json!({"type": "file", "options": {"file_path": audit.display().to_string()}});
    root.put("sys/audit/file", options).expect(204);
    kerberos::set_up(&server, realm());

    let mut answers = Vec::new();
    let header = negotiate(realm(), &ticket("grace"));
    answers.push(login_with(&server, &header));
    answers.push(login_with(&server, &header));
    for path in [
        "auth/kerberos/config",
        "auth/kerberos/config/ldap",
        "auth/kerberos/groups?list=true",
        "sys/auth",
        "sys/auth/kerberos",
        "sys/auth/kerberos/tune",
        "sys/internal/ui/mounts/auth/kerberos",
        "auth/kerberos/config?help=1",
        "sys/internal/specs/openapi",
    ] {
        answers.push(root.get(path));
    }
    // Mistakes, as people make them: each answer is an error about what was sent.
    let keytab = STANDARD.encode(realm().keytab());
    for body in [
        json!({"keytab": keytab, "service_account": "nobody"}),
        json!({"keytab": keytab[..keytab.len() / 2], "service_account": "HTTP/localhost"}),
        json!({"keytab": format!("{keytab}#"), "service_account": "HTTP/localhost"}),
        json!({"keytab": "HTTP/localhost", "service_account": keytab}),
        json!({"keytab": [keytab]}),
        json!({"keytab": {"inner": keytab}}),
        json!({"remove_instance_name": keytab}),
        json!({"keytap": keytab}),
        json!({"keytab": STANDARD.encode(&keytab)}),
    ] {
        answers.push(root.post("auth/kerberos/config", body));
    }
    for body in [
        json!({"bindpass": BIND_PASSWORD, "tls_min_version": BIND_PASSWORD}),
        json!({"bindpass": [BIND_PASSWORD]}),
        json!({"bindpass": {"a": BIND_PASSWORD}}),
        json!({"url": format!("ldap://{BIND_PASSWORD}@localhost:bad")}),
        json!({"bindpas": BIND_PASSWORD}),
        json!({"starttls": BIND_PASSWORD, "token_ttl": BIND_PASSWORD}),
    ] {
        answers.push(root.post("auth/kerberos/config/ldap", body));
    }
    let malformed = format!("{{\"keytab\": \"{keytab}\", \"bindpass\": {BIND_PASSWORD}}}");
    answers.push(
        root.request("POST", "auth/kerberos/config")
            .body(malformed)
            .send(),
    );
    kerberos::accepted(root.post("auth/kerberos/config", config_payload(realm())));
    login_with(&server, &negotiate(realm(), &ticket("grace"))).expect(200);

    let secrets = secrets();
    for answer in &answers {
        assert_no_secret(&secrets, "an answer", &answer.body);
        for (name, value) in &answer.headers {
            assert_no_secret(&secrets, name, value.as_bytes());
        }
    }
    assert_no_secret(&secrets, "the server's log", server.log().as_bytes());
    assert_no_secret(&secrets, "the server's output", server.output().as_bytes());
    let audited = fs::read(&audit).unwrap();
    assert!(
        audited.len() > 10_000,
        "the audit log is too short to prove anything"
    );
    assert_no_secret(&secrets, "the audit log", &audited);

    assert!(server.terminate().success());
    if cfg!(feature = "rocksdb") {
        let mut files = 0;
        below(&server.data_dir(), &mut |path| {
            files += 1;
            assert_no_secret(
                &secrets,
                &path.display().to_string(),
                &fs::read(path).unwrap(),
            );
        });
        assert!(files > 2, "RocksDB has left {files} files");
    }
}

#[test]
fn keytab_readback_no_keytab_lies_in_a_file_of_the_process() {
    let server = Server::ready(ServerOptions::default());
    kerberos::set_up(&server, realm());
    login_with(&server, &negotiate(realm(), &ticket("grace"))).expect(200);
    let secrets = secrets();
    let temporary = std::env::temp_dir();
    // What the process holds open, and whatever is new and ours in the places for temporary files.
    let open = format!("/proc/{}/fd", server.pid().unwrap());
    for entry in fs::read_dir(open).unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        if target.starts_with(&temporary) || target.starts_with("/dev/shm") {
            let bytes = fs::read(&target).unwrap_or_default();
            assert_no_secret(&secrets, &target.display().to_string(), &bytes);
        }
    }
    below(server.dir(), &mut |path| {
        assert_no_secret(
            &secrets,
            &path.display().to_string(),
            &fs::read(path).unwrap_or_default(),
        );
    });
}

/// Every form in which a key or the password could show.
fn secrets() -> Vec<(String, Vec<u8>)> {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let mut secrets = Vec::new();
    let mut add = |what: &str, bytes: &[u8]| {
        secrets.push((format!("{what}, plain"), bytes.to_vec()));
        secrets.push((format!("{what}, hexadecimal"), hex(bytes).into_bytes()));
        secrets.push((
            format!("{what}, HEXADECIMAL"),
            hex(bytes).to_uppercase().into_bytes(),
        ));
        // Base64 within a longer text: three ways to be aligned. The first and last characters depend on the
        // neighbours.
        for skip in 0..3 {
            let encoded = STANDARD.encode(&bytes[skip..skip + (bytes.len() - skip) / 3 * 3]);
            secrets.push((
                format!("{what}, base64 from byte {skip}"),
                encoded.into_bytes(),
            ));
        }
        // As JSON or Debug would print a list of bytes.
        let numbers: Vec<String> = bytes.iter().take(12).map(u8::to_string).collect();
        secrets.push((format!("{what}, numbers"), numbers.join(", ").into_bytes()));
        secrets.push((
            format!("{what}, JSON numbers"),
            numbers.join(",").into_bytes(),
        ));
    };
    for entry in Keytab::parse(realm().keytab()).unwrap().entries {
        let what = format!(
            "the key of {} (enctype {})",
            entry.principal(),
            entry.enctype
        );
        add(&what, &entry.key);
    }
    add("the bind password", BIND_PASSWORD.as_bytes());
    secrets
}

#[track_caller]
fn assert_no_secret(secrets: &[(String, Vec<u8>)], place: &str, bytes: &[u8]) {
    for (what, secret) in secrets {
        let found = bytes
            .windows(secret.len())
            .position(|window| window == secret.as_slice());
        assert!(found.is_none(), "{what} is in {place}, at byte {found:?}");
    }
}

fn below(dir: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            below(&path, visit);
        } else if path.is_file() {
            visit(&path);
        }
    }
}
