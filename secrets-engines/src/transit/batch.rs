//! One message or many in a request: the shapes of the answers, and what a failure of some does to the status.

use std::collections::BTreeSet;

use obol_mount::fields::Count;
use obol_mount::{Error, Output, Reply, Response, Result};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

/// The answer to one message, or to a batch.
pub(super) struct Answer<T> {
    shape: Shape<T>,
    status: Option<u16>,
    warnings: Vec<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
enum Shape<T> {
    One(T),
    Many {
        /// In the order of `batch_input`.
        batch_results: Vec<Item<T>>,
    },
}

/// One result of a batch: what was asked for, or why not.
#[derive(Serialize, JsonSchema)]
struct Item<T> {
    #[serde(flatten)]
    done: Option<T>,
    /// Why this one failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// As it was sent with this one.
    reference: String,
}

impl<T> Answer<T> {
    pub(super) fn one(done: T) -> Self {
        Self {
            shape: Shape::One(done),
            status: None,
            warnings: Vec::new(),
        }
    }
}

/// Collects the results of a batch.
pub(super) struct Batch<T> {
    results: Vec<Item<T>>,
    succeeded: bool,
    /// The worst status of those that failed.
    failed: Option<u16>,
}

impl<T> Batch<T> {
    pub(super) fn new(size: usize) -> Result<Self> {
        if size == 0 {
            return Err(Error::bad_request("missing batch input to process"));
        }
        Ok(Self {
            results: Vec::with_capacity(size),
            succeeded: false,
            failed: None,
        })
    }

    /// Lets other requests have their turn after each: a batch may be long, and a signature takes a while.
    pub(super) async fn add(&mut self, reference: Option<String>, outcome: Result<T>) {
        let (done, error) = match outcome {
            Ok(done) => {
                self.succeeded = true;
                (Some(done), None)
            }
            Err(error) => {
                if let Some(cause) = error.cause() {
                    tracing::warn!(cause, "a part of a batch failed");
                }
                let status = if error.status() >= 500 { 500 } else { 400 };
                self.failed = self.failed.max(Some(status));
                (None, Some(error.messages().join("; ")))
            }
        };
        self.results.push(Item {
            done,
            error,
            reference: reference.unwrap_or_default(),
        });
        tokio::task::yield_now().await;
    }

    /// The same where a failure has a result too.
    pub(super) async fn add_or(
        &mut self,
        reference: Option<String>,
        outcome: Result<T>,
        failed: T,
    ) {
        let is_failure = outcome.is_err();
        self.add(reference, outcome).await;
        if is_failure && let Some(item) = self.results.last_mut() {
            item.done = Some(failed);
        }
    }

    /// As Vault answers for signatures and HMACs: 200 whatever became of each, but for a fault of the server.
    pub(super) fn answer_each(mut self) -> Answer<T> {
        self.failed = self.failed.filter(|status| *status >= 500);
        self.answer(None)
    }

    /// As Vault answers: 200, or 400 (500 for a fault of the server) as soon as one failed; for a batch of which some
    /// succeeded, `partial_failure_response_code` in their place.
    pub(super) fn answer(self, partial_failure: Option<Count>) -> Answer<T> {
        let mut warnings = Vec::new();
        let status = match (self.failed, partial_failure) {
            (Some(_), Some(Count(code))) if self.succeeded => match u16::try_from(code) {
                Ok(code @ 200..=599) => Some(code),
                _ => {
                    warnings.push(
                        "partial_failure_response_code: expected an HTTP status from 200 to 599; it was not used"
                            .to_owned(),
                    );
                    self.failed
                }
            },
            (failed, _) => failed,
        };
        Answer {
            shape: Shape::Many {
                batch_results: self.results,
            },
            status,
            warnings,
        }
    }
}

/// A batch brings its own parameters for each of its messages: those beside it are not used, and the client is told.
pub(super) fn unused(fields: &[(&'static str, bool)]) -> Option<String> {
    let sent: BTreeSet<_> = fields
        .iter()
        .filter(|(_, sent)| *sent)
        .map(|(name, _)| *name)
        .collect();
    if sent.is_empty() {
        return None;
    }
    let names: Vec<_> = sent.into_iter().collect();
    Some(format!(
        "batch_input was sent: these parameters beside it were not used: [{}]",
        names.join(" ")
    ))
}

impl<T> Answer<T> {
    pub(super) fn warn(mut self, warning: Option<String>) -> Self {
        self.warnings.extend(warning);
        self
    }
}

impl<T: Serialize + JsonSchema + Send + 'static> Output for Answer<T> {
    fn into_response(self) -> Result<Response> {
        let mut response = Response::new(Reply::json(&self.shape)?);
        response.status = self.status;
        response.warnings = self.warnings;
        Ok(response)
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<Shape<T>>())
    }

    /// When none of a batch could be done, or as `partial_failure_response_code` has it.
    const ALSO: &'static [u16] = &[400];
}
