//! `kerberos`: what helps whoever sets up the Kerberos login: a look into a keytab, and a doctor that goes through
//! everything a login needs.

pub(super) mod doctor;
pub(super) mod keytab;
mod report;
