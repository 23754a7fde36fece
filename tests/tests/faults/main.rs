//! Every fault of a Kerberos login that operators meet, put into a real realm: MIT Kerberos with OpenLDAP, Active
//! Directory as Samba has it, or both. Each time the client is told one plain sentence, the server's log has the cause
//! and the mend under the same request id, and `diagnose` names fault, mend and commands.
#![allow(clippy::unwrap_used)]

mod accounts;
mod clocks;
mod directory;
mod keys;
mod names;
mod proxies;
mod story;
mod tickets;
