//! `version`.

use serde_json::json;

use super::failure::{Outcome, SUCCESS};
use super::output::{Format, FormatFlag};
use super::{Command, Example, Session};

/// Print the version of this program
#[derive(clap::Args)]
pub(super) struct Version {
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for Version {
    const NAME: &'static str = "version";
    const EXAMPLES: &'static [Example] = &[("Print the version", "obol version")];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let version = env!("CARGO_PKG_VERSION");
        match self.format.resolve(&session.env)? {
            Format::Table => session.line(&format!("Obol v{version}"))?,
            format => session.print_value(format, &json!({ "version": version }))?,
        }
        Ok(SUCCESS)
    }
}
