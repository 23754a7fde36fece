//! The acceptor for async callers: a fixed number of threads, each with credentials of its own, behind
//! a bounded queue. A full queue answers at once, a deadline bounds the wait, and a token that kills
//! its worker costs one error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::acceptor::{Accepted, Acceptor, ChannelBindings};
use crate::error::AcceptError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// Threads; more than there are cores gains nothing, the work is cryptography.
    pub workers: usize,
    /// Tokens that may wait; one more is refused with [`AcceptError::Busy`].
    pub queue: usize,
    /// The longest that one token waits and works.
    pub deadline: Duration,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            workers: thread::available_parallelism().map_or(2, usize::from),
            queue: 1024,
            deadline: Duration::from_secs(10),
        }
    }
}

/// Threads that accept tokens. They end when the pool is dropped and the queue is empty.
#[derive(Debug)]
pub struct AcceptorPool {
    queue: SyncSender<Job>,
    deadline: Duration,
}

struct Job {
    acceptor: Acceptor,
    token: Vec<u8>,
    bindings: Option<ChannelBindings>,
    answer: oneshot::Sender<Result<Accepted, AcceptError>>,
}

impl AcceptorPool {
    /// Starts the threads; fails only if the system gives none.
    pub fn new(options: PoolOptions) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(options.queue);
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..options.workers.max(1) {
            let jobs = Arc::clone(&jobs);
            thread::Builder::new()
                .name(format!("kerberos-{number}"))
                .spawn(move || work(&jobs))?;
        }
        Ok(Self {
            queue,
            deadline: options.deadline,
        })
    }

    /// [`Acceptor::accept`] on a worker thread. A caller that stops waiting takes its token out of the queue.
    pub async fn accept(
        &self,
        acceptor: &Acceptor,
        token: Vec<u8>,
        bindings: Option<ChannelBindings>,
    ) -> Result<Accepted, AcceptError> {
        let (answer, wait) = oneshot::channel();
        let job = Job {
            acceptor: acceptor.clone(),
            token,
            bindings,
            answer,
        };
        self.queue.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => AcceptError::Busy,
            TrySendError::Disconnected(_) => AcceptError::Internal,
        })?;
        match tokio::time::timeout(self.deadline, wait).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(AcceptError::Internal),
            Err(_) => Err(AcceptError::Deadline),
        }
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        // A poisoned lock means that a thread died between two jobs; the receiver is still whole.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if job.answer.is_closed() {
            continue;
        }
        let accept = AssertUnwindSafe(|| job.acceptor.accept(&job.token, job.bindings.as_ref()));
        let result = catch_unwind(accept).unwrap_or(Err(AcceptError::Internal));
        // The receiver may have given up meanwhile.
        let _ = job.answer.send(result);
    }
}
