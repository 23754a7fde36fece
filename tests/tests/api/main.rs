//! The API as clients see it, room by room, against the real process.
#![allow(clippy::unwrap_used)]

mod kv1;
mod wrapping;
