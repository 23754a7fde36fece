//! What `server -dev` prints once it answers.

/// The lines a developer needs: how to reach the server, its root token and its unseal key. The labels "Unseal Key:"
/// and "Root Token:" are those that scripts written for Vault look for.
pub fn dev_banner(address: &str, unseal_key: &str, root_token: &str) -> String {
    format!(
        "\
WARNING! This is a development server. It keeps everything in memory and forgets it when
it stops, is unsealed from the start and speaks HTTP without TLS. Never put it in production.

To use it from another terminal:

    export VAULT_ADDR='{address}'
    export VAULT_TOKEN='{root_token}'

    obol status
    obol kv put secret/hello who=world
    obol kv get secret/hello

The root token may do everything; the unseal key opens the server after `obol operator seal`:

Unseal Key: {unseal_key}
Root Token: {root_token}
"
    )
}
