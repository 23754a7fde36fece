//! The realms that are logged in to: some hundred users in some of a few dozen groups each, in an MIT realm with
//! OpenLDAP and in an Active Directory.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_directory::{DirectoryConfig, TlsVersion};
use obol_testbed::ldap::{BIND_DN, BIND_PASSWORD};
use obol_testbed::people::{GROUP_DN, USER_DN, group_dn, user_dn};
use obol_testbed::realm::HTTP_SERVICE;
use obol_testbed::samba::people::SERVICE_ACCOUNT;
use obol_testbed::{AdOptions, Realm, RealmOptions, SambaAd};
use serde_json::{Value, json};

use crate::Failure;
use crate::process::Server;

pub(crate) const USERS: usize = 256;
const GROUPS: usize = 24;
/// Groups of each user.
const GROUPS_EACH: usize = 6;
pub(crate) const PASSWORD: &str = "bench-password";

/// The n-th user, beginning again after the last.
pub(crate) fn user(n: usize) -> String {
    format!("bench-{:03}", n % USERS)
}

fn group(n: usize) -> String {
    format!("squad-{n:02}")
}

/// The users of a group.
fn members(group: usize) -> impl Iterator<Item = String> {
    let is_in = move |user: &usize| (group + GROUPS - user % GROUPS) % GROUPS < GROUPS_EACH;
    (0..USERS).filter(is_in).map(user)
}

/// A realm, and how a server takes its tickets.
pub(crate) struct World {
    /// Leads libkrb5 to the KDC.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) service: &'static str,
    /// Whose keys in the keytab count.
    pub(crate) account: &'static str,
    pub(crate) keytab: Vec<u8>,
    config: Value,
    ldap: Value,
}

impl World {
    /// Users from OpenLDAP.
    pub(crate) fn mit(realm: &Realm) -> Result<Self, Failure> {
        let principals: Vec<_> = (0..USERS).map(|n| (user(n), PASSWORD)).collect();
        realm.kdc.add_principals(&principals)?;
        let mut ldif = String::new();
        for n in 0..USERS {
            let uid = user(n);
            writeln!(
                ldif,
                "dn: {}\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: {uid}\nsn: {uid}\n",
                user_dn(&uid)
            )?;
        }
        for n in 0..GROUPS {
            let cn = group(n);
            writeln!(
                ldif,
                "dn: {}\nobjectClass: groupOfNames\ncn: {cn}",
                group_dn(&cn)
            )?;
            for uid in members(n) {
                writeln!(ldif, "member: {}", user_dn(&uid))?;
            }
            ldif.push('\n');
        }
        realm.ldap.add_ldif(&ldif)?;
        Ok(Self {
            env: realm.kdc.env(),
            service: HTTP_SERVICE,
            account: HTTP_SERVICE,
            keytab: realm.keytab().to_vec(),
            config: json!({}),
            ldap: json!({
                "url": realm.ldap.ldaps_url(),
                "certificate": realm.ldap.ca_pem(),
                "binddn": BIND_DN,
                "bindpass": BIND_PASSWORD,
                "userdn": USER_DN,
                "userattr": "uid",
                "groupdn": GROUP_DN,
                "groupattr": "cn",
                "tls_max_version": "tls13",
            }),
        })
    }

    /// Groups out of the ticket; the directory, asked with the keytab, says what they are called.
    pub(crate) fn ad(domain: &SambaAd) -> Result<Self, Failure> {
        let (people, groups) = (domain.user_dn(), domain.group_dn());
        let upn = domain.realm().to_lowercase();
        let password: Vec<u8> = format!("\"{PASSWORD}\"")
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        let password = STANDARD.encode(password);
        let mut ldif = String::new();
        for n in 0..USERS {
            let uid = user(n);
            let dn = format!("CN={uid},{people}");
            writeln!(
                ldif,
                "dn: {dn}\nchangetype: add\nobjectClass: user\nsAMAccountName: {uid}\n\
                 userPrincipalName: {uid}@{upn}\nuserAccountControl: 512\n\n\
                 dn: {dn}\nchangetype: modify\nreplace: unicodePwd\nunicodePwd:: {password}\n"
            )?;
        }
        for n in 0..GROUPS {
            let cn = group(n);
            // A global security group (MS-ADTS 2.2.12).
            writeln!(
                ldif,
                "dn: CN={cn},{groups}\nchangetype: add\nobjectClass: group\n\
                 sAMAccountName: {cn}\ngroupType: -2147483646"
            )?;
            for uid in members(n) {
                writeln!(ldif, "member: CN={uid},{people}")?;
            }
            ldif.push('\n');
        }
        domain.modify_ldif(&ldif)?;
        Ok(Self {
            env: domain.env(),
            service: HTTP_SERVICE,
            account: SERVICE_ACCOUNT,
            keytab: domain.keytab(SERVICE_ACCOUNT)?,
            config: json!({ "group_source": "pac" }),
            ldap: json!({
                "url": domain.ldaps_url(),
                "certificate": domain.ca_pem(),
                "bind_with_keytab": true,
                "userdn": people,
                "userattr": "sAMAccountName",
                "groupdn": groups,
                "groupattr": "cn",
                "tls_max_version": "tls13",
            }),
        })
    }

    /// `auth/kerberos` for this realm on a server that has just been set up, with a policy for each group.
    pub(crate) async fn configure(
        &self,
        server: &Server,
        root: &str,
        cache_ttl: &str,
    ) -> Result<(), Failure> {
        let mut config = self.config.clone();
        config["keytab"] = STANDARD.encode(&self.keytab).into();
        config["service_account"] = self.account.into();
        let mut ldap = self.ldap.clone();
        ldap["cache_ttl"] = cache_ttl.into();
        for (path, body) in [
            ("sys/auth/kerberos", json!({ "type": "kerberos" })),
            ("auth/kerberos/config", config),
            ("auth/kerberos/config/ldap", ldap),
        ] {
            server
                .call("POST", &format!("/v1/{path}"), root, Some(body))
                .await?;
        }
        for n in 0..GROUPS {
            let name = group(n);
            server
                .call(
                    "POST",
                    &format!("/v1/auth/kerberos/groups/{name}"),
                    root,
                    Some(json!({ "policies": name })),
                )
                .await?;
        }
        Ok(())
    }

    /// What the server makes of this realm's `config/ldap`.
    pub(crate) fn directory(&self) -> DirectoryConfig {
        let text = |field: &str| self.ldap[field].as_str().unwrap_or_default().to_owned();
        DirectoryConfig {
            url: text("url"),
            certificate: text("certificate"),
            binddn: text("binddn"),
            bindpass: text("bindpass").into(),
            userdn: text("userdn"),
            userattr: text("userattr"),
            groupdn: text("groupdn"),
            groupattr: text("groupattr"),
            tls_max_version: TlsVersion::Tls13,
            cache_ttl: Duration::ZERO,
            ..DirectoryConfig::default()
        }
    }
}

/// Whether a login got the policies of the user's groups.
pub(crate) fn has_policies_of_groups(login: &[u8]) -> Result<bool, Failure> {
    let login: Value = serde_json::from_slice(login)?;
    let policies = login["auth"]["policies"].as_array().ok_or("no policies")?;
    let of_groups = policies
        .iter()
        .filter(|policy| policy.as_str().is_some_and(|p| p.starts_with("squad-")));
    Ok(of_groups.count() == GROUPS_EACH)
}

pub(crate) fn start_mit() -> Result<Realm, Failure> {
    eprintln!("  starting an MIT realm with OpenLDAP ...");
    Ok(Realm::start(RealmOptions::default())?)
}

pub(crate) fn start_ad() -> Result<SambaAd, Failure> {
    eprintln!("  starting an Active Directory ...");
    let domain = SambaAd::start_telling(AdOptions::default(), &|text| eprintln!("  {text}"))?;
    Ok(domain)
}
