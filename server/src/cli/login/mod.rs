//! `login`: turns a proof into a token and keeps it for the commands that follow.

mod approle;
mod jwt;
pub(super) mod kerberos;
mod keytab;
mod password;
mod token;

use obol_mount::Secret;
use serde_json::{Map, Value};

use super::client::{Answer, Client, HttpFlags, Request, Token, TokenSource};
use super::data;
use super::failure::{Failure, Outcome, REMOTE, SUCCESS};
use super::logical::sanitised;
use super::output::{FieldFlag, Format, FormatFlag, field_of};
use super::prompt;
use super::token_store::TokenStore;
use super::{Command, Example, Session};

/// A way to log in. To add one: a file beside this one, and a line in [`METHODS`].
struct Method {
    name: &'static str,
    /// The keys that it takes as KEY=VALUE.
    keys: &'static [&'static str],
    /// What proves who logs in, where that is one value.
    secret: Option<SecretKey>,
    /// What `auth help` tells.
    help: &'static str,
    /// Gets a token from the auth method at a path.
    login: fn(&mut Session<'_>, &mut Client, Proof<'_>) -> Result<Answer, Failure>,
}

/// A value that is asked for without echo, or comes from a file or standard input.
struct SecretKey {
    key: &'static str,
    /// Whether it may stand on the command line, which other users of the host can read: where Vault's own takes it
    /// there, so that scripts go on working. They are warned.
    on_line: bool,
}

const METHODS: &[Method] = &[
    token::METHOD,
    kerberos::METHOD,
    password::USERPASS,
    password::LDAP,
    approle::METHOD,
    jwt::METHOD,
];

/// How to log in with methods of this type.
pub(super) fn help_of(kind: &str) -> Option<&'static str> {
    let method = METHODS.iter().find(|method| method.name == kind)?;
    Some(method.help)
}

/// What the user gave to log in with.
struct Proof<'a> {
    /// Where the auth method is enabled, without `auth/`.
    mount: &'a str,
    data: &'a Map<String, Value>,
    /// Kept apart from the data, which are not wiped. Empty: to be asked for.
    secret: Option<Secret>,
    non_interactive: bool,
}

impl<'a> Proof<'a> {
    /// A value that was given and is not empty. Values are texts: `parse_texts` saw to it.
    fn get(&self, key: &str) -> Option<&'a str> {
        self.data
            .get(key)
            .and_then(Value::as_str)
            .filter(|value| !value.is_empty())
    }
}

/// Log in and keep the token for the commands that follow
///
/// With -method=kerberos the Kerberos ticket of this session (kinit, or the desktop's) is the proof. With username=
/// the password is asked for and a ticket is fetched with it, which stays in memory; password=- reads it from standard
/// input, password=@FILE from a file. A service logs in with a keytab instead: username= and keytab_path=. Where they
/// differ from the defaults: realm=, -service= (HTTP@ and the host of the address), krb5conf_path=,
/// remove_instance_name=true. disable_fast_negotiation= is read too and changes nothing: FAST is negotiated only with
/// an armour ticket, which is never used here. The server must prove its identity in turn, or its token is refused.
///
/// With -method=userpass or ldap: username= (the name on this computer by default) and the password, which is asked for;
/// password=- and password=@FILE work too. With -method=approle: role_id= and secret_id=-, secret_id=@FILE, or
/// secret_id= to be asked for it; without secret_id where the role needs none. With -method=jwt: jwt=- or jwt=@FILE, and
/// role= where the method has no default role.
///
/// The token is kept in ~/.vault-token, or by the token_helper that ~/.vault names.
///
/// Without -method, a token that you already have is checked and kept; it is asked for, or read from standard
/// input when the argument is -.
#[derive(clap::Args)]
pub(super) struct Login {
    /// A token, or -, or what the method needs as KEY=VALUE
    #[arg(value_name = "TOKEN|KEY=VALUE")]
    data: Vec<String>,
    /// How to log in: token, kerberos, userpass, ldap, approle or jwt
    #[arg(
        long,
        value_name = "METHOD",
        default_value = "token",
        hide_default_value = true
    )]
    method: String,
    /// Where the auth method is enabled, when that is not its name
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// With -method=kerberos: the service to get a ticket for, when it is not HTTP@ and the host of the address
    #[arg(long, value_name = "SPN")]
    service: Option<String>,
    /// Do not keep the token
    #[arg(long)]
    no_store: bool,
    /// Do not print the token
    #[arg(long)]
    no_print: bool,
    /// Print the token and nothing else, and do not keep it
    #[arg(long)]
    token_only: bool,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
    #[command(flatten)]
    field: FieldFlag,
}

impl Command for Login {
    const NAME: &'static str = "login";
    const EXAMPLES: &'static [Example] = &[
        (
            "With the Kerberos ticket that kinit got",
            "obol login -method=kerberos",
        ),
        (
            "With a Kerberos password, which is asked for",
            "obol login -method=kerberos username=grace",
        ),
        (
            "As a service, with its keytab",
            "obol login -method=kerberos -service=HTTP/vault.example.com username=app keytab_path=/etc/app.keytab realm=EXAMPLE.COM",
        ),
        (
            "Where the method is enabled under another name",
            "obol login -method=kerberos -path=kerberos-lab",
        ),
        ("With a token, which is asked for", "obol login"),
        (
            "With a name and a password, which is asked for",
            "obol login -method=userpass username=grace",
        ),
        (
            "As a program, with a secret ID from a file",
            "obol login -method=approle role_id=2f6a614c secret_id=@/run/secret-id",
        ),
        (
            "With the token of a workload",
            "obol login -method=jwt role=web jwt=@/var/run/secrets/token",
        ),
        (
            "Into a variable, leaving the kept token alone",
            "VAULT_TOKEN=$(obol login -method=kerberos -token-only)",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let no_store = self.no_store || self.token_only;
        if no_store && self.no_print {
            return Err(Failure::local(
                "-no-print without keeping the token would lose it",
            ));
        }
        let name = sanitised(&self.method);
        let Some(method) = METHODS.iter().find(|method| method.name == name) else {
            let known: Vec<&str> = METHODS.iter().map(|method| method.name).collect();
            return Err(Failure::local(format!(
                "{name:?} is no method that this command knows: {}",
                known.join(", ")
            ))
            .hint("Other methods log in through the API: obol write auth/PATH/login ..."));
        };
        if method.name == kerberos::METHOD.name {
            kerberos::with_own_configuration(session, &self.data)?;
        }
        let (data, secret) = self.data(session, method)?;
        let mut client = Client::without_token(&self.http, &session.env)?;
        // What is wrong with it is said before there is a token.
        let store = match no_store {
            true => None,
            false => Some(TokenStore::of(&session.env, client.address())?),
        };
        // The whole path, as `auth list` and the API have it, means the same.
        let path = sanitised(self.path.as_deref().unwrap_or(name));
        let mount = path.strip_prefix("auth/").unwrap_or(path).to_owned();
        let proof = Proof {
            mount: &mount,
            data: &data,
            secret,
            non_interactive: self.http.non_interactive,
        };
        let mut answer = (method.login)(session, &mut client, proof)
            .map_err(|failure| failure.doing("logging in"))?;

        if answer.body["wrap_info"].is_object() {
            if self.token_only {
                return session
                    .print_field(
                        format,
                        "wrapping_token",
                        field_of(&answer.body, "wrapping_token"),
                    )
                    .map(|()| SUCCESS);
            }
            if self.no_store {
                return session.print_secret(format, &answer.body).map(|()| SUCCESS);
            }
            answer = unwrap(&mut client, &answer.body)?;
        }
        let body = &answer.body;
        let Some(token) = body["auth"]["client_token"]
            .as_str()
            .filter(|token| !token.is_empty())
        else {
            return Err(
                Failure::remote("the server accepted the login and sent no token")
                    .doing("logging in"),
            );
        };
        let token = Secret::new(token.to_owned());

        if let Some(store) = &store {
            if let Err(failure) = store.keep(&token) {
                // It lives, and nobody would ever find it again.
                session.note(
                    "The login succeeded, but its token could not be kept. It is shown here for your \
                     records; -no-store and -token-only show it without trying to keep it.\n",
                );
                session.print_secret(format, body)?;
                return Err(failure.with_exit(REMOTE));
            }
            if let Some((variable, _)) = session.env.token() {
                session.note(&format!(
                    "WARNING! {variable} is set and wins over the token that was kept now. \
                     Unset it to use the new one.\n"
                ));
            }
        } else if !self.token_only {
            session.note("The token is not kept. Put it into VAULT_TOKEN to use it.\n");
        }
        if self.no_print {
            return Ok(SUCCESS);
        }
        let field = if self.token_only {
            Some("token")
        } else {
            self.field.field.as_deref()
        };
        if let Some(field) = field {
            return session
                .print_field(format, field, field_of(body, field))
                .map(|()| SUCCESS);
        }
        if let Some(store) = store.filter(|_| format == Format::Table) {
            session.line(&format!(
                "Success! You are logged in. The token below is kept in {store}, and the next \
                 commands use it.\n"
            ))?;
        }
        session.print_secret(format, body)?;
        Ok(SUCCESS)
    }
}

impl Login {
    /// What the arguments say, the password apart.
    fn data(
        &self,
        session: &mut Session<'_>,
        method: &Method,
    ) -> Result<(Map<String, Value>, Option<Secret>), Failure> {
        let mut arguments = self.data.clone();
        if method.name == token::METHOD.name
            && let Some(first) = arguments.first_mut()
            && !first.contains('=')
        {
            *first = format!("token={first}");
        }
        if let Some(service) = &self.service {
            arguments.push(format!("service={service}"));
        }
        let mut places = Vec::new();
        if let Some(secret) = &method.secret {
            let name = format!("{}=", secret.key);
            arguments.retain(|argument| match argument.strip_prefix(&name) {
                Some(value) => {
                    places.push(value.to_owned());
                    false
                }
                None => true,
            });
        }
        let mut given = match (&method.secret, places.as_slice()) {
            (None, _) | (_, []) => None,
            (Some(key), [place]) => Some(secret_at(session, key, place)?),
            (Some(key), _) => {
                return Err(Failure::local(format!("{} must be given once", key.key)));
            }
        };
        let mut data = data::parse_texts(&arguments, &mut session.stdin)?;
        if let Some(secret) = &method.secret
            && let Some(Value::String(value)) = data.remove(secret.key)
        {
            let value = Secret::new(value);
            // Inside a JSON object that came from a file or from standard input.
            if !secret.on_line {
                return Err(unsafe_secret(secret.key));
            }
            if given.is_some() {
                return Err(Failure::local(format!("{} must be given once", secret.key)));
            }
            given = Some(value);
        }
        // A variable of a script that is not set, most likely; without it somebody else may be logged in.
        let is_empty = |value: &Value| value.as_str().is_some_and(str::is_empty);
        if let Some((key, _)) = data.iter().find(|(_, value)| is_empty(value)) {
            return Err(Failure::local(format!("{key}= has no value")));
        }
        match data.keys().find(|key| !method.keys.contains(&key.as_str())) {
            None => Ok((data, given)),
            Some(unknown) => {
                let secret = method.secret.as_ref().map(|secret| secret.key);
                let known: Vec<&str> = method.keys.iter().copied().chain(secret).collect();
                Err(Failure::local(format!(
                    "-method={} does not know {unknown}; it takes {}",
                    method.name,
                    known.join(", "),
                )))
            }
        }
    }
}

/// `-` is standard input, `@FILE` a file, nothing the terminal (asked later, and only when it is needed).
fn secret_at(
    session: &mut Session<'_>,
    secret: &SecretKey,
    place: &str,
) -> Result<Secret, Failure> {
    let named = |failure: Failure| failure.doing(format!("reading {}", secret.key));
    match place {
        "" => Ok(Secret::new(String::new())),
        "-" => session.read_password().map_err(named),
        place => match place.strip_prefix('@') {
            Some(path) => prompt::password(Secret::new(data::read_file(path)?)).map_err(named),
            None if secret.on_line => {
                session.note(&format!(
                    "WARNING! {key} stands on the command line, where others can read it. {key}=- \
                     (standard input), {key}=@FILE and {key}= (asked for) are safer.\n",
                    key = secret.key
                ));
                Ok(Secret::new(place.to_owned()))
            }
            None => Err(unsafe_secret(secret.key)),
        },
    }
}

fn unsafe_secret(key: &str) -> Failure {
    Failure::local(format!(
        "a {key} is not taken from the command line, where others can read it"
    ))
    .hint(format!(
        "Leave it out to be asked for it, or write {key}=- (standard input) or {key}=@FILE."
    ))
}

/// The login itself, out of the wrapping that -wrap-ttl or VAULT_WRAP_TTL asked for.
fn unwrap(client: &mut Client, body: &Value) -> Result<Answer, Failure> {
    let wrapping = body["wrap_info"]["token"].as_str().unwrap_or_default();
    client.stop_wrapping();
    client.token = Some(Token {
        secret: Secret::new(wrapping.to_owned()),
        source: TokenSource::Command,
    });
    client
        .send(Request::put_empty("sys/wrapping/unwrap"))
        .map_err(|failure| failure.doing("unwrapping the token"))
}
