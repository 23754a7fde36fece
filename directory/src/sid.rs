//! Security identifiers of Active Directory's groups (MS-DTYP 2.4.2), and the names behind them.
//!
//! A ticket's PAC and the `tokenGroups` attribute say which groups a user is in by SID alone. The
//! names are looked up here so that the same groups get the same names as from a search with
//! `groupfilter`: the `groupattr` of groups below `groupdn`, and nothing of groups elsewhere. With
//! `groupattr` `memberOf`, which is on users and lists groups by DN wherever they are, the name is
//! that of the group's DN, and groups count in the whole domain of `groupdn`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use crate::cache::{Answer, Asking, Bytes};
use crate::dn::Dn;
use crate::error::DirectoryError;
use crate::lookup::{Directory, Inner, Names, Ordered, Via, groups_of};
use crate::session::{Entry, Query, Scope};
use crate::settings::Settings;

/// A SID in its binary form, and the names of the group that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SidNames {
    pub sid: Vec<u8>,
    /// Usually one, spelled as the directory has it. Empty: no group that counts has this SID.
    pub names: Vec<String>,
}

impl SidNames {
    /// One for each SID, in their order.
    pub(crate) fn all(sids: &[Sid], groups: &SidGroups) -> Vec<Self> {
        let named = sids.iter().map(|sid| Self {
            sid: sid.clone(),
            names: match groups.get(sid) {
                Some(Some(group)) => group.names.clone(),
                _ => Vec::new(),
            },
        });
        named.collect()
    }
}

/// `S-1-5-21-...`, for people; `None` if the bytes are not a SID.
pub fn sid_text(sid: &[u8]) -> Option<String> {
    let (authority, rest) = parts(sid)?;
    let authority = authority.iter().fold(0, |sum, b| sum << 8 | u64::from(*b));
    let mut text = match authority {
        0..=0xffff_ffff => format!("S-1-{authority}"),
        _ => format!("S-1-0x{authority:012X}"),
    };
    for part in rest.chunks_exact(4) {
        let part = part.iter().rev().fold(0, |sum, b| sum << 8 | u32::from(*b));
        write!(text, "-{part}").expect("a String takes every write");
    }
    Some(text)
}

impl Directory {
    /// The names of the groups with these SIDs, in the order of the SIDs. Bytes that are not a SID
    /// have no name. `groupfilter`, which asks for one user's groups, has no part in this. Names may
    /// be up to `sid_cache_ttl` old.
    pub async fn group_names_of_sids(
        &self,
        sids: &[Vec<u8>],
    ) -> Result<Vec<SidNames>, DirectoryError> {
        // The way of most logins: nothing to ask.
        if let Some(answers) = self.inner().sids.all_kept(sids.iter()) {
            let named = sids.iter().zip(answers).map(|(sid, answer)| SidNames {
                sid: sid.clone(),
                names: answer
                    .value
                    .map_or_else(Vec::new, |group| group.names.clone()),
            });
            return Ok(named.collect());
        }
        let (groups, _) = Box::pin(self.groups_of_sids(sids, Names::Kept)).await?;
        Ok(SidNames::all(sids, &groups))
    }

    /// The SIDs of all groups of a user's entry, nested ones included, as Active Directory counts them (MS-ADTS
    /// 3.1.1.4.5.19): what a domain controller writes into a ticket comes from the same place. Asked now.
    pub async fn sids_of_groups(&self, user_dn: &str) -> Result<Vec<Vec<u8>>, DirectoryError> {
        let mut via = Via::service(&self.inner().pool);
        self.token_groups(user_dn, &mut via).await
    }

    /// The groups that the user's entry says by SID, nested ones included (MS-ADTS 3.1.1.4.5.19).
    pub(crate) async fn token_groups(
        &self,
        user_dn: &str,
        via: &mut Via,
    ) -> Result<Vec<Vec<u8>>, DirectoryError> {
        let query = Query::entry("read of the user's tokenGroups", user_dn, &["tokenGroups"]);
        let entry = self.search(via, &query).await?.into_iter().next();
        let sids = entry.map(|entry| entry.into_values().1).unwrap_or_default();
        match sids.is_empty() {
            // Every user of Active Directory is in its primary group at least.
            true => Err(DirectoryError::NoTokenGroups {
                user_dn: user_dn.to_owned(),
            }),
            false => Ok(sids),
        }
    }

    /// For each SID the group that has it, if it counts, and until when that may be used.
    pub(crate) async fn groups_of_sids(
        &self,
        sids: &[Vec<u8>],
        names: Names,
    ) -> Result<(SidGroups, Option<Instant>), DirectoryError> {
        let inner = self.inner();
        let ttl = inner.sids.ttl();
        if ttl.is_zero() || names == Names::Fresh || inner.settings.group_base.is_none() {
            let mut via = Via::service(self.group_pool());
            return Ok((self.ask_for_sids(sids, &mut via).await?, None));
        }
        let wanted = wanted_sids(sids, &inner.settings)?;
        let answers = inner.sids.get(wanted, self.asker()).await?;
        self.renew_names();
        let until = answers.values().map(|answer| answer.until).min();
        let groups = answers
            .into_iter()
            .map(|(sid, answer)| (sid, answer.value))
            .collect();
        Ok((groups, until))
    }

    /// Asks for SIDs as the cache wants it.
    fn asker(&self) -> impl FnOnce(Vec<Sid>, Instant) -> Asking<Sid, GroupOrNone> {
        let directory = self.clone();
        move |sids, asked| {
            Box::pin(async move {
                let until = asked + directory.inner().sids.ttl();
                let mut via = Via::service(directory.group_pool());
                let groups = directory.ask_for_sids(&sids, &mut via).await?;
                let answer = |(sid, value)| (sid, Answer { value, until });
                Ok(groups.into_iter().map(answer).collect())
            })
        }
    }

    /// Starts the task that asks again for names in use, unless it runs.
    fn renew_names(&self) {
        let inner = self.inner();
        if !inner.sids.is_empty() && !inner.renews_sids.swap(true, Ordering::AcqRel) {
            tokio::spawn(renew_names(Arc::downgrade(inner), inner.sids.ttl()));
        }
    }

    /// Asks the directory; every SID gets an answer.
    pub(crate) async fn ask_for_sids(
        &self,
        sids: &[Vec<u8>],
        via: &mut Via,
    ) -> Result<SidGroups, DirectoryError> {
        let settings = &self.inner().settings;
        let Some(base) = sid_base(settings) else {
            return Ok(HashMap::new());
        };
        let wanted = wanted_sids(sids, settings)?;
        let mut found: HashMap<Vec<u8>, SidGroup> = HashMap::with_capacity(wanted.len());
        for batch in wanted.chunks(BATCH) {
            let filter = filter_of(batch.iter());
            let query = Query {
                what: "search for groups by SID",
                base: &base,
                scope: Scope::Subtree,
                filter: &filter,
                attributes: &["objectSid", &settings.group_attr],
                enough: 0,
            };
            for entry in self.search(via, &query).await? {
                let Entry { dn, mut attributes } = entry;
                let values = attributes.pop().unwrap_or_default();
                let sid = attributes.pop().and_then(|mut sids| sids.pop());
                let Some(sid) = sid.filter(|sid| batch.contains(sid)) else {
                    continue;
                };
                let group = SidGroup::of(dn, values, &settings.group_attr);
                found.entry(sid).or_default().merge(group);
            }
        }
        let answered = wanted.into_iter().map(|sid| {
            let group = found.remove(&sid).map(Arc::new);
            (sid, group)
        });
        Ok(answered.collect())
    }
}

/// Groups by their SIDs; `None`: no group that counts.
pub(crate) type SidGroups = HashMap<Sid, GroupOrNone>;
type Sid = Vec<u8>;
pub(crate) type GroupOrNone = Option<Arc<SidGroup>>;

/// Asks again for names before their time is up, so that logins need not wait for them; ends when
/// none is left, or with the directory. Names that nobody has used for an hour are let go.
async fn renew_names(directory: Weak<Inner>, ttl: Duration) {
    loop {
        tokio::time::sleep((ttl / 4).max(Duration::from_millis(10))).await;
        let Some(inner) = directory.upgrade() else {
            return;
        };
        let directory = Directory::of(inner);
        let inner = directory.inner();
        let due = inner.sids.due(ttl / 2, UNUSED);
        if inner.sids.is_empty() {
            inner.renews_sids.store(false, Ordering::Release);
            // Who put a name in just before has seen this task running.
            if inner.sids.is_empty() || inner.renews_sids.swap(true, Ordering::AcqRel) {
                return;
            }
        }
        for batch in due.chunks(RENEWED_AT_ONCE) {
            let outcome = inner.sids.renew(batch.to_vec(), directory.asker()).await;
            if let Err(error) = outcome {
                debug!(error = %error, "names of groups could not be asked for again");
                break;
            }
        }
    }
}

/// Those that are SIDs, each once.
fn wanted_sids(sids: &[Vec<u8>], settings: &Settings) -> Result<Vec<Vec<u8>>, DirectoryError> {
    let mut wanted: Vec<_> = sids.iter().filter(|sid| is_sid(sid)).cloned().collect();
    wanted.sort_unstable();
    wanted.dedup();
    match wanted.len() <= MAX_SIDS {
        true => Ok(wanted),
        false => Err(DirectoryError::SizeLimit {
            base: settings.group_base.clone().unwrap_or_default(),
            filter: "(objectSid=...)".into(),
            received: 0,
            cause: format!("the user is in more than {MAX_SIDS} groups"),
        }),
    }
}

/// A group as far as it matters for policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SidGroup {
    pub(crate) names: Vec<String>,
    pub(crate) dns: Vec<String>,
}

impl SidGroup {
    fn of(dn: String, values: Vec<Vec<u8>>, attribute: &str) -> Self {
        let values = match is_member_of(attribute) {
            // Those of a group name the groups that it is in itself.
            true => Vec::new(),
            false => values,
        };
        let mut names = Ordered::default();
        for (name, _) in groups_of(dn.clone(), values, attribute, None) {
            names.push(name);
        }
        Self {
            names: names.in_order,
            dns: vec![dn],
        }
    }

    fn merge(&mut self, other: Self) {
        self.names.extend(other.names);
        self.dns.extend(other.dns);
    }
}

impl Bytes for GroupOrNone {
    fn bytes(&self) -> usize {
        let lists = self
            .iter()
            .flat_map(|group| group.names.iter().chain(&group.dns));
        size_of::<Self>() + lists.map(Bytes::bytes).sum::<usize>()
    }
}

/// Where groups are searched for by SID.
fn sid_base(settings: &Settings) -> Option<String> {
    let base = settings.group_base.as_ref()?;
    let domain = match is_member_of(&settings.group_attr) {
        true => Dn::parse(base).ok().and_then(|dn| dn.domain()),
        false => None,
    };
    Some(domain.map_or_else(|| base.clone(), |domain| domain.to_string()))
}

/// `(&(objectClass=group)(|(objectSid=\01\05...)...))`: a user or a trusted domain's principal
/// that has the SID, by its history perhaps, is no group.
fn filter_of<'a>(sids: impl Iterator<Item = &'a Vec<u8>>) -> String {
    let mut filter = String::from("(&(objectClass=group)(|");
    for sid in sids {
        filter.push_str("(objectSid=");
        for byte in sid {
            write!(filter, "\\{byte:02x}").expect("a String takes every write");
        }
        filter.push(')');
    }
    filter.push_str("))");
    filter
}

fn is_sid(bytes: &[u8]) -> bool {
    parts(bytes).is_some()
}

/// The identifier authority, and the sub-authorities of four bytes each.
fn parts(sid: &[u8]) -> Option<(&[u8], &[u8])> {
    let [REVISION, count, rest @ ..] = sid else {
        return None;
    };
    let (authority, rest) = rest.split_at_checked(6)?;
    let is_whole = *count <= MAX_SUB_AUTHORITIES && rest.len() == usize::from(*count) * 4;
    is_whole.then_some((authority, rest))
}

fn is_member_of(attribute: &str) -> bool {
    MEMBER_OF
        .iter()
        .any(|name| attribute.eq_ignore_ascii_case(name))
}

/// Attributes that list, on a member, the DNs of its groups.
const MEMBER_OF: [&str; 3] = [
    "memberOf",
    "1.2.840.113556.1.2.102",
    "msds-memberOfTransitive",
];
const REVISION: u8 = 1;
const MAX_SUB_AUTHORITIES: u8 = 15;
/// SIDs in one filter, which so stays below 25 kB whatever the SIDs.
const BATCH: usize = 100;
/// Names that are asked for again together.
const RENEWED_AT_ONCE: usize = 500;
/// Names unused for this long are not asked for again.
const UNUSED: Duration = Duration::from_secs(3600);
/// Windows puts no more than 1,024 groups into a token.
const MAX_SIDS: usize = 4096;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::DirectoryConfig;

    fn sid(parts: &[u32]) -> Vec<u8> {
        let mut bytes = vec![1, parts.len() as u8, 0, 0, 0, 0, 0, 5];
        bytes.extend(parts.iter().flat_map(|part| part.to_le_bytes()));
        bytes
    }

    #[test]
    fn sids_are_written_as_windows_writes_them() {
        assert_eq!(sid_text(&sid(&[32, 544])).unwrap(), "S-1-5-32-544");
        assert_eq!(
            sid_text(&sid(&[21, 4_294_967_295, 1, 513])).unwrap(),
            "S-1-5-21-4294967295-1-513"
        );
        let high = [1, 1, 0, 1, 0, 0, 0, 0, 7, 0, 0, 0];
        assert_eq!(sid_text(&high).unwrap(), "S-1-0x000100000000-7");
        let whole = sid(&[32, 544]);
        for cut in 0..whole.len() {
            assert_eq!(sid_text(&whole[..cut]), None);
        }
        assert_eq!(sid_text(&[whole.as_slice(), &[0]].concat()), None);
        assert_eq!(sid_text(&sid(&[1; 16])), None);
        assert_eq!(sid_text(&[&[2], &whole[1..]].concat()), None);
    }

    #[test]
    fn a_filter_of_sids_is_one_that_the_library_reads() {
        let sids: Vec<_> = (0..BATCH as u32)
            .map(|n| sid(&[n * 0x0102_0304; 15]))
            .collect();
        let filter = filter_of(sids.iter());
        assert!(filter.len() < 25_000);
        assert!(ldap3::parse_filter(&filter).is_ok());
        let one = filter_of([sid(&[544])].iter());
        assert_eq!(
            one,
            "(&(objectClass=group)(|(objectSid=\\01\\01\\00\\00\\00\\00\\00\\05\\20\\02\\00\\00)))"
        );
    }

    #[test]
    fn groups_by_sid_are_searched_for_where_the_other_way_would_find_them() {
        let base = |groupdn: &str, groupattr: &str| {
            let config = DirectoryConfig {
                groupdn: groupdn.into(),
                groupattr: groupattr.into(),
                ..DirectoryConfig::default()
            };
            sid_base(&Settings::parse(&config).unwrap())
        };
        assert_eq!(base("", "cn"), None);
        let groups = "OU=Groups,DC=ad,DC=example,DC=com";
        assert_eq!(base(groups, "cn").unwrap(), groups);
        let domain = "DC=ad,DC=example,DC=com";
        assert_eq!(base(groups, "MEMBEROF").unwrap(), domain);
        assert_eq!(base(domain, "memberOf").unwrap(), domain);
        assert_eq!(base("ou=a,o=b", "memberOf").unwrap(), "ou=a,o=b");
        assert_eq!(base("<GUID=00>", "memberOf").unwrap(), "<GUID=00>");
    }
}
