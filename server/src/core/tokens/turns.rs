//! Who is using a token with a limited number of uses at this moment. The request that spends the last use
//! revokes the token when it is done; a request that spent an earlier use and is still under way would then
//! find its own token gone. So the last one waits here until it is alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::TokenId;

/// All limited tokens in use. Holds nothing for a token that nobody is using.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<TokenId, watch::Sender<usize>>>>);

/// One request's use of one token, from before the use is spent until the request is done or dropped.
pub(super) struct Turn {
    turns: Turns,
    id: TokenId,
}

impl Turns {
    pub(super) fn begin(&self, id: &TokenId) -> Turn {
        self.lock()
            .entry(id.clone())
            .or_insert_with(|| watch::Sender::new(0))
            .send_modify(|users| *users += 1);
        Turn {
            turns: self.clone(),
            id: id.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TokenId, watch::Sender<usize>>> {
        // Every critical section leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Returns when no other request uses the token. Those who come meanwhile find no use left and go at once.
    pub(super) async fn alone(&self) {
        let Some(mut users) = self
            .turns
            .lock()
            .get(&self.id)
            .map(watch::Sender::subscribe)
        else {
            return;
        };
        // An error says that the sender is gone, and with it the last user.
        let _ = users.wait_for(|users| *users <= 1).await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = self.turns.lock();
        if let Some(users) = turns.get(&self.id) {
            users.send_modify(|users| *users -= 1);
            if *users.borrow() == 0 {
                turns.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn num_uses_race_the_last_use_waits_for_the_earlier_ones_and_leaves_nothing_behind() {
        let turns = Turns::default();
        let id = TokenId::from(Arc::<str>::from("a"));
        let (last, earlier) = (turns.begin(&id), turns.begin(&id));
        let other = turns.begin(&TokenId::from(Arc::<str>::from("b")));
        let mut unwatched = Context::from_waker(Waker::noop());
        {
            let mut alone = pin!(last.alone());
            assert_eq!(alone.as_mut().poll(&mut unwatched), Poll::Pending);
            drop(earlier);
            assert_eq!(alone.as_mut().poll(&mut unwatched), Poll::Ready(()));
        }
        drop((last, other));
        assert!(turns.lock().is_empty());
    }
}
