//! Secrets engines, one module each.
//!
//! A new engine is a module that implements [`obol_mount::Backend`], and one line in [`kinds`].

mod base64_field;
mod cubbyhole;
mod hashes;
mod kv;
mod listing;
mod merge_patch;
mod numbers;
mod randomness;
pub mod tools;
mod transit;
mod turns;

pub use kv::kv_v1_docs;
use obol_mount::Kind;

/// Every kind of secrets engine that can be enabled.
pub fn kinds() -> Vec<Kind> {
    vec![kv::kind(), cubbyhole::kind(), transit::kind()]
}
