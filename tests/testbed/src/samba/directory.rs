//! The domain's contents: accounts, groups, service names, key versions and keytabs. Changes go
//! straight to the database (ldb's tools), which a running domain controller sees at once.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::people::Scope;
use super::{SambaAd, conf, lock, seed};
use crate::error::{Doing, Error, Result, read, run};
use crate::keytab::Keytab;
use crate::ldif::{self, Ldif};
use crate::people::escape_rdn;
use crate::programs::{LDBMODIFY, LDBSEARCH, SAMBA_TOOL};

/// Accounts are named by their sAMAccountName throughout.
impl SambaAd {
    // --- looking ------------------------------------------------------------------------------

    /// `DC=ad,DC=example,DC=com`.
    pub fn base_dn(&self) -> String {
        seed::base_dn(self.realm())
    }

    /// Where users are; the crowd is one level below.
    pub fn user_dn(&self) -> String {
        seed::people_dn(self.realm())
    }

    /// Where groups are.
    pub fn group_dn(&self) -> String {
        seed::groups_dn(self.realm())
    }

    /// The DN of an account, be it a user, a group or a computer.
    pub fn dn_of(&self, account: &str) -> Result<String> {
        self.attribute(account, "dn")
    }

    /// `S-1-5-21-...`
    pub fn sid_of(&self, account: &str) -> Result<String> {
        self.attribute(account, "objectSid")
    }

    /// The domain's SID: that of each account without the last number.
    pub fn domain_sid(&self) -> Result<String> {
        let sid = self.sid_of("krbtgt")?;
        Ok(sid
            .rsplit_once('-')
            .map_or(sid.as_str(), |(domain, _)| domain)
            .to_owned())
    }

    /// The version of an account's key.
    pub fn kvno(&self, account: &str) -> Result<u32> {
        let text = self.attribute(account, "msDS-KeyVersionNumber")?;
        text.parse()
            .map_err(|_| Error::Usage(format!("{account} has key version {text:?}")))
    }

    /// The first value of an account's attribute.
    pub fn attribute(&self, account: &str, name: &str) -> Result<String> {
        let filter = format!("(sAMAccountName={})", escape_filter(account));
        let entries = ldif::parse(&self.search(&filter, &[name])?);
        let entry = entries
            .first()
            .ok_or_else(|| Error::Usage(format!("no account {account:?} in the domain")))?;
        entry
            .iter()
            .find(|(attribute, _)| attribute.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.clone())
            .ok_or_else(|| Error::Usage(format!("{account} has no {name}")))
    }

    /// Searches the whole domain with all rights; returns LDIF, a line for each value.
    pub fn search(&self, filter: &str, attributes: &[&str]) -> Result<String> {
        let mut ldbsearch = self.ldb(&LDBSEARCH.find()?, &conf::database(&self.dc_dir()));
        ldbsearch
            .args(["-b", &self.base_dn(), "--controls=domain_scope:1"])
            .arg(filter)
            .args(attributes);
        Ok(ldif::unfold(&run(&mut ldbsearch, b"")?))
    }

    // --- accounts -----------------------------------------------------------------------------

    /// Adds a user in the way of [`super::people::USERS`].
    pub fn add_user(&self, name: &str, password: &str) -> Result<()> {
        let dn = format!("CN={},{}", escape_rdn(name), self.user_dn());
        let mut ldif = Ldif::default();
        seed::add_user(&mut ldif, self.realm(), &dn, name, name, password);
        self.modify_ldif(&ldif.0)?;
        lock(&self.passwords).insert(name.to_owned(), password.to_owned());
        Ok(())
    }

    /// Removes a user or a group.
    pub fn remove(&self, account: &str) -> Result<()> {
        self.on(account, "changetype: delete\n")?;
        lock(&self.passwords).remove(account);
        Ok(())
    }

    /// Sets a new password and returns the version of the key it makes. The keys before it are
    /// remembered for [`keytab_of_versions`](Self::keytab_of_versions).
    pub fn set_password(&self, account: &str, password: &str) -> Result<u32> {
        let before = Keytab::parse(&self.keytab(account)?)?;
        let mut ldif = Ldif::default();
        seed::set_password(&mut ldif, &self.dn_of(account)?, password);
        self.modify_ldif(&ldif.0)?;
        lock(&self.passwords).insert(account.to_owned(), password.to_owned());
        lock(&self.old_keys)
            .entry(account.to_owned())
            .or_default()
            .entries
            .extend(before.entries);
        self.kvno(account)
    }

    pub fn disable(&self, account: &str) -> Result<()> {
        self.control(account, |flags| flags | ACCOUNT_DISABLED)
    }

    pub fn enable(&self, account: &str) -> Result<()> {
        self.control(account, |flags| flags & !ACCOUNT_DISABLED)
    }

    /// Changes userAccountControl (MS-ADTS 2.2.16).
    pub fn control(&self, account: &str, change: impl Fn(u32) -> u32) -> Result<()> {
        let text = self.attribute(account, "userAccountControl")?;
        let flags: u32 = text
            .parse()
            .map_err(|_| Error::Usage(format!("{account} has userAccountControl {text:?}")))?;
        self.replace(account, "userAccountControl", &change(flags).to_string())
    }

    /// From now on the account must change its password before it gets a ticket.
    pub fn expire_password(&self, account: &str) -> Result<()> {
        self.replace(account, "pwdLastSet", "0")
    }

    /// The encryption types (numbers of [`crate::keytab`]) of tickets for the account's services,
    /// as msDS-SupportedEncryptionTypes (MS-KILE 2.2.7); with none, the attribute is removed, and
    /// the KDC takes its default.
    pub fn set_enctypes(&self, account: &str, enctypes: &[u16]) -> Result<()> {
        let flags = seed::enctype_flags(enctypes)?;
        if flags == 0 {
            self.on(
                account,
                &format!("changetype: modify\nreplace: {}\n", seed::ENCTYPES),
            )
        } else {
            self.replace(account, seed::ENCTYPES, &flags.to_string())
        }
    }

    // --- service names ------------------------------------------------------------------------

    /// Adds a servicePrincipalName, such as `HTTP/localhost:8200`. One that another account has is
    /// refused, as a domain controller does.
    pub fn add_spn(&self, account: &str, spn: &str) -> Result<()> {
        self.change(account, "add", "servicePrincipalName", spn)
    }

    /// The same behind the domain controller's back: the fault of a name on two accounts, which
    /// old domains have, and for which the KDC then finds no server.
    pub fn add_duplicate_spn(&self, account: &str, spn: &str) -> Result<()> {
        self.raw_spn(account, "add", spn)
    }

    pub fn remove_spn(&self, account: &str, spn: &str) -> Result<()> {
        // Where the name is on two accounts, the rules forbid even this.
        self.change(account, "delete", "servicePrincipalName", spn)
            .or_else(|_| self.raw_spn(account, "delete", spn))
    }

    fn raw_spn(&self, account: &str, how: &str, spn: &str) -> Result<()> {
        let mut ldif = Ldif::default();
        seed::change(
            &mut ldif,
            &self.dn_of(account)?,
            how,
            "servicePrincipalName",
            spn,
        );
        let database = conf::raw_database(&self.dc_dir(), &self.base_dn());
        run(
            &mut self.ldb(&LDBMODIFY.find()?, &database),
            ldif.0.as_bytes(),
        )
        .map(drop)
    }

    // --- groups -------------------------------------------------------------------------------

    /// Adds a global security group with these members.
    pub fn add_group(&self, name: &str, members: &[&str]) -> Result<()> {
        self.add_group_of(Scope::Global, name, members)
    }

    pub fn add_group_of(&self, scope: Scope, name: &str, members: &[&str]) -> Result<()> {
        let dn = format!("CN={},{}", escape_rdn(name), self.group_dn());
        let members: Vec<String> = members
            .iter()
            .map(|member| self.dn_of(member))
            .collect::<Result<_>>()?;
        let members: Vec<&str> = members.iter().map(String::as_str).collect();
        let mut ldif = Ldif::default();
        seed::add_group(&mut ldif, &dn, name, scope, &members);
        self.modify_ldif(&ldif.0)
    }

    /// Adds a user or a group to a group.
    pub fn add_member(&self, group: &str, member: &str) -> Result<()> {
        self.change(group, "add", "member", &self.dn_of(member)?)
    }

    pub fn remove_member(&self, group: &str, member: &str) -> Result<()> {
        self.change(group, "delete", "member", &self.dn_of(member)?)
    }

    /// Gives a group another name, in its DN as in its sAMAccountName. Its SID stays.
    pub fn rename_group(&self, group: &str, name: &str) -> Result<()> {
        let mut rdn = Ldif::default();
        rdn.line("newrdn", &format!("CN={}", escape_rdn(name)));
        self.replace(group, "sAMAccountName", name)?;
        self.on(
            name,
            &format!("changetype: modrdn\n{}deleteoldrdn: 1\n", rdn.0),
        )
    }

    // --- keytabs ------------------------------------------------------------------------------

    /// A keytab with the account's present keys, under the account's name alone: what ktpass and
    /// msktutil make for an account, whatever services it has.
    pub fn keytab(&self, account: &str) -> Result<Vec<u8>> {
        let file = self.scratch.fresh("keytab");
        let mut tool = self.command(SAMBA_TOOL.find()?);
        tool.args(["domain", "exportkeytab"])
            .arg(&file)
            .arg(format!("--principal={account}"))
            .arg(format!("--configfile={}", self.smb_conf().display()))
            .current_dir("/");
        run(&mut tool, b"")?;
        let bytes = read(&file)?;
        fs::remove_file(&file).doing(|| format!("removing {}", file.display()))?;
        Ok(bytes)
    }

    /// The same with the keys of these encryption types only (numbers of [`crate::keytab`]).
    pub fn keytab_with_enctypes(&self, account: &str, enctypes: &[u16]) -> Result<Vec<u8>> {
        let keytab = Keytab::parse(&self.keytab(account)?)?;
        Ok(keytab
            .retain(|entry| enctypes.contains(&entry.enctype))
            .to_bytes())
    }

    /// Present keys and those before each [`set_password`](Self::set_password), newest last: what
    /// an administrator leaves in a keytab while old tickets are about.
    pub fn keytab_of_versions(&self, account: &str) -> Result<Vec<u8>> {
        let mut keytab = lock(&self.old_keys)
            .get(account)
            .cloned()
            .unwrap_or_default();
        let present = Keytab::parse(&self.keytab(account)?)?;
        keytab.entries.extend(present.entries);
        Ok(keytab.to_bytes())
    }

    /// The account's present keys under a service's name, such as `HTTP/localhost`: what ktpass
    /// makes with `/princ`.
    pub fn keytab_as(&self, account: &str, service: &str) -> Result<Vec<u8>> {
        let mut keytab = Keytab::parse(&self.keytab(account)?)?;
        for entry in &mut keytab.entries {
            entry.components = service.split('/').map(str::to_owned).collect();
        }
        Ok(keytab.to_bytes())
    }

    // --- how ----------------------------------------------------------------------------------

    /// Changes entries with all rights, all or none: LDIF, each with its `changetype`.
    pub fn modify_ldif(&self, ldif: &str) -> Result<()> {
        let database = conf::database(&self.dc_dir());
        let mut ldbmodify = self.ldb(&LDBMODIFY.find()?, &database);
        run(&mut ldbmodify, ldif.as_bytes()).map(drop)
    }

    /// Makes `ldap/ADDRESS` a service of the domain controller.
    pub(super) fn name_address(&self) -> Result<()> {
        let host = conf::HOST.to_uppercase();
        let dn = format!("CN={host},OU=Domain Controllers,{}", self.base_dn());
        let spn = format!("ldap/{}", self.address());
        let mut ldif = Ldif::default();
        seed::change(&mut ldif, &dn, "add", "servicePrincipalName", &spn);
        self.modify_ldif(&ldif.0)
    }

    fn replace(&self, account: &str, attribute: &str, value: &str) -> Result<()> {
        self.change(account, "replace", attribute, value)
    }

    pub(super) fn change(
        &self,
        account: &str,
        how: &str,
        attribute: &str,
        value: &str,
    ) -> Result<()> {
        let mut ldif = Ldif::default();
        seed::change(&mut ldif, &self.dn_of(account)?, how, attribute, value);
        self.modify_ldif(&ldif.0)
    }

    /// One change of an account, without its `dn`.
    fn on(&self, account: &str, change: &str) -> Result<()> {
        let mut ldif = Ldif::default();
        ldif.line("dn", &self.dn_of(account)?);
        ldif.0.push_str(change);
        self.modify_ldif(&ldif.0)
    }

    fn ldb(&self, program: &Path, database: &Path) -> Command {
        let mut command = self.command(program);
        command
            .arg("-H")
            .arg(database)
            .arg(format!("--configfile={}", self.smb_conf().display()))
            .current_dir("/");
        command
    }
}

/// A value in a search filter (RFC 4515, section 3).
pub fn escape_filter(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '*' | '(' | ')' | '\\' | '\0' => out.push_str(&format!("\\{:02x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out
}

const ACCOUNT_DISABLED: u32 = 2;
