//! `kerberos keytab inspect` and `kerberos doctor`, but for what needs a KDC: that is met in the end-to-end tests.

use serde_json::{Value, json as j};

use super::harness::{Server, Shell, json, status};

/// A keytab of these keys: name, key version, encryption type, one byte that fills the key.
fn keytab(keys: &[(&[&str], u32, u16, u8)]) -> Vec<u8> {
    let mut file = vec![5, 2];
    for (name, kvno, enctype, fill) in keys {
        let mut record = Vec::new();
        record.extend_from_slice(&(name.len() as u16).to_be_bytes());
        for part in std::iter::once(&"EXAMPLE.COM").chain(*name) {
            record.extend_from_slice(&(part.len() as u16).to_be_bytes());
            record.extend_from_slice(part.as_bytes());
        }
        record.extend_from_slice(&1u32.to_be_bytes());
        // 2026-01-02T03:04:05Z for the first version, and no time for the others, as ktpass has it.
        let time = if *kvno == 1 { 1_767_323_045u32 } else { 0 };
        record.extend_from_slice(&time.to_be_bytes());
        record.push(*kvno as u8);
        record.extend_from_slice(&enctype.to_be_bytes());
        let length = match enctype {
            18 => 32,
            1 | 3 => 8,
            _ => 16,
        };
        record.extend_from_slice(&(length as u16).to_be_bytes());
        record.extend(std::iter::repeat_n(*fill, length));
        record.extend_from_slice(&kvno.to_be_bytes());
        file.extend_from_slice(&(record.len() as u32).to_be_bytes());
        file.extend_from_slice(&record);
    }
    file
}

fn file(shell: &Shell, keytab: &[u8]) -> String {
    let path = shell.home.path().join("vault.keytab");
    std::fs::write(&path, keytab).unwrap();
    path.display().to_string()
}

const SERVICE: &[&str] = &["HTTP", "vault.example.com"];
const AES: u16 = 18;
const RC4: u16 = 23;
const DES: u16 = 3;

#[test]
fn a_keytab_is_shown_without_its_keys() {
    let shell = Shell::empty();
    let path = file(
        &shell,
        &keytab(&[(SERVICE, 1, AES, b'K'), (SERVICE, 2, AES, b'L')]),
    );
    let ran = shell.run(&format!("kerberos keytab inspect {path}")).ok();
    assert!(ran.out.contains("HTTP/vault.example.com@EXAMPLE.COM    1       aes256-cts-hmac-sha1-96    2026-01-02T03:04:05Z"), "{}", ran.out);
    assert!(ran.out.contains("n/a"), "{}", ran.out);
    assert_eq!(ran.err, "");
    for format in ["json", "yaml"] {
        let ran = shell
            .run(&format!("kerberos keytab inspect -format={format} {path}"))
            .ok();
        // The key's bytes, as text, in hexadecimal and in base64.
        for key in ["KKKK", "4b4b4b", "S0tLS0"] {
            assert!(!ran.out.contains(key), "{}", ran.out);
        }
    }
    let ran = shell.run(&format!("kerberos keytab inspect -format=json {path}"));
    let all: Value = serde_json::from_str(&ran.ok().out).unwrap();
    assert_eq!(
        all["entries"][0],
        j!({"principal": "HTTP/vault.example.com@EXAMPLE.COM", "kvno": 1, "enctype": "aes256-cts-hmac-sha1-96",
            "enctype_number": 18, "timestamp": "2026-01-02T03:04:05Z", "warning": null})
    );
    assert_eq!(all["warnings"], j!([]));
}

#[test]
fn a_keytab_comes_from_standard_input_too() {
    let keytab = String::from_utf8(keytab(&[(&["vault_svc"], 2, AES, b'K')])).unwrap();
    let ran = Shell::empty()
        .stdin(&keytab)
        .run("kerberos keytab inspect -");
    assert!(ran.ok().out.contains("vault_svc@EXAMPLE.COM"));
}

#[test]
fn what_will_not_work_is_said() {
    for (keys, says) in [
        (
            keytab(&[(SERVICE, 1, DES, 1)]),
            "is of a type that is still accepted",
        ),
        (
            keytab(&[(SERVICE, 1, RC4, 1)]),
            "every ticket for it is RC4",
        ),
        // The new version lost what the old one had.
        (
            keytab(&[(SERVICE, 1, AES, 1), (SERVICE, 2, RC4, 1)]),
            "no AES key in its newest version 2",
        ),
        (
            keytab(&[(SERVICE, 1, AES, 1), (SERVICE, 1, AES, 2)]),
            "two different keys of version 1",
        ),
        (
            keytab(&[(&["HTTP", "vault.example.com:8200"], 1, AES, 1)]),
            "names a port",
        ),
        (
            keytab(&[(&["HTTP", "vault"], 1, AES, 1)]),
            "is a short name",
        ),
        (
            keytab(&[(&["http", "vault.example.com"], 1, AES, 1)]),
            "in capitals",
        ),
    ] {
        let shell = Shell::empty();
        let path = file(&shell, &keys);
        let ran = shell.run(&format!("kerberos keytab inspect {path}")).ok();
        assert!(
            ran.err.contains(says),
            "{says:?} is missing from:\n{}",
            ran.err
        );
    }
}

#[test]
fn a_service_account_that_is_not_in_the_keytab_ends_with_a_status() {
    let shell = Shell::empty();
    let path = file(&shell, &keytab(&[(SERVICE, 1, AES, 1)]));
    let inspect = |more: &str| shell.run(&format!("kerberos keytab inspect {more} {path}"));
    inspect("-service-account=HTTP/vault.example.com").ok();
    inspect("-service-account=HTTP -remove-instance-name").ok();
    let ran = inspect("-service-account=vault_svc").failed(1, "no entry for the service account");
    assert!(ran.out.contains("HTTP/vault.example.com"), "{}", ran.out);
    inspect("-remove-instance-name").failed(1, "-service-account");
}

#[test]
fn keytab_parse_what_is_no_keytab_is_refused_and_not_shown() {
    let shell = Shell::empty();
    let path = file(&shell, b"BQIAAABLhunter2");
    let ran = shell
        .run(&format!("kerberos keytab inspect {path}"))
        .failed(1, "base64 -d");
    assert!(!ran.err.contains("hunter2"), "{}", ran.err);
    let cut = &keytab(&[(SERVICE, 1, AES, b'K')])[..60];
    let path = file(&shell, cut);
    let ran = shell
        .run(&format!("kerberos keytab inspect {path}"))
        .failed(1, "cut off");
    assert!(!ran.err.contains("KK"), "{}", ran.err);
    shell
        .run("kerberos keytab inspect /no/such.keytab")
        .failed(1, "/no/such.keytab");
}

fn diagnosis(ok: bool) -> Value {
    j!({"data": {
        "ok": ok,
        "summary": if ok { "A login would work." } else { "The keytab has version 4 of the key, the KDC uses 5." },
        "steps": [
            {"name": "keytab", "status": "ok", "finding": "HTTP/h, version 4", "mend": "", "windows": "", "mit": "", "took_ms": 1},
            {"name": "ticket", "status": if ok { "ok" } else { "failed" }, "finding": "version 5 is wanted",
             "mend": if ok { "" } else { "export the keytab again" },
             "windows": if ok { "" } else { "ktpass /princ ..." }, "mit": if ok { "" } else { "kadmin ktadd ..." }, "took_ms": 2},
            {"name": "ldap", "status": "skipped", "finding": "not configured", "mend": "", "windows": "", "mit": "", "took_ms": 0},
        ],
        "user": {"name": "grace", "dn": "uid=grace", "groups": [{"name": "staff", "sources": ["ldap", "pac"]}], "policies": ["lab"]},
    }})
}

#[test]
fn the_doctor_shows_each_step_and_ends_with_the_mend_and_its_commands() {
    let server = Server::start([json(diagnosis(false))]);
    let ran = Shell::of(&server)
        .run("kerberos doctor -server-only -user=grace -service=HTTP/h -mount=auth/lab/");
    assert_eq!(ran.status, 2, "{ran:?}");
    for text in [
        "ok    keytab",
        "FAIL  ticket",
        "-     ldap",
        "→ export the keytab again",
        "The keytab has version 4 of the key, the KDC uses 5.\nExport the keytab again.",
        "On Windows:\n    ktpass /princ ...",
        "With MIT Kerberos:\n    kadmin ktadd ...",
        "staff  (ldap, pac)",
        "Policies  lab",
    ] {
        assert!(
            ran.out.contains(text),
            "{text:?} is missing from:\n{}",
            ran.out
        );
    }
    let request = &server.seen()[0];
    assert_eq!(request.target, "/v1/auth/lab/diagnose");
    assert_eq!(request.json(), j!({"user": "grace", "service": "HTTP/h"}));
}

#[test]
fn a_healthy_login_ends_with_success_and_without_commands() {
    let server = Server::start([json(diagnosis(true)), json(diagnosis(true))]);
    let shell = Shell::of(&server);
    let ran = shell.run("kerberos doctor -server-only").ok();
    assert!(ran.out.contains("A login would work."), "{}", ran.out);
    assert!(!ran.out.contains("On Windows"), "{}", ran.out);
    let ran = shell.run("kerberos doctor -server-only -format=json").ok();
    let all: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(all["ok"], true);
    assert_eq!(all["server"]["user"]["dn"], "uid=grace");
}

#[test]
fn a_clock_that_is_off_is_a_fault_of_its_own() {
    let reply = json(diagnosis(true)).header("Date", "Sun, 06 Nov 1994 08:49:37 GMT");
    let server = Server::start([reply]);
    // The address has no name, so that no ticket is looked for.
    let ran = Shell::of(&server).run("kerberos doctor");
    assert_eq!(ran.status, 2, "{ran:?}");
    assert!(
        ran.out.contains("FAIL  clock") && ran.out.contains("w32tm"),
        "{}",
        ran.out
    );
    assert!(
        ran.out.contains("Kerberos knows services by name"),
        "{}",
        ran.out
    );
}

#[test]
fn what_the_doctor_needs_is_said_when_it_is_refused() {
    let server = Server::start([
        status(403, j!({"errors": ["permission denied"]})),
        status(404, j!({"errors": ["no handler"]})),
    ]);
    let shell = Shell::of(&server);
    let ran = shell
        .run("kerberos doctor -server-only")
        .failed(2, "path \"auth/kerberos/diagnose\"");
    assert!(ran.err.contains("sudo"), "{}", ran.err);
    shell
        .run("kerberos doctor -server-only -mount=other")
        .failed(2, "auth list");
}
