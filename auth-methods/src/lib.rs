//! Auth methods, one folder each: how a proof of identity becomes a token.
//!
//! A new method is a module beside [`kerberos`] and one line in [`kinds`]. It knows its proof, its
//! configuration and [`obol_mount`]; it knows no HTTP, no tokens and no other method. What methods have in
//! common stands beside them: `directory` (LDAP settings, groups, users), `store` and `live` (records, and what
//! logins use of them), `named` (records that are kept by name), `names` (spellings).

pub mod approle;
mod directory;
pub mod jwt;
pub mod kerberos;
pub mod ldap;
mod live;
mod named;
mod names;
mod store;
pub mod userpass;

/// Every auth method that can be enabled.
pub fn kinds() -> Vec<obol_mount::Kind> {
    vec![
        jwt::kind(),
        kerberos::kind(),
        ldap::kind(),
        userpass::kind(),
        approle::kind(),
    ]
}
