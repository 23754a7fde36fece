//! The life of a request: [`Core::handle`]. Every request takes this way, in this order, wherever it came from.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use obol_mount::{
    Access as RouteAccess, Auth, Caller, Error, Operation, Reply, RequestInfo, Response, Result,
    Route, Secret, Upload,
};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::audit::headers::Sent;
use super::audit::{Record, Subject};
use super::mounts::{MountEntry, Mounted};
use super::path::RequestPath;
use super::policies::{Access, Reason};
use super::quotas::{self, Asking, Verdict};
use super::tokens::{Cached, TokenId, Use};
use super::wrapping::{self, Asked, Wrapped};
use super::{Core, Live};

/// A request as the listener hands it over: read, bounded and parsed, nothing decided.
pub struct Incoming {
    pub id: String,
    /// What the verb says; whether a write creates or updates is decided here.
    pub operation: Operation,
    /// What follows `/v1/`, as it came.
    pub raw_path: String,
    /// The body of a write, the query of everything else.
    pub data: Map<String, Value>,
    pub token: Option<Secret>,
    /// `Authorization: Negotiate ...`, which login routes get to see.
    pub authorization: Option<Secret>,
    /// Whom it comes from: the client's address, where a proxy that is believed says it.
    pub peer: Option<IpAddr>,
    /// The other end's port of the connection; the proxy's, where there is one.
    pub port: Option<u16>,
    /// The headers that are audited.
    pub headers: Vec<Sent>,
    /// The `tls-server-end-point` of the TLS connection (RFC 5929): what a login can be bound to.
    pub end_point: Option<Arc<[u8]>>,
    /// What `X-Vault-Wrap-TTL` asks for.
    pub wrap: Option<Asked>,
    /// `?help=1`.
    pub help: bool,
    /// Whether the listener shows `sys/metrics` to callers without a token.
    pub open_metrics: bool,
    /// The body, where the path takes a file.
    pub upload: Option<Upload>,
}

impl Incoming {
    /// What the audit log says of it.
    fn subject<'a>(
        &'a self,
        path: &'a RequestPath,
        operation: Operation,
        mount: Option<&'a MountEntry>,
        caller: Option<&'a Caller>,
        data: &'a Map<String, Value>,
    ) -> Subject<'a> {
        Subject {
            id: &self.id,
            operation,
            path: path.as_sent(),
            mount,
            data,
            peer: self.peer,
            port: self.port,
            caller,
            identity_policies: &[],
            token: self.token.as_ref().map(Secret::expose),
            wrap_ttl: self.wrap.map(|wrap| wrap.ttl.as_secs()),
            headers: &self.headers,
            shown: mount.map_or(&[], |mount| &mount.config.audit_non_hmac_request_keys.0),
        }
    }
}

/// The answer: a status, headers of the backend, and a body.
pub struct Outgoing {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    /// Of the body: JSON, almost always.
    pub content_type: &'static str,
    /// Empty for 204.
    pub body: Vec<u8>,
    /// Instead of the body: pieces as they come.
    pub stream: Option<mpsc::Receiver<Result<Bytes>>>,
}

/// Where a request goes.
struct Matched<'a> {
    mounted: &'a Arc<Mounted>,
    /// The path below the mount.
    below: &'a str,
    route: &'a Route,
    params: Vec<(&'static str, &'a str)>,
}

/// What a request has become by the time its handler has answered.
struct Answer {
    response: Response,
    auth: Option<Box<Auth>>,
    wrapped: Option<Wrapped>,
}

impl Core {
    /// Handles one request. Never fails: a refusal is an answer too.
    pub async fn handle(self: &Arc<Self>, incoming: Incoming) -> Outgoing {
        let id = incoming.id.clone();
        let operation = incoming.operation;
        // A future is as large as the largest thing that it ever waits for, and is copied where it is moved. So this
        // one is boxed, since it is moved several times on its way through the listener, and below is boxed what only
        // few requests come to (in the expression that awaits it: a variable would have its place in this one), else
        // each would pay for all of it.
        match Box::pin(self.serve(incoming)).await {
            Ok(outgoing) => outgoing,
            Err(error) => {
                match (error.status(), error.cause()) {
                    (500.., cause) => {
                        tracing::error!(request_id = %id, op = operation.as_str(), status = error.status(), cause, "request failed")
                    }
                    (_, Some(cause)) => {
                        tracing::warn!(request_id = %id, op = operation.as_str(), status = error.status(), cause, "request refused")
                    }
                    _ => {
                        tracing::debug!(request_id = %id, op = operation.as_str(), status = error.status(), "request refused")
                    }
                }
                Outgoing::error(&error)
            }
        }
    }

    async fn serve(self: &Arc<Self>, mut incoming: Incoming) -> Result<Outgoing> {
        // 1. Malformed, too large and too deep were refused by the listener; sealed is refused below, once it is
        //    known whether the path is one of the few that answer all the same.
        // 2. Normalise the path: what could be read in two ways is refused, not cleaned.
        let began = Instant::now();
        let path = RequestPath::parse(&incoming.raw_path)
            .map_err(|error| Error::bad_request(error.to_string()))?;
        let live = self.live.load_full();
        let found = match &live {
            Some(live) => live.mounts.route(&path),
            None => path
                .as_str()
                .strip_prefix("sys/")
                .and_then(|below| Some((self.system().ok()?.clone(), below))),
        };
        let matched = found.as_ref().and_then(|(mounted, below)| {
            let (route, params) = mounted.routes.find(below)?;
            Some(Matched {
                mounted,
                below,
                route,
                params,
            })
        });
        let mut access = matched
            .as_ref()
            .map_or(RouteAccess::Token, |matched| matched.route.doc.access);
        if incoming.open_metrics && path.as_str() == "sys/metrics" {
            access = RouteAccess::Public;
        }
        if access == RouteAccess::WhileSealed
            && let Some(Matched {
                mounted,
                below,
                route,
                params,
            }) = &matched
        {
            if incoming.help {
                return Ok(help(route, &mounted.entry.path));
            }
            let request = Arc::new(info(&incoming, mounted, below, None, SystemTime::now()));
            let response = route.call(request.clone(), params, incoming.data).await?;
            return Outgoing::encode(&request.id, &response, None, None, false);
        }
        let Some(live) = live else {
            return Err(Error::unavailable("Obol is sealed"));
        };

        // Before anybody is asked who they are: a client that asks too often is told so.
        let quota = self
            .within_quota(&live, &path, access, &incoming, matched.as_ref())
            .await?;

        // 3. Authenticate. Login and public paths have no caller, also when a token came along.
        let now = SystemTime::now();
        let unwraps = wrapping::unwraps_its_own_token(path.as_str(), &incoming.data);
        if unwraps && let Some(token) = &incoming.token {
            incoming.token = Some(Box::pin(live.wrapping.unpacked(token)).await?);
        }
        let authenticated = match access {
            RouteAccess::Token | RouteAccess::Sudo | RouteAccess::AnyToken => {
                let used = self.authenticate(&live, &incoming, now).await;
                used.map(Some).map_err(|error| match error.status() {
                    403 if unwraps => wrapping::invalid(),
                    _ => error,
                })
            }
            RouteAccess::Login | RouteAccess::Public | RouteAccess::WhileSealed => Ok(None),
        };
        let (used, refused) = match authenticated {
            Ok(used) => (used, None),
            Err(error) => (None, Some(error)),
        };
        let operation = incoming.operation;
        let outcome = Box::pin(self.serve_authenticated(
            &live,
            &path,
            matched,
            incoming,
            used.as_ref(),
            refused,
            now,
        ))
        .await;
        if let Some(used) = &used
            && let Some(id) = used.exhausted().await
        {
            Box::pin(live.discard(id)).await;
        }
        let mounted = found.as_ref().map(|(mounted, _)| mounted);
        self.metrics
            .request(began, mounted, access, operation, &outcome);
        quota_shown(outcome, quota)
    }

    /// Takes the request off its client's rate; what it returns are headers of the answer.
    async fn within_quota(
        &self,
        live: &Live,
        path: &RequestPath,
        access: RouteAccess,
        incoming: &Incoming,
        matched: Option<&Matched<'_>>,
    ) -> Result<quotas::Headers> {
        let role = match matched {
            Some(matched) if access == RouteAccess::Login && live.quotas.ask_for_roles() => {
                let backend = &matched.mounted.backend;
                backend.login_role(&incoming.data).await?
            }
            _ => None,
        };
        let asking = Asking {
            path: path.as_str(),
            role: role.as_deref(),
            peer: incoming.peer,
        };
        match live.quotas.take(&asking) {
            Verdict::Free => Ok(Vec::new()),
            Verdict::Within(headers) => Ok(headers),
            Verdict::Exceeded { error, audited } => {
                if audited && live.audit.is_enabled() {
                    let entry = matched.map(|matched| &matched.mounted.entry);
                    let none = Map::new();
                    let subject = incoming.subject(path, incoming.operation, entry, None, &none);
                    let record = Record::request(&subject, Some(&error));
                    Box::pin(live.audit.record(&record)).await?;
                }
                Err(error)
            }
        }
    }

    async fn authenticate(&self, live: &Live, incoming: &Incoming, now: SystemTime) -> Result<Use> {
        let token = incoming.token.as_ref().ok_or_else(Error::forbidden)?;
        let now = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        let used = live.tokens.authenticate(token, incoming.peer, now).await?;
        // A batch token has no record that a disabled mount could have taken with it.
        if let Some(issuer) = &used.token.entry.issuer
            && live.mounts.by_uuid(issuer).is_none()
        {
            return Err(Error::forbidden());
        }
        // Nor may a token be used whose entity is gone or disabled.
        let entity = live.identity_of(&used.token.entry.entity_id).await?;
        if !live.activity.knows(&used.token, now) {
            live.activity
                .see(&live.mounts, &used.token, entity.as_deref(), now);
        }
        Ok(used)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the steps of one function, cut where the token's last use must be settled"
    )]
    async fn serve_authenticated(
        self: &Arc<Self>,
        live: &Arc<Live>,
        path: &RequestPath,
        matched: Option<Matched<'_>>,
        mut incoming: Incoming,
        used: Option<&Use>,
        refused: Option<Error>,
        now: SystemTime,
    ) -> Result<Outgoing> {
        let token = used.map(|used| &used.token);
        let caller = token.map(|token| token.caller().clone());
        let mut operation = incoming.operation;
        let mut request = None;
        if refused.is_none()
            && let Some(Matched {
                mounted,
                below,
                route,
                params,
            }) = &matched
        {
            let mut info = Arc::new(info(&incoming, mounted, below, caller.clone(), now));
            if operation == Operation::Update
                && route.can_tell_create()
                && !self.may_write_either_way(live, token, path).await?
                && !route.exists(info.clone(), params, &incoming.data).await?
            {
                operation = Operation::Create;
                info = Arc::new(RequestInfo {
                    operation,
                    ..RequestInfo::clone(&info)
                });
            }
            request = Some(info);
        }

        // 4. Audit the request. When no device can record it, it is refused.
        let audited = live.audit.is_enabled();
        let mounted = matched.as_ref().map(|matched| matched.mounted);
        let data = std::mem::take(&mut incoming.data);
        let data_for_audit = if audited { data.clone() } else { Map::new() };
        let identity_policies = match token {
            Some(token) if audited => live.identity_policies(&token.entry.entity_id).await?,
            _ => Arc::default(),
        };
        let mut subject = incoming.subject(
            path,
            operation,
            mounted.map(|m| &m.entry),
            caller.as_ref(),
            &data_for_audit,
        );
        subject.identity_policies = &identity_policies;
        if audited {
            let record = Record::request(&subject, refused.as_ref());
            let recorded = live.audit.record(&record);
            self.metrics.audit_request.time(recorded).await?;
        }
        if let Some(error) = refused {
            return Err(error);
        }

        let (help_wanted, asked, request_id) = (incoming.help, incoming.wrap, &*incoming.id);
        let answered: Result<Answer> = async {
            refuse_write_to_folder(path, operation, mounted)?;
            // 5. Authorise: deny wins, then the constraints on parameters.
            if let Some(token) = token {
                authorise(
                    live,
                    token,
                    operation,
                    path,
                    &data,
                    incoming.wrap.map(|wrap| wrap.ttl),
                    matched.as_ref().map(|matched| matched.route),
                )
                .await?;
            }
            let Some(Matched {
                mounted,
                route,
                params,
                ..
            }) = &matched
            else {
                return Err(Error::not_found_because(format!(
                    "no handler for route {:?}",
                    path.as_str()
                )));
            };
            if help_wanted {
                return Ok(Answer {
                    response: help_response(route, &mounted.entry.path),
                    auth: None,
                    wrapped: None,
                });
            }
            // 6. Dispatch to the mount's typed route.
            let request =
                request.ok_or_else(|| Error::internal("a matched route without a request"))?;
            let mut response = route.call(request.clone(), params, data).await?;
            // 7. Settle: a login becomes a token, in one commit with what the login wants durable.
            let auth = self.settle(live, mounted, &request, &mut response).await?;
            if response.lease.is_some() {
                let limits = self.limits(Some(&mounted.entry));
                let token = token.map(AsRef::as_ref);
                let path = path.as_str();
                Box::pin(live.register_lease(mounted, limits, path, token, &mut response)).await?;
            }
            // 8. Wrap: a token of one use takes the answer's place, where that was asked for.
            let wrapped = match asked {
                None => Ok(None),
                Some(asked) => {
                    let (path, auth) = (path.as_str(), auth.as_deref());
                    Box::pin(self.wrap(live, asked, request_id, path, &response, auth)).await
                }
            };
            match wrapped {
                Ok(wrapped) => Ok(Answer {
                    response,
                    auth,
                    wrapped,
                }),
                Err(error) => {
                    Box::pin(self.take_back(live, token_of(auth.as_deref()), None, &response))
                        .await;
                    Err(error)
                }
            }
        }
        .await;

        // 9. Audit the response, then answer.
        let answer = match answered {
            Ok(answer) => answer,
            Err(error) => {
                if audited {
                    let record = Record::failure(&subject, &error);
                    let recorded = live.audit.record(&record);
                    self.metrics.audit_response.time(recorded).await?;
                }
                return Err(error);
            }
        };
        let Answer {
            mut response,
            auth,
            wrapped,
        } = answer;
        let wrap_info = match (&wrapped, &response.reply) {
            (Some(wrapped), _) => Some(&*wrapped.info),
            (None, Reply::Wrapped(info)) => Some(&**info),
            _ => None,
        };
        if audited {
            let shown = mounted.map_or(&[][..], |m| &m.entry.config.audit_non_hmac_response_keys.0);
            let written;
            let (issued, wrap_info) = (tree(auth.as_deref())?, tree(wrap_info)?);
            let (data, shown_auth) = match &response.reply {
                Reply::Bare(answer) if path.as_str() == wrapping::UNWRAP => {
                    wrapping::unwrapped_parts(answer)
                }
                Reply::Data(data) => (Some(data), issued.as_ref()),
                Reply::Bare(Value::Object(data)) => (Some(data), issued.as_ref()),
                reply => {
                    written = reply.to_data();
                    (written.as_ref(), issued.as_ref())
                }
            };
            let (wrap_info, warnings) = (wrap_info.as_ref(), &response.warnings);
            let record = Record::response(&subject, data, shown_auth, wrap_info, warnings, shown);
            let recorded = live.audit.record(&record);
            if let Err(error) = self.metrics.audit_response.time(recorded).await {
                let wrapping_token = wrapped.as_ref().map(|wrapped| &wrapped.id);
                let token = shown_auth.and_then(|auth| auth["client_token"].as_str());
                Box::pin(self.take_back(live, token, wrapping_token, &response)).await;
                return Err(error);
            }
        }
        if let Some(wrapped) = wrapped {
            // The rest of it is what the token fetches.
            response.reply = Reply::Empty;
            response.status = None;
            response.lease = None;
            return Outgoing::encode(&incoming.id, &response, None, Some(&wrapped.info), false);
        }
        let top_level_too = mounted.is_some_and(|m| m.entry.kind == "system");
        let mut outgoing = Outgoing::encode(
            &incoming.id,
            &response,
            auth.as_deref(),
            None,
            top_level_too,
        )?;
        if let Reply::Stream(stream) = response.reply {
            outgoing.stream = Some(stream.pieces);
        }
        Ok(outgoing)
    }

    /// Whether the caller may both create and update here: then nobody needs to know which of them it is.
    async fn may_write_either_way(
        &self,
        live: &Live,
        token: Option<&Arc<Cached>>,
        path: &RequestPath,
    ) -> Result<bool> {
        let Some(token) = token else { return Ok(true) };
        if live.audit.is_enabled() {
            // The audit log tells the two apart.
            return Ok(false);
        }
        let acl = live.acl_of(token).await?;
        let capabilities = acl.capabilities(path.as_str());
        Ok(capabilities.contains(&"root")
            || (capabilities.contains(&"create") && capabilities.contains(&"update")))
    }

    /// A token that the client never gets must not live, nor a lease: its issue could not be audited, or its answer
    /// not wrapped.
    async fn take_back(
        &self,
        live: &Live,
        token: Option<&str>,
        wrapping: Option<&TokenId>,
        response: &Response,
    ) {
        let login = token.map(|token| live.tokens.id_of(token));
        for id in login.iter().chain(wrapping) {
            live.discard(id).await;
        }
        live.take_back_lease(response).await;
    }
}

/// The token that an answer brings.
fn token_of(auth: Option<&Auth>) -> Option<&str> {
    auth.map(|auth| auth.client_token.expose())
}

/// A part of the envelope as the audit log looks at it.
fn tree<T: Serialize>(part: Option<&T>) -> Result<Option<Value>> {
    part.map(serde_json::to_value)
        .transpose()
        .map_err(Error::internal)
}

/// An answer, whatever it is, says how much of the client's rate is left, where that is wanted.
fn quota_shown(outcome: Result<Outgoing>, headers: quotas::Headers) -> Result<Outgoing> {
    match outcome {
        Ok(mut outgoing) => {
            outgoing.headers.extend(headers);
            Ok(outgoing)
        }
        Err(error) => Err(headers
            .into_iter()
            .fold(error, |error, (name, value)| error.with_header(name, value))),
    }
}

/// As in Vault: was the secret `foo` meant, or one in the folder `foo/`? The server's own paths are no folders of secrets,
/// and clients write mounts with their slash.
fn refuse_write_to_folder(
    path: &RequestPath,
    operation: Operation,
    mounted: Option<&Arc<Mounted>>,
) -> Result<()> {
    let writes = matches!(
        operation,
        Operation::Create | Operation::Update | Operation::Patch
    );
    let is_own = mounted.is_some_and(|mounted| mounted.entry.kind == "system");
    match path.has_trailing_slash() && writes && !is_own {
        true => Err(Error::bad_request("cannot write to a path ending in '/'")),
        false => Ok(()),
    }
}

async fn authorise(
    live: &Live,
    token: &Cached,
    operation: Operation,
    path: &RequestPath,
    data: &Map<String, Value>,
    wrap_ttl: Option<Duration>,
    route: Option<&Route>,
) -> Result<()> {
    let access = route.map_or(RouteAccess::Token, |route| route.doc.access);
    if access == RouteAccess::AnyToken {
        return Ok(());
    }
    let acl = live.acl_of(token).await?;
    let decide = |data| {
        acl.check(&Access {
            operation,
            path: path.as_sent(),
            data: Some(data),
            wrap_ttl,
        })
    };
    let mut decision = decide(data);
    // A field with two names is denied under both when one is denied, and allowed under both when one is
    // (threats: `parameter-constraints`).
    if let Some(renamed) = route.and_then(|route| route.by_other_names(operation, data)) {
        let other = decide(&renamed);
        let denied = |reason| matches!(reason, Reason::ParameterDenied(_));
        if denied(other.reason) || (other.allowed && !denied(decision.reason)) {
            decision.allowed = other.allowed;
            decision.sudo = other.sudo;
        }
    }
    if !decision.allowed || (access == RouteAccess::Sudo && !decision.sudo) {
        return Err(Error::forbidden());
    }
    Ok(())
}

fn info(
    incoming: &Incoming,
    mounted: &Mounted,
    below: &str,
    caller: Option<obol_mount::Caller>,
    now: SystemTime,
) -> RequestInfo {
    RequestInfo {
        id: incoming.id.clone(),
        operation: incoming.operation,
        mount: mounted.path.clone(),
        path: below.to_owned(),
        caller,
        peer: incoming.peer,
        // Only `auth/token` and `sys/wrapping` act on the calling token itself.
        token: if matches!(mounted.entry.kind.as_str(), "token" | "system") {
            incoming.token.clone()
        } else {
            None
        },
        authorization: incoming.authorization.clone(),
        end_point: incoming.end_point.clone(),
        wrap_ttl: incoming.wrap.map(|wrap| wrap.ttl),
        upload: incoming.upload.clone(),
        now,
    }
}

fn help_response(route: &Route, mount: &str) -> Response {
    let mut data = Map::new();
    data.insert("help".into(), route.doc.help(mount).into());
    data.insert("see_also".into(), Value::Null);
    Response::new(Reply::Bare(Value::Object(data)))
}

fn help(route: &Route, mount: &str) -> Outgoing {
    let body = match help_response(route, mount).reply {
        Reply::Bare(value) => value.to_string().into_bytes(),
        _ => Vec::new(),
    };
    Outgoing::json(200, Vec::new(), body)
}
