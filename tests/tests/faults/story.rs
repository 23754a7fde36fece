//! How each fault is told: a realm and a server in it, a method with the fault, a login that is refused (what the
//! client hears, what the log says), and what `diagnose` makes of it.

use std::fmt;
use std::process::Command;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_testbed::keytab::{AES128_CTS_HMAC_SHA1_96, AES256_CTS_HMAC_SHA1_96};
use obol_testbed::{AdOptions, CCache, Realm, SambaAd};
use obol_tests::clients::{Cli, Ended};
use obol_tests::http::Reply;
use obol_tests::kerberos::{self, login_at, negotiate_for};
use obol_tests::server::is_foreign;
use obol_tests::{Server, ServerOptions, eventually};
use serde_json::{Value, json};

/// A realm and a server that finds its KDC.
pub(super) struct Site<R> {
    pub(super) realm: R,
    pub(super) server: Server,
}

/// What the two kinds of realm have in common.
pub(super) trait Clients {
    fn env(&self) -> Vec<(String, String)>;
    fn command(&self, program: &str) -> Command;
}

impl Clients for Realm {
    fn env(&self) -> Vec<(String, String)> {
        self.kdc.env()
    }

    fn command(&self, program: &str) -> Command {
        self.kdc.command(program)
    }
}

impl Clients for SambaAd {
    fn env(&self) -> Vec<(String, String)> {
        self.env()
    }

    fn command(&self, program: &str) -> Command {
        self.command(program)
    }
}

impl<R: Clients> Clients for &R {
    fn env(&self) -> Vec<(String, String)> {
        (**self).env()
    }

    fn command(&self, program: &str) -> Command {
        (**self).command(program)
    }
}

/// The MIT realm of all tests that add to it, and change nothing that is there.
pub(super) fn mit() -> &'static Site<&'static Realm> {
    static SITE: OnceLock<Site<&'static Realm>> = OnceLock::new();
    SITE.get_or_init(|| Site::new(obol_tests::realm(), ServerOptions::default()))
}

/// The Active Directory of all tests that add to it.
pub(super) fn ad() -> &'static Site<SambaAd> {
    static SITE: OnceLock<Site<SambaAd>> = OnceLock::new();
    SITE.get_or_init(|| {
        let ad = SambaAd::start(AdOptions::default()).unwrap();
        Site::new(ad, ServerOptions::default())
    })
}

impl<R: Clients> Site<R> {
    pub(super) fn new(realm: R, mut options: ServerOptions) -> Self {
        options.env.extend(realm.env());
        let server = Server::ready(options);
        Self { realm, server }
    }

    /// A method of its own for a test, at `auth/<name>`.
    #[track_caller]
    pub(super) fn method(&self, name: &'static str, config: &Value, ldap: &Value) -> Method<'_> {
        kerberos::enable(&self.server.root(), name, config, ldap);
        Method {
            server: &self.server,
            name,
        }
    }

    /// A program of a client with these tickets.
    pub(super) fn command(&self, tickets: &CCache, program: &str) -> Command {
        let mut command = self.realm.command(program);
        for (name, _) in std::env::vars().filter(|(name, _)| is_foreign(name)) {
            if name != "KRB5_CONFIG" && name != "KRB5CCNAME" {
                command.env_remove(name);
            }
        }
        command.envs(tickets.env());
        command
    }

    /// The header of a client who goes to `http://<host>`.
    #[track_caller]
    pub(super) fn header(&self, tickets: &CCache, host: &str) -> String {
        negotiate_for(self.command(tickets, "curl"), host, 1).remove(0)
    }

    /// `obol kerberos doctor`, run by whoever runs the server, with these tickets.
    #[track_caller]
    pub(super) fn doctor(&self, tickets: &CCache, arguments: &[&str]) -> Ended {
        let mut cli = Cli::root(&self.server);
        for (name, value) in self.realm.env().into_iter().chain(tickets.env()) {
            cli = cli.env(&name, &value);
        }
        let mut line = vec!["kerberos", "doctor"];
        line.extend(arguments);
        cli.run(&line)
    }
}

/// A service of the shared MIT realm with random keys: `HTTP/<host>`.
#[track_caller]
pub(super) fn mit_service(host: &str) -> String {
    let spn = format!("HTTP/{host}");
    mit().realm.kdc.add_service(&spn).unwrap();
    spn
}

/// An account of a domain with AES keys, which has these SPNs.
#[track_caller]
pub(super) fn ad_account(ad: &SambaAd, account: &str, spns: &[&str]) {
    ad.add_user(account, ACCOUNT_PASSWORD).unwrap();
    let aes = [AES256_CTS_HMAC_SHA1_96, AES128_CTS_HMAC_SHA1_96];
    ad.set_enctypes(account, &aes).unwrap();
    for spn in spns {
        ad.add_spn(account, spn).unwrap();
    }
}

/// Body of `config` for this account, with this keytab.
pub(super) fn config(keytab: &[u8], account: &str) -> Value {
    json!({"keytab": STANDARD.encode(keytab), "service_account": account})
}

/// Body of `config/ldap` for a domain: LDAPS, bound as this account with its password.
pub(super) fn ad_ldap(ad: &SambaAd, account: &str) -> Value {
    json!({
        "url": ad.ldaps_url(),
        "certificate": ad.ca_pem(),
        "binddn": ad.dn_of(account).unwrap(),
        "bindpass": ad.password(account).unwrap(),
        "userdn": ad.user_dn(),
        "userattr": "sAMAccountName",
        "groupdn": ad.group_dn(),
        "groupattr": "cn",
        "groupfilter": "(&(objectClass=group)(member:1.2.840.113556.1.4.1941:={{.UserDN}}))",
    })
}

/// An auth method with a fault.
#[derive(Clone, Copy)]
pub(super) struct Method<'s> {
    pub(super) server: &'s Server,
    pub(super) name: &'static str,
}

impl Method<'_> {
    #[track_caller]
    pub(super) fn login(&self, header: &str) -> Reply {
        login_at(self.server, self.name, header)
    }

    /// The login is refused with this status; the client is told one sentence and the request's id, and the log has
    /// under that id these words of the cause, and this of the mend.
    #[track_caller]
    pub(super) fn refuses(&self, header: &str, status: u16, cause: &[&str], mend: &str) {
        let reply = self.login(header);
        self.explains(&reply, status, cause, mend);
    }

    /// The same of an answer that was given.
    #[track_caller]
    pub(super) fn explains(&self, reply: &Reply, status: u16, cause: &[&str], mend: &str) {
        assert_eq!(
            reply.status,
            status,
            "{}\n{}",
            reply.text(),
            self.server.log()
        );
        assert!(reply.json().get("auth").is_none(), "{}", reply.text());
        let [sentence] = &reply.errors()[..] else {
            panic!("not one sentence: {}", reply.text());
        };
        let told = sentence.to_lowercase();
        for inside in NOT_FOR_CLIENTS {
            assert!(
                !told.contains(inside),
                "the client is told of {inside:?}: {sentence}"
            );
        }
        let id = sentence
            .strip_suffix(')')
            .and_then(|sentence| sentence.rsplit_once(" (request "))
            .unwrap_or_else(|| panic!("no request id: {sentence}"))
            .1;
        let line = eventually("a line with the request's id in the log", || {
            let log = self.server.log();
            log.lines()
                .find(|line| line.contains(id) && line.contains("mend"))
                .map(str::to_owned)
        });
        for word in cause.iter().chain([&mend]) {
            assert!(line.contains(word), "{word:?} is not in: {line}");
        }
    }

    #[track_caller]
    pub(super) fn diagnose(&self, question: Value) -> Report {
        let path = format!("auth/{}/diagnose", self.name);
        let reply = self.server.root().post(&path, question);
        Report(Value::Object(reply.data()))
    }
}

/// What `diagnose` has found.
pub(super) struct Report(Value);

impl Report {
    /// The step has failed, and says so: words of its finding, words of its mend, and the beginnings of the commands
    /// for Windows and for MIT; none where they are empty.
    #[track_caller]
    pub(super) fn fails(
        self,
        step: &str,
        finding: &[&str],
        mend: &str,
        commands: [&str; 2],
    ) -> Self {
        assert_eq!(self.0["ok"], false, "{self}");
        self.says(step, "failed", finding, mend, commands)
    }

    /// The same for a step that deserves a second look.
    #[track_caller]
    pub(super) fn warns(
        self,
        step: &str,
        finding: &[&str],
        mend: &str,
        commands: [&str; 2],
    ) -> Self {
        self.says(step, "warning", finding, mend, commands)
    }

    #[track_caller]
    fn says(
        self,
        name: &str,
        status: &str,
        finding: &[&str],
        mend: &str,
        commands: [&str; 2],
    ) -> Self {
        let steps = self.0["steps"].as_array().unwrap();
        let step = steps
            .iter()
            .find(|step| step["name"] == name && step["status"] == status)
            .unwrap_or_else(|| panic!("no step {name:?} that has {status}: {self}"));
        let contains = |field: &str, words: &str| {
            let text = step[field].as_str().unwrap();
            assert!(
                text.contains(words),
                "{words:?} is not in {field}: {step:#}"
            );
            assert_eq!(text.is_empty(), words.is_empty(), "{field}: {step:#}");
        };
        for words in finding {
            contains("finding", words);
        }
        contains("mend", mend);
        contains("windows", commands[0]);
        contains("mit", commands[1]);
        self
    }

    /// The step has passed.
    #[track_caller]
    pub(super) fn passes(self, step: &str) -> Self {
        let steps = self.0["steps"].as_array().unwrap();
        let mut found = steps
            .iter()
            .filter(|found| found["name"] == step)
            .peekable();
        assert!(found.peek().is_some(), "no step {step:?}: {self}");
        assert!(found.all(|step| step["status"] == "ok"), "{self}");
        self
    }

    /// The one sentence at the top names this.
    #[track_caller]
    pub(super) fn in_short(self, words: &[&str]) -> Self {
        let summary = self.0["summary"].as_str().unwrap();
        for word in words {
            assert!(
                summary.contains(word),
                "{word:?} is not in: {summary}\n{self}"
            );
        }
        self
    }

    #[track_caller]
    pub(super) fn works(self) -> Self {
        assert_eq!(self.0["ok"], true, "{self}");
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.0["summary"])?;
        for step in self.0["steps"].as_array().into_iter().flatten() {
            let text = |field: &str| step[field].as_str().unwrap_or_default().to_owned();
            let [name, status, finding] = ["name", "status", "finding"].map(text);
            let [mend, windows, mit] = ["mend", "windows", "mit"].map(text);
            writeln!(
                f,
                "{status} {name}: {finding}\n  {mend} | {windows} | {mit}"
            )?;
        }
        Ok(())
    }
}

/// A password that a domain takes.
pub(super) const ACCOUNT_PASSWORD: &str = "account-Password-1";

/// A mend without a command.
pub(super) const NO_COMMANDS: [&str; 2] = ["", ""];

/// What tells an attacker how the server is set up.
const NOT_FOR_CLIENTS: &[&str] = &[
    "ldap",
    "kvno",
    "keytab",
    "aes",
    "rc4",
    "arcfour",
    "spn",
    "http/",
    ".test",
    "127.0.0.1",
    "example",
    "realm",
    "bind",
    "certificate",
    "tls",
    "dc=",
    "clock",
    "search",
    "filter",
    "\n",
];
