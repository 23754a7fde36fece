//! The acceptor for async callers: a fixed number of threads behind a bounded queue. A full queue
//! answers at once, a deadline bounds the wait, and a token that kills its worker costs one error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokio::runtime::Handle;
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

/// So many tokens that wait are accepted before the first of them is answered: about a millisecond's work. Each answer wakes
/// somebody who takes the core away from this thread; together they take it once, and what they commit meets in one sync.
const TOGETHER: usize = 16;

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
    queue: Sender<Job>,
    deadline: Duration,
}

struct Job {
    run: Box<dyn FnOnce() -> Outcome + Send>,
    answer: oneshot::Sender<Outcome>,
}

type Outcome = Result<Accepted, AcceptError>;

impl AcceptorPool {
    /// Starts the threads; fails only if the system gives none.
    pub fn new(options: PoolOptions) -> std::io::Result<Self> {
        let (queue, jobs) = bounded(options.queue);
        for number in 0..options.workers.max(1) {
            let (jobs, runtime) = (jobs.clone(), Handle::try_current().ok());
            thread::Builder::new()
                .name(format!("kerberos-{number}"))
                .spawn(move || work(&jobs, runtime.as_ref()))?;
        }
        Ok(Self {
            queue,
            deadline: options.deadline,
        })
    }

    /// [`Acceptor::accept`] on a worker thread. A caller that stops waiting takes its token out of
    /// the queue.
    pub async fn accept(
        &self,
        acceptor: &Acceptor,
        token: Vec<u8>,
        bindings: Option<ChannelBindings>,
    ) -> Result<Accepted, AcceptError> {
        let acceptor = acceptor.clone();
        self.run(move || acceptor.accept(&token, bindings.as_ref()))
            .await
    }

    async fn run(&self, work: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
        let (answer, wait) = oneshot::channel();
        let job = Job {
            run: Box::new(work),
            answer,
        };
        self.queue.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(_) => AcceptError::Busy,
            TrySendError::Disconnected(_) => AcceptError::Internal,
        })?;
        match tokio::time::timeout(self.deadline, wait).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(AcceptError::Internal),
            Err(_) => Err(AcceptError::Deadline),
        }
    }
}

fn work(jobs: &Receiver<Job>, runtime: Option<&Handle>) {
    // Ends when the pool is gone and the queue is empty.
    for job in jobs {
        let mut answers = Answers(Vec::new());
        let mut next = Some(job);
        while let Some(job) = next.take() {
            // Whoever gave up is passed over.
            if !job.answer.is_closed() {
                // The job owns all that it touches, so nothing half-changed outlives a panic.
                let outcome = catch_unwind(AssertUnwindSafe(job.run));
                answers
                    .0
                    .push((job.answer, outcome.unwrap_or(Err(AcceptError::Internal))));
            }
            if answers.0.len() < TOGETHER {
                next = jobs.try_recv().ok();
            }
        }
        // One of the runtime's own threads wakes the others' tasks with less effort, while this one goes on.
        if let Some(runtime) = runtime
            && answers.0.len() > 1
        {
            runtime.spawn(async move { drop(answers) });
        }
    }
}

/// Sent when they are dropped, so that nobody waits in vain where the runtime has ended in between.
struct Answers(Vec<(oneshot::Sender<Outcome>, Outcome)>);

impl Drop for Answers {
    fn drop(&mut self) {
        for (answer, outcome) in self.0.drain(..) {
            // The receiver may have given up meanwhile.
            let _ = answer.send(outcome);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_job_that_panics_costs_one_error_and_no_worker() {
        let pool = pool(1, 4, HOUR);
        for _ in 0..3 {
            let outcome = pool.run(|| panic!("on purpose")).await;
            assert_eq!(outcome.unwrap_err(), AcceptError::Internal);
        }
        assert_eq!(quick(&pool).await, AcceptError::Anonymous);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_recovers() {
        let pool = Arc::new(pool(1, 1, HOUR));
        let (release, hold) = mpsc::channel::<()>();
        let (started, running) = oneshot::channel();
        let first = spawn(&pool, move || {
            started.send(()).unwrap();
            hold.recv().unwrap();
            Err(AcceptError::NotComplete)
        });
        running.await.unwrap();
        // One works, one waits: there is no room for a third.
        let mut second = pin!(pool.run(|| Err(AcceptError::NotComplete)));
        let mut unwatched = Context::from_waker(Waker::noop());
        assert!(second.as_mut().poll(&mut unwatched).is_pending());
        assert_eq!(quick(&pool).await, AcceptError::Busy);
        release.send(()).unwrap();
        assert_eq!(first.await.unwrap().unwrap_err(), AcceptError::NotComplete);
        assert_eq!(second.await.unwrap_err(), AcceptError::NotComplete);
        assert_eq!(quick(&pool).await, AcceptError::Anonymous);
    }

    #[tokio::test]
    async fn an_answer_waits_for_those_of_a_bounded_number_of_others() {
        let pool = Arc::new(pool(1, 2 * TOGETHER, HOUR));
        let (release, hold) = mpsc::channel::<()>();
        let (started, running) = oneshot::channel();
        let mut together = vec![spawn(&pool, move || {
            started.send(()).unwrap();
            hold.recv().unwrap();
            Err(AcceptError::NotComplete)
        })];
        running.await.unwrap();
        for waiting in 1..TOGETHER {
            together.push(spawn(&pool, || Err(AcceptError::NotComplete)));
            queued(&pool, waiting).await;
        }
        let (finish, hold) = mpsc::channel::<()>();
        let next = spawn(&pool, move || {
            hold.recv().unwrap();
            Err(AcceptError::Anonymous)
        });
        queued(&pool, TOGETHER).await;
        release.send(()).unwrap();
        // They are answered while the one behind them is at work.
        for answered in together {
            let answer = tokio::time::timeout(Duration::from_secs(60), answered).await;
            assert_eq!(
                answer.unwrap().unwrap().unwrap_err(),
                AcceptError::NotComplete
            );
        }
        finish.send(()).unwrap();
        assert_eq!(next.await.unwrap().unwrap_err(), AcceptError::Anonymous);
    }

    #[tokio::test]
    async fn who_passed_the_deadline_is_told_and_no_longer_served() {
        let pool = Arc::new(pool(1, 4, Duration::from_millis(20)));
        let (release, hold) = mpsc::channel::<()>();
        let served = Arc::new(AtomicUsize::new(0));
        let slow = spawn(&pool, move || {
            hold.recv().unwrap();
            Err(AcceptError::NotComplete)
        });
        let counted = Arc::clone(&served);
        let late = spawn(&pool, move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Err(AcceptError::NotComplete)
        });
        assert_eq!(slow.await.unwrap().unwrap_err(), AcceptError::Deadline);
        assert_eq!(late.await.unwrap().unwrap_err(), AcceptError::Deadline);
        release.send(()).unwrap();
        // The queue is in order: when this one is done, the late one was passed over.
        while quick(&pool).await != AcceptError::Anonymous {}
        assert_eq!(served.load(Ordering::Relaxed), 0);
    }

    fn pool(workers: usize, queue: usize, deadline: Duration) -> AcceptorPool {
        AcceptorPool::new(PoolOptions {
            workers,
            queue,
            deadline,
        })
        .unwrap()
    }

    async fn queued(pool: &AcceptorPool, jobs: usize) {
        while pool.queue.len() < jobs {
            tokio::task::yield_now().await;
        }
    }

    fn spawn(
        pool: &Arc<AcceptorPool>,
        work: impl FnOnce() -> Outcome + Send + 'static,
    ) -> tokio::task::JoinHandle<Outcome> {
        let pool = Arc::clone(pool);
        tokio::spawn(async move { pool.run(work).await })
    }

    /// The error tells who answered: a worker that ran this job says Anonymous.
    async fn quick(pool: &AcceptorPool) -> AcceptError {
        pool.run(|| Err(AcceptError::Anonymous)).await.unwrap_err()
    }
}
