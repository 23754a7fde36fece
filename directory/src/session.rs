//! One connection to one server: binds and searches with a deadline, and a state that is known.
//!
//! A session notes when a request is under way. If the future that made it is dropped, times out
//! or fails half-way, the note stays, and the pool closes the session instead of keeping it: the
//! next user must never read the answer to somebody else's question.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use ldap3::adapters::{Adapter, EntriesOnly, PagedResults};
use ldap3::asn1::{PL, StructureTag};
use ldap3::{Ldap, LdapConnAsync, LdapError, ResultEntry, Scope, SearchOptions};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::bridge::{Bridge, End, TOO_MUCH};
use crate::error::{DirectoryError, ResultCode};

/// Entries asked for at a time (RFC 2696). Active Directory gives 1,000 at most.
const PAGE: i32 = 500;
/// More values than this in one answer are refused: memory is not a directory's to spend.
const MAX_VALUES: usize = 100_000;
/// Longest wait for a goodbye to be sent.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection and what is known about it.
pub(crate) struct Session {
    server: usize,
    url: String,
    ldap: Ldap,
    bridge: Bridge,
    driver: Driver,
    under_way: bool,
}

/// What to search for. Attributes are returned as far as the server has them.
pub(crate) struct Query<'a> {
    pub(crate) what: &'static str,
    pub(crate) base: &'a str,
    pub(crate) filter: &'a str,
    pub(crate) attribute: &'a str,
    /// Stop after this many entries without calling it an error; 0: all of them.
    pub(crate) enough: usize,
}

/// One entry of an answer, with the values of the attribute that was asked for.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) dn: String,
    pub(crate) values: Vec<Vec<u8>>,
}

impl Session {
    pub(crate) fn new(
        server: usize,
        url: &str,
        driver: LdapConnAsync,
        ldap: Ldap,
        bridge: Bridge,
    ) -> Self {
        let driver = tokio::spawn(async move {
            // Its error is the bridge's, which says more.
            let _ = driver.drive().await;
        });
        Self {
            server,
            url: url.to_owned(),
            ldap,
            bridge,
            driver: Driver(driver.abort_handle()),
            under_way: false,
        }
    }

    /// Number of the server in the configuration.
    pub(crate) fn server(&self) -> usize {
        self.server
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Open, and no request is under way or was left half-done.
    pub(crate) fn is_reusable(&mut self) -> bool {
        !self.under_way && self.bridge.end().is_none() && !self.ldap.is_closed()
    }

    /// A simple bind (RFC 4513 §5.1); returns the server's verdict.
    pub(crate) async fn bind(
        &mut self,
        name: &str,
        password: &str,
        deadline: Instant,
    ) -> Result<(ResultCode, String), DirectoryError> {
        let limit = deadline.saturating_duration_since(Instant::now());
        let mut ldap = self.ldap.clone();
        let result = self
            .exchange("bind", limit, ldap.simple_bind(name, password))
            .await?;
        Ok((ResultCode(result.rc), printable(&result.text)))
    }

    /// A subtree search, page by page. Referrals are not followed.
    pub(crate) async fn search(
        &mut self,
        query: &Query<'_>,
        limit: Duration,
    ) -> Result<Vec<Entry>, DirectoryError> {
        let mut ldap = self.ldap.clone();
        let url = self.url.clone();
        let outcome = self
            .exchange(query.what, limit, async {
                let mut paging: Vec<Box<dyn Adapter<'_, &str, [&str; 1]>>> =
                    vec![Box::new(EntriesOnly::new())];
                if query.enough == 0 {
                    paging.push(Box::new(PagedResults::new(PAGE)));
                }
                let enough = i32::try_from(query.enough).unwrap_or(0);
                ldap.with_search_options(SearchOptions::new().sizelimit(enough));
                let mut stream = ldap
                    .streaming_search_with(
                        paging,
                        query.base,
                        Scope::Subtree,
                        query.filter,
                        [query.attribute],
                    )
                    .await?;
                let mut entries = Vec::new();
                let mut values = 0;
                while let Some(entry) = stream.next().await? {
                    let decoded = decode(entry, query.attribute);
                    values += decoded
                        .as_ref()
                        .map_or(1, |entry| entry.values.len().max(1));
                    entries.push(decoded);
                    let too_many = query.enough > 0 && entries.len() > query.enough;
                    if too_many || values > MAX_VALUES {
                        return Ok((None, String::new(), entries));
                    }
                }
                let result = stream.finish().await;
                Ok((Some(ResultCode(result.rc)), result.text, entries))
            })
            .await;
        let cut_short = |received, cause: String| DirectoryError::SizeLimit {
            base: query.base.to_owned(),
            filter: query.filter.to_owned(),
            received,
            cause,
        };
        let (code, text, entries) = match outcome {
            Err(DirectoryError::Protocol { .. })
                if matches!(self.bridge.end(), Some(End::Refused(TOO_MUCH))) =>
            {
                return Err(cut_short(0, format!("the server sent {TOO_MUCH}")));
            }
            other => other?,
        };
        let received = entries.len();
        match code {
            None => {
                // The rest of the answer is still on its way.
                self.under_way = true;
                if query.enough == 0 {
                    return Err(cut_short(
                        received,
                        format!("more than {MAX_VALUES} values"),
                    ));
                }
            }
            Some(ResultCode::SUCCESS) => {}
            Some(ResultCode::SIZE_LIMIT_EXCEEDED) if query.enough > 0 => {}
            Some(code @ (ResultCode::SIZE_LIMIT_EXCEEDED | ResultCode::ADMIN_LIMIT_EXCEEDED)) => {
                return Err(cut_short(received, code.to_string()));
            }
            Some(code) => {
                return Err(DirectoryError::Search {
                    url,
                    base: query.base.to_owned(),
                    filter: query.filter.to_owned(),
                    code,
                    text: printable(&text),
                });
            }
        }
        entries
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|fault| match fault {
                EntryFault::Broken(cause) => DirectoryError::Protocol {
                    url,
                    cause: cause.into(),
                },
                EntryFault::Partial(attribute) => cut_short(
                    received,
                    format!("the server sent the first values only, as {attribute:?}"),
                ),
            })
    }

    /// Says goodbye (RFC 4511 §4.3) and closes.
    pub(crate) async fn close(mut self) {
        if self.is_reusable() {
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.ldap.unbind()).await;
            let Self { driver, bridge, .. } = self;
            drop(driver);
            bridge.finish().await;
        }
    }

    /// Runs one request to its end, within `limit`.
    async fn exchange<T>(
        &mut self,
        operation: &'static str,
        limit: Duration,
        request: impl Future<Output = Result<T, LdapError>>,
    ) -> Result<T, DirectoryError> {
        self.under_way = true;
        // Should the library panic on an answer all the same, that costs a connection, not a task.
        let request = AssertUnwindSafe(request).catch_unwind();
        let outcome = match tokio::time::timeout(limit, request).await {
            Err(_) => {
                return Err(DirectoryError::Timeout {
                    url: self.url.clone(),
                    operation,
                    after: limit,
                });
            }
            Ok(Err(_panic)) => {
                return Err(DirectoryError::Protocol {
                    url: self.url.clone(),
                    cause: format!("the answer to the {operation} cannot be decoded"),
                });
            }
            Ok(Ok(outcome)) => outcome,
        };
        match outcome {
            Ok(value) => {
                self.under_way = false;
                Ok(value)
            }
            // The filter came from a checked template, and nothing was sent.
            Err(LdapError::FilterParsing) => Err(DirectoryError::Protocol {
                url: self.url.clone(),
                cause: "the LDAP library refuses the filter".into(),
            }),
            Err(cause) => Err(self.lost(operation, &cause)),
        }
    }

    /// The library notices the end of the local stream; why it ended, the bridge knows.
    fn lost(&self, operation: &'static str, cause: &LdapError) -> DirectoryError {
        let url = self.url.clone();
        match self.bridge.end() {
            Some(End::Refused(fault)) => DirectoryError::Protocol {
                url,
                cause: format!("it sent {fault}"),
            },
            Some(End::Closed(cause)) => DirectoryError::Lost {
                url,
                operation,
                cause: cause.clone(),
            },
            None => DirectoryError::Lost {
                url,
                operation,
                cause: cause.to_string(),
            },
        }
    }
}

/// The library's task, which ends with its session.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

enum EntryFault {
    Broken(&'static str),
    /// Active Directory sends the first 1,500 values of an attribute, renamed to say so
    /// (MS-ADTS 3.1.1.3.1.3.3).
    Partial(String),
}

/// Reads a SearchResultEntry (RFC 4511 §4.5.2) without trusting its shape.
fn decode(entry: ResultEntry, attribute: &str) -> Result<Entry, EntryFault> {
    const BROKEN: EntryFault = EntryFault::Broken("an entry cannot be decoded");
    let mut parts = children(entry.0).ok_or(BROKEN)?.into_iter();
    let dn = parts.next().and_then(bytes).ok_or(BROKEN)?;
    let dn =
        String::from_utf8(dn).map_err(|_| EntryFault::Broken("the DN of an entry is not UTF-8"))?;
    let mut values = Vec::new();
    for part in parts.next().and_then(children).ok_or(BROKEN)? {
        let mut part = children(part).ok_or(BROKEN)?.into_iter();
        let name = part.next().and_then(bytes).ok_or(BROKEN)?;
        let name = String::from_utf8_lossy(&name);
        if name.eq_ignore_ascii_case(attribute) {
            for value in part.next().and_then(children).ok_or(BROKEN)? {
                values.push(bytes(value).ok_or(BROKEN)?);
            }
        } else if let Some((base, option)) = name.split_once(';')
            && base.eq_ignore_ascii_case(attribute)
            && option.to_ascii_lowercase().starts_with("range=")
        {
            return Err(EntryFault::Partial(name.into_owned()));
        }
    }
    Ok(Entry { dn, values })
}

fn children(tag: StructureTag) -> Option<Vec<StructureTag>> {
    match tag.payload {
        PL::C(children) => Some(children),
        PL::P(_) => None,
    }
}

fn bytes(tag: StructureTag) -> Option<Vec<u8>> {
    match tag.payload {
        PL::P(bytes) => Some(bytes),
        PL::C(_) => None,
    }
}

/// A server's words on one line of a log, and not too many of them.
fn printable(text: &str) -> String {
    text.trim_end_matches('\0')
        .chars()
        .take(500)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
