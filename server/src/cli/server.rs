//! `server`: runs the server in the foreground, from configuration files or for development.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::failure::{Failure, Outcome, SUCCESS};
use super::{Command, Example, Session};
use crate::server::{Dev, Options};

/// Run the server, in the foreground
///
/// With -dev it needs no configuration: memory for storage, plain HTTP on 127.0.0.1:8200, initialised, unsealed, its
/// root token printed. Everything is gone when it stops.
#[derive(clap::Args)]
pub(super) struct Server {
    /// Configuration file, or directory of such files; may be repeated
    #[arg(long, value_name = "PATH")]
    config: Vec<PathBuf>,
    /// Run for development
    #[arg(long)]
    dev: bool,
    /// With -dev: the root token, instead of one that the server makes up
    #[arg(long, value_name = "TOKEN")]
    dev_root_token_id: Option<String>,
    /// With -dev: where to listen, 127.0.0.1:8200 by default
    #[arg(long, value_name = "HOST:PORT")]
    dev_listen_address: Option<String>,
    /// trace, debug, info, warn or error, over the configuration's
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

impl Command for Server {
    const NAME: &'static str = "server";
    const EXAMPLES: &'static [Example] = &[
        (
            "With a configuration file",
            "obol server -config=/etc/obol/obol.hcl",
        ),
        (
            "To try things out, with a root token that is easy to type",
            "obol server -dev -dev-root-token-id=root",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let env = |name: &str| session.env.get(name).map(str::to_owned);
        if !self.dev && (self.dev_root_token_id.is_some() || self.dev_listen_address.is_some()) {
            return Err(Failure::local(
                "-dev-root-token-id and -dev-listen-address go with -dev",
            ));
        }
        if self.dev && !self.config.is_empty() {
            return Err(Failure::local(
                "-dev needs no configuration and reads none: leave -config out",
            ));
        }
        let dev = match self.dev {
            false => None,
            true => {
                let address = self
                    .dev_listen_address
                    .or_else(|| env("DEV_LISTEN_ADDRESS"));
                Some(Dev {
                    root_token_id: self.dev_root_token_id.or_else(|| env("DEV_ROOT_TOKEN_ID")),
                    listen_address: address.as_deref().map(listen_address).transpose()?,
                })
            }
        };
        if dev.is_none() && self.config.is_empty() {
            return Err(Failure::local("there is no configuration")
                .hint("Name its file with -config, or try the server out with -dev."));
        }
        let options = Options {
            config_paths: self.config,
            dev,
            log_level: self.log_level.or_else(|| env("LOG_LEVEL")),
        };
        crate::server::run(options)
            .map_err(|error| Failure::local(error.to_string()).doing("running the server"))?;
        Ok(SUCCESS)
    }
}

fn listen_address(text: &str) -> Result<SocketAddr, Failure> {
    // Names would mean a lookup, and a development server belongs on the loopback or on an address one knows.
    text.replace("localhost:", "127.0.0.1:")
        .parse()
        .map_err(|_| {
            Failure::local(format!(
                "-dev-listen-address: {text:?} is not an address like 127.0.0.1:8200"
            ))
        })
}
