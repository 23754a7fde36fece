//! Who is in the domain: the people of [`crate::people`] as Active Directory keeps them, and what
//! only it has: nesting over three kinds of group, a crowd, accounts that may not log in.

/// A user whose principal is `name@REALM`.
#[derive(Clone, Copy, Debug)]
pub struct User {
    /// sAMAccountName.
    pub name: &'static str,
    /// The RDN: what the user is called, as its owner's DN shows it.
    pub cn: &'static str,
    /// userPrincipalName before the `@`. It need not be the account's name.
    pub upn: &'static str,
    pub password: &'static str,
}

pub const USERS: &[User] = &[
    User {
        name: "grace",
        cn: "Grace Hopper",
        upn: "grace",
        password: "grace-password",
    },
    // "Last, First" is usual there: a comma that wants escaping in the DN.
    User {
        name: "joan",
        cn: "Clarke, Joan",
        upn: "joan.clarke",
        password: "joan-password",
    },
    User {
        name: "admin",
        cn: "Ada Admin",
        upn: "admin",
        password: "admin-password",
    },
    // In no group but the primary one, Domain Users, which no `member` names.
    User {
        name: "loner",
        cn: "In No Group",
        upn: "loner",
        password: "loner-password",
    },
    User {
        name: "many",
        cn: "In Many Groups",
        upn: "many",
        password: "many-password",
    },
    // The last of the crowd.
    User {
        name: "zoe",
        cn: "Zoe In The Crowd",
        upn: "zoe",
        password: "zoe-password",
    },
    User {
        name: DISABLED,
        cn: "Dora Disabled",
        upn: DISABLED,
        password: "dora-password",
    },
    User {
        name: EXPIRED,
        cn: "Percy Past",
        upn: EXPIRED,
        password: "percy-password",
    },
    // Names that change a filter or a DN when they are not escaped, of those that Active Directory
    // allows. Members of the group `awkward`, and of no other.
    User {
        name: "open(paren",
        cn: "Open (Paren",
        upn: "open.paren",
        password: "awkward-password",
    },
    User {
        name: "close)paren",
        cn: "Close) \\ Paren",
        upn: "close.paren",
        password: "awkward-password",
    },
    User {
        name: "#hash",
        cn: "#hash + \"plus\"",
        upn: "hash",
        password: "awkward-password",
    },
    User {
        name: "o'hara",
        cn: "O'Hara; <Scarlett>",
        upn: "o'hara",
        password: "awkward-password",
    },
    User {
        name: "grüße-łódź",
        cn: "Grüße-Łódź-日本",
        upn: "gruesse",
        password: "awkward-password",
    },
];

/// An account that is disabled.
pub const DISABLED: &str = "dora";
/// An account whose password has to be changed before anything else.
pub const EXPIRED: &str = "percy";

/// The members of `awkward`.
pub const AWKWARD_NAMES: &[&str] = &["open(paren", "close)paren", "#hash", "o'hara", "grüße-łódź"];

/// The service's account. Its keys are AES only, as an administrator ought to set it; one that
/// says nothing gets RC4 tickets.
pub const SERVICE_ACCOUNT: &str = "vault_svc";
pub const SERVICE_PASSWORD: &str = "vault-svc-password";
/// The account's one servicePrincipalName.
pub const HTTP_SERVICE: &str = "HTTP/localhost";
/// The domain's administrator.
pub const ADMINISTRATOR: (&str, &str) = ("Administrator", "Administrator-password-1");

/// The user of these teams is `many`: `team-000` to `team-299`.
pub const TEAMS: usize = 300;
/// The members of [`CROWD`] beside `zoe`: `crowd-0000` to `crowd-1199`, who have no password.
pub const CROWD_SIZE: usize = 1200;
/// A group of more members than a server shows at once.
pub const CROWD: &str = "crowd";

/// What kind of group: it decides who may be a member, and what a ticket says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Global,
    Universal,
    DomainLocal,
    /// For mail alone: in no ticket and no tokenGroups, though searches find its members.
    Distribution,
}

impl Scope {
    /// MS-ADTS 2.2.12, as the signed number that LDAP shows.
    pub(super) fn group_type(self) -> i32 {
        const SECURITY_ENABLED: i32 = i32::MIN;
        match self {
            Self::Global => SECURITY_ENABLED | 2,
            Self::DomainLocal => SECURITY_ENABLED | 4,
            Self::Universal => SECURITY_ENABLED | 8,
            Self::Distribution => 8,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// sAMAccountName.
    pub name: &'static str,
    pub cn: &'static str,
    pub scope: Scope,
    /// Account names, of users and of groups that stand further up.
    pub members: &'static [&'static str],
}

/// `grace` is in `all-hands` by three steps: engineers, staff, all-hands.
pub const GROUPS: &[Group] = &[
    Group {
        name: "engineers",
        cn: "engineers",
        scope: Scope::Global,
        members: &["grace", "admin"],
    },
    Group {
        name: "scientists",
        cn: "scientists",
        scope: Scope::Global,
        members: &["joan"],
    },
    Group {
        name: "Admins",
        cn: "Admins",
        scope: Scope::Global,
        members: &["admin"],
    },
    Group {
        name: "staff",
        cn: "staff",
        scope: Scope::Universal,
        members: &["engineers", "scientists"],
    },
    Group {
        name: "all-hands",
        cn: "all-hands",
        scope: Scope::DomainLocal,
        members: &["staff"],
    },
    Group {
        name: "newsletter",
        cn: "newsletter",
        scope: Scope::Distribution,
        members: &["joan"],
    },
    Group {
        name: "research-and-more",
        cn: "research, development + \"more\"",
        scope: Scope::Global,
        members: &["joan"],
    },
    Group {
        name: "awkward",
        cn: "awkward",
        scope: Scope::Global,
        members: AWKWARD_NAMES,
    },
    // A circle, which Active Directory allows: `loop-a` is a member of `loop-b` as well.
    Group {
        name: "loop-b",
        cn: "loop-b",
        scope: Scope::Universal,
        members: &["many"],
    },
    Group {
        name: "loop-a",
        cn: "loop-a",
        scope: Scope::Universal,
        members: &["loop-b"],
    },
];
