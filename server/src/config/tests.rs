#![allow(clippy::unwrap_used)]

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const MINIMAL: &str = "storage \"inmem\" {}\nlistener \"tcp\" { tls_disable = true }\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(&[("obol.hcl", text)])
}

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// A minimal file whose listener has the given lines.
fn listener(body: &str) -> String {
    format!("storage \"inmem\" {{}}\nlistener \"tcp\" {{\n{body}\n}}\n")
}

#[test]
fn defaults_are_vaults() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.storage, StorageConfig::Memory);
    assert_eq!(config.seal, SealConfig::Shamir);
    assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:8200");
    assert_eq!(
        config.listeners[0]
            .http_options(Limits::default())
            .limits
            .max_request_size,
        32 << 20
    );
    assert_eq!(config.default_lease_ttl, Duration::from_secs(768 * 3600));
    assert_eq!(config.max_lease_ttl, Duration::from_secs(768 * 3600));
    assert_eq!(config.api_addr.as_deref(), Some("http://127.0.0.1:8200"));
    assert_eq!(
        (config.log_level.as_str(), config.log_format),
        ("info", LogFormat::Text)
    );
    assert!(!config.disable_mlock && config.ui);
}

#[test]
fn hcl_and_json_say_the_same() {
    let hcl = r#"
        storage "rocksdb" { path = "/data" }
        listener "tcp" {
          address = "0.0.0.0:8200"
          tls_cert_file = "c", tls_key_file = "k"
          tls_min_version = "tls13"
          max_header_size = "131072"
        }
        listener "tcp" { address = "[::1]:8300", tls_disable = 1 }
        default_lease_ttl = "1h"
        log_format = "json"
        ui = false
    "#;
    let json = r#"{
        "storage": {"rocksdb": {"path": "/data"}},
        "listener": [
            {"tcp": {"address": "0.0.0.0:8200", "tls_cert_file": "c", "tls_key_file": "k",
                     "tls_min_version": "tls13", "max_header_size": 131072}},
            {"tcp": {"address": "[::1]:8300", "tls_disable": "true"}}
        ],
        "default_lease_ttl": 3600, "log_format": "json", "ui": "false"
    }"#;
    let (hcl, json) = (
        parse(hcl).unwrap(),
        Config::parse(&[("obol.json", json)]).unwrap(),
    );
    assert_eq!(format!("{hcl:?}"), format!("{json:?}"));
    assert_eq!(hcl.listeners.len(), 2);
    assert!(hcl.listeners[0].tls.as_ref().unwrap().only_tls13);
    assert_eq!(
        hcl.listeners[0]
            .http_options(Limits::default())
            .limits
            .max_header_size,
        131_072
    );
    assert_eq!(hcl.api_addr, None, "nobody connects to 0.0.0.0");
}

#[test]
fn user_lockout_is_for_all_methods_or_for_one() {
    let stanzas = r#"
        user_lockout "all" { lockout_threshold = "25" }
        user_lockout "ldap" {
          lockout_duration      = "10m"
          lockout_counter_reset = 300
          disable_lockout       = "true"
        }
    "#;
    let lockout = parse(&format!("{MINIMAL}{stanzas}")).unwrap().user_lockout;
    let rules = |kind| crate::core::lockout::Rules::of(&lockout, kind, None);
    assert_eq!(
        (rules("approle").threshold, rules("ldap").threshold),
        (25, 25)
    );
    assert!(!rules("userpass").is_disabled && rules("ldap").is_disabled);
    assert_eq!(rules("ldap").duration, Duration::from_secs(600));
    assert_eq!(rules("ldap").counter_reset, Duration::from_secs(300));
    for (wrong, said) in [
        ("user_lockout \"jwt\" {}", "expected user_lockout \"all\""),
        ("user_lockout \"all\" { lockout_threshold = 0 }", "above 0"),
        (
            "user_lockout \"all\" { lockout_duration = \"0s\" }",
            "above 0",
        ),
        (
            "user_lockout \"all\" { lockout_treshold = 3 }",
            "did you mean `lockout_threshold`?",
        ),
        (
            "user_lockout \"all\" {}\nuser_lockout \"all\" {}",
            "already",
        ),
    ] {
        let message = error(&format!("{MINIMAL}{wrong}"));
        assert!(message.contains(said), "{wrong}: {message}");
    }
}

#[test]
fn errors_name_file_line_column_and_the_mend() {
    for (text, message) in [
        (
            "storage \"inmem\" {}\nlog_levle = \"info\"",
            "obol.hcl: line 2, column 1: unknown key `log_levle` in the configuration; did you mean `log_level`?",
        ),
        (
            "reporting {}",
            "obol.hcl: line 1, column 1: `reporting` is not part of this version; remove it",
        ),
        (
            "address = \"x\"",
            "obol.hcl: line 1, column 1: `address` belongs inside listener \"tcp\" { ... }",
        ),
        (
            "storage \"rocksdb\" {}",
            "obol.hcl: line 1, column 9: storage \"rocksdb\" needs `path`, the directory in which it keeps its data",
        ),
        (
            "storage \"rocksdb\" { pth = \"x\" }",
            "obol.hcl: line 1, column 21: unknown key `pth` in storage \"rocksdb\"; did you mean `path`?",
        ),
        (
            "storage \"raft\" {}",
            "obol.hcl: line 1, column 9: storage `raft` is not part of this version; use \"rocksdb\" or \"inmem\"",
        ),
        (
            "storage \"inmem\" {}\nstorage \"inmem\" {}",
            "obol.hcl: line 2, column 1: `storage` is set twice; remove one of them",
        ),
        (
            "ui = \"often\"",
            "obol.hcl: line 1, column 6: expected true or false",
        ),
        (
            "log_level = \"loud\"",
            "obol.hcl: line 1, column 13: expected trace, debug, info, warn, error or off",
        ),
        (
            "max_lease_ttl = \"soon\"",
            "obol.hcl: line 1, column 17: expected a duration such as \"1h30m\", \"90s\", \"7d\" or 5400 (seconds)",
        ),
        (
            "api_addr = \"obol:8200\"",
            "obol.hcl: line 1, column 12: expected the URL that clients use, such as \"https://obol.example.com:8200\"",
        ),
        (
            "storage \"inmem\" {}",
            "no listener is configured; add listener \"tcp\" { address = \"127.0.0.1:8200\" ... }",
        ),
        (
            "listener \"tcp\" { tls_disable = true }",
            "no storage is configured; add storage \"rocksdb\" { path = \"...\" }",
        ),
        (
            "storage \"inmem\" {",
            "obol.hcl: line 1, column 18: `}` is missing at the end",
        ),
        (
            "listener \"unix\" {}",
            "obol.hcl: line 1, column 10: listener `unix` is not part of this version; use \"tcp\"",
        ),
    ] {
        assert_eq!(error(text), message);
    }
}

#[test]
fn a_listener_without_tls_must_say_so() {
    for (address, hint) in [
        ("127.0.0.1:8200", "loopback"),
        ("0.0.0.0:8200", "open to the network"),
    ] {
        let message = error(&listener(&format!("address = \"{address}\"")));
        assert!(
            message.contains("tls_disable = true") && message.contains(hint),
            "{message}"
        );
    }
    let open = parse(&listener("address = \"0.0.0.0:8200\"\ntls_disable = true")).unwrap();
    assert!(
        open.warnings()
            .iter()
            .any(|w| w.contains("0.0.0.0:8200 speaks without TLS"))
    );
    let local = parse(&listener("tls_disable = true")).unwrap();
    assert!(!local.warnings().iter().any(|w| w.contains("TLS")));
}

#[test]
fn tls_keys_that_contradict_each_other_are_refused() {
    for (body, part) in [
        (
            "tls_disable = true\ntls_cert_file = \"c\"",
            "`tls_disable` is true, yet `tls_cert_file` is set",
        ),
        (
            "tls_cert_file = \"c\"",
            "`tls_cert_file` is set without `tls_key_file`",
        ),
        (
            "tls_key_file = \"k\"",
            "`tls_key_file` is set without `tls_cert_file`",
        ),
        (
            "tls_cert_file = \"c\"\ntls_key_file = \"k\"\ntls_min_version = \"tls13\"\ntls_max_version = \"tls12\"",
            "no version is left",
        ),
        (
            "tls_cert_file = \"c\"\ntls_key_file = \"k\"\ntls_require_and_verify_client_cert = true",
            "needs `tls_client_ca_file`",
        ),
        (
            "tls_cert_file = \"c\"\ntls_key_file = \"k\"\ntls_min_version = \"tls10\"",
            "not offered",
        ),
    ] {
        let message = error(&listener(body));
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn values_that_make_no_sense_are_refused() {
    for (body, part) in [
        ("max_request_size = 0", "above 0"),
        ("max_request_size = -1", "above 0"),
        ("max_request_size = 1.5", "above 0"),
        ("max_json_depth = 500", "may not be more than 127"),
        ("max_request_duration = 0", "above 0"),
        ("address = \"example.com:8200\"", "expected an IP address"),
        ("address = \":8200\"", "0.0.0.0:8200"),
        ("address = 8200", "expected a string"),
        (
            "x_forwarded_for_authorized_addrs = []",
            "expected addresses or blocks",
        ),
        ("x_forwarded_for_hop_skips = -1", "above 0"),
        ("tls_disable = \"maybe\"", "expected true or false"),
        (
            "x_forwarded_for_authorized_addrs = \"example.com\"",
            "expected addresses or blocks",
        ),
    ] {
        let message = error(&listener(&format!("{body}\n")));
        assert!(message.contains(part), "{message}");
    }
    let twice = format!("{MINIMAL}listener \"tcp\" {{ tls_disable = true }}");
    assert!(error(&twice).contains("two listeners have the address 127.0.0.1:8200"));
    assert!(
        error(&format!(
            "{MINIMAL}default_lease_ttl = \"2h\"\nmax_lease_ttl = \"1h\""
        ))
        .contains("longer than")
    );
    let shorter = parse(&format!("{MINIMAL}max_lease_ttl = \"1h\"")).unwrap();
    assert_eq!(shorter.default_lease_ttl, Duration::from_secs(3600));
}

#[test]
fn a_static_seal_names_its_keys_and_shows_none() {
    let with = |body: &str| parse(&format!("{MINIMAL}seal \"static\" {{\n{body}\n}}"));
    let config = with(
        "current_key_id = \"2\"\ncurrent_key = \"env://KEY\"\nprevious_key_id = \"1\"\nprevious_key = \"file:///k\"",
    )
    .unwrap();
    let SealConfig::Static(StaticKeys { current, previous }) = &config.seal else {
        panic!()
    };
    assert_eq!(
        (current.id.as_str(), current.source.as_str()),
        ("2", "env://KEY")
    );
    assert_eq!(previous.as_ref().unwrap().source, "file:///k");
    assert!(!format!("{config:?}").contains("env://KEY"));
    for (body, part) in [
        ("current_key_id = \"1\"", "needs both"),
        (
            "current_key_id = \"1\"\ncurrent_key = \"env://A\"\nprevious_key_id = \"0\"",
            "go together",
        ),
        (
            "current_key_id = \"1\"\ncurrent_key = \"env://A\"\nprevious_key_id = \"1\"\nprevious_key = \"env://B\"",
            "must differ",
        ),
    ] {
        let message = with(body).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_disabled_static_seal_is_one_to_migrate_from() {
    for (value, disabled) in [("true", true), ("\"true\"", true), ("false", false)] {
        let config = parse(&format!(
            "{MINIMAL}seal \"static\" {{\ncurrent_key_id = \"1\"\ncurrent_key = \"env://KEY\"\ndisabled = {value}\n}}"
        ));
        let seal = config.unwrap().seal;
        assert_eq!(matches!(seal, SealConfig::Leaving(_)), disabled, "{seal:?}");
    }
}

#[test]
fn a_static_seal_fetches_its_keys_from_their_places() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    std::fs::write(&key, [7; 32]).unwrap();
    let text = format!(
        "{MINIMAL}seal \"static\" {{ current_key_id = \"1\", current_key = \"file://{}\" }}",
        key.display()
    );
    let SealConfig::Static(keys) = parse(&text).unwrap().seal else {
        panic!()
    };
    assert_eq!(keys.read().unwrap().current.id(), "1");
    std::fs::remove_file(&key).unwrap();
    assert!(keys.read().is_err());
}

#[test]
fn error_leaks_input_a_key_in_the_file_is_refused_and_not_shown() {
    let error = parse(&format!(
        "{MINIMAL}seal \"static\" {{\ncurrent_key_id = \"1\"\ncurrent_key = \"c2VjcmV0\"\n}}"
    ));
    let error = error.unwrap_err();
    assert!(error.message.contains("file:///path/to/key"), "{error}");
    assert!(!format!("{error} {error:?}").contains("c2VjcmV0"));
}

#[test]
fn files_of_a_directory_are_joined_in_alphabetical_order() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write(
        "20-more.hcl",
        "log_level = \"debug\"\nlistener \"tcp\" { address = \"127.0.0.1:8300\", tls_disable = true }",
    );
    write(
        "10-base.json",
        r#"{"storage": {"inmem": {}}, "listener": {"tcp": {"tls_disable": true}}, "log_level": "warn"}"#,
    );
    write("notes.txt", "not a configuration");
    write(".10-base.hcl", "nor this");
    let config = Config::load(&[dir.path()]).unwrap();
    assert_eq!(config.log_level, "debug", "the last one counts");
    assert_eq!(
        config
            .listeners
            .iter()
            .map(|l| l.address.port())
            .collect::<Vec<_>>(),
        [8200, 8300]
    );
    // A file given by name may have any.
    write("notes.txt", "disable_mlock = true");
    assert!(
        Config::load(&[dir.path().to_owned(), dir.path().join("notes.txt")])
            .unwrap()
            .disable_mlock
    );
}

#[test]
fn a_missing_file_and_an_empty_directory_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.hcl");
    assert!(
        Config::load(&[&missing])
            .unwrap_err()
            .to_string()
            .contains("missing.hcl: cannot be read")
    );
    assert!(
        Config::load(&[dir.path()])
            .unwrap_err()
            .to_string()
            .contains("holds no *.hcl")
    );
    let large = dir.path().join("large.hcl");
    std::fs::write(&large, " ".repeat(MAX_FILE as usize + 1)).unwrap();
    assert!(
        Config::load(&[&large])
            .unwrap_err()
            .to_string()
            .contains("larger than")
    );
}

#[test]
fn a_development_server_listens_without_tls_in_memory() {
    let config = Config::for_dev("127.0.0.1:8200".parse().unwrap());
    assert_eq!(config.storage, StorageConfig::Memory);
    assert_eq!(config.api_addr.as_deref(), Some("http://127.0.0.1:8200"));
}

/// The example for operators cannot drift from the code.
#[test]
fn the_commented_example_parses_and_mentions_every_key() {
    let example = include_str!("../../../docker/obol.hcl");
    let config = parse(example).unwrap();
    assert!(matches!(config.storage, StorageConfig::RocksDb { .. }));
    let all = keys::TOP
        .iter()
        .chain(&keys::LISTENER)
        .chain(&keys::ROCKSDB)
        .chain(&keys::USER_LOCKOUT)
        .chain(&keys::TELEMETRY)
        .chain(&keys::LISTENER_TELEMETRY)
        .chain(&keys::STATIC_SEAL);
    for key in all {
        let mentioned = example.lines().any(|line| {
            line.trim_start_matches(['#', ':', ' '])
                .split([' ', '='])
                .next()
                == Some(key)
        });
        assert!(mentioned, "docker/obol.hcl does not show `{key}`");
    }
    // What stands there in comments is accepted, too.
    let uncommented: String = example
        .lines()
        .map(|line| match line.trim_start().strip_prefix("#:") {
            Some(code) => format!("{code}\n"),
            None => format!("{line}\n"),
        })
        .collect();
    parse(&uncommented).unwrap();
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_panic(text in "\\PC{0,80}") {
        let _ = parse(&text);
        let _ = parse(&listener(&text));
        let _ = parse(&format!("{{\"listener\": {text}}}"));
    }
}
