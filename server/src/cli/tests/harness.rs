//! A server with a script, and a session around the command line.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;
use tempfile::TempDir;

use crate::cli::env::Env;
use crate::cli::{Session, execute};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: String,
    /// With the query.
    pub(super) target: String,
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> Value {
        if self.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&self.body).unwrap()
    }
}

/// An answer of the script.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

pub(super) fn json(body: Value) -> Reply {
    status(200, body)
}

pub(super) fn status(status: u16, body: Value) -> Reply {
    Reply {
        status,
        headers: vec![("Content-Type".into(), "application/json".into())],
        body: body.to_string(),
    }
}

pub(super) fn empty() -> Reply {
    text(204, "")
}

pub(super) fn text(status: u16, body: &str) -> Reply {
    Reply {
        status,
        headers: Vec::new(),
        body: body.to_owned(),
    }
}

impl Reply {
    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// Turns a connection into what requests are read from: itself, or TLS on it.
type Wrap = Box<dyn Fn(TcpStream) -> Box<dyn ReadWrite> + Send>;
pub(super) trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// Answers with the script, one reply for each request, and 500 once it is used up.
pub(super) struct Server {
    pub(super) socket: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        Self::start_with(script, Box::new(|stream| Box::new(stream)))
    }

    pub(super) fn start_with(script: impl IntoIterator<Item = Reply>, wrap: Wrap) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = listener.local_addr().unwrap();
        let (seen, stop) = (
            Arc::new(Mutex::new(Vec::new())),
            Arc::new(AtomicBool::new(false)),
        );
        let mut script: VecDeque<Reply> = script.into_iter().collect();
        let thread = std::thread::spawn({
            let (seen, stop) = (seen.clone(), stop.clone());
            move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    // A client that gives up in a handshake is part of some tests.
                    let _ = serve(wrap(stream.unwrap()), &seen, &mut script);
                }
            }
        });
        Self {
            socket,
            seen,
            stop,
            thread: Some(thread),
        }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn address(&self) -> String {
        format!("http://{}", self.socket)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.socket);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    stream: Box<dyn ReadWrite>,
    seen: &Mutex<Vec<Seen>>,
    script: &mut VecDeque<Reply>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Ok(());
    };
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let length = headers
        .iter()
        .find(|(n, _)| n.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, v)| v.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8(body).unwrap();
    seen.lock().unwrap().push(Seen {
        method,
        target,
        headers,
        body,
    });
    let reply = script
        .pop_front()
        .unwrap_or_else(|| text(500, "the script is over"));
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    if reply.status != 204 {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let stream = reader.get_mut();
    stream.write_all(format!("{head}\r\n{}", reply.body).as_bytes())?;
    stream.flush()
}

/// A user's shell: a home directory, variables, and what is piped in.
pub(super) struct Shell {
    pub(super) home: TempDir,
    variables: Vec<(String, String)>,
    stdin: String,
    terminal: bool,
}

/// How a command ended.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) status: u8,
    pub(super) out: String,
    pub(super) err: String,
}

impl Shell {
    /// With VAULT_ADDR and VAULT_TOKEN set, as most commands need them.
    pub(super) fn of(server: &Server) -> Self {
        Self::empty()
            .set("VAULT_ADDR", &server.address())
            .set("VAULT_TOKEN", "t0ken")
    }

    pub(super) fn empty() -> Self {
        let home = tempfile::tempdir().unwrap();
        let variables = vec![("HOME".to_owned(), home.path().display().to_string())];
        Self {
            home,
            variables,
            stdin: String::new(),
            terminal: false,
        }
    }

    pub(super) fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn unset(self, name: &str) -> Self {
        self.set(name, "")
    }

    pub(super) fn stdin(mut self, text: &str) -> Self {
        text.clone_into(&mut self.stdin);
        self
    }

    /// Standard output is a terminal.
    pub(super) fn on_terminal(mut self) -> Self {
        self.terminal = true;
        self
    }

    /// Runs a line; words in single quotes stay together.
    pub(super) fn run(&self, line: &str) -> Ran {
        self.run_words(split(line))
    }

    pub(super) fn run_words(&self, words: Vec<String>) -> Ran {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let variables: Vec<(&str, &str)> = self
            .variables
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        let status = execute(
            words,
            &mut Session {
                env: Env::of(&variables),
                stdin: Box::new(self.stdin.as_bytes()),
                stdin_is_terminal: false,
                stdout: Box::new(&mut out),
                stdout_is_terminal: self.terminal,
                stderr: Box::new(&mut err),
                stderr_is_terminal: false,
                words: Vec::new(),
            },
        );
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran {
            status,
            out: text(out),
            err: text(err),
        }
    }

    pub(super) fn token_file(&self) -> Option<String> {
        std::fs::read_to_string(self.home.path().join(".vault-token")).ok()
    }
}

impl Ran {
    #[track_caller]
    pub(super) fn ok(self) -> Self {
        assert_eq!(
            self.status, 0,
            "standard output:\n{}\nstandard error:\n{}",
            self.out, self.err
        );
        self
    }

    #[track_caller]
    pub(super) fn failed(self, status: u8, says: &str) -> Self {
        assert_eq!(
            self.status, status,
            "standard output:\n{}\nstandard error:\n{}",
            self.out, self.err
        );
        assert!(
            self.err.contains(says),
            "{says:?} is missing from:\n{}",
            self.err
        );
        self
    }
}

/// Words as a shell splits them, with either quotes and no other magic.
pub(super) fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
