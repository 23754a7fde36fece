//! `operator generate-root`: a root token for those who hold enough keys.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use obol_mount::Secret;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::pgp_keys::{self, HOW_TO_DECRYPT};
use super::{print_rows, share};
use crate::cli::client::{Client, HttpFlags, Request};
use crate::cli::failure::{Failure, Outcome, SUCCESS};
use crate::cli::interrupt;
use crate::cli::output::{Format, FormatFlag, cell};
use crate::cli::{Command, Example, Session};

/// Make a new root token, with enough unseal keys (or recovery keys)
///
/// Begin with -init, which tells a one-time password, once. Then each holder of a key runs the command without it and
/// is asked for the key, without echo; the last one gets the token, encoded with that password. -decode makes the token
/// of both. With -init -pgp-key it comes encrypted for one person instead, who reads it with gpg. Every step needs a token with sudo on sys/generate-root.
#[derive(clap::Args)]
pub(in crate::cli) struct GenerateRoot {
    /// A key, or - to read it from standard input; asked for otherwise
    key: Option<String>,
    /// Begin
    #[arg(long, group = "step")]
    init: bool,
    /// Give up
    #[arg(long, group = "step")]
    cancel: bool,
    /// Show how far it is
    #[arg(long, group = "step")]
    status: bool,
    /// Print a one-time password of the right length, for -init -otp
    #[arg(long, group = "step")]
    generate_otp: bool,
    /// The encoded token, or - to read it from standard input: print the token. The password is -otp, or asked for
    #[arg(long, value_name = "TOKEN", group = "step")]
    decode: Option<String>,
    /// The one-time password. With -init: one of your own; without it the server makes one
    #[arg(long, value_name = "OTP")]
    otp: Option<String>,
    /// With -init: a file with the public PGP key that the token is to be encrypted with, in the place of a password
    #[arg(long, value_name = "FILE")]
    pgp_key: Option<String>,
    /// The attempt to take part in, as -init and -status show it; needed where the key is an argument
    #[arg(long, value_name = "NONCE")]
    nonce: Option<String>,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for GenerateRoot {
    const NAME: &'static str = "operator generate-root";
    const EXAMPLES: &'static [Example] = &[
        (
            "Begin, and note the one-time password",
            "obol operator generate-root -init",
        ),
        (
            "Give a key, which is asked for",
            "obol operator generate-root",
        ),
        (
            "Begin, for a token that only Ann can read",
            "obol operator generate-root -init -pgp-key=ann.asc",
        ),
        (
            "Make the token of what the last key gave; the password is asked for",
            "obol operator generate-root -decode=Gw0BTVhgExtUDVoHABkmBQ0CPgQ",
        ),
        ("How far is it?", "obol operator generate-root -status"),
        ("Give up", "obol operator generate-root -cancel"),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        if self.otp.is_some() && !self.init && self.decode.is_none() {
            return Err(Failure::local("-otp goes with -init or -decode"));
        }
        if self.pgp_key.is_some() && (!self.init || self.otp.is_some()) {
            return Err(Failure::local(
                "-pgp-key goes with -init, in the place of -otp",
            ));
        }
        if self.key.is_some()
            && (self.init
                || self.cancel
                || self.status
                || self.generate_otp
                || self.decode.is_some())
        {
            return Err(Failure::local(
                "a key stands alone, without -init, -cancel, -status, -generate-otp or -decode",
            ));
        }
        // Needs no server.
        if let Some(encoded) = &self.decode {
            return self.print_decoded(session, format, encoded);
        }
        let client = Client::new(&self.http, &session.env)?;
        if self.init {
            let body = match (&self.otp, &self.pgp_key) {
                (Some(otp), _) => json!({ "otp": otp }),
                (None, Some(file)) => json!({ "pgp_key": pgp_keys::read(file)? }),
                (None, None) => json!({}),
            };
            // The password is told once: Ctrl-C waits until it is printed.
            return interrupt::hold(|| {
                let status = client
                    .send(Request::put(ATTEMPT, body))
                    .map_err(|failure| failure.doing("beginning to generate a root token"))?
                    .body;
                print_status(session, format, &status)
            });
        }
        if self.cancel {
            let mut request = Request::delete(ATTEMPT);
            if let Some(nonce) = &self.nonce {
                request = request.query("nonce", nonce);
            }
            client
                .send(request)
                .map_err(|failure| failure.doing("cancelling"))?;
            session.line("Success! Root token generation canceled (if it was started)")?;
            return Ok(SUCCESS);
        }
        let request = Request::get(ATTEMPT);
        let status = client
            .send(if self.status {
                request
            } else {
                request.internal()
            })
            .map_err(|failure| failure.doing("asking how far it is"))?
            .body;
        if self.status {
            return print_status(session, format, &status);
        }
        if self.generate_otp {
            let length = status["otp_length"]
                .as_u64()
                .and_then(|n| usize::try_from(n).ok());
            let Some(length) = length.filter(|n| (1..=1024).contains(n)) else {
                return Err(Failure::remote(
                    "the server does not tell how long the password must be",
                ));
            };
            let otp = random_text(length)?;
            return match format {
                Format::Table => session.line(otp.expose()),
                format => session.print_value(
                    format,
                    &json!({ "otp": otp.expose(), "otp_length": length }),
                ),
            }
            .map(|()| SUCCESS);
        }
        if status["started"] != Value::Bool(true) {
            return Err(Failure::local("no root token is being generated")
                .hint("`obol operator generate-root -init` begins."));
        }
        let (key, nonce) = share(
            session,
            &self.http,
            "unseal or recovery key",
            self.key.as_deref(),
            self.nonce.as_deref(),
            &status,
        )?;
        let request = Request::put(
            "sys/generate-root/update",
            json!({ "key": key.expose(), "nonce": nonce }),
        );
        // The last step's answer is the only copy of the token: Ctrl-C waits until it is printed.
        interrupt::hold(|| {
            let status = client
                .send(request)
                .map_err(|failure| failure.doing("giving the key"))?
                .body;
            print_status(session, format, &status)
        })
    }
}

impl GenerateRoot {
    fn print_decoded(&self, session: &mut Session<'_>, format: Format, encoded: &str) -> Outcome {
        let encoded = match encoded {
            "-" => session.read_secret("encoded token")?,
            text => Secret::new(text.trim().to_owned()),
        };
        let otp = match self.otp.as_deref() {
            Some(otp) => Secret::new(otp.trim().to_owned()),
            None => session.ask_secret("one-time password", self.http.non_interactive)?,
        };
        let token = decoded(encoded.expose(), otp.expose())?;
        match format {
            Format::Table => session.line(token.expose())?,
            format => session.print_value(format, &json!({ "token": token.expose() }))?,
        }
        Ok(SUCCESS)
    }
}

/// The token is XORed with the password, byte for byte, and written as base64 without padding.
fn decoded(encoded: &str, otp: &str) -> Result<Secret, Failure> {
    let bytes = STANDARD_NO_PAD
        .decode(encoded)
        .or_else(|_| STANDARD.decode(encoded))
        .map(Zeroizing::new)
        .map_err(|_| Failure::local("the encoded token is not base64"))?;
    if bytes.len() != otp.len() {
        return Err(Failure::local(format!(
            "the encoded token has {} bytes and the one-time password {}; they belong together \
             when both have as many",
            bytes.len(),
            otp.len()
        )));
    }
    let token: Vec<u8> = bytes.iter().zip(otp.bytes()).map(|(a, b)| a ^ b).collect();
    String::from_utf8(token)
        .map(Secret::new)
        .map_err(|_| Failure::local("this is not the one-time password of that token"))
}

/// Letters and digits, each as likely as any other: values beyond the largest multiple of 62 are drawn again.
fn random_text(length: usize) -> Result<Secret, Failure> {
    let random = SystemRandom::new();
    let mut text = String::with_capacity(length);
    let mut byte = [0];
    while text.len() < length {
        random
            .fill(&mut byte)
            .map_err(|_| Failure::local("the system gives no random bytes"))?;
        if usize::from(byte[0]) < ALPHABET.len() * 4 {
            text.push(char::from(ALPHABET[usize::from(byte[0]) % ALPHABET.len()]));
        }
    }
    Ok(Secret::new(text))
}

fn print_status(session: &mut Session<'_>, format: Format, status: &Value) -> Outcome {
    if format != Format::Table || status["wrap_info"].is_object() {
        return session.print_secret(format, status).map(|()| SUCCESS);
    }
    let mut rows = vec![
        ("Nonce", cell(&status["nonce"])),
        ("Started", cell(&status["started"])),
        (
            "Progress",
            format!(
                "{}/{}",
                cell(&status["progress"]),
                cell(&status["required"])
            ),
        ),
        ("Complete", cell(&status["complete"])),
    ];
    let labels = [
        ("PGP Fingerprint", "pgp_fingerprint"),
        ("Encoded Token", "encoded_token"),
        ("OTP", "otp"),
    ];
    for (label, key) in labels {
        if status[key].as_str().is_some_and(|text| !text.is_empty()) {
            rows.push((label, cell(&status[key])));
        }
    }
    let encrypted = status["pgp_fingerprint"]
        .as_str()
        .is_some_and(|text| !text.is_empty());
    if !encrypted {
        rows.push(("OTP Length", cell(&status["otp_length"])));
    }
    print_rows(session, rows)?;
    if encrypted && status["complete"] == Value::Bool(true) {
        session.note(&format!(
            "The token is encrypted; its holder reads it with: {HOW_TO_DECRYPT}\n"
        ));
    }
    Ok(SUCCESS)
}

const ATTEMPT: &str = "sys/generate-root/attempt";
const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_with_its_password_alone() {
        let (token, otp) = ("obs.abcdef", "0123456789");
        let mixed: Vec<u8> = token.bytes().zip(otp.bytes()).map(|(a, b)| a ^ b).collect();
        for encoded in [STANDARD_NO_PAD.encode(&mixed), STANDARD.encode(&mixed)] {
            assert_eq!(decoded(&encoded, otp).unwrap().expose(), token);
            assert!(decoded(&encoded, "short").is_err());
        }
        assert!(decoded("!", otp).is_err());
    }

    #[test]
    fn a_password_is_of_letters_and_digits_and_another_each_time() {
        let (one, two) = (random_text(32).unwrap(), random_text(32).unwrap());
        assert!(
            one.expose().len() == 32 && one.expose().chars().all(|c| c.is_ascii_alphanumeric())
        );
        assert_ne!(one.expose(), two.expose());
    }
}
