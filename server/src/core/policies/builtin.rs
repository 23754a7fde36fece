//! The built-in policies: `root`, which has no text, and `default`, which a fresh server starts with.

use obol_mount::PolicyName;

/// The name of the policy that allows everything.
pub const ROOT: &str = PolicyName::ROOT;

/// The name of the policy that every token gets unless it is left out by request.
pub const DEFAULT: &str = PolicyName::DEFAULT;

/// The name of the policy that every wrapping token has and nothing else may be given.
pub const RESPONSE_WRAPPING: &str = PolicyName::RESPONSE_WRAPPING;

/// What a wrapping token may do: be exchanged for what it wraps. Cannot be changed.
pub const RESPONSE_WRAPPING_TEXT: &str = r#"path "sys/wrapping/unwrap" {
  capabilities = ["update"]
}
path "sys/wrapping/rewrap" {
  capabilities = ["update"]
}
"#;

/// What `default` says on a fresh server: what any token may do about itself. Operators may change it; the server
/// never overwrites what they wrote.
pub const DEFAULT_TEXT: &str = r#"# What every token may do about itself. Change it as you need: the server writes it once, when it is
# initialised, and never again.

# See, prolong and end its own life.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
path "auth/token/revoke-self" {
  capabilities = ["update"]
}

# See who it belongs to.
path "identity/entity/id/{{identity.entity.id}}" {
  capabilities = ["read"]
}
path "identity/entity/name/{{identity.entity.name}}" {
  capabilities = ["read"]
}

# Ask what it may do on a path.
path "sys/capabilities-self" {
  capabilities = ["update"]
}
path "sys/internal/ui/resultant-acl" {
  capabilities = ["read"]
}

# Look up and prolong a lease that it knows by name.
path "sys/leases/lookup" {
  capabilities = ["update"]
}
path "sys/leases/renew" {
  capabilities = ["update"]
}
path "sys/renew" {
  capabilities = ["update"]
}

# Keep things in its own cubbyhole, which no other token can open.
path "cubbyhole/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

# Wrap an answer in a single-use token, look into such a token's state, and unwrap it.
path "sys/wrapping/wrap" {
  capabilities = ["update"]
}
path "sys/wrapping/lookup" {
  capabilities = ["update"]
}
path "sys/wrapping/unwrap" {
  capabilities = ["update"]
}

# Hash data and draw random bytes.
path "sys/tools/hash" {
  capabilities = ["update"]
}
path "sys/tools/hash/*" {
  capabilities = ["update"]
}
path "sys/tools/random" {
  capabilities = ["update"]
}
path "sys/tools/random/*" {
  capabilities = ["update"]
}
"#;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::policies::{Acl, Policy, format};

    #[test]
    fn the_default_policy_parses_is_formatted_and_grants_no_more_than_ones_own() {
        assert_eq!(format(DEFAULT_TEXT).unwrap(), DEFAULT_TEXT);
        let acl = Acl::compile(&[Arc::new(Policy::parse(DEFAULT, DEFAULT_TEXT).unwrap())]);
        for path in [
            "auth/token/lookup-self",
            "cubbyhole/a/b",
            "sys/tools/hash/sha2-256",
            "sys/wrapping/unwrap",
        ] {
            assert_ne!(acl.capabilities(path), ["deny"], "{path}");
        }
        for path in [
            "auth/token/create",
            "auth/token/lookup",
            "secret/data/a",
            "sys/mounts",
            "sys/seal",
            "cubbyhole",
        ] {
            assert_eq!(acl.capabilities(path), ["deny"], "{path}");
        }
    }
}
