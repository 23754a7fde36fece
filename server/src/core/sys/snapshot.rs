//! `sys/storage/snapshot`: everything that is stored, in one file, while the server works; and back. Vault's names for
//! it, `sys/storage/raft/snapshot` and `-force`, are the same.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use obol_mount::{
    Cx, Error, NoContent, Output, Part, Reply, Response, Result, Routes, Stream, get, post,
};
use obol_storage::snapshot::{self, Header, Keys, RestoreError, SealRecords, WriteError};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::System;
use crate::core::{Core, VERSION, unix_now};

pub(super) fn routes() -> Routes<System> {
    const TAKE: &str = "Takes a snapshot (GET), or puts one of this server back (POST, the file as the body): everything that is stored then is as it was";
    const FORCE: &str = "Puts a snapshot of any server back (POST, the file as the body); its keys unseal this server from then on";
    Routes::new()
        .sudo("storage/snapshot", TAKE, get(take).post(restore).upload())
        .sudo("storage/snapshot-force", FORCE, post(restore_any).upload())
        .sudo(
            "storage/raft/snapshot",
            TAKE,
            get(take).post(restore).upload(),
        )
        .sudo(
            "storage/raft/snapshot-force",
            FORCE,
            post(restore_any).upload(),
        )
}

/// A file that is sent as it is made.
pub(super) struct File(mpsc::Receiver<Result<Bytes>>);

impl Output for File {
    fn into_response(self) -> Result<Response> {
        Ok(Response::new(Reply::Stream(Stream {
            content_type: "application/octet-stream",
            pieces: self.0,
        })))
    }

    const PART: Part = Part::Body;
    const MEDIA: &'static [&'static str] = &["application/octet-stream"];
}

async fn take(cx: Cx<System>) -> Result<File> {
    let core = cx.core()?;
    core.live()?;
    let turn = turn(&core)?;
    let (pieces, file) = mpsc::channel(PIECES);
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let header = Header {
            created: unix_now(),
            server: VERSION.to_owned(),
        };
        // The store keeps what it would drop until the snapshot is over: a client that stops reading must not hold it.
        let send = |piece| {
            let sent = tokio::time::timeout(PATIENCE, pieces.send(piece));
            matches!(runtime.block_on(sent), Ok(Ok(())))
        };
        match snapshot::write(&core.barrier, &header, &mut |piece| send(Ok(piece))) {
            Ok(()) => tracing::info!("a snapshot was taken"),
            Err(error @ WriteError::NobodyReads) => {
                tracing::warn!(%error, "a snapshot was not taken to its end");
                // Where it was slow and not gone, it must not take this for the end.
                let _ = pieces.try_send(Err(Error::internal("the client read too slowly")));
            }
            Err(error) => {
                tracing::error!(%error, "a snapshot could not be taken");
                send(Err(Error::internal(error)));
            }
        }
    });
    Ok(File(file))
}

async fn restore(cx: Cx<System>) -> Result<NoContent> {
    put_back(&cx, Keys::Same).await
}

async fn restore_any(cx: Cx<System>) -> Result<NoContent> {
    put_back(&cx, Keys::Any).await
}

async fn put_back(cx: &Cx<System>, keys: Keys) -> Result<NoContent> {
    let core = cx.core()?;
    core.live()?;
    let turn = turn(&core)?;
    let pieces = cx.request.upload.as_ref().and_then(|upload| upload.take());
    let pieces = pieces.ok_or_else(|| {
        Error::bad_request("send the snapshot as the body of the request, and the path as it is")
    })?;
    let own = SealRecords::of(&core.barrier).await?;
    // Goes on when the client goes away: half-way through, the server is sealed.
    let work = tokio::spawn(async move {
        let _turn = turn;
        let barrier = Arc::clone(&core.barrier);
        let before = barrier.root()?;
        let restored = tokio::task::spawn_blocking(move || {
            let mut source = Pieces {
                pieces,
                piece: Bytes::new(),
            };
            snapshot::restore(&barrier, own, &mut source, keys)
        })
        .await
        .map_err(Error::internal)?;
        match (restored, keys) {
            (Ok(root), Keys::Same) => {
                core.begin_anew(&root).await?;
                tracing::warn!("a snapshot was restored");
                Ok(NoContent)
            }
            (Ok(_), Keys::Any) => {
                core.seal().await;
                tracing::warn!(
                    "a snapshot was restored; the server is sealed until it is given that snapshot's keys"
                );
                // With a static key that is the snapshot's own there is nobody to wait for.
                if let Err(error) = core.auto_unseal().await {
                    tracing::warn!(%error, "the static key does not unseal what was restored");
                }
                Ok(NoContent)
            }
            (Err(error), _) => {
                if core.barrier.is_sealed() && !core.is_sealed() {
                    core.begin_anew(&before).await?;
                }
                Err(refusal(error))
            }
        }
    });
    work.await.map_err(Error::internal)?
}

/// One snapshot at a time, either way.
fn turn(core: &Core) -> Result<OwnedSemaphorePermit> {
    Arc::clone(&core.snapshots)
        .try_acquire_owned()
        .map_err(|_| Error::too_many("another snapshot is being taken or restored; try again"))
}

fn refusal(error: RestoreError) -> Error {
    match error {
        RestoreError::OtherKeys => Error::bad_request(
            "the snapshot was written by a server with other unseal keys; sys/storage/snapshot-force restores it all the same, and that server's keys unseal this one from then on",
        ),
        RestoreError::Source(error) => {
            Error::bad_request("the snapshot could not be read to its end").with_cause(error)
        }
        RestoreError::Storage(error) => error.into(),
        other => Error::bad_request(other.to_string()),
    }
}

/// The body of a request as something to read from, on a thread that may wait.
struct Pieces {
    pieces: mpsc::Receiver<Result<Bytes>>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = piece.map_err(io::Error::other)?,
            }
        }
        let length = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// Pieces that may wait for the client.
const PIECES: usize = 4;
/// How long a client may take for a piece.
const PATIENCE: Duration = Duration::from_secs(60);
