//! `-output-curl-string`: the request as a curl command. The token does not appear in it.

use super::flags::{Authorities, Settings};
use super::{Request, Token, TokenSource};

pub(super) fn command(settings: &Settings, token: Option<&Token>, request: &Request) -> String {
    let mut words = vec!["curl".to_owned()];
    if request.method != "GET" {
        words.extend(["-X".to_owned(), request.method.to_owned()]);
    }
    let mut header = |name: &str, value: &str| {
        words.extend(["-H".to_owned(), quoted(&format!("{name}: {value}"))])
    };
    header("X-Vault-Request", "true");
    if let Some(namespace) = &settings.namespace {
        header("X-Vault-Namespace", namespace);
    }
    if let Some(ttl) = settings.wrap_ttl.filter(|_| request.wrappable) {
        header("X-Vault-Wrap-TTL", &ttl.as_secs().to_string());
    }
    for (name, value) in &settings.headers {
        header(name, value);
    }
    if request.body.is_some() || request.content_type == "application/octet-stream" {
        header("Content-Type", request.content_type);
    }
    if let Some(token) = token {
        // In double quotes, so that the shell puts it in.
        let source = match &token.source {
            TokenSource::Variable(name) => format!("${name}"),
            TokenSource::Kept(shown_by) => format!("$({shown_by})"),
            TokenSource::Command => "$VAULT_TOKEN".to_owned(),
        };
        words.extend(["-H".to_owned(), format!("\"X-Vault-Token: {source}\"")]);
    }
    // The ticket that was made for this request would not be accepted twice: curl gets its own.
    if request
        .headers
        .iter()
        .any(|(name, _)| *name == "Authorization")
    {
        words.extend(["--negotiate", "-u", ":"].map(str::to_owned));
    }
    let tls = &settings.tls;
    match &tls.ca {
        Some(Authorities::File(path)) => words.extend(["--cacert".to_owned(), quoted(path)]),
        Some(Authorities::Directory(path)) => words.extend(["--capath".to_owned(), quoted(path)]),
        Some(Authorities::Text(_)) => {
            words.extend([
                "--cacert".to_owned(),
                "<(printf '%s' \"$VAULT_CACERT_BYTES\")".to_owned(),
            ]);
        }
        None => {}
    }
    for (flag, value) in [("--cert", &tls.client_cert), ("--key", &tls.client_key)] {
        if let Some(value) = value {
            words.extend([flag.to_owned(), quoted(value)]);
        }
    }
    if tls.skip_verify {
        words.push("--insecure".to_owned());
    }
    if let Some(proxy) = &settings.proxy {
        words.extend(["--proxy".to_owned(), quoted(proxy)]);
    }
    if let Some(body) = &request.body {
        words.extend(["-d".to_owned(), quoted(&body.to_string())]);
    }
    let address = &settings.address;
    let url = address.url(&request.path, &request.query);
    let (url, host) = address.uri_for_tls_name(&url, tls.server_name.as_deref());
    if let Some(host) = host {
        let to = format!("::{}:{}", address.host_in_url(), address.port());
        words.extend([
            "-H".to_owned(),
            quoted(&format!("Host: {host}")),
            "--connect-to".to_owned(),
            quoted(&to),
        ]);
    }
    words.push(quoted(&url));
    words.join(" ")
}

/// As a word of a POSIX shell.
pub(in crate::cli) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use obol_mount::Secret;
    use serde_json::json;

    use super::*;
    use crate::cli::env::Env;

    fn settings(env: &[(&str, &str)]) -> Settings {
        Settings::resolve(&Default::default(), &Env::of(env)).unwrap()
    }

    #[test]
    fn a_ticket_is_left_to_curl() {
        let request = Request::post("auth/kerberos/login", json!({}))
            .header("Authorization", Secret::new("Negotiate YII".into()));
        let line = command(&settings(&[("VAULT_ADDR", "https://h")]), None, &request);
        assert!(
            line.contains("--negotiate -u :") && !line.contains("YII"),
            "{line}"
        );
    }

    #[test]
    fn tls_settings_become_options_of_curl() {
        let env = [
            ("VAULT_ADDR", "https://[::1]:8200"),
            ("VAULT_TLS_SERVER_NAME", "vault.internal"),
            ("VAULT_CACERT", "/my ca.pem"),
            ("VAULT_CLIENT_CERT", "c.pem"),
            ("VAULT_CLIENT_KEY", "k.pem"),
        ];
        let line = command(&settings(&env), None, &Request::get("sys/health"));
        for part in [
            "--cacert '/my ca.pem'",
            "--cert c.pem --key k.pem",
            "--connect-to '::[::1]:8200'",
            "https://vault.internal:8200/v1/sys/health",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("a/b:c=1"), "a/b:c=1");
        assert_eq!(quoted("it's $HOME"), "'it'\\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
