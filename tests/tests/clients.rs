//! Clients that nobody here wrote, unmodified: each walks from a server that was never set up through init, unseal,
//! login, tokens, policies, kv, transit, wrapping, identity and revocation. Their programs are in tests/clients.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use obol_tests::clients::{interpreter, program_of_client, run};
use obol_tests::{Server, ServerOptions};

#[test]
fn hvac_from_init_to_revocation() {
    walk(Command::new(interpreter()).arg("clients/python/journey.py"));
}

#[test]
fn node_vault_from_init_to_revocation() {
    walk(&mut program_of_client("node"));
}

#[test]
fn vaultrs_from_init_to_revocation() {
    walk(&mut program_of_client("rust"));
}

#[test]
fn the_go_module_from_init_to_revocation() {
    walk(&mut program_of_client("go"));
}

#[test]
fn spring_vault_from_init_to_revocation() {
    walk(&mut program_of_client("java"));
}

#[track_caller]
fn walk(program: &mut Command) {
    let server = Server::start(ServerOptions::on_disk());
    // What the one who runs the tests has set for their own Vault is nothing to these clients.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("VAULT_")) {
        program.env_remove(name);
    }
    run(program.env("HOME", server.dir()).arg(server.url()), "").ok();
}
