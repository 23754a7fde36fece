//! Looking at a directory step by step, for an operator who wants to know why logins fail.
//!
//! [`Directory::probe`] takes each server of the configuration on its own: dial, TLS, bind, what
//! kind of server it is, and whether the search bases exist. [`Directory::explain_user`] says how
//! one user is looked for, and what comes of it. Nothing here uses the caches or kept connections
//! to the servers, and nothing of it may be shown to a client of a login.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::dial::{Dialer, Transport};
use crate::error::{DirectoryError, ResultCode, TlsFault};
use crate::lookup::{Directory, Names, Via};
use crate::server_url::Security;
use crate::session::{Query, Session};
use crate::sid::SidNames;
use crate::tls;
use crate::user::UserSearch;

/// One server of the configuration, as far as the steps got.
#[derive(Clone, Debug)]
pub struct ServerProbe {
    pub url: String,
    /// In the order taken; if one of the first three fails, it is the last.
    pub steps: Vec<ProbeStep>,
}

impl ServerProbe {
    /// Logins can use this server.
    pub fn is_usable(&self) -> bool {
        self.steps.iter().all(|step| step.outcome.is_ok())
    }
}

/// One step with one server.
#[derive(Clone, Debug)]
pub struct ProbeStep {
    pub name: StepName,
    pub took: Duration,
    /// What was found, in a few words, or what is wrong.
    pub outcome: Result<String, DirectoryError>,
}

/// The steps, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StepName {
    /// Resolves the host and connects.
    Dial,
    /// TLS or StartTLS, or that there is none.
    Tls,
    /// As the service account.
    Bind,
    /// What kind of server it is, by its root DSE.
    RootDse,
    /// That the entry `userdn` exists.
    UserDn,
    /// That the entry `groupdn` exists.
    GroupDn,
}

impl StepName {
    /// A word for answers in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dial => "dial",
            Self::Tls => "tls",
            Self::Bind => "bind",
            Self::RootDse => "root_dse",
            Self::UserDn => "userdn",
            Self::GroupDn => "groupdn",
        }
    }
}

/// How one user is looked for, and what comes of it.
#[derive(Clone, Debug)]
pub struct UserProbe {
    pub username: String,
    /// The search for the user; `None`: the DN is put together of `userattr`, the name and `userdn`.
    pub user_search: Option<FilterUsed>,
    /// DNs of what the search finds, ten at most, or the DN that was put together.
    pub found: Vec<String>,
    /// The user's DN as a login would have it.
    pub user_dn: Result<String, DirectoryError>,
    /// The search for groups; `None`: there is no `groupdn` or no user.
    pub group_search: Option<FilterUsed>,
    /// Names that `groupfilter` finds.
    pub groups_by_filter: Option<Result<Vec<String>, DirectoryError>>,
    /// What `tokenGroups` says, with the names that count. `None` where the directory has no such
    /// attribute and the configuration does not ask for it.
    pub token_groups: Option<Result<Vec<SidNames>, DirectoryError>>,
    /// Logins use `token_groups`, not `groups_by_filter`.
    pub uses_token_groups: bool,
}

/// A search as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterUsed {
    pub base: String,
    pub filter: String,
}

impl Directory {
    /// Tries every server of the configuration, each on its own. A bind password that one server
    /// calls wrong is not sent to the others, which would count it towards a lock-out.
    pub async fn probe(&self) -> Vec<ServerProbe> {
        let dialer = self.inner().pool.dialer();
        let opened = (0..dialer.servers().len()).map(|server| connect(dialer, server));
        let mut password_is_wrong = None;
        let mut probes = Vec::new();
        for (server, (mut steps, transport)) in join_all(opened).await.into_iter().enumerate() {
            if let Some(transport) = transport {
                match &password_is_wrong {
                    None => {
                        self.beyond_tls(server, transport, &mut steps).await;
                        password_is_wrong = steps.iter().find_map(wrong_password);
                    }
                    Some(refused_by) => steps.push(not_tried(dialer, server, refused_by)),
                }
            }
            probes.push(ServerProbe {
                url: dialer.servers()[server].text.clone(),
                steps,
            });
        }
        probes
    }

    /// Bind and searches.
    async fn beyond_tls(&self, server: usize, transport: Transport, steps: &mut Vec<ProbeStep>) {
        let inner = self.inner();
        let dialer = inner.pool.dialer();
        let over_tls = matches!(transport, Transport::Tls(_));
        let deadline = dialer.deadline();
        let step = Step::begin(StepName::Bind);
        let mut session = match dialer.bind(server, transport, deadline).await {
            Ok(session) => {
                let finding = dialer.bound_as(over_tls);
                steps.push(step.end(Ok(finding)));
                session
            }
            Err(error) => {
                steps.push(step.end(Err(error)));
                return;
            }
        };
        let step = Step::begin(StepName::RootDse);
        let finding = self.root_dse(&mut session).await;
        steps.push(step.end(finding));

        let step = Step::begin(StepName::UserDn);
        let finding = self
            .base_exists(&mut session, &inner.settings.user_base)
            .await;
        steps.push(step.end(finding));

        let step = Step::begin(StepName::GroupDn);
        let finding = match &inner.settings.group_base {
            None => Ok("empty: no groups are looked up".to_owned()),
            Some(base) if inner.settings.anonymous_group_search => {
                match self.group_pool().dialer().open(server).await {
                    Ok(mut anonymous) => {
                        let finding = self.base_exists(&mut anonymous, base).await;
                        anonymous.close().await;
                        finding.map(|finding| format!("{finding}, read anonymously"))
                    }
                    Err(error) => Err(error),
                }
            }
            Some(base) => self.base_exists(&mut session, base).await,
        };
        steps.push(step.end(finding));
        session.close().await;
    }

    async fn root_dse(&self, session: &mut Session) -> Result<String, DirectoryError> {
        let query = Query::entry("read of the root DSE", "", &ROOT_DSE);
        let limit = self.inner().pool.request_timeout();
        let Some(entry) = session.search(&query, limit).await?.into_iter().next() else {
            return Ok("an LDAP server that shows no root DSE".into());
        };
        let values = |name: &str| -> Vec<String> {
            let index = ROOT_DSE.iter().position(|asked| *asked == name);
            let values = index.and_then(|index| entry.attributes.get(index));
            let values = values.into_iter().flatten();
            values
                .map(|value| crate::session::printable(&String::from_utf8_lossy(value)))
                .collect()
        };
        let is_ad = values("supportedCapabilities")
            .iter()
            .any(|capability| capability == ACTIVE_DIRECTORY);
        let vendor = [values("vendorName"), values("vendorVersion")]
            .concat()
            .join(" ");
        let mut finding = match (is_ad, vendor.is_empty()) {
            (true, true) => "Active Directory".to_owned(),
            (true, false) => format!("Active Directory by {vendor}"),
            (false, true) => "an LDAP server that does not say of which make".to_owned(),
            (false, false) => vendor,
        };
        let mut note = |what: &str, values: Vec<String>| {
            if !values.is_empty() {
                finding.push_str(&format!("; {what} {}", values.join(", ")));
            }
        };
        note("host", values("dnsHostName"));
        match values("defaultNamingContext") {
            default if default.is_empty() => note("naming contexts", values("namingContexts")),
            default => note("default naming context", default),
        }
        note("SASL mechanisms", values("supportedSASLMechanisms"));
        note("clock", values("currentTime"));
        Ok(finding)
    }

    async fn base_exists(
        &self,
        session: &mut Session,
        base: &str,
    ) -> Result<String, DirectoryError> {
        if base.is_empty() {
            return Ok("empty: searches begin at the root".into());
        }
        let query = Query::entry("read of the search base", base, &NO_ATTRIBUTES);
        let limit = self.inner().pool.request_timeout();
        match session.search(&query, limit).await?.into_iter().next() {
            Some(entry) => Ok(format!("{} exists", entry.dn)),
            None => Err(DirectoryError::Search {
                url: session.url().to_owned(),
                base: base.to_owned(),
                filter: query.filter.to_owned(),
                code: ResultCode::NO_SUCH_OBJECT,
                text: "the server shows no such entry".into(),
            }),
        }
    }

    /// Looks for a user and the user's groups in every way the directory has, beside the caches.
    pub async fn explain_user(&self, username: &str) -> UserProbe {
        let settings = &self.inner().settings;
        let mut probe = UserProbe {
            username: username.to_owned(),
            user_search: None,
            found: Vec::new(),
            user_dn: Ok(String::new()),
            group_search: None,
            groups_by_filter: None,
            token_groups: None,
            uses_token_groups: settings.use_token_groups,
        };
        let mut via = Via::service(&self.inner().pool);
        probe.user_dn = match self.user_search(username) {
            Err(error) => Err(error),
            Ok(UserSearch::Composed(dn)) => {
                probe.found.push(dn.clone());
                Ok(dn)
            }
            Ok(UserSearch::Search(search)) => {
                probe.user_search = Some(FilterUsed {
                    base: settings.user_base.clone(),
                    filter: search.filter.clone(),
                });
                match self.users_found(&search, SHOWN, &mut via).await {
                    Ok(mut entries) => {
                        entries.truncate(SHOWN);
                        probe.found = entries.iter().map(|entry| entry.dn.clone()).collect();
                        self.only_user(username, &search, &entries)
                            .map(|user| user.dn)
                    }
                    Err(error) => Err(error),
                }
            }
        };
        let (Ok(user_dn), Some(base)) = (&probe.user_dn, &settings.group_base) else {
            return probe;
        };
        probe.groups_by_filter = Some(match self.group_filter(user_dn, username) {
            Ok(filter) => {
                let groups = self
                    .groups_by_filter(base, &filter, user_dn, &mut via)
                    .await;
                probe.group_search = Some(FilterUsed {
                    base: base.clone(),
                    filter,
                });
                groups.map(|groups| {
                    let mut names: Vec<_> = groups.into_iter().map(|(name, _)| name).collect();
                    names.sort();
                    names.dedup();
                    names
                })
            }
            Err(error) => Err(error),
        });
        probe.token_groups = match self.token_groups(user_dn, &mut via).await {
            Err(DirectoryError::NoTokenGroups { .. }) if !settings.use_token_groups => None,
            Err(error) => Some(Err(error)),
            Ok(sids) => {
                // The names may need the last connection.
                drop(via);
                let groups = self.groups_of_sids(&sids, Names::Fresh).await;
                Some(groups.map(|(groups, _)| SidNames::all(&sids, &groups)))
            }
        };
        probe
    }
}

/// Dial and TLS.
async fn connect(dialer: &Dialer, server: usize) -> (Vec<ProbeStep>, Option<Transport>) {
    let mut steps = Vec::new();
    let deadline = dialer.deadline();
    let step = Step::begin(StepName::Dial);
    let tcp = match dialer.dial(server, deadline).await {
        Ok(tcp) => {
            let finding = match tcp.peer_addr() {
                Ok(address) => format!("connected to {address}"),
                Err(_) => "connected".to_owned(),
            };
            steps.push(step.end(Ok(finding)));
            tcp
        }
        Err(error) => {
            steps.push(step.end(Err(error)));
            return (steps, None);
        }
    };
    let step = Step::begin(StepName::Tls);
    match dialer.secure(server, tcp, deadline).await {
        Ok(transport) => {
            let finding = match &transport {
                Transport::Plain(_) => "none: ldap:// without starttls".to_owned(),
                Transport::Tls(stream) => {
                    let how = match dialer.servers()[server].security {
                        Security::StartTls => "by StartTLS, ",
                        _ => "",
                    };
                    format!(
                        "{how}{}",
                        tls::finding(stream.ssl(), dialer.checks_certificates())
                    )
                }
            };
            steps.push(step.end(Ok(finding)));
            (steps, Some(transport))
        }
        Err(error) => {
            let error = with_version(dialer, server, error).await;
            steps.push(step.end(Err(error)));
            (steps, None)
        }
    }
}

/// Says which version the server would have taken, where that is the fault.
async fn with_version(dialer: &Dialer, server: usize, error: DirectoryError) -> DirectoryError {
    let DirectoryError::Tls {
        url,
        cause,
        kind: TlsFault::BrokenOff | TlsFault::Version,
    } = &error
    else {
        return error;
    };
    match dialer.version_left_out(server, dialer.deadline()).await {
        Some(version) => DirectoryError::Tls {
            url: url.clone(),
            cause: format!("{cause}; it takes {version} when that is offered"),
            kind: TlsFault::Version,
        },
        None => error,
    }
}

struct Step {
    name: StepName,
    begun: Instant,
}

impl Step {
    fn begin(name: StepName) -> Self {
        Self {
            name,
            begun: Instant::now(),
        }
    }

    fn end(self, outcome: Result<String, DirectoryError>) -> ProbeStep {
        ProbeStep {
            name: self.name,
            took: self.begun.elapsed(),
            outcome,
        }
    }
}

/// The error of a server that called the password wrong.
fn wrong_password(step: &ProbeStep) -> Option<DirectoryError> {
    match &step.outcome {
        Err(
            error @ DirectoryError::Bind {
                code: ResultCode::INVALID_CREDENTIALS,
                ..
            },
        ) => Some(error.clone()),
        _ => None,
    }
}

/// The same of a server that was not asked.
fn not_tried(dialer: &Dialer, server: usize, wrong: &DirectoryError) -> ProbeStep {
    let mut error = wrong.clone();
    if let DirectoryError::Bind { url, text, .. } = &mut error {
        *text = format!("not tried, because {url} has called the password wrong");
        url.clone_from(&dialer.servers()[server].text);
    }
    Step::begin(StepName::Bind).end(Err(error))
}

/// What the root DSE is asked for: operational attributes come only by name.
const ROOT_DSE: [&str; 8] = [
    "vendorName",
    "vendorVersion",
    "supportedCapabilities",
    "dnsHostName",
    "defaultNamingContext",
    "namingContexts",
    "supportedSASLMechanisms",
    "currentTime",
];
/// LDAP_CAP_ACTIVE_DIRECTORY_OID (MS-ADTS 3.1.1.3.4.3.1).
pub(crate) const ACTIVE_DIRECTORY: &str = "1.2.840.113556.1.4.800";
/// Asks for none (RFC 4511 §4.5.1.8).
const NO_ATTRIBUTES: [&str; 1] = ["1.1"];
/// Entries shown of a search that should find one.
const SHOWN: usize = 10;
