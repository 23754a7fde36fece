//! The LDIF that fills a new domain, for ldbmodify: one transaction.

use std::collections::HashMap;
use std::fmt::Write;

use super::people::{
    CROWD, CROWD_SIZE, DISABLED, EXPIRED, GROUPS, HTTP_SERVICE, SERVICE_ACCOUNT, SERVICE_PASSWORD,
    Scope, TEAMS, USERS,
};
use crate::error::{Error, Result};
use crate::keytab::{AES128_CTS_HMAC_SHA1_96, AES256_CTS_HMAC_SHA1_96, ARCFOUR_HMAC};
use crate::ldif::{Ldif, base64};
use crate::people::escape_rdn;

/// `DC=ad,DC=example,DC=com` for AD.EXAMPLE.COM.
pub(super) fn base_dn(realm: &str) -> String {
    let labels: Vec<String> = realm
        .to_lowercase()
        .split('.')
        .map(|label| format!("DC={label}"))
        .collect();
    labels.join(",")
}

pub(super) fn people_dn(realm: &str) -> String {
    format!("OU=People,{}", base_dn(realm))
}

pub(super) fn groups_dn(realm: &str) -> String {
    format!("OU=Groups,{}", base_dn(realm))
}

/// Everything in [`super::people`].
pub(super) fn seed(realm: &str) -> String {
    let base = base_dn(realm);
    let (people, groups) = (people_dn(realm), groups_dn(realm));
    let services = format!("OU=Services,{base}");
    let mut ldif = Ldif::default();
    policy(&mut ldif, &base);
    for dn in [&people, &groups, &services] {
        add(&mut ldif, dn, "organizationalUnit", &[]);
    }

    let mut dns: HashMap<String, String> = HashMap::new();
    for user in USERS {
        let dn = format!("CN={},{people}", escape_rdn(user.cn));
        add_user(&mut ldif, realm, &dn, user.name, user.upn, user.password);
        dns.insert(user.name.to_owned(), dn);
    }
    replace(
        &mut ldif,
        &dns[DISABLED],
        "userAccountControl",
        ACCOUNT_DISABLED,
    );
    replace(&mut ldif, &dns[EXPIRED], "pwdLastSet", "0");

    let service = format!("CN={SERVICE_ACCOUNT},{services}");
    add_user(
        &mut ldif,
        realm,
        &service,
        SERVICE_ACCOUNT,
        SERVICE_ACCOUNT,
        SERVICE_PASSWORD,
    );
    replace(&mut ldif, &service, "servicePrincipalName", HTTP_SERVICE);
    replace(&mut ldif, &service, ENCTYPES, AES_ONLY);

    for group in GROUPS {
        let dn = format!("CN={},{groups}", escape_rdn(group.cn));
        let members: Vec<&str> = group
            .members
            .iter()
            .map(|name| dns[*name].as_str())
            .collect();
        add_group(&mut ldif, &dn, group.name, group.scope, &members);
        dns.insert(group.name.to_owned(), dn);
    }
    change(&mut ldif, &dns["loop-b"], "add", "member", &dns["loop-a"]);

    for n in 0..TEAMS {
        let name = format!("team-{n:03}");
        let dn = format!("CN={name},{groups}");
        add_group(&mut ldif, &dn, &name, Scope::Global, &[&dns["many"]]);
    }
    let mut crowd = vec![dns["zoe"].clone()];
    for n in 0..CROWD_SIZE {
        let name = format!("crowd-{n:04}");
        let dn = format!("CN={name},OU=Crowd,{people}");
        if n == 0 {
            add(
                &mut ldif,
                &format!("OU=Crowd,{people}"),
                "organizationalUnit",
                &[],
            );
        }
        let attributes = [
            ("sAMAccountName", name.as_str()),
            ("userAccountControl", PASSWORD_NOT_REQUIRED),
        ];
        add(&mut ldif, &dn, "user", &attributes);
        crowd.push(dn);
    }
    let crowd: Vec<&str> = crowd.iter().map(String::as_str).collect();
    let dn = format!("CN={CROWD},{groups}");
    add_group(&mut ldif, &dn, CROWD, Scope::Global, &crowd);
    ldif.0
}

/// Passwords of any shape that never expire: a domain may be older than 42 days when it is copied.
fn policy(ldif: &mut Ldif, base: &str) {
    const NEVER: &str = "-9223372036854775808";
    for (name, value) in [
        ("pwdProperties", "0"),
        ("minPwdAge", "0"),
        ("maxPwdAge", NEVER),
    ] {
        replace(ldif, base, name, value);
    }
}

pub(super) fn add_user(
    ldif: &mut Ldif,
    realm: &str,
    dn: &str,
    name: &str,
    upn: &str,
    password: &str,
) {
    let attributes = [
        ("sAMAccountName", name),
        (
            "userPrincipalName",
            &format!("{upn}@{}", realm.to_lowercase()),
        ),
        ("userAccountControl", NORMAL_ACCOUNT),
    ];
    add(ldif, dn, "user", &attributes);
    set_password(ldif, dn, password);
}

pub(super) fn add_group(ldif: &mut Ldif, dn: &str, name: &str, scope: Scope, members: &[&str]) {
    let group_type = scope.group_type().to_string();
    let mut attributes = vec![("sAMAccountName", name), ("groupType", &group_type)];
    attributes.extend(members.iter().map(|member| ("member", *member)));
    add(ldif, dn, "group", &attributes);
}

/// MS-ADTS 3.1.1.3.1.5: the password in quotes, in UTF-16.
pub(super) fn set_password(ldif: &mut Ldif, dn: &str, password: &str) {
    let quoted: Vec<u8> = format!("\"{password}\"")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    ldif.line("dn", dn);
    ldif.0
        .push_str("changetype: modify\nreplace: unicodePwd\nunicodePwd:: ");
    ldif.0.push_str(&base64(&quoted));
    ldif.0.push_str("\n\n");
}

/// The bits of msDS-SupportedEncryptionTypes (MS-KILE 2.2.7) for numbers of [`crate::keytab`].
pub(super) fn enctype_flags(enctypes: &[u16]) -> Result<u32> {
    enctypes.iter().try_fold(0, |flags, enctype| {
        let flag = match *enctype {
            ARCFOUR_HMAC => 0x04,
            AES128_CTS_HMAC_SHA1_96 => 0x08,
            AES256_CTS_HMAC_SHA1_96 => 0x10,
            other => {
                return Err(Error::Usage(format!(
                    "Active Directory has no bit for encryption type {other}"
                )));
            }
        };
        Ok(flags | flag)
    })
}

fn add(ldif: &mut Ldif, dn: &str, class: &str, attributes: &[(&str, &str)]) {
    ldif.line("dn", dn);
    ldif.0.push_str("changetype: add\n");
    ldif.line("objectClass", class);
    for (name, value) in attributes {
        ldif.line(name, value);
    }
    ldif.0.push('\n');
}

pub(super) fn replace(ldif: &mut Ldif, dn: &str, attribute: &str, value: &str) {
    change(ldif, dn, "replace", attribute, value);
}

/// `how` is add, delete or replace.
pub(super) fn change(ldif: &mut Ldif, dn: &str, how: &str, attribute: &str, value: &str) {
    ldif.line("dn", dn);
    writeln!(ldif.0, "changetype: modify\n{how}: {attribute}").expect("a String takes every write");
    ldif.line(attribute, value);
    ldif.0.push('\n');
}

// userAccountControl: MS-ADTS 2.2.16.
const NORMAL_ACCOUNT: &str = "512";
const ACCOUNT_DISABLED: &str = "514";
const PASSWORD_NOT_REQUIRED: &str = "544";
/// AES128 and AES256.
const AES_ONLY: &str = "24";
pub(super) const ENCTYPES: &str = "msDS-SupportedEncryptionTypes";
