//! Channel bindings (RFC 5929, `tls-server-end-point`): whether a login must come over the TLS connection that its
//! client saw. A login that was relayed from another connection is what they are for.

use std::fs;
use std::path::PathBuf;

use obol_testbed::{Ca, tls::loopback_names};
use obol_tests::clients::{Cli, Ended, python};
use obol_tests::kerberos::{config_payload, ldap_payload, with};
use obol_tests::server::{Server, ServerOptions, Tls};
use obol_tests::{realm, ticket};
use serde_json::{Value, json};

#[test]
fn a_login_is_tied_to_the_connection_as_the_configuration_asks() {
    let server = TlsServer::start();
    for (mode, own, another, none) in [
        ("ignore", 200, 200, 200),
        ("accept", 200, 401, 200),
        ("require", 200, 401, 401),
    ] {
        server.write("auth/kerberos/config", &json!({ "channel_bindings": mode }));
        for (bindings, expected) in [("own", own), ("another", another), ("none", none)] {
            let said = server.log_in(bindings).ok();
            assert_eq!(
                said.text(),
                expected.to_string(),
                "{bindings} bindings with {mode}"
            );
        }
    }
}

#[test]
fn where_bindings_are_required_a_login_without_tls_is_refused() {
    let server = obol_tests::kerberos::kerberized();
    let root = server.root();
    let require = json!({"channel_bindings": "require"});
    obol_tests::kerberos::accepted(root.post("auth/kerberos/config", require));
    let refused = obol_tests::kerberos::log_in(&server, "kerberos", "grace");
    refused.expect(401);
}

/// A server that speaks TLS, with the method configured for the shared realm.
struct TlsServer {
    server: Server,
    cli: Cli,
    ca: PathBuf,
    _files: obol_testbed::Scratch,
}

impl TlsServer {
    fn start() -> Self {
        let files = obol_testbed::Scratch::new("bindings").unwrap();
        let issuer = Ca::new("obol").unwrap();
        let (certificate, key) = issuer.issue(&loopback_names()).unwrap();
        let put = |name: &str, pem: &str| {
            let path = files.join(name);
            fs::write(&path, pem).unwrap();
            path
        };
        let ca = put("ca.pem", &issuer.pem());
        let server = Server::start(ServerOptions {
            tls: Some(Tls {
                certificate: put("server.pem", &certificate),
                key: put("server.key", &key),
                ca: ca.clone(),
            }),
            ..ServerOptions::default()
        });
        let cli = Cli::make_ready(&server, &ca);
        cli.run(&["auth", "enable", "kerberos"]).ok();
        let this = Self {
            server,
            cli,
            ca,
            _files: files,
        };
        let config = with(config_payload(realm()), json!({}));
        this.write("auth/kerberos/config", &config);
        this.write("auth/kerberos/config/ldap", &ldap_payload(realm()));
        this
    }

    fn write(&self, path: &str, body: &Value) {
        self.cli
            .run_with_input(&["write", path, "-"], &body.to_string())
            .ok();
    }

    /// Logs in with these bindings, and prints the status.
    fn log_in(&self, bindings: &str) -> Ended {
        let code = format!(
            "BINDINGS, CA = {bindings:?}, {:?}\n{CLIENT}",
            self.ca.display().to_string()
        );
        python(realm(), &ticket("grace"), &self.server, &code)
    }
}

/// Binds itself to the certificate that it is shown, to another one, or to none.
const CLIENT: &str = r#"
import base64, hashlib, http.client, socket, ssl, sys, urllib.parse
import gssapi
from gssapi.raw import ChannelBindings

where = urllib.parse.urlparse(sys.argv[1])
context = ssl.create_default_context(cafile=CA)
connection = http.client.HTTPSConnection("localhost", where.port, context=context, timeout=60)
connection.connect()
shown = connection.sock.getpeercert(binary_form=True)
seen = {"own": shown, "another": shown + b"x"}.get(BINDINGS)
bound = None
if seen is not None:
    data = b"tls-server-end-point:" + hashlib.sha256(seen).digest()
    bound = ChannelBindings(application_data=data)
name = gssapi.Name("HTTP@localhost", gssapi.NameType.hostbased_service)
mech = gssapi.OID.from_int_seq("1.3.6.1.5.5.2")
client = gssapi.SecurityContext(name=name, mech=mech, usage="initiate", channel_bindings=bound)
token = base64.b64encode(client.step()).decode()
connection.request("POST", "/v1/auth/kerberos/login", "{}", {"Authorization": "Negotiate " + token})
print(connection.getresponse().status)
"#;
