//! `config` and `config/ldap`: what is stored, what is returned, what is refused.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_mount::Reply;
use obol_testbed::ldap::BIND_PASSWORD;
use obol_testbed::realm::{HTTP_SERVICE, SERVICE_ACCOUNT};
use serde_json::{Value, json};

use crate::mount::{Mount, config, with};
use crate::world::{Client, world};

/// The sample payload of the contract, as printed there.
const CONFIG_PAYLOAD: &str = r#"{
  "add_group_aliases": false,
  "keytab": "BQIAAAA6AAEACk1BVFJJWC5MQU4ACXZhdWx0X3N2YwAAAAFdzZSjAgAXABDwhEyRR9nRqkpP8KTn2A83AAAAAg==",
  "remove_instance_name": false,
  "service_account": "vault_svc"
}"#;

/// The sample payload of the contract, as printed there.
const LDAP_PAYLOAD: &str = r#"{
  "binddn": "cn=vault,ou=Users,dc=example,dc=com",
  "deny_null_bind": true,
  "discoverdn": false,
  "groupattr": "cn",
  "groupdn": "ou=Groups,dc=example,dc=com",
  "groupfilter": "(\u0026(objectClass=group)(member:1.2.840.113556.1.4.1941:={{.UserDN}}))",
  "insecure_tls": false,
  "starttls": false,
  "tls_max_version": "tls12",
  "tls_min_version": "tls12",
  "url": "ldaps://ldap.myorg.com:636",
  "userattr": "samaccountname",
  "userdn": "ou=Users,dc=example,dc=com"
}"#;

/// The `data` of the contract's sample response.
const LDAP_RESPONSE: &str = r#"{
    "binddn": "cn=vault,ou=Users,dc=example,dc=com",
    "bindpass": "",
    "certificate": "",
    "deny_null_bind": true,
    "discoverdn": false,
    "groupattr": "cn",
    "groupdn": "ou=Groups,dc=example,dc=com",
    "groupfilter": "(\u0026(objectClass=group)(member:1.2.840.113556.1.4.1941:={{.UserDN}}))",
    "insecure_tls": false,
    "starttls": false,
    "tls_max_version": "tls12",
    "tls_min_version": "tls12",
    "upndomain": "",
    "url": "ldaps://ldap.myorg.com:636",
    "userattr": "samaccountname",
    "userdn": "ou=Users,dc=example,dc=com"
}"#;

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn the_contracts_keytab_is_taken_and_everything_but_it_is_returned() {
    let mount = Mount::fresh().await;
    assert_eq!(mount.read("config").await.unwrap_err().status(), 404);
    let response = mount.write("config", parsed(CONFIG_PAYLOAD)).await.unwrap();
    assert!(matches!(response.reply, Reply::Empty));
    assert!(
        response.warnings.iter().any(|w| w.contains("RC4")),
        "{:?}",
        response.warnings
    );
    assert_eq!(
        mount.read("config").await.unwrap(),
        shown(
            json!({"add_group_aliases": false, "remove_instance_name": false, "service_account": "vault_svc"})
        )
    );
}

/// What `config` shows beside the contract's fields, where nobody wrote it.
fn shown(contract: Value) -> Value {
    with(
        contract,
        json!({
            "allowed_enctypes": [],
            "allowed_realms": [],
            "channel_bindings": "ignore",
            "clock_skew": 0,
            "decode_pac": true,
            "group_source": "ldap",
            "require_pac": false,
            "trusted_domain_sids": [],
        }),
    )
}

#[tokio::test]
async fn the_contracts_ldap_configuration_is_taken_and_returned_key_for_key() {
    let mount = Mount::fresh().await;
    assert_eq!(mount.read("config/ldap").await.unwrap_err().status(), 404);
    let response = mount
        .write("config/ldap", parsed(LDAP_PAYLOAD))
        .await
        .unwrap();
    assert!(matches!(response.reply, Reply::Empty));
    let read = mount.read("config/ldap").await.unwrap();
    for (key, value) in parsed(LDAP_RESPONSE).as_object().unwrap() {
        assert_eq!(&read[key], value, "{key}");
    }
    let mut more: Vec<&str> = read
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .filter(|k| parsed(LDAP_RESPONSE).get(k).is_none())
        .collect();
    more.sort_unstable();
    assert_eq!(
        more,
        [
            "anonymous_group_search",
            "bind_with_keytab",
            "cache_ttl",
            "case_sensitive_names",
            "client_tls_cert",
            "client_tls_key",
            "connection_timeout",
            "dereference_aliases",
            "max_page_size",
            "request_timeout",
            "token_bound_cidrs",
            "token_explicit_max_ttl",
            "token_max_ttl",
            "token_no_default_policy",
            "token_num_uses",
            "token_period",
            "token_policies",
            "token_ttl",
            "token_type",
            "use_token_groups",
            "userfilter",
            "username_as_alias",
        ]
    );
    assert_eq!(read["connection_timeout"], 30);
    assert_eq!(read["request_timeout"], 90);
}

#[tokio::test]
async fn the_defaults_are_vaults() {
    let mount = Mount::fresh().await;
    mount
        .write("config/ldap", json!({"url": "ldaps://ldap.example.com"}))
        .await
        .unwrap();
    let read = mount.read("config/ldap").await.unwrap();
    for (key, value) in [
        (
            "groupfilter",
            json!("(|(memberUid={{.Username}})(member={{.UserDN}})(uniqueMember={{.UserDN}}))"),
        ),
        ("groupattr", json!("cn")),
        ("userattr", json!("cn")),
        ("tls_min_version", json!("tls12")),
        ("tls_max_version", json!("tls12")),
        ("deny_null_bind", json!(true)),
        ("discoverdn", json!(false)),
        ("case_sensitive_names", json!(false)),
        ("token_type", json!("default")),
        ("token_policies", json!([])),
    ] {
        assert_eq!(read[key], value, "{key}");
    }
}

#[tokio::test]
async fn what_a_first_write_must_have_a_later_one_may_leave_out() {
    let mount = Mount::fresh().await;
    for (body, missing) in [
        (
            json!({"service_account": "vault_svc"}),
            "keytab is required",
        ),
        (
            json!({"keytab": config()["keytab"]}),
            "service_account is required",
        ),
    ] {
        let error = mount.write("config", body).await.unwrap_err();
        assert_eq!(
            (error.status(), error.messages()),
            (400, &[missing.to_owned()][..])
        );
    }
    let error = mount
        .write("config/ldap", json!({"userdn": "dc=example,dc=com"}))
        .await
        .unwrap_err();
    assert_eq!(
        (error.status(), error.messages()),
        (400, &["url is required".to_owned()][..])
    );
    assert_eq!(mount.paths().await, Vec::<String>::new());

    let mount = Mount::ready().await;
    mount
        .write("config", json!({"add_group_aliases": "true"}))
        .await
        .unwrap();
    mount
        .write(
            "config/ldap",
            json!({"token_ttl": "1h", "request_timeout": 7}),
        )
        .await
        .unwrap();
    assert_eq!(
        mount.read("config").await.unwrap(),
        shown(
            json!({"add_group_aliases": true, "remove_instance_name": false, "service_account": HTTP_SERVICE})
        )
    );
    let ldap = mount.read("config/ldap").await.unwrap();
    assert_eq!(ldap["userattr"], "uid");
    assert_eq!(
        (&ldap["token_ttl"], &ldap["request_timeout"]),
        (&json!(3600), &json!(7))
    );
    // Keytab and bind password are still there: a login works, and carries the new settings.
    let login = mount.login(&Client::of("grace").token()).await.unwrap();
    assert_eq!(login.token.ttl.as_secs(), 3600);
    assert!(!login.group_aliases.is_empty());
}

#[tokio::test]
async fn a_keytab_is_taken_as_base64_prints_it() {
    let mount = Mount::fresh().await;
    let text = STANDARD.encode(world().realm.keytab());
    for line_end in ["\n", "\r\n"] {
        let wrapped: String = text
            .as_bytes()
            .chunks(76)
            .map(|line| format!("{}{line_end}", str::from_utf8(line).unwrap()))
            .collect();
        mount
            .write("config", with(config(), json!({"keytab": wrapped})))
            .await
            .unwrap();
    }
    mount
        .write(
            "config",
            with(config(), json!({"keytab": text.trim_end_matches('=')})),
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn keytab_parse_what_is_no_usable_keytab_is_refused_with_its_cause_and_never_repeated() {
    let mount = Mount::fresh().await;
    let whole = world().realm.keytab();
    let des = obol_testbed::Keytab::parse(whole).map(|mut keytab| {
        for entry in &mut keytab.entries {
            entry.enctype = 3;
            entry.key.truncate(8);
        }
        keytab.to_bytes()
    });
    let secret = b"hunter2 hunter2 hunter2 hunter2";
    for (keytab, account, cause) in [
        (String::new(), HTTP_SERVICE, "it is empty"),
        (" \n".into(), HTTP_SERVICE, "it is empty"),
        (
            "not base64!".into(),
            HTTP_SERVICE,
            "not base64 (at character 10)",
        ),
        (
            STANDARD.encode(whole)[..101].into(),
            HTTP_SERVICE,
            "cut off",
        ),
        (STANDARD.encode(secret), HTTP_SERVICE, "no keytab"),
        (
            STANDARD.encode(STANDARD.encode(whole)),
            HTTP_SERVICE,
            "base64 twice",
        ),
        (
            STANDARD.encode(&whole[..whole.len() - 5]),
            HTTP_SERVICE,
            "cut off at byte",
        ),
        (STANDARD.encode([5, 2]), HTTP_SERVICE, "no entry"),
        (
            STANDARD.encode(whole),
            "HTTP/elsewhere",
            "no entry for the service account; it holds: HTTP/localhost@EXAMPLE.COM, vault_svc@EXAMPLE.COM",
        ),
        (
            STANDARD.encode(whole),
            "HTTP/localhost@OTHER.REALM",
            "no entry for the service account",
        ),
        (
            STANDARD.encode(whole),
            "a//b",
            "service_account: it is no Kerberos name",
        ),
        (
            STANDARD.encode(whole),
            "",
            "service_account: it is no Kerberos name",
        ),
        (
            STANDARD.encode(whole),
            // No entry has that name, or it is none: there may be two slashes in a row in it.
            &STANDARD.encode(whole),
            "service",
        ),
        (
            STANDARD.encode(des.unwrap()),
            HTTP_SERVICE,
            "not accepted any more",
        ),
        ("A".repeat(2 << 20), HTTP_SERVICE, "more than 1048576 bytes"),
    ] {
        let body = json!({"keytab": keytab, "service_account": account});
        let error = mount.write("config", body).await.unwrap_err();
        let text = error.to_string();
        assert_eq!(error.status(), 400, "{text}");
        assert!(text.contains(cause), "{text:?} should say {cause:?}");
        assert!(!text.contains("hunter2") && text.len() < 500, "{text}");
        assert!(keytab.len() < 8 || !text.contains(keytab.trim()), "{text}");
    }
    assert_eq!(mount.paths().await, Vec::<String>::new());
}

#[tokio::test]
async fn enctype_downgrade_des_is_refused_and_rc4_is_warned_of() {
    let mount = Mount::fresh().await;
    let only = |enctype: u16, key: usize| {
        let mut keytab = obol_testbed::Keytab::parse(world().realm.keytab()).unwrap();
        for entry in &mut keytab.entries {
            entry.enctype = enctype;
            entry.key.resize(key, 7);
        }
        with(
            config(),
            json!({"keytab": STANDARD.encode(keytab.to_bytes())}),
        )
    };
    for (enctype, key) in [(1, 8), (3, 8), (16, 24)] {
        let error = mount.write("config", only(enctype, key)).await.unwrap_err();
        assert_eq!(error.status(), 400);
        assert!(
            error.to_string().contains("export one with AES keys"),
            "{error}"
        );
    }
    let response = mount.write("config", only(23, 16)).await.unwrap();
    assert!(
        response.warnings[0].contains("weak types only"),
        "{:?}",
        response.warnings
    );
}

#[tokio::test]
async fn a_keytab_for_another_account_leaves_the_old_one_at_work() {
    let mount = Mount::ready().await;
    mount
        .write("config", json!({"service_account": "HTTP/elsewhere"}))
        .await
        .unwrap_err();
    assert_eq!(
        mount.read("config").await.unwrap()["service_account"],
        HTTP_SERVICE
    );
    mount.login(&Client::of("grace").token()).await.unwrap();
}

#[tokio::test]
async fn an_ldap_configuration_that_cannot_work_is_refused_by_its_field_and_nothing_is_stored() {
    let mount = Mount::ready().await;
    let before = mount.read("config/ldap").await.unwrap();
    for (body, field) in [
        (json!({"url": "http://ldap.example.com"}), "url"),
        (
            json!({"url": "ldap://user:hunter2@ldap.example.com"}),
            "url",
        ),
        (json!({"url": ""}), "url"),
        (json!({"tls_min_version": "tls9"}), "tls_min_version"),
        (json!({"tls_min_version": "tls13"}), "tls_min_version"),
        (
            json!({"certificate": "-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----"}),
            "certificate",
        ),
        (json!({"userdn": "hunter2"}), "userdn"),
        (json!({"groupfilter": "(member={{.UserDN}}"}), "groupfilter"),
        (
            json!({"groupfilter": "(member={{.Password}})"}),
            "groupfilter",
        ),
        (json!({"userattr": "a)(b"}), "userattr"),
        (json!({"upndomain": "@EXAMPLE.COM"}), "upndomain"),
        (json!({"request_timeout": 0}), "request_timeout"),
        (json!({"request_timeout": "hunter2"}), "request_timeout"),
        (json!({"starttls": "hunter2"}), "starttls"),
        (json!({"bindpass": ["hunter2"]}), "bindpass"),
        (json!({"token_ttl": "hunter2"}), "token_ttl"),
        (
            json!({"token_ttl": "2h", "token_max_ttl": "1h"}),
            "token_ttl",
        ),
        (json!({"token_policies": "dev,ROOT"}), "token_policies"),
        (json!({"token_policies": [" root"]}), "token_policies"),
        (
            json!({"token_bound_cidrs": "10.0.0.0/33"}),
            "token_bound_cidrs",
        ),
        (json!({"token_type": "hunter2"}), "token_type"),
        (
            json!({"token_type": "batch", "token_num_uses": 3}),
            "token_type",
        ),
    ] {
        // A field that would be valid comes along, and must not be stored either.
        let error = mount
            .write(
                "config/ldap",
                with(json!({"userdn": "dc=other"}), body.clone()),
            )
            .await
            .unwrap_err();
        let text = error.to_string();
        assert_eq!(error.status(), 400, "{text}");
        assert!(text.contains(field), "{text:?} should name {field:?}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert_eq!(mount.read("config/ldap").await.unwrap(), before);
}

#[tokio::test]
async fn keytab_readback_neither_keytab_nor_bind_password_comes_back_in_any_way() {
    let mount = Mount::ready().await;
    mount.login(&Client::of("grace").token()).await.unwrap();
    let keytab = STANDARD.encode(world().realm.keytab());
    let key = &obol_testbed::Keytab::parse(world().realm.keytab())
        .unwrap()
        .entries[0]
        .key;

    let mut seen = String::new();
    for path in ["config", "config/ldap", "groups/engineers"] {
        seen.push_str(&mount.read(path).await.unwrap().to_string());
    }
    seen.push_str(&mount.list("groups").await.unwrap().to_string());
    // Errors of requests that carry the secrets.
    for (path, body) in [
        ("config", with(config(), json!({"service_account": keytab}))),
        (
            "config",
            json!({"keytab": {"a": keytab}, "service_account": "x"}),
        ),
        (
            "config/ldap",
            json!({"bindpass": BIND_PASSWORD, "url": BIND_PASSWORD}),
        ),
        ("config/ldap", json!({"bindpass": {"a": BIND_PASSWORD}})),
        ("config/ldap", json!({"tls_min_version": BIND_PASSWORD})),
        ("login", json!({"authorization": keytab})),
    ] {
        seen.push_str(&format!("{:?}", mount.write(path, body).await.unwrap_err()));
    }
    for secret in [&keytab[..40], BIND_PASSWORD] {
        assert!(!seen.contains(secret), "an answer holds a secret: {seen}");
        assert_eq!(
            world().logged(secret),
            Vec::<String>::new(),
            "the log holds a secret"
        );
    }
    // What rests in the engine is sealed.
    let needles = [
        keytab.as_bytes()[..40].to_vec(),
        key.clone(),
        BIND_PASSWORD.as_bytes().to_vec(),
    ];
    for (path, value) in mount.engine.scan("", None, 10_000).await.unwrap() {
        for needle in &needles {
            assert!(
                !value.windows(needle.len()).any(|w| w == needle),
                "{path} holds a secret in the clear"
            );
        }
    }
    assert!(mount.paths().await.contains(&"config".to_owned()));
}

#[tokio::test]
async fn what_deserves_a_second_look_is_warned_of() {
    let mount = Mount::fresh().await;
    let response = mount
        .write(
            "config/ldap",
            json!({"url": "ldap://ldap.example.com", "colour": "red"}),
        )
        .await
        .unwrap();
    let warnings = response.warnings.join("\n");
    assert!(warnings.contains("colour"), "{warnings}");
    assert!(warnings.contains("without starttls"), "{warnings}");
    assert!(
        warnings.contains("users are not searched for"),
        "{warnings}"
    );

    let mut keytab = obol_testbed::Keytab::parse(world().realm.keytab()).unwrap();
    let mut foreign = keytab.entries[0].clone();
    foreign.realm = "OTHER.REALM".into();
    keytab.entries.push(foreign);
    let two_realms = with(
        config(),
        json!({"keytab": STANDARD.encode(keytab.to_bytes())}),
    );
    let response = mount.write("config", two_realms).await.unwrap();
    assert!(
        response.warnings[0].contains("EXAMPLE.COM, OTHER.REALM"),
        "{:?}",
        response.warnings
    );
    let response = mount.write("config", config()).await.unwrap();
    assert_eq!(response.warnings, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writes_of_different_fields_all_count() {
    let mount = Mount::ready().await;
    let servers = [Arc::new(mount.another_server().await), Arc::new(mount)];
    let fields = [
        json!({"token_ttl": 60}),
        json!({"token_max_ttl": 600}),
        json!({"token_num_uses": 5}),
        json!({"token_policies": ["shared"]}),
        json!({"userattr": "cn"}),
        json!({"userdn": "dc=one"}),
        json!({"groupdn": "dc=two"}),
        json!({"deny_null_bind": false}),
    ];
    let writes: Vec<_> = fields
        .iter()
        .cloned()
        .zip(servers.iter().cycle().cloned())
        .map(|(body, server)| tokio::spawn(async move { server.write("config/ldap", body).await }))
        .collect();
    for write in writes {
        write.await.unwrap().unwrap();
    }
    let read = servers[0].read("config/ldap").await.unwrap();
    for (key, value) in fields.iter().flat_map(|body| body.as_object().unwrap()) {
        assert_eq!(&read[key], value, "{key}");
    }
}

#[test]
fn the_method_describes_itself() {
    let kind = obol_auth_methods::kinds()
        .into_iter()
        .find(|kind| kind.name == "kerberos")
        .unwrap();
    let routes = (kind.docs)().unwrap();
    let help: String = routes
        .iter()
        .map(|route| route.help("auth/kerberos/"))
        .collect();
    for field in [
        "keytab",
        "service_account",
        "remove_instance_name",
        "groupfilter",
        "token_bound_cidrs",
        "authorization",
        "policies",
    ] {
        assert!(
            help.contains(&format!("    {field} (")),
            "{field} is not described:\n{help}"
        );
    }
    let document = obol_mount::Document::new(
        "Obol",
        "0",
        vec![obol_mount::MountDoc {
            path: "auth/kerberos/".into(),
            kind: "kerberos".into(),
            about: "Kerberos",
            routes,
        }],
    )
    .build();
    for path in ["config", "config/ldap", "groups", "groups/{name}", "login"] {
        assert!(
            document["paths"][format!("/auth/kerberos/{path}")].is_object(),
            "{path}"
        );
    }
    let account = SERVICE_ACCOUNT;
    assert!(document.to_string().contains(account));
}
