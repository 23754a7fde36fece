//! Trust with other realms: another Active Directory, both ways and with the groups of both, or an
//! MIT realm, for this domain's users alone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{SambaAd, lock, seed};
use crate::error::Result;
use crate::keytab::{AES128_CTS_HMAC_SHA1_96, AES256_CTS_HMAC_SHA1_96};
use crate::ldif::{Ldif, base64};
use crate::mit::MitRealm;

impl SambaAd {
    /// Trust in both directions: each domain's users get tickets for the other's services, with
    /// what both domains say of their groups, and each krb5.conf names both KDCs.
    pub fn trust(&self, other: &SambaAd) -> Result<()> {
        for (here, there) in [(self, other), (other, self)] {
            here.add_trust(there.realm(), &there.domain_sid()?)?;
            here.know(there.realm(), &there.kdc_addr())?;
        }
        Ok(())
    }

    /// This domain's users get tickets for the services of an MIT realm, which come without a PAC:
    /// MIT's KDC passes none on. The other way is not to be had, for Samba's KDC insists on one.
    pub fn trusted_by(&self, realm: &MitRealm) -> Result<()> {
        self.add_trust(realm.realm(), MIT_SID)?;
        let principal = krbtgt(realm.realm(), self.realm());
        realm.add_principal(&principal, &password(realm.realm(), self.realm()))?;
        realm.know_kdc(self.realm(), &self.kdc_addr())?;
        self.know(realm.realm(), &realm.kdc_addr())
    }

    /// Adds somebody of another domain to a domain-local group, by SID. The SIDs of such groups
    /// are the extra ones in a ticket.
    pub fn add_foreign_member(&self, group: &str, sid: &str) -> Result<()> {
        self.change(group, "add", "member", &format!("<SID={sid}>"))
    }

    /// Puts another realm's KDC into our krb5.conf, without any trust.
    pub fn know(&self, realm: &str, kdc_addr: &str) -> Result<()> {
        lock(&self.known).push((realm.to_owned(), vec![format!("kdc = {kdc_addr}")]));
        self.write_krb5_conf()
    }

    /// The trusted domain object (MS-ADTS 6.1.6.7), with a password for each direction.
    fn add_trust(&self, partner: &str, sid: &str) -> Result<()> {
        // Incoming is the trust that lets our users go there.
        let incoming = auth_info(&password(partner, self.realm()));
        let outgoing = auth_info(&password(self.realm(), partner));
        let mut ldif = Ldif::default();
        ldif.line("dn", &format!("CN={partner},CN=System,{}", self.base_dn()));
        ldif.0.push_str("changetype: add\n");
        for (name, value) in [
            ("objectClass", "trustedDomain"),
            ("trustPartner", partner),
            ("flatName", partner.split('.').next().unwrap_or(partner)),
            ("securityIdentifier", sid),
            ("trustDirection", BOTH_WAYS),
            ("trustType", ACTIVE_DIRECTORY),
            ("trustAttributes", FOREST_TRANSITIVE),
            (
                seed::ENCTYPES,
                &seed::enctype_flags(&[AES128_CTS_HMAC_SHA1_96, AES256_CTS_HMAC_SHA1_96])?
                    .to_string(),
            ),
        ] {
            ldif.line(name, value);
        }
        for (name, value) in [
            ("trustAuthIncoming", incoming),
            ("trustAuthOutgoing", outgoing),
        ] {
            ldif.0.push_str(&format!("{name}:: {}\n", base64(&value)));
        }
        self.modify_ldif(&ldif.0)
    }
}

/// The principal that users of `from` show to the KDC of `to`.
fn krbtgt(to: &str, from: &str) -> String {
    format!("krbtgt/{to}@{from}")
}

/// Name and password make the key, so both sides get the same one.
fn password(to: &str, from: &str) -> String {
    format!("{} shares this key", krbtgt(to, from))
}

/// One password, present and in clear (MS-ADTS 6.1.6.9.1): a count, where the present and the
/// previous ones are, and for each its time, kind, length and bytes.
fn auth_info(password: &str) -> Vec<u8> {
    const CLEAR: u32 = 2;
    const HEADER: u32 = 12;
    let password: Vec<u8> = password.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let length = u32::try_from(password.len()).expect("passwords are short");
    let padded = length.next_multiple_of(4);
    let mut out = Vec::new();
    for number in [1, HEADER, HEADER + 16 + padded] {
        out.extend(number.to_le_bytes());
    }
    out.extend(windows_time().to_le_bytes());
    out.extend(CLEAR.to_le_bytes());
    out.extend(length.to_le_bytes());
    out.extend(password);
    out.resize((HEADER + 16 + padded) as usize, 0);
    out
}

/// Tenths of microseconds since 1601.
fn windows_time() -> u64 {
    const UNIX_EPOCH_IN_SECONDS: u64 = 11_644_473_600;
    let since_1970 = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    (since_1970.as_secs() + UNIX_EPOCH_IN_SECONDS) * 10_000_000
}

const BOTH_WAYS: &str = "3";
const ACTIVE_DIRECTORY: &str = "2";
const FOREST_TRANSITIVE: &str = "8";
/// A realm that is no domain has no SID; Samba issues no tickets for one without.
const MIT_SID: &str = "S-1-5-21-1-2-3";
