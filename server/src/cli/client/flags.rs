//! The flags that every command of the API has, and what they and the environment come to.

use std::time::Duration;

use obol_mount::duration;

use super::Address;
use crate::cli::env::Env;
use crate::cli::failure::Failure;

// Flattened into commands; a doc comment here would replace the command's own.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "HTTP options")]
pub(in crate::cli) struct HttpFlags {
    /// Address of the server, https://127.0.0.1:8200 by default (OBOL_ADDR, VAULT_ADDR)
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) address: Option<String>,
    /// Address of an agent, used instead
    #[arg(long, value_name = "URL")]
    agent_address: Option<String>,
    /// File of PEM certificates of the authorities to trust
    #[arg(long, value_name = "FILE")]
    ca_cert: Option<String>,
    /// Directory of such files
    #[arg(long, value_name = "DIR")]
    ca_path: Option<String>,
    /// File of the client's own PEM certificate; needs -client-key
    #[arg(long, value_name = "FILE")]
    client_cert: Option<String>,
    /// File of its PEM private key
    #[arg(long, value_name = "FILE")]
    client_key: Option<String>,
    /// Name to expect in the server's certificate, when it is not that of the address
    #[arg(long, value_name = "NAME")]
    tls_server_name: Option<String>,
    /// Do not verify the server's certificate: anyone on the way can read and change everything
    #[arg(long, value_name = "true|false", hide_possible_values = true)]
    tls_skip_verify: Option<bool>,
    /// Namespace, sent as X-Vault-Namespace
    #[arg(long, alias = "ns", value_name = "NAME")]
    namespace: Option<String>,
    /// Ask for the answer in a wrapping token that lives so long: 30s, 5m
    #[arg(long, value_name = "DURATION")]
    wrap_ttl: Option<String>,
    /// Header to add to the request; may be repeated. X-Vault- headers are not for this
    #[arg(long, value_name = "NAME=VALUE")]
    header: Vec<String>,
    /// Do not follow the server's redirect (one is followed otherwise)
    #[arg(long, value_name = "true|false", hide_possible_values = true)]
    disable_redirects: Option<bool>,
    /// Print the request as a curl command instead of sending it
    #[arg(long)]
    output_curl_string: bool,
    /// Print the policy that the request needs instead of sending it
    #[arg(long, conflicts_with = "output_curl_string")]
    output_policy: bool,
    /// Never ask on the terminal
    #[arg(long)]
    pub(in crate::cli) non_interactive: bool,
}

pub(super) struct Settings {
    pub(super) address: Address,
    /// Where the address came from, for messages.
    pub(super) address_source: String,
    pub(super) tls: TlsSettings,
    pub(super) namespace: Option<String>,
    pub(super) wrap_ttl: Option<Duration>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) disable_redirects: bool,
    pub(super) output_curl_string: bool,
    pub(super) output_policy: bool,
    pub(super) timeout: Duration,
    pub(super) max_retries: u32,
    pub(super) proxy: Option<String>,
}

#[derive(Default)]
pub(super) struct TlsSettings {
    pub(super) ca: Option<Authorities>,
    pub(super) client_cert: Option<String>,
    pub(super) client_key: Option<String>,
    pub(super) server_name: Option<String>,
    pub(super) skip_verify: bool,
}

#[derive(Debug, PartialEq)]
pub(super) enum Authorities {
    Text(String),
    File(String),
    Directory(String),
}

impl Settings {
    pub(super) fn resolve(flags: &HttpFlags, env: &Env) -> Result<Self, Failure> {
        let (address, address_source) = address(flags, env);
        let text = |flag: &Option<String>, name: &str| {
            flag.clone().or_else(|| env.get(name).map(str::to_owned))
        };
        let tls = TlsSettings {
            ca: authorities(flags, env),
            client_cert: text(&flags.client_cert, "CLIENT_CERT"),
            client_key: text(&flags.client_key, "CLIENT_KEY"),
            server_name: text(&flags.tls_server_name, "TLS_SERVER_NAME"),
            skip_verify: flags
                .tls_skip_verify
                .or(env.bool("SKIP_VERIFY")?)
                .unwrap_or(false),
        };
        let wrap_ttl = match &flags.wrap_ttl {
            Some(text) => {
                Some(duration::parse(text).map_err(|e| Failure::local(format!("-wrap-ttl: {e}")))?)
            }
            None => env.duration("WRAP_TTL")?,
        };
        Ok(Self {
            address: Address::parse(&address)?,
            address_source,
            tls,
            namespace: text(&flags.namespace, "NAMESPACE"),
            wrap_ttl: wrap_ttl.filter(|ttl| !ttl.is_zero()),
            headers: flags
                .header
                .iter()
                .map(|pair| header(pair))
                .collect::<Result<_, _>>()?,
            disable_redirects: flags
                .disable_redirects
                .or(env.bool("DISABLE_REDIRECTS")?)
                .unwrap_or(false),
            output_curl_string: flags.output_curl_string,
            output_policy: flags.output_policy,
            timeout: env
                .duration("CLIENT_TIMEOUT")?
                .filter(|t| !t.is_zero())
                .unwrap_or(DEFAULT_TIMEOUT),
            max_retries: env.number("MAX_RETRIES")?.unwrap_or(DEFAULT_RETRIES),
            proxy: env
                .get("PROXY_ADDR")
                .or_else(|| env.get("HTTP_PROXY"))
                .map(str::to_owned),
        })
    }
}

fn address(flags: &HttpFlags, env: &Env) -> (String, String) {
    let from_env = |name| {
        env.named(name)
            .map(|(variable, value)| (value.to_owned(), variable))
    };
    let from_flag =
        |flag: &Option<String>, name: &str| flag.clone().map(|value| (value, name.to_owned()));
    from_flag(&flags.agent_address, "-agent-address")
        .or_else(|| from_flag(&flags.address, "-address"))
        .or_else(|| from_env("AGENT_ADDR"))
        .or_else(|| from_env("ADDR"))
        .unwrap_or_else(|| {
            (
                DEFAULT_ADDRESS.to_owned(),
                "the default; VAULT_ADDR is not set".to_owned(),
            )
        })
}

/// A flag before any variable, and the narrower before the wider, as Vault documents it.
fn authorities(flags: &HttpFlags, env: &Env) -> Option<Authorities> {
    let from_env = |name: &str| env.get(name).map(str::to_owned);
    flags
        .ca_cert
        .clone()
        .map(Authorities::File)
        .or_else(|| flags.ca_path.clone().map(Authorities::Directory))
        .or_else(|| from_env("CACERT_BYTES").map(Authorities::Text))
        .or_else(|| from_env("CACERT").map(Authorities::File))
        .or_else(|| from_env("CAPATH").map(Authorities::Directory))
}

fn header(pair: &str) -> Result<(String, String), Failure> {
    let Some((name, value)) = pair.split_once('=') else {
        return Err(Failure::local("-header must look like NAME=VALUE"));
    };
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(is_token) {
        return Err(Failure::local(
            "-header: the name of the header is malformed",
        ));
    }
    if name.to_ascii_lowercase().starts_with("x-vault-") {
        return Err(Failure::local(format!(
            "-header: {name} is set by this program alone, as all X-Vault- headers"
        )));
    }
    Ok((name.to_owned(), value.to_owned()))
}

const DEFAULT_ADDRESS: &str = "https://127.0.0.1:8200";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
const DEFAULT_RETRIES: u32 = 2;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn resolve(flags: HttpFlags, env: &[(&str, &str)]) -> Settings {
        Settings::resolve(&flags, &Env::of(env)).unwrap()
    }

    #[test]
    fn a_flag_beats_a_variable_and_a_variable_the_default() {
        let settings = resolve(HttpFlags::default(), &[]);
        assert_eq!(settings.address.to_string(), "https://127.0.0.1:8200");
        let env = [
            ("VAULT_ADDR", "http://b"),
            ("VAULT_SKIP_VERIFY", "true"),
            ("VAULT_WRAP_TTL", "90s"),
        ];
        let settings = resolve(HttpFlags::default(), &env);
        assert_eq!(
            (
                settings.address.to_string().as_str(),
                settings.tls.skip_verify
            ),
            ("http://b", true)
        );
        assert_eq!(settings.wrap_ttl, Some(Duration::from_secs(90)));
        let flags = HttpFlags {
            address: Some("http://a".into()),
            tls_skip_verify: Some(false),
            wrap_ttl: Some("1m".into()),
            ..HttpFlags::default()
        };
        let settings = resolve(flags, &env);
        assert_eq!(
            (
                settings.address.to_string().as_str(),
                settings.tls.skip_verify
            ),
            ("http://a", false)
        );
        assert_eq!(settings.wrap_ttl, Some(Duration::from_secs(60)));
    }

    #[test]
    fn an_authority_given_as_a_flag_beats_all_variables() {
        let env = [("VAULT_CACERT", "file"), ("OBOL_CACERT_BYTES", "text")];
        assert_eq!(
            resolve(HttpFlags::default(), &env).tls.ca,
            Some(Authorities::Text("text".into()))
        );
        let flags = HttpFlags {
            ca_path: Some("dir".into()),
            ..HttpFlags::default()
        };
        assert_eq!(
            resolve(flags, &env).tls.ca,
            Some(Authorities::Directory("dir".into()))
        );
    }

    #[test]
    fn headers_of_the_protocol_cannot_be_forged() {
        assert_eq!(
            header("X-Trace=a=b").unwrap(),
            ("X-Trace".into(), "a=b".into())
        );
        for pair in [
            "x-vault-token=t",
            "X-Vault-Namespace=n",
            "novalue",
            "=v",
            "a b=c",
        ] {
            assert!(header(pair).is_err(), "{pair}");
        }
    }
}
