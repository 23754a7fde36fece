//! `print token`: the token that the other commands would use.

use serde_json::json;

use super::client::{Client, HttpFlags};
use super::failure::{Failure, Outcome, SUCCESS};
use super::output::{Format, FormatFlag};
use super::{Command, Example, Session};

/// Print the token that the other commands use
///
/// That of OBOL_TOKEN or VAULT_TOKEN, else the one that `obol login` has kept. Nothing is asked of the server.
#[derive(clap::Args)]
pub(super) struct PrintToken {
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for PrintToken {
    const NAME: &'static str = "print token";
    const EXAMPLES: &'static [Example] = &[("Give it to another program", "obol print token")];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let client = Client::new(&HttpFlags::default(), &session.env)?;
        let Some(token) = client.token else {
            return Err(Failure::local("there is no token")
                .hint("`obol login` keeps one; OBOL_TOKEN and VAULT_TOKEN hold another."));
        };
        match format {
            Format::Table => session.line(token.secret.expose())?,
            format => session.print_value(format, &json!({ "token": token.secret.expose() }))?,
        }
        Ok(SUCCESS)
    }
}
