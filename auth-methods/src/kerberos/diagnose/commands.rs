//! Commands that mend a fault, with the names of this configuration put in: one for Windows (PowerShell or cmd, on a
//! domain controller or with RSAT), one for MIT Kerberos. They are shown, never run.

use obol_kerberos::Principal;

/// A command for each world; empty where that world has none.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Commands {
    pub(super) windows: String,
    pub(super) mit: String,
}

/// Names that the commands are about.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// The account in Active Directory: `vault_svc`. A service's name does not say whose it is.
    pub(super) account: String,
    /// The principal of the keytab: the account's, or the service's.
    pub(super) principal: String,
    /// The SPN: `HTTP/vault.example.com`.
    pub(super) spn: String,
    pub(super) realm: String,
}

impl Names {
    pub(super) fn new(account: &Principal, spn: &str) -> Self {
        Self {
            account: match account.instance() {
                None => account.primary().to_owned(),
                Some(_) => "ACCOUNT".to_owned(),
            },
            principal: account.components().join("/"),
            spn: spn.split('@').next().unwrap_or(spn).to_owned(),
            realm: account.realm().to_owned(),
        }
    }

    /// A new keytab with AES keys.
    pub(super) fn new_keytab(&self) -> Commands {
        let Self {
            account,
            principal,
            realm,
            ..
        } = self;
        Commands {
            windows: format!(
                "ktpass -princ {principal}@{realm} -mapuser {account} -pass * -crypto AES256-SHA1 -ptype KRB5_NT_PRINCIPAL -out vault.keytab"
            ),
            mit: format!("kadmin -q \"ktadd -k vault.keytab {principal}\""),
        }
    }

    /// AES for the account.
    pub(super) fn enable_aes(&self) -> Commands {
        let Self { account, spn, .. } = self;
        Commands {
            windows: format!(
                "Set-ADUser {account} -KerberosEncryptionType AES128,AES256   (then set its password anew and export the keytab)"
            ),
            mit: format!("kadmin -q \"cpw -randkey -e aes256-cts:normal,aes128-cts:normal {spn}\""),
        }
    }

    /// The SPN, given to the account.
    pub(super) fn register_spn(&self) -> Commands {
        let Self { account, spn, .. } = self;
        Commands {
            windows: format!("setspn -S {spn} {account}"),
            mit: format!("kadmin -q \"addprinc -randkey {spn}\""),
        }
    }

    /// Who has the SPN.
    pub(super) fn find_spn(&self) -> Commands {
        let Self { spn, .. } = self;
        Commands {
            windows: format!(
                "setspn -Q {spn}   (remove it from the wrong account: setspn -D {spn} ACCOUNT)"
            ),
            mit: format!("kadmin -q \"getprinc {spn}\""),
        }
    }

    /// A client that was led to another name: which one its own computer makes of the host.
    pub(super) fn other_name(&self) -> Commands {
        let Self { spn, .. } = self;
        Commands {
            windows: format!("setspn -Q {spn}"),
            mit: "[libdefaults] rdns = false, dns_canonicalize_hostname = false".to_owned(),
        }
    }

    pub(super) fn enable_account(&self) -> Commands {
        let Self { account, .. } = self;
        Commands {
            windows: format!("Enable-ADAccount {account}; Unlock-ADAccount {account}"),
            mit: format!("kadmin -q \"modprinc +allow_tix -unlock {account}\""),
        }
    }

    pub(super) fn renew_password(&self) -> Commands {
        let Self { account, .. } = self;
        Commands {
            windows: format!(
                "Set-ADUser {account} -PasswordNeverExpires $true; Set-ADAccountPassword {account} -Reset   (then export the keytab)"
            ),
            mit: format!("kadmin -q \"modprinc -pwexpire never {account}\""),
        }
    }
}

/// Clocks.
pub(super) fn set_clock() -> Commands {
    Commands {
        windows: "w32tm /resync".to_owned(),
        mit: "chronyc makestep".to_owned(),
    }
}

/// Tickets that a client holds.
pub(super) fn drop_tickets() -> Commands {
    Commands {
        windows: "klist purge".to_owned(),
        mit: "kdestroy && kinit".to_owned(),
    }
}
