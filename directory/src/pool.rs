//! Kept connections: bounded, bound once, to the first server in the list that answers.
//!
//! - At most `max_connections` sessions are open for searches; who finds none free waits `max_wait`.
//! - A session goes back into the pool when its [`Lease`] is dropped, if its last request came to
//!   an end. A cancelled, late or broken one is closed.
//! - A server that fails is passed over for `retry_after`. When that time is up, a task asks it
//!   again in the background; once it answers, sessions with servers further down are given up.
//! - If every server is passed over, all of them are tried: a pool never refuses on memory alone.

use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::dial::Dialer;
use crate::error::{DirectoryError, ResultCode};
use crate::session::{Entry, Query, Session};
use crate::settings::Limits;

pub(crate) struct Pool {
    dialer: Dialer,
    limits: Limits,
    /// One permit for each session that is leased or being opened.
    searches: Arc<Semaphore>,
    /// As many again for sessions on which users bind.
    user_binds: Arc<Semaphore>,
    state: Mutex<State>,
}

struct State {
    /// The most recently used last.
    idle: Vec<Idle>,
    /// For each server, until when it is passed over.
    down_until: Vec<Option<Instant>>,
    reaper_runs: bool,
}

struct Idle {
    session: Session,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(dialer: Dialer, limits: Limits) -> Arc<Self> {
        let servers = dialer.servers().len();
        Arc::new(Self {
            dialer,
            limits,
            searches: Arc::new(Semaphore::new(limits.max_connections)),
            user_binds: Arc::new(Semaphore::new(limits.max_connections)),
            state: Mutex::new(State {
                idle: Vec::new(),
                down_until: vec![None; servers],
                reaper_runs: false,
            }),
        })
    }

    /// A session bound as the service account: a kept one, or else a new one.
    pub(crate) async fn lease(self: &Arc<Self>) -> Result<Lease, DirectoryError> {
        let permit = self.permit(&self.searches).await?;
        self.ask_again();
        let (session, kept) = match self.take_idle() {
            Some(session) => (session, true),
            None => (self.open().await?, false),
        };
        Ok(Lease {
            pool: Arc::clone(self),
            session: Some(session),
            kept,
            _permit: permit,
        })
    }

    /// A session of its own for a user's bind. It never enters the pool.
    pub(crate) async fn user_session(self: &Arc<Self>) -> Result<UserSession, DirectoryError> {
        let permit = self.permit(&self.user_binds).await?;
        self.ask_again();
        let session = self.first_that_answers(Purpose::User).await?;
        Ok(UserSession {
            session,
            _permit: permit,
        })
    }

    pub(crate) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.limits.request_timeout
    }

    async fn permit(
        &self,
        semaphore: &Arc<Semaphore>,
    ) -> Result<OwnedSemaphorePermit, DirectoryError> {
        let permit = Arc::clone(semaphore).acquire_owned();
        match tokio::time::timeout(self.limits.max_wait, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            // The semaphore is never closed, so an error is the timeout.
            _ => Err(DirectoryError::Busy {
                connections: self.limits.max_connections,
                waited: self.limits.max_wait,
            }),
        }
    }

    fn take_idle(&self) -> Option<Session> {
        let mut state = self.state();
        while let Some(mut idle) = state.idle.pop() {
            if idle.since.elapsed() < self.limits.idle_timeout && idle.session.is_reusable() {
                return Some(idle.session);
            }
        }
        None
    }

    async fn open(&self) -> Result<Session, DirectoryError> {
        self.first_that_answers(Purpose::Service).await
    }

    async fn first_that_answers(&self, purpose: Purpose) -> Result<Session, DirectoryError> {
        let mut attempts = Vec::new();
        for server in self.order() {
            let outcome = match purpose {
                Purpose::Service => self.dialer.open(server).await,
                Purpose::User => self.dialer.open_unbound(server).await,
            };
            match outcome {
                Ok(session) => {
                    self.mark_up(server);
                    return Ok(session);
                }
                // Another server would count the same wrong password towards a lock-out.
                Err(
                    error @ DirectoryError::Bind {
                        code: ResultCode::INVALID_CREDENTIALS,
                        ..
                    },
                ) => return Err(error),
                Err(error) => {
                    if self.mark_down(server) {
                        warn!(error = %error, "a directory server is not usable");
                    }
                    attempts.push(error);
                }
            }
        }
        match attempts.len() {
            1 => Err(attempts.remove(0)),
            _ => Err(DirectoryError::NoServer { attempts }),
        }
    }

    /// Servers as configured, those that failed lately after the others.
    fn order(&self) -> Vec<usize> {
        let state = self.state();
        let mut order: Vec<_> = (0..state.down_until.len()).collect();
        order.sort_by_key(|server| state.down_until[*server].is_some());
        order
    }

    fn mark_up(&self, server: usize) {
        let mut state = self.state();
        if state.down_until[server].take().is_some() {
            let url = &self.dialer.servers()[server].text;
            info!(url, "a directory server answers again");
        }
        state.drop_beyond_best();
    }

    /// Returns whether that is news.
    fn mark_down(&self, server: usize) -> bool {
        let mut state = self.state();
        let until = Instant::now() + self.limits.retry_after;
        state.idle.retain(|idle| idle.session.server() != server);
        state.down_until[server].replace(until).is_none()
    }

    /// Asks a server again whose time is up, if another one answers meanwhile (or else the next
    /// lease tries it anyway). One at a time, and nobody waits for it.
    fn ask_again(self: &Arc<Self>) {
        let due = {
            let mut state = self.state();
            let Some(best) = state.best() else { return };
            let now = Instant::now();
            let due = (0..best).find(|i| state.down_until[*i].is_some_and(|until| until <= now));
            let Some(server) = due else { return };
            state.down_until[server] = Some(now + self.limits.retry_after);
            server
        };
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            let Some(pool) = pool.upgrade() else { return };
            let Ok(_permit) = Arc::clone(&pool.searches).try_acquire_owned() else {
                return;
            };
            match pool.dialer.open(due).await {
                Ok(session) => {
                    pool.mark_up(due);
                    pool.keep(session);
                }
                Err(error) => {
                    debug!(error = %error, "a directory server is still not usable");
                    pool.mark_down(due);
                }
            }
        });
    }

    /// Puts a session back, unless it is of no more use.
    fn keep(self: &Arc<Self>, mut session: Session) {
        // Outside a runtime nobody could close it later.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        if !session.is_reusable() || self.limits.idle_timeout.is_zero() {
            return;
        }
        let mut state = self.state();
        if state.best().is_some_and(|best| session.server() > best)
            || state.down_until[session.server()].is_some()
        {
            return;
        }
        state.idle.push(Idle {
            session,
            since: Instant::now(),
        });
        if !state.reaper_runs {
            state.reaper_runs = true;
            runtime.spawn(reap(Arc::downgrade(self), self.limits.idle_timeout));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each critical section leaves the state whole, even if it should panic.
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[derive(Clone, Copy)]
enum Purpose {
    Service,
    User,
}

impl State {
    /// The first server that is not passed over.
    fn best(&self) -> Option<usize> {
        self.down_until.iter().position(Option::is_none)
    }

    fn drop_beyond_best(&mut self) {
        if let Some(best) = self.best() {
            self.idle.retain(|idle| idle.session.server() <= best);
        }
    }
}

/// Closes idle sessions when their time is up; ends with the last of them or with the pool.
async fn reap(pool: Weak<Pool>, idle_timeout: Duration) {
    loop {
        let (expired, next) = {
            let Some(pool) = pool.upgrade() else { return };
            let mut state = pool.state();
            let expired: Vec<_> = state
                .idle
                .extract_if(.., |idle| {
                    idle.since.elapsed() >= idle_timeout || !idle.session.is_reusable()
                })
                .collect();
            let oldest = state.idle.iter().map(|idle| idle.since).min();
            state.reaper_runs = oldest.is_some();
            (expired, oldest)
        };
        for idle in expired {
            idle.session.close().await;
        }
        match next {
            Some(oldest) => tokio::time::sleep_until(oldest + idle_timeout).await,
            None => return,
        }
    }
}

/// A session on loan; dropping it gives it back.
pub(crate) struct Lease {
    pool: Arc<Pool>,
    session: Option<Session>,
    /// It was used before, and may have died since.
    kept: bool,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    /// Searches; if a kept session turns out to be of no more use, once more on a fresh one, and if the server says that
    /// it is busy or unavailable, once more at the next server.
    pub(crate) async fn search(&mut self, query: &Query<'_>) -> Result<Vec<Entry>, DirectoryError> {
        let limit = self.pool.limits.request_timeout;
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.pool.open().await?,
        };
        let mut outcome = session.search(query, limit).await;
        if self.kept && outcome.as_ref().is_err_and(is_about_the_connection) {
            debug!(
                url = session.url(),
                "a kept connection was of no more use, trying a fresh one"
            );
            drop(session);
            self.kept = false;
            session = self.pool.open().await?;
            outcome = session.search(query, limit).await;
        }
        if let Err(error) = &outcome
            && is_about_the_server(error)
            && self.pool.state().down_until.len() > 1
        {
            if self.pool.mark_down(session.server()) {
                warn!(error = %error, "a directory server is not usable");
            }
            session.spoil();
            drop(session);
            self.kept = false;
            session = self.pool.open().await?;
            outcome = session.search(query, limit).await;
        }
        if outcome.as_ref().is_err_and(is_about_the_connection) {
            session.spoil();
        }
        if let Err(
            DirectoryError::Timeout { .. }
            | DirectoryError::Lost { .. }
            | DirectoryError::Protocol { .. },
        ) = &outcome
        {
            self.pool.mark_down(session.server());
        }
        self.session = Some(session);
        outcome
    }
}

/// The connection is dead, or nobody is bound on it any more: Active Directory answers with
/// operationsError when the ticket of the bind has expired.
fn is_about_the_connection(error: &DirectoryError) -> bool {
    matches!(
        error,
        DirectoryError::Lost { .. }
            | DirectoryError::Search {
                code: ResultCode::OPERATIONS_ERROR,
                ..
            }
    )
}

/// The server is there and says that it cannot answer; another one may.
fn is_about_the_server(error: &DirectoryError) -> bool {
    matches!(
        error,
        DirectoryError::Search {
            code: ResultCode::BUSY | ResultCode::UNAVAILABLE,
            ..
        }
    )
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.pool.keep(session);
        }
    }
}

/// A session for one user's bind, closed at the end.
pub(crate) struct UserSession {
    pub(crate) session: Session,
    _permit: OwnedSemaphorePermit,
}

impl UserSession {
    pub(crate) async fn close(self) {
        self.session.close().await;
    }
}
