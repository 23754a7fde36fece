//! `sys/tools/`: random bytes and hashes, the same as the transit engine's.

use obol_mount::{Routes, post};
use obol_secrets_engines::tools::{hash, random};

use super::System;

pub(super) fn routes() -> Routes<System> {
    Routes::new()
        .at("tools/random", "Random bytes", post(random))
        .at(
            "tools/random/{source}",
            "Random bytes from a source, or so many random bytes",
            post(random),
        )
        .at(
            "tools/random/{source}/{bytes}",
            "So many random bytes from a source",
            post(random),
        )
        .at("tools/hash", "Hashes", post(hash))
        .at(
            "tools/hash/{algorithm}",
            "Hashes with the algorithm in the path",
            post(hash),
        )
}
