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
use ldap3::{Ldap, LdapConnAsync, LdapError, ResultEntry, SearchOptions};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::bridge::{Bridge, End, TOO_MUCH};
use crate::error::{DirectoryError, ResultCode};
use crate::settings::SearchRules;

pub(crate) use ldap3::Scope;

/// More values than this in one answer, all its pages and parts together, are refused: memory is not a directory's to spend.
const MAX_VALUES: usize = 100_000;
/// A value that is longer counts as several: 16 MB in all.
const VALUE_BYTES: usize = 160;
/// Matches every entry (RFC 4511 §4.5.1.7: every entry has an object class).
const ANY_ENTRY: &str = "(objectClass=*)";
/// Longest wait for a goodbye to be sent.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection and what is known about it.
pub(crate) struct Session {
    server: usize,
    url: String,
    ldap: Ldap,
    bridge: Bridge,
    driver: Driver,
    rules: SearchRules,
    under_way: bool,
}

/// What to search for. Attributes are returned as far as the server has them.
pub(crate) struct Query<'a> {
    pub(crate) what: &'static str,
    pub(crate) base: &'a str,
    pub(crate) scope: Scope,
    pub(crate) filter: &'a str,
    pub(crate) attributes: &'a [&'a str],
    /// Stop after this many entries without calling it an error; 0: all of them.
    pub(crate) enough: usize,
}

impl<'a> Query<'a> {
    /// One entry, by its DN.
    pub(crate) fn entry(what: &'static str, dn: &'a str, attributes: &'a [&'a str]) -> Self {
        Self {
            what,
            base: dn,
            scope: Scope::Base,
            filter: ANY_ENTRY,
            attributes,
            enough: 1,
        }
    }
}

/// One entry of an answer.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) dn: String,
    /// The values of each attribute that was asked for, in that order.
    pub(crate) attributes: Vec<Vec<Vec<u8>>>,
}

impl Entry {
    /// The values of the attribute that was asked for first.
    pub(crate) fn into_values(self) -> (String, Vec<Vec<u8>>) {
        let Self { dn, attributes } = self;
        (dn, attributes.into_iter().next().unwrap_or_default())
    }
}

impl Session {
    pub(crate) fn new(
        server: usize,
        url: &str,
        driver: LdapConnAsync,
        ldap: Ldap,
        bridge: Bridge,
        rules: SearchRules,
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
            rules,
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

    /// Keeps the session from being used again.
    pub(crate) fn spoil(&mut self) {
        self.under_way = true;
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
            .exchange(
                "bind",
                Span { limit, deadline },
                ldap.simple_bind(name, password),
            )
            .await?;
        Ok((ResultCode(result.rc), printable(&result.text)))
    }

    /// A search, page by page, with the values that a server sends in parts put together, all
    /// within `limit`. Referrals are not followed.
    pub(crate) async fn search(
        &mut self,
        query: &Query<'_>,
        limit: Duration,
    ) -> Result<Vec<Entry>, DirectoryError> {
        let span = Span {
            limit,
            deadline: Instant::now() + limit,
        };
        let mut values = 0;
        let answer = self
            .one_search(query, query.attributes, span, &mut values)
            .await?;
        let mut entries = Vec::with_capacity(answer.len());
        for Decoded { mut entry, partial } in answer {
            for part in partial {
                let attribute = query.attributes[part.index];
                let mut next = Some(part.next);
                while let Some(start) = next {
                    let wanted = format!("{attribute};range={start}-*");
                    let rest = Query::entry(query.what, &entry.dn, &[]);
                    let answer = self
                        .one_search(&rest, &[&wanted], span, &mut values)
                        .await?;
                    let Some(more) = answer.into_iter().next() else {
                        let cause = format!("no answer when asked for {wanted:?}");
                        return Err(cut_short(query, entry.attributes[part.index].len(), cause));
                    };
                    next = more.partial.first().map(|part| part.next);
                    let (_, more) = more.entry.into_values();
                    if more.is_empty() {
                        let cause = format!("no values when asked for {wanted:?}");
                        return Err(cut_short(query, entry.attributes[part.index].len(), cause));
                    }
                    entry.attributes[part.index].extend(more);
                }
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    /// One search of [`Self::search`]; adds to `values` how many it brought.
    async fn one_search(
        &mut self,
        query: &Query<'_>,
        attributes: &[&str],
        span: Span,
        values: &mut usize,
    ) -> Result<Vec<Decoded>, DirectoryError> {
        let mut ldap = self.ldap.clone();
        let url = self.url.clone();
        let SearchRules { page, dereference } = self.rules;
        let outcome = self
            .exchange(query.what, span, async {
                let mut paging: Vec<Box<dyn Adapter<'_, &str, Vec<&str>>>> =
                    vec![Box::new(EntriesOnly::new())];
                if query.enough == 0 {
                    paging.push(Box::new(PagedResults::new(page)));
                }
                let enough = i32::try_from(query.enough).unwrap_or(0);
                let options = SearchOptions::new().sizelimit(enough).deref(dereference);
                ldap.with_search_options(options);
                let mut stream = ldap
                    .streaming_search_with(
                        paging,
                        query.base,
                        query.scope,
                        query.filter,
                        attributes.to_vec(),
                    )
                    .await?;
                let mut entries = Vec::new();
                while let Some(entry) = stream.next().await? {
                    let decoded = decode(entry, attributes);
                    *values += decoded.as_ref().map_or(1, Decoded::weight);
                    entries.push(decoded);
                    let too_many = query.enough > 0 && entries.len() > query.enough;
                    if too_many || *values > MAX_VALUES {
                        return Ok((None, String::new(), entries));
                    }
                }
                let result = stream.finish().await;
                Ok((Some(ResultCode(result.rc)), result.text, entries))
            })
            .await;
        let (code, text, entries) = match outcome {
            Err(DirectoryError::Protocol { .. })
                if matches!(self.bridge.end(), Some(End::Refused(TOO_MUCH))) =>
            {
                return Err(cut_short(query, 0, format!("the server sent {TOO_MUCH}")));
            }
            other => other?,
        };
        let received = entries.len();
        match code {
            None => {
                // The rest of the answer is still on its way.
                self.under_way = true;
                if *values > MAX_VALUES {
                    let cause = format!("more than {MAX_VALUES} values");
                    return Err(cut_short(query, received, cause));
                }
            }
            Some(ResultCode::SUCCESS) => {}
            Some(ResultCode::SIZE_LIMIT_EXCEEDED) if query.enough > 0 => {}
            Some(code @ (ResultCode::SIZE_LIMIT_EXCEEDED | ResultCode::ADMIN_LIMIT_EXCEEDED)) => {
                return Err(cut_short(query, received, code.to_string()));
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
                EntryFault::Range(attribute) => cut_short(
                    query,
                    received,
                    format!("the server sent other values than those asked for, as {attribute:?}"),
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

    /// Runs one request to its end, within its span.
    async fn exchange<T>(
        &mut self,
        operation: &'static str,
        span: Span,
        request: impl Future<Output = Result<T, LdapError>>,
    ) -> Result<T, DirectoryError> {
        self.under_way = true;
        // Should the library panic on an answer all the same, that costs a connection, not a task.
        let request = AssertUnwindSafe(request).catch_unwind();
        let outcome = match tokio::time::timeout_at(span.deadline, request).await {
            Err(_) => {
                return Err(DirectoryError::Timeout {
                    url: self.url.clone(),
                    operation,
                    after: span.limit,
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

/// The time that a request, or several that belong together, may take.
#[derive(Clone, Copy)]
struct Span {
    /// As configured, for the error.
    limit: Duration,
    deadline: Instant,
}

/// An entry, and what is still missing of it.
struct Decoded {
    entry: Entry,
    partial: Vec<Partial>,
}

impl Decoded {
    /// What the entry counts towards [`MAX_VALUES`].
    fn weight(&self) -> usize {
        let values = self.entry.attributes.iter().flatten();
        let values: usize = values.map(|value| 1 + value.len() / VALUE_BYTES).sum();
        values.max(1) + self.entry.dn.len() / VALUE_BYTES
    }
}

/// An attribute of which the server sent the first values only.
struct Partial {
    /// Which of the attributes that were asked for.
    index: usize,
    /// The number of the first value that is missing.
    next: usize,
}

enum EntryFault {
    Broken(&'static str),
    /// A part of the values that does not follow on from those before.
    Range(String),
}

/// Reads a SearchResultEntry (RFC 4511 §4.5.2) without trusting its shape. Active Directory sends
/// the first 1,500 values of an attribute, renamed to `member;range=0-1499`, and the others when
/// asked for `member;range=1500-*`; a `*` in the answer marks the last part (MS-ADTS 3.1.1.3.1.3.3).
fn decode(entry: ResultEntry, asked: &[&str]) -> Result<Decoded, EntryFault> {
    const BROKEN: EntryFault = EntryFault::Broken("an entry cannot be decoded");
    let asked: Vec<_> = asked.iter().map(|name| split_range(name)).collect();
    let mut parts = children(entry.0).ok_or(BROKEN)?.into_iter();
    let dn = parts.next().and_then(bytes).ok_or(BROKEN)?;
    let dn =
        String::from_utf8(dn).map_err(|_| EntryFault::Broken("the DN of an entry is not UTF-8"))?;
    let mut attributes = vec![Vec::new(); asked.len()];
    let mut partial = Vec::new();
    for part in parts.next().and_then(children).ok_or(BROKEN)? {
        let mut part = children(part).ok_or(BROKEN)?.into_iter();
        let name = part.next().and_then(bytes).ok_or(BROKEN)?;
        let name = String::from_utf8_lossy(&name);
        let (attribute, range) = split_range(&name);
        let index = asked
            .iter()
            .position(|(asked, _)| asked.eq_ignore_ascii_case(attribute));
        let Some(index) = index else { continue };
        let mut values = Vec::new();
        for value in part.next().and_then(children).ok_or(BROKEN)? {
            values.push(bytes(value).ok_or(BROKEN)?);
        }
        let wanted = asked[index].1.map_or(0, |range| range.start);
        match range {
            Some(Range { start, end }) if start == wanted => {
                if let Some(end) = end {
                    // The numbers are the server's own: it could go on for ever.
                    if end
                        .checked_sub(start)
                        .is_none_or(|more| more >= values.len())
                    {
                        return Err(EntryFault::Range(name.into_owned()));
                    }
                    partial.push(Partial {
                        index,
                        next: end + 1,
                    });
                }
            }
            None if wanted == 0 || values.is_empty() => {}
            _ => return Err(EntryFault::Range(name.into_owned())),
        }
        attributes[index].extend(values);
    }
    Ok(Decoded {
        entry: Entry { dn, attributes },
        partial,
    })
}

/// The numbers of the values in one part; no end: up to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: usize,
    end: Option<usize>,
}

/// Takes the range option off an attribute description.
fn split_range(name: &str) -> (&str, Option<Range>) {
    let parse = |option: &str| {
        let (start, end) = option.split_once('-')?;
        let end = match end {
            "*" => None,
            end => Some(end.parse().ok()?),
        };
        let start = start.parse().ok()?;
        Some(Range { start, end })
    };
    let Some((attribute, option)) = name.rsplit_once(';') else {
        return (name, None);
    };
    let range = option
        .get(..6)
        .filter(|option| option.eq_ignore_ascii_case("range="))
        .and_then(|_| parse(&option[6..]));
    match range {
        Some(range) => (attribute, Some(range)),
        None => (name, None),
    }
}

/// What was received is not everything, and is not used.
fn cut_short(query: &Query<'_>, received: usize, cause: String) -> DirectoryError {
    DirectoryError::SizeLimit {
        base: query.base.to_owned(),
        filter: query.filter.to_owned(),
        received,
        cause,
    }
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
pub(crate) fn printable(text: &str) -> String {
    text.trim_end_matches('\0')
        .chars()
        .take(500)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_options_are_read() {
        let range = |start, end| Some(Range { start, end });
        for (name, expected) in [
            ("member", ("member", None)),
            ("member;range=0-1499", ("member", range(0, Some(1499)))),
            ("member;Range=1500-*", ("member", range(1500, None))),
            ("cn;lang-de;range=0-*", ("cn;lang-de", range(0, None))),
            ("cn;lang-de", ("cn;lang-de", None)),
            ("cn;range=", ("cn;range=", None)),
            ("cn;range=1", ("cn;range=1", None)),
            ("cn;range=*-1", ("cn;range=*-1", None)),
            ("cn;rangé=1-2", ("cn;rangé=1-2", None)),
        ] {
            assert_eq!(split_range(name), expected);
        }
    }
}
