//! Logging in with real tickets: the realm that a test program shares, the method's configuration for it, and
//! Negotiate headers as curl makes them.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_testbed::ldap::{BIND_DN, BIND_PASSWORD};
use obol_testbed::people::{GROUP_DN, USER_DN};
use obol_testbed::realm::HTTP_SERVICE;
use obol_testbed::{CCache, Realm, RealmOptions};
use serde_json::{Value, json};

use crate::http::{Client, Reply};
use crate::server::{Server, ServerOptions, Storage, is_foreign};

/// A realm for all tests of a program that do not change it.
pub fn realm() -> &'static Realm {
    static REALM: OnceLock<Realm> = OnceLock::new();
    REALM.get_or_init(own_realm)
}

/// A realm to stop, pause and change.
#[track_caller]
pub fn own_realm() -> Realm {
    Realm::start(RealmOptions::default()).expect("a realm starts")
}

/// Tickets of a user of the shared realm.
#[track_caller]
pub fn ticket(uid: &str) -> CCache {
    realm().kinit(uid).expect("a user gets a ticket")
}

/// Body of `config`: the realm's keytab, the service of [`Server::url`].
pub fn config_payload(realm: &Realm) -> Value {
    config_with_keytab(realm.keytab())
}

pub fn config_with_keytab(keytab: &[u8]) -> Value {
    json!({
        "keytab": STANDARD.encode(keytab),
        "service_account": HTTP_SERVICE,
        "remove_instance_name": false,
        "add_group_aliases": false,
    })
}

/// Body of `config/ldap`: the realm's directory over LDAPS.
pub fn ldap_payload(realm: &Realm) -> Value {
    json!({
        "url": realm.ldap.ldaps_url(),
        "certificate": realm.ldap.ca_pem(),
        "binddn": BIND_DN,
        "bindpass": BIND_PASSWORD,
        "userdn": USER_DN,
        "userattr": "uid",
        "groupdn": GROUP_DN,
        "groupattr": "cn",
        "groupfilter": GROUP_FILTER,
        "tls_min_version": "tls12",
        "tls_max_version": "tls13",
        "deny_null_bind": true,
        "discoverdn": false,
        "insecure_tls": false,
        "starttls": false,
    })
}

/// Vault's default.
pub const GROUP_FILTER: &str =
    "(|(memberUid={{.Username}})(member={{.UserDN}})(uniqueMember={{.UserDN}}))";

/// A server that takes the realm's tickets: the method at `auth/kerberos`, engineers may read below
/// `secret/data/works/`, scientists below `secret/data/lab/`, and there is a secret in each.
#[track_caller]
pub fn set_up(server: &Server, realm: &Realm) {
    let root = server.root();
    let kv = json!({"type": "kv", "options": {"version": "2"}});
    root.post("sys/mounts/secret", kv).expect(204);
    root.post(
        "secret/data/works/plan",
        json!({"data": {"text": "build it"}}),
    )
    .expect(200);
    root.post(
        "secret/data/lab/formula",
        json!({"data": {"text": "E = mc2"}}),
    )
    .expect(200);
    enable(
        &root,
        "kerberos",
        &config_payload(realm),
        &ldap_payload(realm),
    );
    for (group, policy, path) in [
        ("engineers", "works", "works"),
        ("scientists", "lab", "lab"),
        ("awkward", "awkward", "awkward"),
    ] {
        let text = format!("path \"secret/data/{path}/*\" {{ capabilities = [\"read\"] }}");
        root.put(
            &format!("sys/policies/acl/{policy}"),
            json!({ "policy": text }),
        )
        .expect(204);
        map_group(&root, group, policy);
    }
}

/// Enables and configures the method at `auth/<mount>`.
#[track_caller]
pub fn enable(root: &Client, mount: &str, config: &Value, ldap: &Value) {
    root.post(&format!("sys/auth/{mount}"), json!({"type": "kerberos"}))
        .expect(204);
    accepted(root.post(&format!("auth/{mount}/config"), config.clone()));
    accepted(root.post(&format!("auth/{mount}/config/ldap"), ldap.clone()));
}

/// 204, or 200 with a warning.
#[track_caller]
pub fn accepted(reply: Reply) -> Reply {
    assert!(
        matches!(reply.status, 200 | 204),
        "{}: {}",
        reply.status,
        reply.text()
    );
    reply
}

#[track_caller]
pub fn map_group(root: &Client, group: &str, policies: &str) {
    let path = format!("auth/kerberos/groups/{group}");
    accepted(root.post(&path, json!({ "policies": policies })));
}

/// The policies of a successful login.
#[track_caller]
pub fn policies(login: Reply) -> Vec<String> {
    let auth = login.auth();
    let policies = auth["policies"].as_array().expect("policies are a list");
    policies
        .iter()
        .map(|policy| policy.as_str().expect("a policy is text").to_owned())
        .collect()
}

/// The given fields over those of another payload.
pub fn with(mut payload: Value, changes: Value) -> Value {
    let (Some(payload_fields), Value::Object(changes)) = (payload.as_object_mut(), changes) else {
        panic!("payloads are objects");
    };
    payload_fields.extend(changes);
    payload
}

/// A server of its own with [`set_up`] done for the shared realm; on disk where there is RocksDB, so that both
/// engines see logins.
#[track_caller]
pub fn kerberized() -> Server {
    kerberized_for(realm())
}

/// The same for a realm of one's own.
#[track_caller]
pub fn kerberized_for(realm: &Realm) -> Server {
    let storage = if cfg!(feature = "rocksdb") {
        Storage::RocksDb
    } else {
        Storage::Memory
    };
    let server = Server::ready(ServerOptions {
        storage,
        ..ServerOptions::default()
    });
    set_up(&server, realm);
    server
}

// --- clients ----------------------------------------------------------------------------------

/// A program in the realm, with these tickets and nothing of the caller's own settings.
pub fn command(realm: &Realm, tickets: &CCache, program: impl AsRef<std::ffi::OsStr>) -> Command {
    with_tickets(realm.kdc.command(program), tickets)
}

/// A realm's or a domain's command, with these tickets and nothing of the caller's own settings.
pub fn with_tickets(mut command: Command, tickets: &CCache) -> Command {
    for (name, _) in std::env::vars().filter(|(name, _)| is_foreign(name)) {
        if name != "KRB5_CONFIG" && name != "KRB5CCNAME" {
            command.env_remove(name);
        }
    }
    command.envs(tickets.env());
    command
}

/// `curl --negotiate -u : -X POST .../v1/auth/kerberos/login`.
#[track_caller]
pub fn curl_login(realm: &Realm, tickets: &CCache, server: &Server) -> Reply {
    curl(
        realm,
        tickets,
        &[
            "-X",
            "POST",
            &format!("{}/v1/auth/kerberos/login", server.url()),
        ],
    )
}

/// curl with `--negotiate -u :` and these arguments.
#[track_caller]
pub fn curl(realm: &Realm, tickets: &CCache, arguments: &[&str]) -> Reply {
    let mut curl = command(realm, tickets, "curl");
    curl.args([
        "-sS",
        "-i",
        "--http1.1",
        "--max-time",
        "60",
        "--negotiate",
        "-u",
        ":",
    ]);
    let output = curl.args(arguments).output().expect("curl is installed");
    reply_of(&output)
}

/// The answer that `curl -i` has printed.
#[track_caller]
pub fn reply_of(output: &Output) -> Reply {
    match Reply::parse(&output.stdout) {
        Ok(reply) => reply,
        Err(error) => panic!(
            "curl: {} {error}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}

/// A login by hand: the header as it is, the server's answer as it is.
#[track_caller]
pub fn login_with(server: &Server, authorization: &str) -> Reply {
    login_at(server, "kerberos", authorization)
}

/// The same at `auth/<mount>`.
#[track_caller]
pub fn login_at(server: &Server, mount: &str, authorization: &str) -> Reply {
    server
        .client()
        .request("POST", &format!("auth/{mount}/login"))
        .header("Authorization", authorization)
        .json(&json!({}))
        .send()
}

/// A user of the shared realm logs in at `auth/<mount>`.
#[track_caller]
pub fn log_in(server: &Server, mount: &str, uid: &str) -> Reply {
    login_at(server, mount, &negotiate(realm(), &ticket(uid)))
}

/// One fresh `Negotiate ...` header, made by curl for `HTTP/localhost`.
#[track_caller]
pub fn negotiate(realm: &Realm, tickets: &CCache) -> String {
    negotiate_many(realm, tickets, 1).remove(0)
}

/// As many, all different. Listens where curl is sent, and takes down what curl would say to a server.
#[track_caller]
pub fn negotiate_many(realm: &Realm, tickets: &CCache, count: usize) -> Vec<String> {
    negotiate_from(command(realm, tickets, "curl"), count)
}

/// The same with a curl that is prepared, for example to live at another time.
#[track_caller]
pub fn negotiate_from(curl: Command, count: usize) -> Vec<String> {
    negotiate_for(curl, "localhost", count)
}

/// The same for `HTTP/<host>`, or what the client's krb5.conf makes of the host's name.
#[track_caller]
pub fn negotiate_for(mut curl: Command, host: &str, count: usize) -> Vec<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = listener.local_addr().expect("a bound socket").port();
    curl.args([
        "-sS",
        "--http1.1",
        "--max-time",
        "60",
        "--negotiate",
        "-u",
        ":",
    ])
    .args(["--resolve", &format!("{host}:{port}:127.0.0.1")])
    .arg(format!("http://{host}:{port}/[1-{count}]"))
    .stdin(Stdio::null())
    .stdout(Stdio::null())
    .stderr(Stdio::piped());
    let curl = curl.spawn().expect("curl is installed");
    let listening = std::thread::spawn(move || {
        let mut headers = Vec::with_capacity(count);
        while headers.len() < count {
            let Ok((stream, _)) = listener.accept() else {
                break;
            };
            match authorization_of(&stream) {
                Some(None) => answer(&stream, "401 Unauthorized\r\nWWW-Authenticate: Negotiate"),
                Some(Some(header)) => {
                    headers.push(header);
                    answer(&stream, "200 OK");
                }
                // The connection that ends this, when curl has failed.
                None => break,
            }
        }
        headers
    });
    let output = curl.wait_with_output().expect("curl ends");
    // Wakes the listener, should it still wait.
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok();
    let headers = listening.join().expect("the listener does not panic");
    assert_eq!(
        headers.len(),
        count,
        "curl made too few Negotiate headers ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    headers
}

/// Reads a request's head: `None` when there was none, `Some(None)` when it had no Authorization.
fn authorization_of(stream: &TcpStream) -> Option<Option<String>> {
    let mut found = None;
    let mut lines = BufReader::new(stream).lines();
    lines.next()?.ok()?;
    for line in lines {
        let line = line.ok()?;
        if line.is_empty() {
            return Some(found);
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("authorization")
        {
            found = Some(value.trim().to_owned());
        }
    }
    None
}

fn answer(mut stream: &TcpStream, status_and_headers: &str) {
    let answer =
        format!("HTTP/1.1 {status_and_headers}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(answer.as_bytes()).ok();
}

/// Path of the method's login.
pub const LOGIN: &str = "auth/kerberos/login";
