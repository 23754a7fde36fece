//! A ticket that is too large for a proxy in front of the server: a real nginx, with the limit for one header line
//! that it has by default, and a user of very many groups.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use obol_testbed::{CCache, PortLease, SambaAd, Scratch, guarded, spawn_for_life};
use obol_tests::clients::Cli;
use obol_tests::http::{Client, Reply};
use obol_tests::kerberos::with;
use obol_tests::{Server, ServerOptions, holds};
use serde_json::json;

use super::story::{ad, ad_account, ad_ldap, config};

#[test]
fn ticket_larger_than_a_proxys_header_limit() {
    let site = ad();
    let ad = &site.realm;
    ad_account(ad, "svc-proxy", &["HTTP/proxy.test"]);
    let config = config(&ad.keytab("svc-proxy").unwrap(), "svc-proxy");
    // Groups out of the ticket, for which it is so large.
    let config = with(config, json!({"group_source": "pac"}));
    let method = site.method("proxy", &config, &ad_ldap(ad, "svc-proxy"));
    let tickets = in_very_many_groups(ad);
    let header = site.header(&tickets, "proxy.test");
    assert!(header.len() > 8 << 10, "{} bytes", header.len());
    let proxy = Nginx::start(&site.server);

    // The proxy refuses, in its own words: nothing of this reaches the server.
    let before = site.server.log().len();
    let refused = login_through(&proxy, &header);
    assert!(matches!(refused.status, 400 | 431), "{}", refused.text());
    assert!(
        refused.text().contains("Header Or Cookie Too Large"),
        "{}",
        refused.text()
    );
    assert!(!site.server.log()[before..].contains("auth/proxy/"));
    // Small tickets pass, and so does the large one in the body, or without a proxy.
    let small = site.header(&ad.kinit_as("grace").unwrap(), "proxy.test");
    login_through(&proxy, &small).expect(200);
    let in_body = json!({"authorization": header});
    proxy.client().post("auth/proxy/login", in_body).expect(200);
    method
        .login(&site.header(&tickets, "proxy.test"))
        .expect(200);

    // The command line says where the limit is raised; so does the doctor, who gets through.
    let mut cli = Cli::root(&site.server).env("VAULT_ADDR", &proxy.url());
    for (name, value) in ad.env().into_iter().chain(tickets.env()) {
        cli = cli.env(&name, &value);
    }
    let login = [
        "login",
        "-method=kerberos",
        "-path=proxy",
        "-no-store",
        "service=HTTP/proxy.test",
    ];
    let said = cli.run(&login).expect(2).stderr;
    assert!(said.contains("large_client_header_buffers"), "{said}");
    let said = cli
        .run(&[
            "kerberos",
            "doctor",
            "-mount=proxy",
            "-service=HTTP/proxy.test",
        ])
        .ok();
    for words in [
        "warn  ticket size",
        "ok    client ticket",
        "large_client_header_buffers",
    ] {
        assert!(said.stdout.contains(words), "{words:?}: {}", said.stdout);
    }
    // Mended as it says.
    let mended = Nginx::start_with(&site.server, "large_client_header_buffers 4 128k;");
    login_through(&mended, &site.header(&tickets, "proxy.test")).expect(200);
}

#[test]
fn ticket_larger_than_the_servers_own_header_limit() {
    let server = Server::ready(ServerOptions {
        listener: "max_header_size = 16384".to_owned(),
        ..ServerOptions::default()
    });
    // Refused before it is read to its end: it is not known to be a login.
    let header = format!("Negotiate {}", "A".repeat(60_000));
    let request = server.client().request("POST", "auth/kerberos/login");
    let request = request.header("Authorization", &header);
    let reply = request.json(&json!({})).send().expect(431);
    assert_eq!(reply.text(), "");
    server.await_log(0, "raise max_header_size of the listener");
}

fn login_through(proxy: &Nginx, header: &str) -> Reply {
    proxy
        .client()
        .request("POST", "auth/proxy/login")
        .header("Authorization", header)
        .json(&json!({}))
        .send()
}

/// Tickets of a user whose PAC alone is larger than the line that a proxy takes.
fn in_very_many_groups(ad: &SambaAd) -> CCache {
    ad.add_user("overloaded", super::story::ACCOUNT_PASSWORD)
        .unwrap();
    let dn = ad.dn_of("overloaded").unwrap();
    let groups: String = (0..GROUPS)
        .map(|n| {
            format!(
                "dn: CN=load-{n:03},{}\nchangetype: add\nobjectClass: group\nsAMAccountName: load-{n:03}\n\
                 groupType: -2147483646\nmember: {dn}\n\n",
                ad.group_dn()
            )
        })
        .collect();
    ad.modify_ldif(&groups).unwrap();
    ad.kinit_as("overloaded").unwrap()
}

/// Global groups: eight bytes of the PAC each, and a third more in base64.
const GROUPS: usize = 800;

/// nginx in front of a server.
struct Nginx {
    port: PortLease,
    child: Child,
    _files: Scratch,
}

impl Nginx {
    fn start(server: &Server) -> Self {
        Self::start_with(server, "")
    }

    fn start_with(server: &Server, directives: &str) -> Self {
        let files = Scratch::new("nginx").unwrap();
        let port = PortLease::new().unwrap();
        let dir = files.path().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {dir}/{what};\n"))
            .concat();
        let conf = format!(
            "daemon off;\nmaster_process off;\npid {dir}/pid;\nerror_log {dir}/error.log;\n\
             events {{}}\nhttp {{\naccess_log off;\n{temporary}{directives}\nserver {{\n\
             listen 127.0.0.1:{};\nlocation / {{ proxy_pass http://127.0.0.1:{}; }}\n}}\n}}\n",
            port.port(),
            server.port()
        );
        fs::write(files.join("nginx.conf"), conf).unwrap();
        let mut nginx = Command::new("/usr/sbin/nginx");
        nginx
            .arg("-p")
            .arg(files.path())
            .arg("-c")
            .arg(files.join("nginx.conf"));
        let mut nginx = guarded(&nginx).unwrap();
        nginx
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = spawn_for_life(nginx).unwrap();
        let proxy = Self {
            port,
            child,
            _files: files,
        };
        holds("nginx listens", || {
            TcpStream::connect(("127.0.0.1", proxy.port.port())).is_ok()
        });
        proxy
    }

    fn client(&self) -> Client {
        Client::new(self.port.port())
    }

    fn url(&self) -> String {
        format!("http://localhost:{}", self.port.port())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
