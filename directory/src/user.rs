//! Who a name is in the directory: the search for a user's entry, and whether the entry that was found is really the
//! user who was asked for.
//!
//! A directory compares names by its own rules: it ignores case, and often spaces, accents or look-alike characters
//! as well. Kerberos does not, and neither do policies that are mapped to a name: there `é` and `e` are two users. So
//! what a filter compares with the name is read back, and must say the name, case aside.

use std::time::{Duration, SystemTime};

use crate::dn;
use crate::error::{DirectoryError, ResultCode};
use crate::filter;
use crate::lookup::{Directory, Via};
use crate::name;
use crate::session::{Entry, Query, Scope};
use crate::sid::sid_text;

/// A user's entry.
pub(crate) struct UserEntry {
    pub(crate) dn: String,
    /// The name in `userattr`, as the directory spells it; the name that was asked for where it cannot be read.
    pub(crate) name: String,
    pub(crate) standing: Standing,
}

/// What the entry says of the account itself. Read with the entry, because nobody binds as the user at a renewal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Active Directory has disabled the account (MS-ADTS 2.2.16), or a password policy has locked it for good
    /// (`pwdAccountLockedTime`, draft-behera-ldap-password-policy §5.3.3), or 389-DS and FreeIPA have (`nsAccountLock`).
    pub is_disabled: bool,
    /// When the account ends (`accountExpires`, MS-ADA1 2.2); `None`: never, as far as is known. Its domain controllers give
    /// no tickets from then on, and do not end the ones that are there.
    pub expires: Option<SystemTime>,
    /// When the password was set, as the directory writes it; `None` where it does not say.
    pub password_set: Option<String>,
    /// The account's SID in Active Directory (`objectSid`), as `S-1-5-21-...`; `None` where the directory has none.
    pub sid: Option<String>,
}

impl Standing {
    /// Why the account may not be used at this time.
    pub fn shut_out(&self, now: SystemTime) -> Option<&'static str> {
        if self.is_disabled {
            return Some("the account is disabled in the directory");
        }
        let is_over = self.expires.is_some_and(|end| end <= now);
        is_over.then_some("the account has expired in the directory")
    }

    const ATTRIBUTES: [&str; 7] = [
        "userAccountControl",
        "accountExpires",
        "pwdLastSet",
        "pwdChangedTime",
        "pwdAccountLockedTime",
        "nsAccountLock",
        "objectSid",
    ];

    /// `asked` are the attributes that the entry was read with.
    fn read<T: AsRef<str>>(entry: &Entry, asked: &[T]) -> Self {
        let first = |name: &str| {
            let place = asked
                .iter()
                .position(|asked| asked.as_ref().eq_ignore_ascii_case(name))?;
            entry.attributes.get(place)?.first()
        };
        let [control, expires, set, changed, locked, ns_lock, sid] = Self::ATTRIBUTES.map(first);
        let text = |value: &Vec<u8>| String::from_utf8_lossy(value).into_owned();
        let [control, expires, set, changed, locked, ns_lock] =
            [control, expires, set, changed, locked, ns_lock].map(|value| value.map(text));
        let control = control.and_then(|control| control.parse::<i64>().ok());
        Self {
            is_disabled: control.is_some_and(|control| control & ACCOUNT_DISABLE != 0)
                || locked.is_some_and(|locked| locked.starts_with(LOCKED_FOR_GOOD))
                || ns_lock.is_some_and(|lock| lock.eq_ignore_ascii_case("true")),
            expires: expires.and_then(|expires| end_of(&expires)),
            password_set: set.or(changed),
            sid: sid.and_then(|sid| sid_text(sid)),
        }
    }
}

/// How a user's DN comes about.
pub(crate) enum UserSearch {
    /// Of `userattr`, the name and `userdn`, without asking.
    Composed(String),
    Search(SearchForUser),
}

pub(crate) struct SearchForUser {
    pub(crate) filter: String,
    /// `userattr`, and then whatever else the filter compares.
    attributes: Vec<String>,
    /// What one of the attributes (by its place in `attributes`) must say, case aside. None where the filter compares
    /// the name in no way that can be checked.
    wanted: Vec<(usize, String)>,
}

impl SearchForUser {
    fn new(filter: String, user_attr: &str, compared: Vec<(String, String)>) -> Self {
        let mut attributes = vec![user_attr.to_owned()];
        let mut wanted = Vec::with_capacity(compared.len());
        for (attribute, value) in compared {
            let known = attributes
                .iter()
                .position(|known| known.eq_ignore_ascii_case(&attribute));
            let place = known.unwrap_or(attributes.len());
            if known.is_none() {
                attributes.push(attribute);
            }
            wanted.push((place, value));
        }
        for name in Standing::ATTRIBUTES {
            if !attributes
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
            {
                attributes.push(name.to_owned());
            }
        }
        Self {
            filter,
            attributes,
            wanted,
        }
    }
}

impl Directory {
    pub(crate) async fn user_entry(
        &self,
        username: &str,
        via: &mut Via,
    ) -> Result<UserEntry, DirectoryError> {
        let search = match self.user_search(username)? {
            UserSearch::Composed(dn) => {
                return Ok(UserEntry {
                    dn,
                    name: username.to_owned(),
                    standing: Standing::default(),
                });
            }
            UserSearch::Search(search) => search,
        };
        let found = self.users_found(&search, 2, via).await?;
        self.only_user(username, &search, &found)
    }

    pub(crate) fn user_search(&self, username: &str) -> Result<UserSearch, DirectoryError> {
        self.check_name(username)?;
        let settings = &self.inner().settings;
        let search = if let Some(domain) = &settings.upn_domain {
            let wanted = format!("{username}@{domain}");
            SearchForUser::new(
                format!("(userPrincipalName={})", filter::escape_value(&wanted)),
                &settings.user_attr,
                vec![("userPrincipalName".to_owned(), wanted)],
            )
        } else if settings.discover {
            let values = [
                ("UserAttr", settings.user_attr.as_str()),
                ("Username", username),
            ];
            let filter = settings
                .user_filter
                .render(&values)
                .map_err(|cause| self.broken_template(cause))?;
            SearchForUser::new(
                filter,
                &settings.user_attr,
                settings.user_filter.compared(&settings.user_attr, username),
            )
        } else {
            return Ok(UserSearch::Composed(self.composed_dn(username)));
        };
        Ok(UserSearch::Search(search))
    }

    /// The DN that a user of this name has where users are not searched for.
    pub(crate) fn composed_dn(&self, username: &str) -> String {
        let settings = &self.inner().settings;
        let name = dn::escape_value(username);
        let base = match settings.user_base.is_empty() {
            true => String::new(),
            false => format!(",{}", settings.user_base),
        };
        format!("{}={name}{base}", settings.user_attr)
    }

    /// The search, for this many entries at most.
    pub(crate) async fn users_found(
        &self,
        search: &SearchForUser,
        enough: usize,
        via: &mut Via,
    ) -> Result<Vec<Entry>, DirectoryError> {
        let attributes: Vec<&str> = search.attributes.iter().map(String::as_str).collect();
        let query = Query {
            what: "search for the user",
            base: &self.inner().settings.user_base,
            scope: Scope::Subtree,
            filter: &search.filter,
            attributes: &attributes,
            enough,
        };
        self.search(via, &query).await
    }

    /// The one entry that is the user.
    pub(crate) fn only_user(
        &self,
        username: &str,
        search: &SearchForUser,
        found: &[Entry],
    ) -> Result<UserEntry, DirectoryError> {
        let base = || self.inner().settings.user_base.clone();
        let entry = match found {
            [] => return Err(self.no_user(username, &search.filter, None)),
            [entry] => entry,
            _ => {
                return Err(DirectoryError::UserAmbiguous {
                    username: username.to_owned(),
                    base: base(),
                    filter: search.filter.clone(),
                });
            }
        };
        match differently_spelled(entry, &search.wanted) {
            Some(near) => Err(self.no_user(username, &search.filter, Some(near))),
            None => Ok(UserEntry {
                dn: entry.dn.clone(),
                name: own_name(entry, username),
                standing: Standing::read(entry, &search.attributes),
            }),
        }
    }

    /// The entry of a user who has bound with a DN that was put together. The server has compared the parts of that DN
    /// by its own rules, so the entry must say the name; read with the user's own rights.
    pub(crate) async fn composed_entry(
        &self,
        username: &str,
        dn: String,
        via: &mut Via,
    ) -> Result<UserEntry, DirectoryError> {
        let attribute = &self.inner().settings.user_attr;
        let attributes = self.entry_attributes();
        let query = Query::entry("read of the user's entry", &dn, &attributes);
        let found = match self.search(via, &query).await {
            Ok(found) => found,
            // Users who may not read themselves.
            Err(DirectoryError::Search { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        let names = found
            .first()
            .map(|entry| names(entry, 0))
            .unwrap_or_default();
        let near = match names.is_empty() {
            false => differently_spelled(&found[0], &[(0, username.to_owned())]),
            // Nothing says that the name is another: no other spelling than one that every server reads as it is
            // written (threats: `alias-case`).
            true => (!name::is_plain(username)).then(|| name::prepared(username)),
        };
        if near.is_some() {
            return Err(self.no_user(username, &format!("{attribute} of {dn}"), near));
        }
        let (name, standing) = match found.first() {
            Some(entry) => (
                own_name(entry, username),
                Standing::read(entry, &attributes),
            ),
            None => (username.to_owned(), Standing::default()),
        };
        Ok(UserEntry { dn, name, standing })
    }

    /// The entry at a DN that was put together, of a user who does not bind: it must be there, and be readable.
    pub(crate) async fn existing_entry(
        &self,
        username: &str,
        dn: String,
        via: &mut Via,
    ) -> Result<UserEntry, DirectoryError> {
        let attributes = self.entry_attributes();
        let query = Query::entry("read of the user's entry", &dn, &attributes);
        let found = match self.search(via, &query).await {
            Err(DirectoryError::Search { code, .. }) if code == ResultCode::NO_SUCH_OBJECT => {
                Vec::new()
            }
            found => found?,
        };
        let Some(entry) = found.first() else {
            return Err(self.no_user(username, &dn, None));
        };
        Ok(UserEntry {
            name: own_name(entry, username),
            standing: Standing::read(entry, &attributes),
            dn,
        })
    }

    fn entry_attributes(&self) -> Vec<&str> {
        let mut attributes = vec![self.inner().settings.user_attr.as_str()];
        attributes.extend(Standing::ATTRIBUTES);
        attributes
    }

    pub(crate) fn check_name(&self, username: &str) -> Result<(), DirectoryError> {
        match username.is_empty() {
            false => Ok(()),
            true => Err(self.no_user("", "", None)),
        }
    }

    fn no_user(&self, username: &str, filter: &str, near: Option<String>) -> DirectoryError {
        DirectoryError::UserNotFound {
            username: username.to_owned(),
            base: self.inner().settings.user_base.clone(),
            filter: filter.to_owned(),
            near,
        }
    }
}

/// The directory's spelling, if what it found is not what was asked for, case aside. An entry
/// whose names may not be read is believed.
fn differently_spelled(entry: &Entry, wanted: &[(usize, String)]) -> Option<String> {
    let mut near = None;
    for (place, wanted) in wanted {
        let folded = wanted.to_lowercase();
        for name in names(entry, *place) {
            if name.to_lowercase() == folded {
                return None;
            }
            near.get_or_insert(name);
        }
    }
    near
}

/// The name in `userattr`: of several the one that was asked for, or else always the same one.
fn own_name(entry: &Entry, username: &str) -> String {
    let folded = username.to_lowercase();
    let names = names(entry, 0);
    names
        .iter()
        .find(|name| name.to_lowercase() == folded)
        .or_else(|| names.iter().min())
        .cloned()
        .unwrap_or_else(|| username.to_owned())
}

fn names(entry: &Entry, place: usize) -> Vec<String> {
    let values = entry.attributes.get(place).map_or(&[][..], Vec::as_slice);
    values
        .iter()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

/// A time as Active Directory writes it: steps of 100 ns since 1601. Zero and the largest number are no time.
fn end_of(file_time: &str) -> Option<SystemTime> {
    let steps: u64 = file_time.parse().ok()?;
    if steps == 0 || steps >= i64::MAX as u64 {
        return None;
    }
    let since_1601 = Duration::new(steps / 10_000_000, (steps % 10_000_000) as u32 * 100);
    // What ended before 1970 has ended.
    let since_1970 = since_1601.saturating_sub(FROM_1601_TO_1970);
    SystemTime::UNIX_EPOCH.checked_add(since_1970)
}

const FROM_1601_TO_1970: Duration = Duration::from_secs(11_644_473_600);
/// ADS_UF_ACCOUNT_DISABLE.
const ACCOUNT_DISABLE: i64 = 2;
const LOCKED_FOR_GOOD: &str = "000001010000Z";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_disabled_in_the_words_of_each_directory() {
        let standing = |attribute: &str, value: &str| {
            let entry = Entry {
                dn: "uid=grace".into(),
                attributes: vec![vec![value.as_bytes().to_vec()]],
            };
            Standing::read(&entry, &[attribute]).is_disabled
        };
        // Active Directory, the password policy of OpenLDAP, and 389-DS with FreeIPA.
        assert!(standing("userAccountControl", "514"));
        assert!(standing("pwdAccountLockedTime", "000001010000Z"));
        assert!(standing("nsAccountLock", "TRUE") && standing("nsaccountlock", "true"));
        assert!(!standing("userAccountControl", "512"));
        assert!(!standing("nsAccountLock", "FALSE"));
    }

    #[test]
    fn an_account_ends_when_active_directory_says_so() {
        let ends =
            |text| end_of(text).map(|end| end.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        for never in ["0", "9223372036854775807", "", "x", "-1"] {
            assert_eq!(ends(never), None, "{never}");
        }
        assert_eq!(ends("116444736000000000"), Some(Duration::ZERO));
        assert_eq!(ends("1"), Some(Duration::ZERO), "long ago");
        // 2026-01-01T00:00:00.5Z
        let end = Duration::from_millis(1_767_225_600_500);
        assert_eq!(ends("134116992005000000"), Some(end));

        let standing = Standing {
            expires: Some(SystemTime::UNIX_EPOCH + end),
            ..Standing::default()
        };
        let at = |time| standing.shut_out(SystemTime::UNIX_EPOCH + time);
        assert_eq!(at(end - Duration::from_nanos(1)), None);
        assert!(at(end).unwrap().contains("expired"));
        assert_eq!(Standing::default().shut_out(SystemTime::now()), None);
    }
}
