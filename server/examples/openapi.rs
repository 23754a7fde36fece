//! Prints the OpenAPI document of every backend, as `api-docs/openapi.json` holds it: `make docs`.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let written = obol::core::openapi_of_everything()
        .map_err(|error| error.to_string())
        .and_then(|document| {
            let text =
                serde_json::to_string_pretty(&document).map_err(|error| error.to_string())?;
            writeln!(std::io::stdout(), "{text}").map_err(|error| error.to_string())
        });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("openapi: {error}");
            ExitCode::FAILURE
        }
    }
}
