//! Listings: one level of a folder, in pages where the client asks for them.

use obol_mount::{Error, Keys, Result, fields::Count};
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
        self.at_most(MAX_NAMES).of(view, folder).await
    }

    /// The same page, which may show no more than `most` names.
    pub(crate) fn at_most(&self, most: usize) -> BoundedPage<'_> {
        BoundedPage { page: self, most }
    }
}

/// A page with a bound on its size, so that no listing takes memory without one.
pub(crate) struct BoundedPage<'a> {
    page: &'a Page,
    most: usize,
}

impl BoundedPage<'_> {
    /// The names below `folder` of `view` (empty, or ending with a slash). More names than the bound are refused, not
    /// cut off: a client would take the rest for gone.
    pub(crate) async fn of(&self, view: &View, folder: &str) -> Result<Keys> {
        let Self { page, most } = *self;
        let after = (!page.after.is_empty()).then_some(page.after.as_str());
        let asked = usize::try_from(page.limit.0).unwrap_or(usize::MAX);
        let limit = match asked {
            0 => most + 1,
            asked => asked.min(most + 1),
        };
        let keys = view.list(folder, after, limit).await?;
        if keys.len() > most {
            return Err(Error::bad_request(format!(
                "there are more than {most} names: ask for them in pages, with limit (at most {most}) and after"
            )));
        }
        Ok(Keys { keys })
    }
}

/// The most names in one answer: some 15 MB while it is written.
const MAX_NAMES: usize = 250_000;
