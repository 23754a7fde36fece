//! `monitor`, `version-history`, `plugin`, `debug`, `namespace`, `completion`.

use serde_json::{Value, json as j};

use super::harness::{Server, Shell, json, status, text};
use super::requests::{asks, data};

#[test]
fn the_log_is_shown_as_it_comes() {
    let server = Server::start([
        text(200, "one\ntwo\n"),
        status(403, j!({"errors": ["permission denied"]})),
    ]);
    let shell = Shell::of(&server);
    assert_eq!(
        shell
            .run("monitor -log-level=debug -log-format=json")
            .ok()
            .out,
        "one\ntwo\n"
    );
    assert_eq!(
        server.seen()[0].target,
        "/v1/sys/monitor?log_level=debug&log_format=json"
    );
    shell.run("monitor").failed(2, "permission denied");
    shell.run("monitor -log-level=loud").failed(1, "log-level");
}

#[test]
fn versions_and_plugins_are_listed() {
    let out = asks(
        "version-history",
        data(
            j!({"keys": ["0.1.0"], "key_info": {"0.1.0": {"timestamp_installed": "then", "build_date": ""}}}),
        ),
        "LIST",
        "/v1/sys/version-history",
        Value::Null,
    );
    assert!(out.contains("0.1.0      then"), "{out}");
    let catalog = || {
        data(j!({"auth": ["jwt"], "detailed": [
            {"name": "kv", "type": "secret", "version": "v1", "deprecation_status": "supported"},
            {"name": "jwt", "type": "auth", "version": "v1", "deprecation_status": "supported"}]}))
    };
    let out = asks(
        "plugin list -detailed",
        catalog(),
        "GET",
        "/v1/sys/plugins/catalog",
        Value::Null,
    );
    let (jwt, kv) = (out.find("jwt").unwrap(), out.find("kv").unwrap());
    assert!(jwt < kv && out.contains("supported"), "{out}");
    let out = asks(
        "plugin list auth",
        catalog(),
        "GET",
        "/v1/sys/plugins/catalog",
        Value::Null,
    );
    assert!(!out.contains("kv"), "{out}");
    asks(
        "plugin info -field=name auth jwt",
        data(j!({"name": "jwt"})),
        "GET",
        "/v1/sys/plugins/catalog/auth/jwt",
        Value::Null,
    );
}

#[test]
fn namespaces_are_refused_with_what_to_do_instead() {
    for line in ["namespace list", "namespace create team", "namespace"] {
        Shell::empty().run(line).failed(1, "no namespaces");
    }
}

#[test]
fn what_is_collected_for_a_fault_is_one_file_or_a_directory() {
    let well = || json(j!({"sealed": false}));
    let server = Server::start([
        well(),
        data(j!({"log_level": "info"})),
        status(403, j!({"errors": ["permission denied"]})),
        well(),
        json(j!({"is_self": true})),
    ]);
    let shell = Shell::of(&server);
    let directory = shell.home.path().join("found");
    let ran = shell.run(&format!(
        "debug -duration=0s -target=config,host -target=server-status -compress=false -output={}",
        directory.display()
    ));
    // Something could not be had, and that shows.
    let ran = ran.failed(2, "Left out: sys/host-info");
    assert!(ran.out.contains("wrote"), "{}", ran.out);
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    let index: Value = serde_json::from_str(&read("index.json")).unwrap();
    assert_eq!(
        index["files"],
        j!({"config.jsonl": 1, "server_status.jsonl": 2})
    );
    assert!(index["left_out"]["sys/host-info"].is_string());
    let line: Value = serde_json::from_str(read("config.jsonl").trim()).unwrap();
    assert_eq!(line["answer"], j!({"log_level": "info"}));

    let server = Server::start([well(), data(j!({"a": 1}))]);
    let shell = Shell::of(&server);
    let file = shell.home.path().join("found.tar.gz");
    let line = format!(
        "debug -duration=0s -target=metrics -output={}",
        file.display()
    );
    shell.run(&line).ok();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(
        std::fs::File::open(&file).unwrap(),
    ));
    let mut names: Vec<String> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path().unwrap().display().to_string())
        .collect();
    names.sort();
    assert_eq!(names, ["found/", "found/index.json", "found/metrics.jsonl"]);
    assert!(!shell.home.path().join("found").exists());
    // What is there is not written over, and a server that is not there leaves nothing behind.
    let server = Server::start([well()]);
    let again = Shell::of(&server).run(&line).failed(1, "there already");
    assert!(!again.err.contains("t0ken"));
    Shell::empty()
        .set("VAULT_ADDR", "http://127.0.0.1:1")
        .run(&line)
        .failed(2, "refused");
    shell.run("debug -interval=1ms").failed(1, "-interval");
}

#[test]
fn lines_for_three_shells_are_printed() {
    let shell = Shell::empty();
    for (name, part) in [
        ("bash", "complete -o default"),
        ("zsh", "#compdef obol"),
        ("fish", "complete -c obol"),
    ] {
        let out = shell.run(&format!("completion {name}")).ok().out;
        assert!(out.contains(part) && out.ends_with('\n'), "{out}");
    }
    assert_eq!(
        shell.run("completion words -- kv get -form").ok().out,
        "-format=\n"
    );
    shell.run("completion powershell").failed(1, "bash");
}
