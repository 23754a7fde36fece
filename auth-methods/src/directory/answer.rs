//! What a client is told when the directory says no, or nothing: one sentence and the request's id, by which the
//! operator finds the cause in the log.

use obol_directory::DirectoryError;
use obol_mount::{Error, RequestInfo};

/// The directory gave no answer that a login can be built on. `refused` is what a client gets whose user the
/// directory does not want.
pub(crate) fn of(request: &RequestInfo, error: &DirectoryError, refused: Error) -> Error {
    match error {
        DirectoryError::Busy { .. } => sentence(
            request,
            Error::unavailable,
            "the directory is busy with other logins; try again",
        ),
        error if error.is_refusal() => refused,
        _ => sentence(
            request,
            Error::bad_gateway,
            "the directory cannot be asked for the user's groups",
        ),
    }
}

/// One sentence and the request's id.
pub(crate) fn sentence(request: &RequestInfo, make: fn(String) -> Error, text: &str) -> Error {
    make(format!("{text} (request {})", request.id))
}
