//! Listings: one level of a folder, in pages where the client asks for them.

use obol_mount::{Keys, Result, fields::Count};
use obol_storage::View;
use schemars::JsonSchema;
use serde::Deserialize;

/// Which part of a listing is wanted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct Page {
    /// Begin behind this name (as a listing shows it; it need not exist).
    #[serde(default)]
    after: String,
    /// At most so many names; 0, or nothing, is all of them.
    #[serde(default)]
    limit: Count,
}

impl Page {
    /// The names below `folder` of `view` (empty, or ending with a slash).
    pub(crate) async fn of(&self, view: &View, folder: &str) -> Result<Keys> {
        let after = (!self.after.is_empty()).then_some(self.after.as_str());
        let limit = match self.limit.0 {
            0 => usize::MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        let keys = view.list(folder, after, limit).await?;
        Ok(Keys { keys })
    }
}
