//! Logins in a real Active Directory (Samba): whichever way the groups come, the same policies; keytabs as Windows
//! makes them; no bind password anywhere.

#![allow(clippy::unwrap_used)]

mod cache;
mod diagnose;
mod groups;
mod keytabs;
mod ldap;
mod realms;
