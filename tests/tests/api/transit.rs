//! Transit over HTTP: policies, restarts, many clients at once, the audit log, sys/tools, and hvac.

use std::sync::atomic::{AtomicBool, Ordering};

use obol_tests::clients::python_as_root;
use obol_tests::{Client, Server, ServerOptions};
use serde_json::{Value, json};

fn with_transit(options: ServerOptions) -> Server {
    let server = Server::ready(options);
    let root = server.root();
    root.post("sys/mounts/transit", json!({"type": "transit"}))
        .expect(204);
    server
}

fn client(server: &Server, name: &str, rules: &str) -> Client {
    let root = server.root();
    root.put(
        &format!("sys/policies/acl/{name}"),
        json!({ "policy": rules }),
    )
    .expect(204);
    let made = root.post("auth/token/create", json!({"policies": [name]}));
    server.client().with_token(made.client_token())
}

/// base64 of "hello".
const HELLO: &str = "aGVsbG8=";

#[test]
fn encrypting_creates_a_key_only_for_who_may_create_it() {
    let server = with_transit(ServerOptions::default());
    let user = client(
        &server,
        "user",
        r#"path "transit/encrypt/*" { capabilities = ["update"] }"#,
    );
    let maker = client(
        &server,
        "maker",
        r#"path "transit/encrypt/*" { capabilities = ["create", "update"] }"#,
    );
    let body = json!({"plaintext": HELLO});
    user.post("transit/encrypt/app", body.clone()).expect(403);
    server.root().get("transit/keys/app").expect(404);
    maker.post("transit/encrypt/app", body.clone()).expect(200);
    user.post("transit/encrypt/app", body).expect(200);
    let read = user.post(
        "transit/decrypt/app",
        json!({"ciphertext": "vault:v1:AAAA"}),
    );
    read.expect(403);
}

#[test]
fn keys_outlive_a_crash_and_ciphertexts_still_open() {
    let server = with_transit(ServerOptions::on_disk());
    let root = server.root();
    let mut sealed = Vec::new();
    for kind in ["aes256-gcm96", "chacha20-poly1305", "rsa-2048"] {
        root.post(&format!("transit/keys/{kind}"), json!({"type": kind}))
            .expect(200);
        let made = root.post(
            &format!("transit/encrypt/{kind}"),
            json!({"plaintext": HELLO}),
        );
        sealed.push((kind, made.data()["ciphertext"].clone()));
        root.post(&format!("transit/keys/{kind}/rotate"), json!({}))
            .expect(200);
    }
    server.kill();
    server.start_again();
    server.unseal();
    for (kind, ciphertext) in sealed {
        let opened = root.post(
            &format!("transit/decrypt/{kind}"),
            json!({"ciphertext": ciphertext}),
        );
        assert_eq!(opened.data()["plaintext"], HELLO, "{kind}");
        let key = root.get(&format!("transit/keys/{kind}")).data();
        assert_eq!(key["latest_version"], 2);
    }
}

#[test]
fn many_clients_encrypt_while_the_key_rotates_and_is_trimmed() {
    let server = with_transit(ServerOptions::default());
    let root = server.root();
    root.post("transit/keys/app", json!({})).expect(200);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| {
                    let (mut rounds, mut last) = (0, 0);
                    while !done.load(Ordering::Relaxed) {
                        let made = root.post("transit/encrypt/app", json!({"plaintext": HELLO}));
                        let made = made.data();
                        // A version that was current once is never gone back behind.
                        let version = made["key_version"].as_u64().unwrap();
                        assert!(version >= last);
                        last = version;
                        let body = json!({"ciphertext": made["ciphertext"]});
                        let opened = root.post("transit/decrypt/app", body);
                        if opened.status == 200 {
                            assert_eq!(opened.data()["plaintext"], HELLO);
                        } else {
                            assert!(opened.expect(400).errors()[0].contains("too old"));
                        }
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        for version in 2..=20 {
            root.post("transit/keys/app/rotate", json!({})).expect(200);
            let minimum =
                json!({"min_decryption_version": version - 1, "min_encryption_version": version});
            root.post("transit/keys/app/config", minimum).expect(200);
            let body = json!({"min_available_version": version - 1});
            root.post("transit/keys/app/trim", body).expect(204);
        }
        done.store(true, Ordering::Relaxed);
        for worker in workers {
            assert!(worker.join().unwrap() > 0);
        }
    });
    let key = root.get("transit/keys/app").data();
    assert_eq!(
        (&key["latest_version"], &key["min_available_version"]),
        (&json!(20), &json!(19))
    );
}

#[test]
fn audit_raw_neither_messages_nor_keys_reach_the_audit_log_or_the_log() {
    let server = with_transit(ServerOptions::default());
    let root = server.root();
    let file = server.dir().join("audit.log");
    let device = json!({"type": "file", "options": {"file_path": file.to_str().unwrap()}});
    root.put("sys/audit/file", device).expect(204);
    let body = json!({"exportable": true, "allow_plaintext_backup": true});
    root.post("transit/keys/app", body).expect(200);
    let secret = "czNjcmV0LW1lc3NhZ2U=";
    let made = root
        .post("transit/encrypt/app", json!({"plaintext": secret}))
        .data();
    root.post(
        "transit/decrypt/app",
        json!({"ciphertext": made["ciphertext"]}),
    )
    .expect(200);
    let key = root.get("transit/export/encryption-key/app").data()["keys"]["1"].clone();
    let backup = root.get("transit/backup/app").data()["backup"].clone();
    root.post("transit/restore/other", json!({"backup": backup}))
        .expect(204);
    root.post(
        "transit/encrypt/app",
        json!({"plaintext": "s3cret-message"}),
    )
    .expect(400);
    let written = std::fs::read_to_string(file).unwrap() + &server.log();
    assert!(written.contains("transit/encrypt/app"));
    for word in [
        secret,
        "s3cret",
        key.as_str().unwrap(),
        backup.as_str().unwrap(),
    ] {
        assert!(!written.contains(word), "{word}");
    }
}

#[test]
fn the_tools_of_sys_are_those_of_transit() {
    let server = with_transit(ServerOptions::default());
    let root = server.root();
    for at in ["sys/tools", "transit"] {
        let random = root
            .post(&format!("{at}/random/8"), json!({"format": "hex"}))
            .data();
        assert_eq!(random["random_bytes"].as_str().unwrap().len(), 16);
        let sum = root
            .post(&format!("{at}/hash/sha2-256"), json!({"input": HELLO}))
            .data();
        assert_eq!(
            sum["sum"],
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
        root.post(&format!("{at}/random/0"), json!({})).expect(400);
    }
    server
        .client()
        .post("sys/tools/random", json!({}))
        .expect(403);
}

#[test]
fn a_batch_with_failures_answers_its_results_with_a_status() {
    let server = with_transit(ServerOptions::default());
    let root = server.root();
    let body = json!({"batch_input": [{"plaintext": HELLO}, {"plaintext": "*"}]});
    let answer = root.post("transit/encrypt/app", body).expect(400).json();
    let results: &Vec<Value> = answer["data"]["batch_results"].as_array().unwrap();
    assert!(results[0]["ciphertext"].is_string() && results[1]["error"].is_string());
}

#[test]
fn hvac_uses_transit() {
    let server = with_transit(ServerOptions::default());
    let code = r#"
import base64, sys, hvac
client = hvac.Client(url=sys.argv[1], token=sys.argv[2])
transit = client.secrets.transit
b64 = lambda text: base64.b64encode(text.encode()).decode()

transit.create_key('app', exportable=True, allow_plaintext_backup=True)
assert transit.read_key('app')['data']['type'] == 'aes256-gcm96'
assert transit.list_keys()['data']['keys'] == ['app']
sealed = transit.encrypt_data('app', plaintext=b64('hello'))['data']['ciphertext']
assert transit.decrypt_data('app', ciphertext=sealed)['data']['plaintext'] == b64('hello')
transit.rotate_key('app')
rewrapped = transit.rewrap_data('app', ciphertext=sealed)['data']['ciphertext']
assert rewrapped.startswith('vault:v2:')
batch = [{'plaintext': b64('a')}, {'plaintext': b64('b')}]
results = transit.encrypt_data('app', batch_input=batch)['data']['batch_results']
opened = transit.decrypt_data('app', batch_input=results)['data']['batch_results']
assert [each['plaintext'] for each in opened] == [b64('a'), b64('b')]
transit.rotate_key('app')
transit.update_key_configuration('app', min_decryption_version=2, min_encryption_version=3, deletion_allowed=True)
try:
    transit.decrypt_data('app', ciphertext=sealed)
    raise AssertionError('an old ciphertext opened')
except hvac.exceptions.InvalidRequest as error:
    assert 'too old' in str(error)
transit.trim_key('app', min_version=2)
assert transit.read_key('app')['data']['min_available_version'] == 2
made = transit.generate_data_key('app', key_type='plaintext')['data']
assert transit.decrypt_data('app', ciphertext=made['ciphertext'])['data']['plaintext'] == made['plaintext']
assert len(base64.b64decode(transit.generate_random_bytes(n_bytes=16)['data']['random_bytes'])) == 16
assert transit.hash_data(b64('hello'), algorithm='sha2-256')['data']['sum'].startswith('2cf24dba')
code = transit.generate_hmac('app', b64('hello'))['data']['hmac']
assert transit.verify_signed_data('app', b64('hello'), hmac=code)['data']['valid']
assert list(transit.export_key('app', key_type='encryption-key')['data']['keys']) == ['2', '3']
backup = transit.backup_key('app')['data']['backup']
transit.restore_key(backup=backup, name='again')
assert transit.read_key('again')['data']['latest_version'] == 3
for kind in ['ed25519', 'ecdsa-p256', 'rsa-2048']:
    transit.create_key(kind, key_type=kind)
    signed = transit.sign_data(kind, b64('hello'))['data']['signature']
    assert transit.verify_signed_data(kind, b64('hello'), signature=signed)['data']['valid']
    assert not transit.verify_signed_data(kind, b64('other'), signature=signed)['data']['valid']
transit.create_key('conv', derived=True, convergent_encryption=True)
conv = lambda: transit.encrypt_data('conv', plaintext=b64('x'), context=b64('c'))['data']['ciphertext']
assert conv() == conv()
transit.delete_key('app')
assert 'app' not in transit.list_keys()['data']['keys']
print('done')
"#;
    let ended = python_as_root(&server, code).ok();
    assert_eq!(ended.text(), "done");
}
