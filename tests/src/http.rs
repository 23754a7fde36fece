//! A small HTTP/1.1 client over plain TCP: one connection for each request, any verb, any header, any bytes.
//! Real clients (curl, hvac, requests) are used where it matters that they are real.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Map, Value, json};

/// Talks to one server, with a token or without.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
    token: Option<String>,
    patience: Duration,
}

impl Client {
    pub fn new(port: u16) -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            token: None,
            patience: PATIENCE,
        }
    }

    /// Gives up on an answer after this time.
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The same server with another token.
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self {
            token: Some(token.into()),
            ..self.clone()
        }
    }

    pub fn without_token(&self) -> Self {
        Self {
            token: None,
            ..self.clone()
        }
    }

    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.request("GET", path).send()
    }

    #[track_caller]
    pub fn list(&self, path: &str) -> Reply {
        self.request("LIST", path).send()
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Reply {
        self.request("DELETE", path).send()
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: Value) -> Reply {
        self.request("POST", path).json(&body).send()
    }

    #[track_caller]
    pub fn put(&self, path: &str, body: Value) -> Reply {
        self.request("PUT", path).json(&body).send()
    }

    #[track_caller]
    pub fn patch(&self, path: &str, body: Value) -> Reply {
        self.request("PATCH", path)
            .header("Content-Type", "application/merge-patch+json")
            .json(&body)
            .send()
    }

    /// A request to be completed. `path` is what follows `/v1/`; a path with a slash in front is taken whole.
    pub fn request(&self, method: &str, path: &str) -> Request {
        let target = match path.strip_prefix('/') {
            Some(_) => path.to_owned(),
            None => format!("/v1/{path}"),
        };
        let mut request = Request {
            client: self.clone(),
            method: method.to_owned(),
            target,
            headers: Vec::new(),
            body: None,
        };
        if let Some(token) = &self.token {
            request = request.header("X-Vault-Token", token);
        }
        request
    }

    /// Sends these bytes and nothing else, and reads until the server closes the connection.
    pub fn raw(&self, bytes: &[u8]) -> io::Result<Reply> {
        let mut stream = TcpStream::connect_timeout(&self.address, self.patience)?;
        stream.set_read_timeout(Some(self.patience))?;
        stream.set_write_timeout(Some(self.patience))?;
        stream.set_nodelay(true)?;
        // A server that refuses early may close before it has read everything: its answer counts.
        let written = stream.write_all(bytes);
        let mut answer = Vec::new();
        match (stream.read_to_end(&mut answer), written) {
            (Ok(_), _) if !answer.is_empty() => Reply::parse(&answer),
            (_, Err(error)) | (Err(error), _) => Err(error),
            (Ok(_), Ok(())) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server closed the connection without an answer",
            )),
        }
    }
}

#[derive(Debug)]
pub struct Request {
    client: Client,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    /// Adds a header; the same name again adds another one.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn json(self, body: &Value) -> Self {
        self.body(body.to_string())
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    #[track_caller]
    pub fn send(self) -> Reply {
        let line = format!("{} {}", self.method, self.target);
        match self.try_send() {
            Ok(reply) => reply,
            Err(error) => panic!("{line}: {error}"),
        }
    }

    /// For servers that may be gone.
    pub fn try_send(self) -> io::Result<Reply> {
        self.client.raw(&self.bytes())
    }

    /// What goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut head = format!(
            "{} {} HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n",
            self.method,
            self.target,
            self.client.address.port()
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = &self.body {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend(self.body.iter().flatten());
        bytes
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// Reads status line, headers and body. An interim or challenge answer in front of the last is passed over,
    /// as `curl -i` prints them.
    pub fn parse(bytes: &[u8]) -> io::Result<Self> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let end = bytes
            .windows(4)
            .position(|w| w == b"\r\n\r\n")
            .ok_or_else(|| bad("an answer without an end of its headers"))?;
        let head =
            std::str::from_utf8(&bytes[..end]).map_err(|_| bad("headers that are no text"))?;
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .filter(|line| line.starts_with("HTTP/"))
            .and_then(|line| line.split(' ').nth(1)?.parse().ok())
            .ok_or_else(|| bad("no status line"))?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let body = bytes[end + 4..].to_vec();
        let length = headers
            .iter()
            .find(|(name, _)| name == "content-length")
            .and_then(|(_, value)| value.parse::<usize>().ok());
        if let Some(length) = length
            && let Some(next) = body.get(length..)
            && next.starts_with(b"HTTP/")
        {
            return Self::parse(next);
        }
        if (status == 100 || status == 401) && body.starts_with(b"HTTP/") {
            return Self::parse(&body);
        }
        Ok(Self {
            status,
            headers,
            body,
        })
    }

    /// Goes on with the answer if it has this status, or panics with what it said.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!(
                "status {}, no JSON ({error}): {:?}",
                self.status,
                self.text()
            ),
        }
    }

    /// `data` of the envelope, of an answer that has to be 200.
    #[track_caller]
    pub fn data(self) -> Map<String, Value> {
        let reply = self.expect(200);
        match reply.json()["data"].take() {
            Value::Object(data) => data,
            _ => panic!("no data in {}", reply.text()),
        }
    }

    /// `data.keys` of a listing.
    #[track_caller]
    pub fn keys(self) -> Vec<String> {
        let data = self.data();
        let keys = data["keys"].as_array().expect("a listing has keys");
        keys.iter()
            .map(|key| key.as_str().expect("a key is text").to_owned())
            .collect()
    }

    /// `auth` of the envelope, of an answer that has to be 200.
    #[track_caller]
    pub fn auth(self) -> Value {
        let reply = self.expect(200);
        let auth = reply.json()["auth"].take();
        assert!(auth.is_object(), "no auth in {}", reply.text());
        auth
    }

    #[track_caller]
    pub fn client_token(self) -> String {
        let token = self.auth()["client_token"].take();
        token.as_str().expect("a token is text").to_owned()
    }

    /// `errors`, or nothing for an answer without a body.
    pub fn errors(&self) -> Vec<String> {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or(json!({}));
        let errors = body["errors"].as_array().cloned().unwrap_or_default();
        errors
            .iter()
            .map(|error| error.as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// `warnings`, or nothing.
    pub fn warnings(&self) -> Vec<String> {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or(json!({}));
        let warnings = body["warnings"].as_array().cloned().unwrap_or_default();
        warnings
            .iter()
            .map(|warning| warning.as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// How long a server may take for anything, unless a test says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);
