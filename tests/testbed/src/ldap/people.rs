//! Who is in the directory: users, groups of each common kind, and names that want escaping.

/// Where users are.
pub const USER_DN: &str = "ou=Users,dc=example,dc=com";
/// Where groups are.
pub const GROUP_DN: &str = "ou=Groups,dc=example,dc=com";
pub const SUFFIX: &str = "dc=example,dc=com";

#[derive(Clone, Copy, Debug)]
pub struct User {
    pub uid: &'static str,
    pub name: &'static str,
    pub password: &'static str,
}

/// Ordinary users. `admin` and `grace/admin` are two principals; only the first is in the directory.
pub const USERS: &[User] = &[
    User {
        uid: "grace",
        name: "Grace Hopper",
        password: "grace-password",
    },
    User {
        uid: "joan",
        name: "Joan Clarke",
        password: "joan-password",
    },
    User {
        uid: "admin",
        name: "Ada Admin",
        password: "admin-password",
    },
    User {
        uid: "loner",
        name: "In No Group",
        password: "loner-password",
    },
    User {
        uid: "many",
        name: "In Many Groups",
        password: "many-password",
    },
];

/// Names that change a filter or a DN when they are not escaped. All are users, each with
/// [`AWKWARD_PASSWORD`], each a member of the group `awkward`, and of no other.
pub const AWKWARD_NAMES: &[&str] = &[
    "*",
    "gr*",
    "open(paren",
    "close)paren",
    "*)(uid=*",
    "back\\slash",
    "\\2a",
    "comma,ou=Groups",
    "plus+cn=admin",
    "quote\"quote",
    "#hash",
    " lead",
    "trail ",
    "less<more>",
    "semi;colon",
    "equals=sign",
    "grüße-Łódź-日本",
];
pub const AWKWARD_PASSWORD: &str = "awkward-password";

/// The user of these teams is `many`: `team-000` to `team-299`.
pub const TEAMS: usize = 300;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `member` holds DNs; the members' memberOf leads back.
    GroupOfNames,
    /// `uniqueMember` holds DNs.
    GroupOfUniqueNames,
    /// `memberUid` holds user names.
    Posix,
}

#[derive(Clone, Copy, Debug)]
pub struct Group {
    pub cn: &'static str,
    pub kind: Kind,
    /// User names.
    pub users: &'static [&'static str],
    /// Names of groups whose members are members, for software that follows nesting.
    pub groups: &'static [&'static str],
}

pub const GROUPS: &[Group] = &[
    Group {
        cn: "engineers",
        kind: Kind::GroupOfNames,
        users: &["grace", "admin"],
        groups: &[],
    },
    Group {
        cn: "scientists",
        kind: Kind::GroupOfNames,
        users: &["joan"],
        groups: &[],
    },
    Group {
        cn: "Admins",
        kind: Kind::GroupOfNames,
        users: &["admin"],
        groups: &[],
    },
    Group {
        cn: "staff",
        kind: Kind::GroupOfNames,
        users: &[],
        groups: &["engineers", "scientists"],
    },
    Group {
        cn: "research, development + \"more\"",
        kind: Kind::GroupOfNames,
        users: &["joan"],
        groups: &[],
    },
    Group {
        cn: "reviewers",
        kind: Kind::GroupOfUniqueNames,
        users: &["joan"],
        groups: &[],
    },
    Group {
        cn: "coders",
        kind: Kind::Posix,
        users: &["grace"],
        groups: &[],
    },
];

/// DN of a user, escaped.
pub fn user_dn(uid: &str) -> String {
    format!("uid={},{USER_DN}", escape_rdn(uid))
}

/// DN of a group, escaped.
pub fn group_dn(cn: &str) -> String {
    format!("cn={},{GROUP_DN}", escape_rdn(cn))
}

/// An attribute value inside a DN (RFC 4514, section 2.4).
pub fn escape_rdn(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut out = String::with_capacity(value.len());
    for (i, c) in value.chars().enumerate() {
        let special = matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=');
        if special || (i == 0 && matches!(c, ' ' | '#')) || (i == last && c == ' ') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_where_a_dn_needs_it() {
        assert_eq!(escape_rdn(" a#,b "), "\\ a#\\,b\\ ");
        assert_eq!(escape_rdn("#a"), "\\#a");
        assert_eq!(escape_rdn(" "), "\\ ");
        assert_eq!(escape_rdn("a+\"<>;=\\"), "a\\+\\\"\\<\\>\\;\\=\\\\");
        assert_eq!(user_dn("grace"), "uid=grace,ou=Users,dc=example,dc=com");
    }
}
