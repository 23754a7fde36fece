//! Moving mounts to other paths, in the background, with a status to ask for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use obol_mount::Result;
use uuid::Uuid;

use super::Live;

/// The moves of late. In memory: what a restart interrupts has not happened.
#[derive(Default)]
pub struct Remounts(Mutex<VecDeque<Remount>>);

/// One move.
#[derive(Debug, Clone)]
pub struct Remount {
    pub id: String,
    pub from: String,
    pub to: String,
    pub status: RemountStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemountStatus {
    InProgress,
    Success,
    Failure,
}

impl RemountStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in-progress",
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

impl Remounts {
    pub fn get(&self, id: &str) -> Option<Remount> {
        self.lock().iter().find(|move_| move_.id == id).cloned()
    }

    fn begin(&self, from: &str, to: &str) -> String {
        let id = Uuid::new_v4().to_string();
        let mut moves = self.lock();
        if moves.len() == REMEMBERED {
            moves.pop_front();
        }
        moves.push_back(Remount {
            id: id.clone(),
            from: from.to_owned(),
            to: to.to_owned(),
            status: RemountStatus::InProgress,
        });
        id
    }

    fn end(&self, id: &str, status: RemountStatus) {
        if let Some(known) = self.lock().iter_mut().find(|move_| move_.id == id) {
            known.status = status;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Remount>> {
        // Plain data: a panic elsewhere cannot have left it half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// Begins a move and returns its id. What can be known to be wrong is refused before it begins; from then on the
    /// mount answers at neither path until what it has handed out is revoked.
    pub(super) async fn remount(self: &Arc<Self>, from: String, to: String) -> Result<String> {
        let mounted = self.mounts.begin_move(&from, &to).await?;
        let id = self.remounts.begin(&from, &to);
        let (live, work) = (self.clone(), id.clone());
        tokio::spawn(async move {
            let uuid = mounted.entry.uuid.as_str();
            let moved = match live.revoke_issued_by(uuid).await {
                Ok(()) => live.mounts.finish_move(&mounted, &to).await,
                Err(error) => Err(error),
            };
            match moved {
                Ok(()) => {
                    tracing::info!(%from, %to, "a mount was moved");
                    live.remounts.end(&work, RemountStatus::Success);
                }
                Err(error) => {
                    tracing::error!(%from, %to, %error, "a mount could not be moved and serves at its old path");
                    live.mounts.abandon_move(mounted).await;
                    live.remounts.end(&work, RemountStatus::Failure);
                }
            }
        });
        Ok(id)
    }
}

/// How many moves can be asked for afterwards.
const REMEMBERED: usize = 256;
