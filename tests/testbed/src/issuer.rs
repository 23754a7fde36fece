//! An issuer of JWTs over TLS: a discovery document, a JWKS document, keys of every kind that can be rotated, and ways
//! to misbehave. It signs with OpenSSL, which nothing under test uses for that.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::{Padding, Rsa};
use openssl::sign::{RsaPssSaltlen, Signer};
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::X509;
use serde_json::{Map, Value, json};

use crate::error::{Doing, Result};
use crate::tls::Ca;

/// A running issuer. Dropping it stops it.
pub struct Issuer {
    ca: Ca,
    port: u16,
    state: Arc<State>,
}

struct State {
    behaviour: Mutex<Behaviour>,
    documents: Mutex<Map<String, Value>>,
    asked: AtomicUsize,
    stopped: AtomicBool,
}

/// How the issuer answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Usual,
    /// Closes each connection.
    Down,
    /// Answers nothing until this long has gone by.
    Slow(Duration),
    /// A body of this many bytes.
    Huge(usize),
    /// 503.
    Failing,
    /// Sends everybody somewhere else.
    Redirecting(String),
    /// HTML, as a proxy that is lost would.
    NotJson,
}

/// A key of the issuer.
#[derive(Clone)]
pub struct SigningKey {
    pub id: Option<String>,
    algorithm: &'static str,
    key: PKey<Private>,
}

impl SigningKey {
    /// A new key for this algorithm of RFC 7518.
    pub fn generate(id: Option<&str>, algorithm: &'static str) -> Result<Self> {
        let key = match algorithm {
            "ES256" => ec(Nid::X9_62_PRIME256V1)?,
            "ES384" => ec(Nid::SECP384R1)?,
            "EdDSA" => PKey::generate_ed25519()?,
            _ => PKey::from_rsa(Rsa::generate(2048)?)?,
        };
        Ok(Self {
            id: id.map(str::to_owned),
            algorithm,
            key,
        })
    }

    /// The same key with another algorithm of its kind.
    pub fn with(&self, algorithm: &'static str) -> Self {
        Self {
            algorithm,
            ..self.clone()
        }
    }

    /// The public key, as PEM.
    pub fn pem(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.key.public_key_to_pem()?).into_owned())
    }

    /// The public key, as a JWK says it.
    pub fn jwk(&self) -> Result<Value> {
        let mut jwk = match self.algorithm {
            "EdDSA" => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": b64(&self.key.raw_public_key()?)})
            }
            "ES256" | "ES384" => {
                let key = self.key.ec_key()?;
                let (mut x, mut y) = (BigNum::new()?, BigNum::new()?);
                let mut context = BigNumContext::new()?;
                key.public_key()
                    .affine_coordinates(key.group(), &mut x, &mut y, &mut context)?;
                let (curve, bytes) = match self.algorithm {
                    "ES256" => ("P-256", 32),
                    _ => ("P-384", 48),
                };
                json!({"kty": "EC", "crv": curve, "x": b64(&x.to_vec_padded(bytes)?), "y": b64(&y.to_vec_padded(bytes)?)})
            }
            _ => {
                let key = self.key.rsa()?;
                json!({"kty": "RSA", "n": b64(&key.n().to_vec()), "e": b64(&key.e().to_vec())})
            }
        };
        if let Some(id) = &self.id {
            jwk["kid"] = json!(id);
        }
        jwk["use"] = json!("sig");
        Ok(jwk)
    }

    /// A JWT with these claims.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        let mut header = json!({"alg": self.algorithm, "typ": "JWT"});
        if let Some(id) = &self.id {
            header["kid"] = json!(id);
        }
        self.sign_with(&header, claims)
    }

    /// The same with a header of the test's own.
    pub fn sign_with(&self, header: &Value, claims: &Value) -> Result<String> {
        let message = format!(
            "{}.{}",
            b64(header.to_string().as_bytes()),
            b64(claims.to_string().as_bytes())
        );
        let digest = match &self.algorithm[2..] {
            "256" => MessageDigest::sha256(),
            "384" => MessageDigest::sha384(),
            _ => MessageDigest::sha512(),
        };
        let signature = match self.algorithm {
            "EdDSA" => {
                Signer::new_without_digest(&self.key)?.sign_oneshot_to_vec(message.as_bytes())?
            }
            algorithm => {
                let mut signer = Signer::new(digest, &self.key)?;
                if algorithm.starts_with("PS") {
                    signer.set_rsa_padding(Padding::PKCS1_PSS)?;
                    signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
                    signer.set_rsa_mgf1_md(digest)?;
                }
                signer.update(message.as_bytes())?;
                let signature = signer.sign_to_vec()?;
                match algorithm {
                    "ES256" => fixed(&signature, 32)?,
                    "ES384" => fixed(&signature, 48)?,
                    _ => signature,
                }
            }
        };
        Ok(format!("{message}.{}", b64(&signature)))
    }
}

impl Issuer {
    /// An issuer with these keys, on a free port of the loopback.
    pub fn start(keys: &[SigningKey]) -> Result<Self> {
        let ca = Ca::new("The issuer's CA")?;
        let (certificate, key) = ca.issue(&crate::tls::loopback_names())?;
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
        acceptor.set_certificate(X509::from_pem(certificate.as_bytes())?.as_ref())?;
        acceptor.set_private_key(PKey::private_key_from_pem(key.as_bytes())?.as_ref())?;
        let acceptor = Arc::new(acceptor.build());
        let listener =
            TcpListener::bind("127.0.0.1:0").doing(|| "listening as an issuer".to_owned())?;
        let port = listener
            .local_addr()
            .doing(|| "listening as an issuer".to_owned())?
            .port();
        let state = Arc::new(State {
            behaviour: Mutex::new(Behaviour::Usual),
            documents: Mutex::new(Map::new()),
            asked: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let issuer = Self {
            ca,
            port,
            state: state.clone(),
        };
        issuer.rotate(keys)?;
        issuer.discover(json!({}));
        thread::spawn(move || {
            for connection in listener.incoming().map_while(std::result::Result::ok) {
                if state.stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (acceptor, state) = (acceptor.clone(), state.clone());
                thread::spawn(move || serve(connection, &acceptor, &state));
            }
        });
        Ok(issuer)
    }

    /// What it calls itself.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    pub fn jwks_url(&self) -> String {
        format!("{}/keys", self.url())
    }

    pub fn ca_pem(&self) -> String {
        self.ca.pem()
    }

    /// Other keys from now on.
    pub fn rotate(&self, keys: &[SigningKey]) -> Result<()> {
        let keys: Vec<Value> = keys.iter().map(SigningKey::jwk).collect::<Result<_>>()?;
        self.publish("/keys", json!({ "keys": keys }));
        Ok(())
    }

    /// The discovery document, with these fields in place of the usual ones.
    pub fn discover(&self, changes: Value) {
        let mut document = json!({
            "issuer": self.url(),
            "jwks_uri": self.jwks_url(),
            "id_token_signing_alg_values_supported": ["RS256"],
        });
        if let (Some(fields), Value::Object(changes)) = (document.as_object_mut(), changes) {
            fields.extend(changes);
        }
        self.publish("/.well-known/openid-configuration", document);
    }

    /// A document at this path.
    pub fn publish(&self, path: &str, document: Value) {
        lock(&self.state.documents).insert(path.to_owned(), document);
    }

    pub fn behave(&self, behaviour: Behaviour) {
        *lock(&self.state.behaviour) = behaviour;
    }

    /// How many requests have come.
    pub fn asked(&self) -> usize {
        self.state.asked.load(Ordering::Relaxed)
    }

    /// Claims that are good for five minutes, with these beside them.
    pub fn claims(&self, more: Value) -> Value {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |now| now.as_secs());
        let mut claims = json!({"iss": self.url(), "iat": now, "nbf": now, "exp": now + 300});
        if let (Some(fields), Value::Object(more)) = (claims.as_object_mut(), more) {
            fields.extend(more);
        }
        claims
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issuer at {}", self.url())
    }
}

/// One request on each connection. Errors end it, as a client that hangs up does.
fn serve(connection: TcpStream, acceptor: &SslAcceptor, state: &State) {
    let behaviour = lock(&state.behaviour).clone();
    if behaviour == Behaviour::Down {
        state.asked.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let _ = connection.set_read_timeout(Some(Duration::from_secs(10)));
    let Ok(mut stream) = acceptor.accept(connection) else {
        return;
    };
    let mut path = String::new();
    {
        let mut lines = BufReader::new(&mut stream).take(16 * 1024).lines();
        let Some(Ok(first)) = lines.next() else {
            return;
        };
        path.push_str(first.split(' ').nth(1).unwrap_or_default());
        // To the end of the headers.
        for line in lines {
            match line {
                Ok(line) if !line.is_empty() => {}
                _ => break,
            }
        }
    }
    state.asked.fetch_add(1, Ordering::Relaxed);
    let document = lock(&state.documents).get(&path).map(Value::to_string);
    let (status, more, body) = match behaviour {
        Behaviour::Slow(time) => {
            thread::sleep(time);
            ("200 OK", String::new(), document.unwrap_or_default())
        }
        Behaviour::Huge(bytes) => ("200 OK", String::new(), " ".repeat(bytes)),
        Behaviour::Failing => ("503 Service Unavailable", String::new(), String::new()),
        Behaviour::Redirecting(to) => ("302 Found", format!("Location: {to}\r\n"), String::new()),
        Behaviour::NotJson => ("200 OK", String::new(), "<html></html>".to_owned()),
        Behaviour::Usual | Behaviour::Down => match document {
            Some(document) => ("200 OK", String::new(), document),
            None => ("404 Not Found", String::new(), String::new()),
        },
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{more}Connection: close\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body.as_bytes());
    let _ = stream.shutdown();
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ec(curve: Nid) -> Result<PKey<Private>> {
    let group = EcGroup::from_curve_name(curve)?;
    Ok(PKey::from_ec_key(EcKey::generate(&group)?)?)
}

/// The two numbers of an ECDSA signature one after the other (RFC 7518 §3.4).
fn fixed(der: &[u8], bytes: i32) -> Result<Vec<u8>> {
    let signature = EcdsaSig::from_der(der)?;
    let mut both = signature.r().to_vec_padded(bytes)?;
    both.extend(signature.s().to_vec_padded(bytes)?);
    Ok(both)
}

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
