//! The questions: who is this user in the directory, and which groups are they in.
//!
//! The semantics are those that Vault documents for its LDAP and Kerberos methods (`userdn`,
//! `userattr`, `userfilter`, `upndomain`, `discoverdn`, `groupdn`, `groupfilter`, `groupattr`),
//! with these differences, each of which closes a hole:
//!
//! - A user whom the directory matches only by ignoring accents, spaces or look-alike characters
//!   is not that user (Active Directory equates `é` and `e`; Kerberos does not): src/user.rs.
//! - Values of a naming attribute such as `cn` are names, never read as DNs: a group that calls
//!   itself `cn=admins` is not `admins`.
//! - If `groupfilter` finds the user's own entry and `groupattr` is absent from it, the user is in
//!   no group, rather than in a group of the user's own name.
//! - A DN's first relative name is the group's name, whatever its attribute.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use crate::cache::{Answer, Bytes, Cache, CacheCounters};
use crate::config::{ConfigError, DirectoryConfig};
use crate::dial::Dialer;
use crate::dn::Dn;
use crate::error::DirectoryError;
use crate::pool::{Lease, Pool, UserSession};
use crate::session::{Entry, Query, Scope};
use crate::settings::Settings;
use crate::sid::GroupOrNone;
use crate::user::{Standing, UserEntry, UserSearch};

/// One configured directory and its connections. Cheap to clone; the last clone closes them.
#[derive(Clone)]
pub struct Directory {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) pool: Arc<Pool>,
    /// Where group searches are to be anonymous.
    anonymous_groups: Option<Arc<Pool>>,
    /// By the name as it was asked for: one spelling never answers for another.
    users: Cache<String, Known>,
    /// By SID; `None`: no group that counts has it.
    pub(crate) sids: Cache<Vec<u8>, GroupOrNone>,
    /// A task sees to it that names in use are asked for again.
    pub(crate) renews_sids: AtomicBool,
}

/// What is remembered of a user.
#[derive(Clone)]
enum Known {
    Member(Arc<Membership>),
    Refused(DirectoryError),
}

impl From<Known> for Result<Arc<Membership>, DirectoryError> {
    fn from(known: Known) -> Self {
        match known {
            Known::Member(membership) => Ok(membership),
            Known::Refused(error) => Err(error),
        }
    }
}

/// What a directory says about a user. Names are spelled as the directory has them; folding
/// their case is the caller's decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// DN of the user's entry.
    pub user_dn: String,
    /// The user's name in `userattr`; the name that was asked for where that is not read.
    pub user_name: String,
    /// What the entry says of the account itself.
    pub standing: Standing,
    /// Names of the groups, each once, in the order they were found.
    pub groups: Vec<String>,
    /// DNs behind the names, each once.
    pub group_dns: Vec<String>,
}

/// What the caches of one directory have done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Lookups of users.
    pub users: CacheCounters,
    /// Names of SIDs.
    pub sids: CacheCounters,
}

impl Directory {
    /// Checks the configuration; makes no connection yet.
    pub fn new(config: &DirectoryConfig) -> Result<Self, ConfigError> {
        let mut settings = Settings::parse(config)?;
        let dialer = Dialer::new(&mut settings)?;
        let anonymous_groups = settings
            .anonymous_group_search
            .then(|| Pool::new(dialer.anonymous(), settings.limits));
        Ok(Self {
            inner: Arc::new(Inner {
                anonymous_groups,
                pool: Pool::new(dialer, settings.limits),
                users: Cache::new(settings.limits.cache_ttl, MAX_USER_BYTES),
                sids: Cache::new(settings.limits.sid_cache_ttl, MAX_SID_BYTES),
                renews_sids: AtomicBool::new(false),
                settings,
            }),
        })
    }

    /// What in the configuration works but deserves a second look, for the answer to the write.
    pub fn warnings(&self) -> &[String] {
        &self.inner.settings.warnings
    }

    /// Whether a user is found by `userattr`: otherwise several may have one value of it.
    pub fn finds_by_userattr(&self) -> bool {
        let settings = &self.inner.settings;
        let compared = settings.user_filter.compared(&settings.user_attr, "");
        let mut attributes = compared.iter().map(|(attribute, _)| attribute);
        !settings.discover
            || attributes.any(|attribute| attribute.eq_ignore_ascii_case(&settings.user_attr))
    }

    /// Finds a user who has proved who they are by other means, and the user's groups. With a
    /// `cache_ttl` the answer may be up to that old; a user's groups are asked for once however many
    /// logins wait.
    pub async fn lookup(&self, username: &str) -> Result<Arc<Membership>, DirectoryError> {
        let users = &self.inner.users;
        let ttl = users.ttl();
        // A question to the directory takes kilobytes, in a box: most logins ask none, and carry it along all the same.
        if ttl.is_zero() {
            let (membership, _) = Box::pin(self.ask(username, Names::Kept)).await?;
            return Ok(Arc::new(membership));
        }
        let name = username.to_owned();
        // What nearly every login finds, without the making of a question.
        if let Some(kept) = users.all_kept(std::iter::once(&name))
            && let Some(answer) = kept.into_iter().next()
        {
            return answer.value.into();
        }
        let directory = self.clone();
        let answers = users.get([name], |names, asked| {
            Box::pin(async move {
                let mut answers = HashMap::with_capacity(names.len());
                for name in names {
                    let (value, until) = match directory.ask(&name, Names::Kept).await {
                        Ok((membership, names_until)) => {
                            let until = names_until.unwrap_or(asked + ttl).min(asked + ttl);
                            (Known::Member(Arc::new(membership)), until)
                        }
                        Err(error) if error.is_refusal() => {
                            (Known::Refused(error), asked + ttl.min(REFUSAL_TTL))
                        }
                        Err(error) => return Err(error),
                    };
                    answers.insert(name, Answer { value, until });
                }
                Ok(answers)
            })
        });
        match answers.await?.remove(username).map(|answer| answer.value) {
            Some(known) => known.into(),
            // Cannot happen: each name that is asked for is answered.
            None => Box::pin(self.lookup_fresh(username)).await.map(Arc::new),
        }
    }

    /// Whether the answer for a user is remembered, so that [`Directory::lookup`] asks nothing.
    pub fn remembers(&self, username: &str) -> bool {
        let users = &self.inner.users;
        !users.ttl().is_zero() && users.keeps(&username.to_owned())
    }

    /// The same, asked of the directory now, and not remembered. The user must have an entry, also where its DN is put
    /// together.
    pub async fn lookup_fresh(&self, username: &str) -> Result<Membership, DirectoryError> {
        let (membership, _) = self.ask(username, Names::Fresh).await?;
        Ok(membership)
    }

    /// What the caches have done so far, and hold.
    pub fn cache_stats(&self) -> CacheStats {
        CacheStats {
            users: self.inner.users.counters(),
            sids: self.inner.sids.counters(),
        }
    }

    /// Forgets one user, in whatever case the name was asked for, with its realm or without. With `None`, everything,
    /// names of SIDs included. A lookup that is under way meanwhile is answered, but not remembered.
    pub fn flush(&self, username: Option<&str>) {
        let Some(username) = username else {
            self.inner.users.forget(|_| true);
            self.inner.sids.forget(|_| true);
            return;
        };
        // One too many is asked again; one too few would have groups that were taken away.
        let meant = |name: &str| name.split('@').next().unwrap_or(name).to_lowercase();
        let username = meant(username);
        self.inner.users.forget(|known| meant(known) == username);
    }

    /// Asks for a user and the user's groups; also says until when names that went into the answer
    /// may be used.
    async fn ask(
        &self,
        username: &str,
        names: Names,
    ) -> Result<(Membership, Option<Instant>), DirectoryError> {
        let mut via = Via::service(&self.inner.pool);
        let user = match (names, self.user_search(username)?) {
            (Names::Fresh, UserSearch::Composed(dn)) => {
                self.existing_entry(username, dn, &mut via).await?
            }
            _ => self.user_entry(username, &mut via).await?,
        };
        self.membership(user, username, &mut via, names).await
    }

    pub(crate) async fn membership(
        &self,
        user: UserEntry,
        username: &str,
        via: &mut Via,
        names_from: Names,
    ) -> Result<(Membership, Option<Instant>), DirectoryError> {
        let settings = &self.inner.settings;
        // In the directory's own spelling: what lists members by name (memberUid) tells case apart.
        let username = match user.name.to_lowercase() == username.to_lowercase() {
            true => user.name.clone(),
            false => username.to_owned(),
        };
        let mut membership = Membership {
            user_dn: user.dn,
            user_name: user.name,
            standing: user.standing,
            ..Membership::default()
        };
        let Some(base) = &settings.group_base else {
            return Ok((membership, None));
        };
        let mut until = None;
        let mut names = Ordered::default();
        let mut dns = Ordered::default();
        if settings.use_token_groups {
            let sids = self.token_groups(&membership.user_dn, via).await?;
            let groups;
            (groups, until) = match via {
                Via::Service(_, lease) => {
                    // Others may ask for the names, on the last connection perhaps.
                    *lease = None;
                    self.groups_of_sids(&sids, names_from).await?
                }
                // Whose names depend on the user's rights are nobody else's.
                Via::User(_) => {
                    let mut anonymous = self.inner.anonymous_groups.as_ref().map(Via::service);
                    let via = anonymous.as_mut().unwrap_or(via);
                    (self.ask_for_sids(&sids, via).await?, None)
                }
            };
            for group in sids.iter().filter_map(|sid| groups.get(sid)?.as_ref()) {
                group.names.iter().for_each(|name| names.push(name.clone()));
                group.dns.iter().for_each(|dn| dns.push(dn.clone()));
            }
        } else {
            let filter = self.group_filter(&membership.user_dn, &username)?;
            let groups = self
                .groups_by_filter(base, &filter, &membership.user_dn, via)
                .await?;
            for (name, dn) in groups {
                names.push(name);
                dns.push(dn);
            }
        }
        membership.groups = names.in_order;
        membership.group_dns = dns.in_order;
        Ok((membership, until))
    }

    /// Names and DNs of the groups that the filter finds.
    pub(crate) async fn groups_by_filter(
        &self,
        base: &str,
        filter: &str,
        user_dn: &str,
        via: &mut Via,
    ) -> Result<Vec<(String, String)>, DirectoryError> {
        let attribute = &self.inner.settings.group_attr;
        let mut anonymous = self.inner.anonymous_groups.as_ref().map(Via::service);
        let via = anonymous.as_mut().unwrap_or(via);
        let query = Query {
            what: "search for groups",
            base,
            scope: Scope::Subtree,
            filter,
            attributes: &[attribute],
            enough: 0,
        };
        let entries = self.search(via, &query).await?;
        let user = Dn::parse(user_dn).ok();
        let groups = entries.into_iter().flat_map(|entry| {
            let (dn, values) = entry.into_values();
            groups_of(dn, values, attribute, user.as_ref())
        });
        Ok(groups.collect())
    }

    /// The group filter for one user.
    pub(crate) fn group_filter(
        &self,
        user_dn: &str,
        username: &str,
    ) -> Result<String, DirectoryError> {
        self.inner
            .settings
            .group_filter
            .render(&[("UserDN", user_dn), ("Username", username)])
            .map_err(|cause| self.broken_template(cause))
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(crate) fn of(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    /// The connections that groups are searched for on.
    pub(crate) fn group_pool(&self) -> &Arc<Pool> {
        let inner = &self.inner;
        inner.anonymous_groups.as_ref().unwrap_or(&inner.pool)
    }

    pub(crate) async fn search(
        &self,
        via: &mut Via,
        query: &Query<'_>,
    ) -> Result<Vec<Entry>, DirectoryError> {
        match via {
            Via::Service(_, Some(lease)) => lease.search(query).await,
            Via::Service(pool, none) => none.insert(pool.lease().await?).search(query).await,
            Via::User(user) => {
                user.session
                    .search(query, self.inner.pool.request_timeout())
                    .await
            }
        }
    }

    /// Cannot happen with a template that was checked, and must not panic if it does.
    pub(crate) fn broken_template(&self, cause: String) -> DirectoryError {
        DirectoryError::Protocol {
            url: "this server".into(),
            cause,
        }
    }
}

/// Where the names of SIDs may come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    Kept,
    Fresh,
}

impl Bytes for Known {
    fn bytes(&self) -> usize {
        match self {
            Self::Refused(error) => error.to_string().len(),
            Self::Member(membership) => {
                let Membership {
                    user_dn,
                    user_name,
                    standing,
                    groups,
                    group_dns,
                } = &**membership;
                let lists = groups.iter().chain(group_dns).chain(&standing.sid);
                user_dn.bytes() + user_name.bytes() + lists.map(Bytes::bytes).sum::<usize>()
            }
        }
    }
}

/// Whose rights a search uses.
pub(crate) enum Via {
    /// The service account's, on a kept connection of this pool, taken when first needed.
    Service(Arc<Pool>, Option<Lease>),
    /// The user's own, after the user's bind.
    User(UserSession),
}

impl Via {
    pub(crate) fn service(pool: &Arc<Pool>) -> Self {
        Self::Service(Arc::clone(pool), None)
    }
}

/// Group names of one entry that the group filter found, each with the DN behind it.
pub(crate) fn groups_of(
    dn: String,
    values: Vec<Vec<u8>>,
    attribute: &str,
    user: Option<&Dn>,
) -> Vec<(String, String)> {
    if values.is_empty() {
        let Ok(parsed) = Dn::parse(&dn) else {
            return Vec::new();
        };
        if user.is_some_and(|user| same_name(user, &parsed)) {
            return Vec::new();
        }
        let name = parsed.name().unwrap_or(&dn).to_owned();
        return vec![(name, dn)];
    }
    let names_only = NAMING_ATTRIBUTES
        .iter()
        .any(|naming| attribute.eq_ignore_ascii_case(naming));
    let mut groups = Vec::new();
    for value in values {
        let Ok(value) = String::from_utf8(value) else {
            warn!(
                entry = dn,
                attribute, "a group has a name that is not UTF-8; it is left out"
            );
            continue;
        };
        let parsed = match names_only {
            true => None,
            false => Dn::parse(&value).ok(),
        };
        match parsed.as_ref().and_then(Dn::name) {
            Some(name) => groups.push((name.to_owned(), value)),
            None => groups.push((value, dn.clone())),
        }
    }
    groups
}

/// How long it is remembered that a user is not found or ambiguous, at most.
const REFUSAL_TTL: Duration = Duration::from_secs(5);
/// For memberships in memory: 100,000 users of a few groups.
const MAX_USER_BYTES: u64 = 64 << 20;
/// For names of SIDs in memory: more than 10,000 groups.
const MAX_SID_BYTES: u64 = 8 << 20;
/// Attributes whose values are names for people, in the usual schemas.
const NAMING_ATTRIBUTES: [&str; 8] = [
    "cn",
    "commonName",
    "displayName",
    "gidNumber",
    "name",
    "ou",
    "sAMAccountName",
    "uid",
];

/// The same entry, with attributes and values compared without case.
fn same_name(one: &Dn, other: &Dn) -> bool {
    let fold = |dn: &Dn| -> Vec<Vec<(String, String)>> {
        dn.rdns()
            .iter()
            .map(|rdn| {
                let mut rdn: Vec<_> = rdn
                    .iter()
                    .map(|ava| {
                        let value = String::from_utf8_lossy(&ava.value).to_lowercase();
                        (ava.attribute.to_ascii_lowercase(), value)
                    })
                    .collect();
                rdn.sort();
                rdn
            })
            .collect()
    };
    fold(one) == fold(other)
}

/// Keeps the first of each, in order, in linear time.
#[derive(Default)]
pub(crate) struct Ordered {
    pub(crate) in_order: Vec<String>,
    seen: std::collections::HashSet<String>,
}

impl Ordered {
    pub(crate) fn push(&mut self, value: String) {
        if self.seen.insert(value.clone()) {
            self.in_order.push(value);
        }
    }
}
