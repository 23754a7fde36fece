//! The programs a realm is made of, where they live, and the Debian package that brings each.

use std::env;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A program the testbed runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    pub name: &'static str,
    pub package: &'static str,
}

pub const KRB5KDC: Program = Program {
    name: "krb5kdc",
    package: "krb5-kdc",
};
pub const KDB5_UTIL: Program = Program {
    name: "kdb5_util",
    package: "krb5-kdc",
};
pub const KADMIN_LOCAL: Program = Program {
    name: "kadmin.local",
    package: "krb5-admin-server",
};
pub const KINIT: Program = Program {
    name: "kinit",
    package: "krb5-user",
};
pub const KVNO: Program = Program {
    name: "kvno",
    package: "krb5-user",
};
pub const SLAPD: Program = Program {
    name: "slapd",
    package: "slapd",
};
pub const LDAPADD: Program = Program {
    name: "ldapadd",
    package: "ldap-utils",
};
pub const LDAPMODIFY: Program = Program {
    name: "ldapmodify",
    package: "ldap-utils",
};
pub const LDAPDELETE: Program = Program {
    name: "ldapdelete",
    package: "ldap-utils",
};
pub const LDAPSEARCH: Program = Program {
    name: "ldapsearch",
    package: "ldap-utils",
};
pub const LDAPWHOAMI: Program = Program {
    name: "ldapwhoami",
    package: "ldap-utils",
};
pub const SETPRIV: Program = Program {
    name: "setpriv",
    package: "util-linux",
};

pub const SAMBA: Program = Program {
    name: "samba",
    package: "samba-ad-dc",
};
pub const SAMBA_TOOL: Program = Program {
    name: "samba-tool",
    package: "samba-common-bin",
};
pub const LDBMODIFY: Program = Program {
    name: "ldbmodify",
    package: "ldb-tools",
};
pub const LDBSEARCH: Program = Program {
    name: "ldbsearch",
    package: "ldb-tools",
};

/// Everything that [`crate::SambaAd`] needs.
pub const AD: &[Program] = &[
    SAMBA, SAMBA_TOOL, LDBMODIFY, LDBSEARCH, KINIT, KVNO, SETPRIV,
];

/// Everything that [`crate::Realm`] needs.
pub const ALL: &[Program] = &[
    KRB5KDC,
    KDB5_UTIL,
    KADMIN_LOCAL,
    KINIT,
    KVNO,
    SLAPD,
    LDAPADD,
    LDAPMODIFY,
    LDAPDELETE,
    LDAPSEARCH,
    LDAPWHOAMI,
    SETPRIV,
];

impl Program {
    /// The program's file, looked up on PATH and then where Debian keeps daemons, because the
    /// PATH of a user other than root does not lead there.
    pub fn find(self) -> Result<PathBuf> {
        let path = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&path)
            .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
            .map(|dir| dir.join(self.name))
            .find(|file| is_executable(file))
            .ok_or_else(|| Error::MissingProgram {
                program: self.name.to_owned(),
                package: self.package,
            })
    }
}

/// Those of `programs` that are not installed, in the same order.
pub fn missing(programs: &[Program]) -> Vec<Program> {
    programs
        .iter()
        .copied()
        .filter(|program| program.find().is_err())
        .collect()
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_the_package_that_brings_it() {
        let missing = Program {
            name: "no-such-daemon",
            package: "no-such-package",
        }
        .find();
        let said = missing.map_err(|error| error.to_string());
        assert_eq!(
            said,
            Err(
                "`no-such-daemon` is not installed; as root: apt-get install no-such-package"
                    .to_owned()
            )
        );
    }
}
