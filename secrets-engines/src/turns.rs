//! Turns: who changes the same thing waits for those who came before.
//!
//! This is for fairness alone. That no change is lost rests on the precondition of each commit,
//! which also holds against other servers; but where many clients write one secret at a time, all
//! but one of them would meet a conflict and try again, and some would do so too often.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as Line, OwnedMutexGuard};

/// One waiting line for each name that somebody is changing; none for the others.
#[derive(Default)]
pub(crate) struct Turns {
    lines: Mutex<HashMap<Box<str>, Arc<Line<()>>>>,
}

/// The right to change what it was taken for; passes on when it is dropped.
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    name: &'a str,
    line: Option<Arc<Line<()>>>,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits, first come first served.
    pub(crate) async fn take<'a>(&'a self, name: &'a str) -> Turn<'a> {
        let line = Arc::clone(self.lines().entry(name.into()).or_default());
        // The turn exists before it is held, so that a caller who stops waiting leaves the line too.
        let mut turn = Turn {
            turns: self,
            name,
            line: Some(Arc::clone(&line)),
            held: None,
        };
        turn.held = Some(line.lock_owned().await);
        turn
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Line<()>>>> {
        // The map is whole after every statement that changes it.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.held = None;
        self.line = None;
        let mut lines = self.turns.lines();
        // Lines are only taken out of the map under its lock, so a count of one is the map's own.
        if lines
            .get(self.name)
            .is_some_and(|line| Arc::strong_count(line) == 1)
        {
            lines.remove(self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[tokio::test]
    async fn a_line_is_served_in_order_and_vanishes_with_its_last() {
        let turns = Turns::default();
        let first = turns.take("a").await;
        let _other = turns.take("b").await;
        let mut nobody = Context::from_waker(Waker::noop());
        let mut second = pin!(turns.take("a"));
        assert!(second.as_mut().poll(&mut nobody).is_pending());
        {
            let mut impatient = pin!(turns.take("a"));
            assert!(impatient.as_mut().poll(&mut nobody).is_pending());
        }
        drop(first);
        let Poll::Ready(second) = second.as_mut().poll(&mut nobody) else {
            panic!("the turn did not pass on");
        };
        assert_eq!(turns.lines().len(), 2);
        drop(second);
        assert_eq!(turns.lines().len(), 1);
    }
}
