//! Schemathesis makes requests up from the document, right ones and wrong ones, and sends them to the live server: no
//! answer is a server error, and each is as the document says.
//!
//! The seed is fixed and the examples are few, so that a run is the same each time and ends within three minutes.

use std::fs;
use std::process::Command;

use obol_tests::clients::{interpreter, run};
use obol_tests::{Server, ServerOptions};

use super::{document, everything};

/// What cannot be asked at random beside the rest, and why. What stands in [`APART`], too, is asked by itself.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "^/sys/seal$",
        "after it every answer is 503, rightly: tests/tests/core/seal.rs",
    ),
    (
        "^/sys/monitor$",
        "its answer has no end: tests/tests/api/logging.rs",
    ),
    (
        "^/sys/storage/",
        "puts another store in the place of the one under test: tests/tests/api/snapshot.rs",
    ),
    (
        "^/sys/raw",
        "writes below the server's own feet; what it breaks is answered with 500",
    ),
    (
        "^/auth/token/revoke-self$",
        "the rest would be asked with a dead token",
    ),
    (
        "^/sys/quotas/(rate-limit|lease-count)/",
        "a quota that happens to be valid refuses the rest",
    ),
];

/// Of those, what can be asked on a server where nothing else is asked.
const APART: &[&str] = &[
    "^/auth/token/revoke-self$",
    "^/sys/quotas/(rate-limit|lease-count)/",
];

#[test]
fn nothing_that_schemathesis_sends_is_answered_wrongly() {
    let left_out: Vec<&str> = LEFT_OUT.iter().map(|(paths, _)| *paths).collect();
    let server = ask(&["--exclude-path-regex", &left_out.join("|")]);
    // What was asked has not taken the server down, nor its own token away.
    server.root().get("auth/token/lookup-self").expect(200);
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn nor_is_what_is_better_asked_apart() {
    for paths in APART {
        ask(&["--include-path-regex", paths]);
    }
}

/// Lets Schemathesis ask a new server about these paths.
#[track_caller]
fn ask(paths: &[&str]) -> Server {
    let server = everything(ServerOptions::default());
    let file = server.dir().join("openapi.json");
    fs::write(&file, document(&server.root()).to_string()).unwrap();
    let mut program = Command::new(interpreter().with_file_name("schemathesis"));
    program
        .arg("run")
        .arg(&file)
        .arg(format!("--url={}/v1", server.url()))
        .arg(format!("--header=X-Vault-Token:{}", server.root().token()))
        .arg(format!("--checks={}", CHECKS.join(",")))
        .args(["--phases=coverage,fuzzing", "--max-examples=3"])
        // With two, what it keeps of its own sources is read and written at once, and a KeyError ends an operation.
        .args(["--workers=1", "--seed=1", "--continue-on-failure"])
        // How large or slow examples are is not the question.
        .args(["--suppress-health-check=all", "--generation-database=none"])
        .args(["--warnings=off", "--no-color"])
        .args(paths)
        // It keeps notes where it runs.
        .current_dir(server.dir())
        .env("HOME", server.dir());
    run(&mut program, "").ok();
    server
}

/// What an answer must be. That wrong data is refused, and right data taken, is for the tests of each path: the document
/// knows types, not which names exist.
const CHECKS: &[&str] = &[
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
];
