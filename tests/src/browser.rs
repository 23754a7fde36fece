//! A real, headless Chromium, driven through chromedriver by the WebDriver protocol: opens pages with the tickets
//! it is given, reads what they show, clicks, and tells what its console complained of.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use obol_testbed::{PortLease, Scratch, guarded, spawn_for_life};
use serde_json::{Value, json};

use crate::http::{Client, Reply};
use crate::server::is_foreign;
use crate::wait::{eventually, holds};

/// What a browser is told before it starts.
#[derive(Clone, Debug)]
pub struct BrowserOptions {
    /// Variables of the realm and of the tickets: KRB5_CONFIG, KRB5CCNAME.
    pub env: Vec<(String, String)>,
    /// The policy AuthServerAllowlist: which servers may be given a ticket.
    pub allowlist: &'static str,
    /// A profile that has never met a server which asks for a ticket.
    pub fresh: bool,
}

impl Default for BrowserOptions {
    fn default() -> Self {
        Self {
            env: Vec::new(),
            allowlist: "localhost",
            fresh: false,
        }
    }
}

/// A browser with a profile of its own. Everything goes away with it.
pub struct Browser {
    driver: Child,
    session: String,
    port: PortLease,
    scratch: Scratch,
}

impl Browser {
    #[track_caller]
    pub fn start(options: BrowserOptions) -> Self {
        let scratch = Scratch::new("browser").expect("a scratch directory");
        let port = PortLease::new().expect("a free port");
        let profile = scratch.join("profile");
        fs::create_dir(&profile).expect("a profile is made");
        // Without this the first request to a server that wants a ticket goes without one: the browser's sandboxed
        // network service may not load GSSAPI, and is started anew once the profile says that it is needed.
        if !options.fresh {
            fs::write(
                profile.join("Local State"),
                r#"{"net":{"received_http_auth_negotiate_headers":true}}"#,
            )
            .expect("a profile is written");
        }

        let mut command = Command::new("chromedriver");
        for (name, _) in std::env::vars().filter(|(name, _)| is_foreign(name)) {
            command.env_remove(name);
        }
        command
            .arg(format!("--port={}", port.port()))
            .arg(format!(
                "--log-path={}",
                scratch.join("driver.log").display()
            ))
            .env("HOME", scratch.path())
            .env("XDG_CONFIG_HOME", scratch.join("config"))
            .env("XDG_CACHE_HOME", scratch.join("cache"))
            .env("TMPDIR", scratch.path())
            .envs(options.env.iter().cloned());
        let mut command = guarded(&command).expect("setpriv is installed");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let driver = spawn_for_life(command).expect("chromedriver is installed");
        let mut browser = Self {
            driver,
            session: String::new(),
            port,
            scratch,
        };
        holds("chromedriver answers", || {
            let status = browser.exchange("GET", "/status", None);
            status.is_ok_and(|reply| reply.json()["value"]["ready"] == true)
        });
        let mut flags: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
        flags.push(format!("--user-data-dir={}", profile.display()));
        if !options.allowlist.is_empty() {
            flags.push(format!("--auth-server-allowlist={}", options.allowlist));
        }
        let session = browser.command(
            "POST",
            "/session",
            Some(json!({"capabilities": {"alwaysMatch": {
                "browserName": "chrome",
                // The tests' CAs are nobody's.
                "acceptInsecureCerts": true,
                "goog:chromeOptions": {"args": flags},
                "goog:loggingPrefs": {"browser": "ALL"},
            }}})),
        );
        browser.session = session["sessionId"]
            .as_str()
            .expect("a session has an id")
            .to_owned();
        browser
    }

    /// Opens a page and returns when it is loaded (its scripts may still be at work).
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.ask("url", json!({ "url": url }));
    }

    /// Waits until the page's body says that it is in this state (`data-state`). Another state than the present one,
    /// and it has gone wrong.
    #[track_caller]
    pub fn await_state(&self, state: &str) {
        let shown = || {
            let shown = self.run("return document.body.dataset.state || ''");
            shown.as_str().unwrap_or_default().to_owned()
        };
        let before = shown();
        let settled = eventually(&format!("the page is in the state {state}"), || {
            let now = shown();
            (now == state || !["", "working", &before].contains(&now.as_str())).then_some(now)
        });
        assert_eq!(settled, state, "{}", self.text("main"));
    }

    /// The visible text of the first element that a CSS selector finds.
    #[track_caller]
    pub fn text(&self, selector: &str) -> String {
        let text = self.run_with(
            "const at = document.querySelector(arguments[0]); return at && at.innerText",
            json!([selector]),
        );
        text.as_str()
            .unwrap_or_else(|| panic!("the page has no {selector}"))
            .to_owned()
    }

    /// The texts of all elements that a CSS selector finds.
    #[track_caller]
    pub fn texts(&self, selector: &str) -> Vec<String> {
        let texts = self.run_with(
            "return [...document.querySelectorAll(arguments[0])].map(at => at.textContent)",
            json!([selector]),
        );
        let texts = texts.as_array().expect("a list");
        texts
            .iter()
            .map(|text| text.as_str().expect("a text").to_owned())
            .collect()
    }

    #[track_caller]
    pub fn click(&self, selector: &str) {
        let found = self.ask(
            "element",
            json!({"using": "css selector", "value": selector}),
        );
        let id = found[ELEMENT].as_str().expect("an element has an id");
        self.ask(&format!("element/{id}/click"), json!({}));
    }

    /// The value of a script's body in the page.
    #[track_caller]
    pub fn run(&self, script: &str) -> Value {
        self.run_with(script, json!([]))
    }

    #[track_caller]
    pub fn run_with(&self, script: &str, arguments: Value) -> Value {
        self.ask("execute/sync", json!({"script": script, "args": arguments}))
    }

    /// A command of the DevTools protocol.
    #[track_caller]
    pub fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.ask(
            "goog/cdp/execute",
            json!({"cmd": command, "params": parameters}),
        )
    }

    /// What the console was told since the last time, errors of the network and of the page's policy included.
    #[track_caller]
    pub fn console(&self) -> Vec<String> {
        let entries = self.ask("se/log", json!({"type": "browser"}));
        let entries = entries.as_array().expect("a list");
        entries
            .iter()
            .map(|entry| entry["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// The window's picture, in PNG, as base64.
    #[track_caller]
    pub fn screenshot(&self) -> String {
        let picture = self.command("GET", &self.path("screenshot"), None);
        picture.as_str().expect("a picture").to_owned()
    }

    /// The profile directory: what the browser keeps.
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    #[track_caller]
    fn ask(&self, what: &str, body: Value) -> Value {
        self.command("POST", &self.path(what), Some(body))
    }

    fn path(&self, what: &str) -> String {
        format!("/session/{}/{what}", self.session)
    }

    #[track_caller]
    fn command(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        match self.exchange(method, path, body) {
            Ok(reply) => reply.expect(200).json()["value"].take(),
            Err(error) => panic!("chromedriver, {method} {path}: {error}"),
        }
    }

    /// One request to the driver, which leaves the connection open whatever it is asked: its answer ends where the
    /// length says.
    fn exchange(&self, method: &str, path: &str, body: Option<Value>) -> io::Result<Reply> {
        let mut request = Client::new(self.port.port()).request(method, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port.port()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&request.bytes())?;
        let mut answer = Vec::new();
        let mut chunk = [0; 16 << 10];
        loop {
            if let Ok(reply) = Reply::parse(&answer) {
                let mut headers = reply.headers.iter();
                let length = headers.find(|(name, _)| name == "content-length");
                if length.and_then(|(_, value)| value.parse().ok()) == Some(reply.body.len()) {
                    return Ok(reply);
                }
            }
            match stream.read(&mut chunk)? {
                0 => return Reply::parse(&answer),
                read => answer.extend_from_slice(&chunk[..read]),
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Closes the browser; were the driver killed first, the end of its pipe would do that.
        self.exchange("DELETE", &format!("/session/{}", self.session), None)
            .ok();
        self.driver.kill().ok();
        self.driver.wait().ok();
    }
}

/// As root and without a display; nothing that would speak to anybody else; over a pipe, whose end ends the browser.
const FLAGS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
    "--window-size=900,1000",
    "--lang=en-US",
];

/// The name under which WebDriver answers with elements (W3C WebDriver, section 12.1).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

const PATIENCE: Duration = Duration::from_secs(120);
