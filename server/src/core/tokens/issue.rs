//! Issuing: one commit makes the token, its indexes and whatever the login wants to become durable with it.

use std::collections::BTreeMap;
use std::time::Duration;

use obol_mount::{Error, Result, Secret, TokenKind};
use obol_storage::{Batch, Error as StorageError};
use serde_json::{Map, Value};

use super::family::Belongings;
use super::{Belonging, TokenEntry, TokenId, Tokens};

/// The TTLs that apply where a token is issued: the mount's tuning, or the system's.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub default_ttl: Duration,
    pub max_ttl: Duration,
}

/// A token to be issued. Policies are complete and checked; TTLs are what was asked for.
#[derive(Debug, Clone, Default)]
pub struct NewToken {
    pub parent: Option<TokenId>,
    pub policies: Vec<String>,
    pub kind: TokenKind,
    pub display_name: String,
    pub metadata: BTreeMap<String, String>,
    pub path: String,
    pub issuer: Option<String>,
    /// The role of `auth/token`; empty for none.
    pub role: String,
    /// Zero: the default.
    pub ttl: Duration,
    pub max_ttl: Duration,
    pub explicit_max_ttl: Duration,
    pub period: Duration,
    pub num_uses: u64,
    pub renewable: bool,
    pub bound_cidrs: Vec<ipnet::IpNet>,
    /// The entity that it belongs to; empty for none.
    pub entity_id: String,
    pub internal: Map<String, Value>,
    /// Never ends: the root token alone.
    pub immortal: bool,
    /// A chosen id, which only root may ask for.
    pub id: Option<Secret>,
}

/// A token as it goes to the client: the only time that its secret is seen.
pub struct Issued {
    pub token: Secret,
    pub id: TokenId,
    pub entry: TokenEntry,
    pub warnings: Vec<String>,
}

impl Tokens {
    /// Issues a token, together with `with`, or not at all.
    pub async fn issue(
        &self,
        new: NewToken,
        limits: Limits,
        mut with: Batch,
        now: u64,
    ) -> Result<Issued, IssueError> {
        let mut warnings = Vec::new();
        let ttl = if new.immortal {
            None
        } else {
            Some(effective_ttl(&new, limits, &mut warnings))
        };
        let chosen = new.id;
        let is_chosen = chosen.is_some();
        let mut entry = TokenEntry {
            accessor: String::new(),
            parent: new.parent,
            policies: new.policies,
            kind: new.kind,
            display_name: new.display_name,
            metadata: new.metadata,
            path: new.path,
            issuer: new.issuer,
            role: new.role,
            created: now,
            creation_ttl: ttl.map_or(0, |ttl| ttl.as_secs()),
            last_renewal: None,
            expires: ttl.map(|ttl| now.saturating_add(ttl.as_secs())),
            explicit_max_ttl: new.explicit_max_ttl.as_secs(),
            period: new.period.as_secs(),
            max_ttl: new.max_ttl.as_secs(),
            uses_left: (new.num_uses > 0).then_some(new.num_uses),
            renewable: new.renewable && ttl.is_some(),
            bound_cidrs: new.bound_cidrs,
            entity_id: new.entity_id,
            internal: new.internal,
            belongings: Belongings::default(),
        };
        if entry.kind == TokenKind::Batch {
            refuse_for_batch(&entry, is_chosen)?;
            entry.renewable = false;
            // What the login wants durable (a replay mark) is durable before the token exists.
            if !with.is_empty() {
                self.storage.commit(with).await?;
            }
            let token = self.seal_batch(&entry)?;
            return Ok(Issued {
                id: self.id_of(token.expose()),
                token,
                entry,
                warnings,
            });
        }
        entry.kind = TokenKind::Service;
        let token = match chosen {
            Some(token) => token,
            None => self.random_token()?,
        };
        let id = self.id_of(token.expose());
        entry.accessor = self.accessor_of(&id)?;
        loop {
            let mut batch = match &entry.parent {
                Some(_) => with.clone(),
                None => std::mem::take(&mut with),
            };
            if is_chosen {
                self.storage
                    .expect_absent_in(&mut batch, &Self::path_of(&id));
            }
            let contended = self.born_in(&id, &entry, &mut batch, now).await?;
            match self.storage.commit(batch).await {
                Ok(()) => break,
                Err(StorageError::Conflict { path })
                    if is_chosen && path == self.storage.full(&Self::path_of(&id)) =>
                {
                    let refusal = Error::bad_request("cannot create a token with a duplicate ID");
                    return Err(IssueError::Refused(refusal));
                }
                // The parent has ended; or it was renewed or used up, or another first child or lease noted on it, at the
                // same moment.
                Err(StorageError::Conflict { path }) if contended.as_ref() == Some(&path) => {
                    entry
                        .parent
                        .iter()
                        .for_each(|parent| self.was_changed(parent));
                }
                Err(error) => return Err(error.into()),
            }
        }
        // It comes into the cache with its first use: a wave of logins pushes nobody out.
        Ok(Issued {
            token,
            id,
            entry,
            warnings,
        })
    }

    /// Adds a token and its index entries to a batch. Returns the path on which births below one parent meet.
    async fn born_in(
        &self,
        id: &TokenId,
        entry: &TokenEntry,
        batch: &mut Batch,
        now: u64,
    ) -> Result<Option<String>> {
        let view = &self.storage;
        let mut contended = None;
        if let Some(parent) = &entry.parent {
            // The parent must live when its child is born, or the child would outlive it
            // (threats: `child-outlives-parent`).
            contended = Some(self.hang_on(parent, Belonging::Child, batch, now).await?);
        }
        for index in Self::indexes(id, entry) {
            view.put_in(batch, &index, Vec::new());
        }
        view.put_json_in(batch, &Self::path_of(id), entry)?;
        Ok(contended)
    }
}

/// Why a token was not issued. A conflict is told apart: for a login it is a replay.
#[derive(Debug)]
pub enum IssueError {
    Conflict(StorageError),
    Refused(Error),
}

impl From<Error> for IssueError {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<StorageError> for IssueError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Conflict { .. } => Self::Conflict(error),
            other => Self::Refused(other.into()),
        }
    }
}

impl From<IssueError> for Error {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::Conflict(error) => error.into(),
            IssueError::Refused(error) => error,
        }
    }
}

/// The TTL that a new token gets: what was asked, or the default, within every limit; a periodic token
/// gets its period.
fn effective_ttl(new: &NewToken, limits: Limits, warnings: &mut Vec<String>) -> Duration {
    let mut ttl = if !new.period.is_zero() {
        new.period
    } else if !new.ttl.is_zero() {
        new.ttl
    } else {
        limits.default_ttl
    };
    let asked = match (new.period.is_zero(), new.ttl.is_zero()) {
        (false, _) => Some("period"),
        (true, false) => Some("TTL"),
        (true, true) => None,
    };
    let mut cap = |limit: Duration, what: &str| {
        if !limit.is_zero() && ttl > limit {
            if let Some(asked) = asked {
                warnings.push(format!(
                    "{asked} of {:?} exceeded the {what}, capped at {:?}",
                    obol_mount::duration::format(ttl),
                    obol_mount::duration::format(limit)
                ));
            }
            ttl = limit;
        }
    };
    cap(limits.max_ttl, "effective max_ttl");
    cap(new.max_ttl, "token's max_ttl");
    cap(new.explicit_max_ttl, "explicit_max_ttl");
    ttl
}

/// A batch token may do only what a token without a record can keep (threats: `batch-token-escalation`).
fn refuse_for_batch(entry: &TokenEntry, has_chosen_id: bool) -> Result<()> {
    let refuse = |what: &str| Err(Error::bad_request(format!("batch tokens cannot {what}")));
    if entry.is_root() {
        return refuse("be root tokens");
    }
    if entry.period > 0 {
        return refuse("be periodic");
    }
    if entry.uses_left.is_some() {
        return refuse("have a limited number of uses");
    }
    if has_chosen_id {
        return refuse("have a chosen id");
    }
    if entry.expires.is_none() {
        return refuse("live for ever");
    }
    Ok(())
}
