//! What commands have in common that send a request and show its answer: whole, one field of it, or a sentence where
//! there is none.

use serde_json::Value;

use super::Session;
use super::client::{Client, HttpFlags};
use super::failure::{Failure, Outcome, SUCCESS};
use super::output::{FieldFlag, Format, FormatFlag, field_of};

// Flattened into commands; a doc comment here would replace the command's own.
#[derive(clap::Args)]
pub(super) struct AnswerFlags {
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    field: FieldFlag,
}

impl AnswerFlags {
    /// The server to ask for an answer that is handed on as it comes, where that is the format.
    pub(super) fn open_raw(&self, session: &Session<'_>) -> Result<Option<Client>, Failure> {
        match self.format.resolve_or_raw(&session.env)? {
            Format::Raw if self.field.field.is_some() => Err(Failure::local(
                "-field picks from an answer that was read; it does not go with -format=raw",
            )),
            Format::Raw => Client::new(&self.http, &session.env).map(Some),
            _ => Ok(None),
        }
    }

    /// The server to ask, and how its answer is shown.
    pub(super) fn open(&self, session: &Session<'_>) -> Result<(Client, Show<'_>), Failure> {
        let format = self.format.resolve(&session.env)?;
        let client = Client::new(&self.http, &session.env)?;
        Ok((client, Show::new(format, &self.field)))
    }
}

/// How an answer is shown.
pub(super) struct Show<'a> {
    format: Format,
    field: Option<&'a str>,
}

impl<'a> Show<'a> {
    pub(super) fn new(format: Format, field: &'a FieldFlag) -> Self {
        Self {
            format,
            field: field.field.as_deref(),
        }
    }

    /// All of it.
    pub(super) fn whole(format: Format) -> Self {
        Self {
            format,
            field: None,
        }
    }

    pub(super) fn secret(&self, session: &mut Session<'_>, body: &Value) -> Outcome {
        match self.field {
            Some(name) => session.print_field(self.format, name, field_of(body, name))?,
            None => session.print_secret(self.format, body)?,
        }
        Ok(SUCCESS)
    }

    /// The sentence is for people: what asks for JSON or YAML gets nothing where there is nothing.
    pub(super) fn secret_or(
        &self,
        session: &mut Session<'_>,
        body: &Value,
        sentence: &str,
    ) -> Outcome {
        if !body.is_null() {
            return self.secret(session, body);
        }
        if self.format == Format::Table {
            session.line(sentence)?;
        }
        Ok(SUCCESS)
    }
}
