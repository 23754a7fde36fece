//! A real ticket becomes a token, and the token reads what its owner may read.

use obol_testbed::realm::HTTP_SERVICE;
use obol_tests::clients::{Cli, python};
use obol_tests::kerberos::{curl_login, policies};
use obol_tests::{realm, ticket};

use super::server;

#[test]
fn curl_negotiate_logs_in_and_the_server_proves_itself() {
    let reply = curl_login(realm(), &ticket("grace"), server()).expect(200);
    // Mutual authentication: the acceptor's own token (RFC 4559, section 5).
    let proof = reply.header("www-authenticate").unwrap();
    let (scheme, token) = proof.split_once(' ').unwrap();
    assert_eq!(scheme, "Negotiate");
    assert!(token.len() > 40, "{proof}");
    let client = server().client().with_token(reply.clone().client_token());
    assert_eq!(policies(reply), ["default", "works"]);

    let read = client.get("secret/data/works/plan").data();
    assert_eq!(read["data"]["text"], "build it");
    client.get("secret/data/lab/formula").expect(403);
    client.get("sys/policies/acl").expect(403);
}

#[test]
fn two_users_get_what_their_groups_mean() {
    let joan = curl_login(realm(), &ticket("joan"), server());
    let joan = server().client().with_token(joan.client_token());
    joan.get("secret/data/lab/formula").expect(200);
    joan.get("secret/data/works/plan").expect(403);
    let loner = curl_login(realm(), &ticket("loner"), server());
    assert_eq!(policies(loner), ["default"]);
}

#[test]
fn requests_gssapi_logs_in_with_and_without_being_asked_first() {
    for opportunistic in ["True", "False"] {
        let code = format!("OPPORTUNISTIC = {opportunistic}\n{REQUESTS}");
        let said = python(realm(), &ticket("grace"), server(), &code).ok();
        assert_eq!(said.text(), "['default', 'works']");
    }
}

const REQUESTS: &str = r#"
import sys, requests
from requests_gssapi import HTTPSPNEGOAuth, REQUIRED
auth = HTTPSPNEGOAuth(mutual_authentication=REQUIRED, opportunistic_auth=OPPORTUNISTIC)
answer = requests.post(sys.argv[1] + '/v1/auth/kerberos/login', auth=auth, json={})
answer.raise_for_status()
print(answer.json()['auth']['policies'])
"#;

#[test]
fn hvac_uses_the_token_of_a_kerberos_login() {
    let token = curl_login(realm(), &ticket("grace"), server()).client_token();
    let said = python(
        realm(),
        &ticket("grace"),
        server(),
        &format!("TOKEN = {token:?}\n{HVAC}"),
    )
    .ok();
    assert_eq!(said.text(), "done");
    server()
        .client()
        .with_token(token)
        .get("auth/token/lookup-self")
        .expect(403);
}

const HVAC: &str = r#"
import sys, hvac
client = hvac.Client(url=sys.argv[1], token=TOKEN)
assert client.sys.is_initialized() and not client.sys.is_sealed()
assert client.is_authenticated()

read = client.secrets.kv.v2.read_secret_version(path='works/plan', raise_on_deleted_version=True)
assert read['data']['data'] == {'text': 'build it'}, read
assert read['data']['metadata']['version'] == 1, read
try:
    client.secrets.kv.v2.read_secret_version(path='lab/formula', raise_on_deleted_version=True)
    sys.exit('a secret was read that may not be')
except hvac.exceptions.Forbidden:
    pass

me = client.auth.token.lookup_self()['data']
assert me['display_name'] == 'kerberos-grace' and me['policies'] == ['default', 'works'], me
renewed = client.auth.token.renew_self(increment='1h')['auth']
assert renewed['client_token'] == TOKEN and 3590 <= renewed['lease_duration'] <= 3600, renewed
client.write('cubbyhole/mine', note='kept')
assert client.read('cubbyhole/mine')['data'] == {'note': 'kept'}
client.auth.token.revoke_self()
assert not client.is_authenticated()
print('done')
"#;

#[test]
fn hvac_runs_a_server_that_nobody_has_logged_in_to() {
    let root = &server().keys().root_token;
    let said = python(
        realm(),
        &ticket("grace"),
        server(),
        &format!("TOKEN = {root:?}\n{ADMIN}"),
    )
    .ok();
    assert_eq!(said.text(), "done");
}

const ADMIN: &str = r#"
import sys, hvac
client = hvac.Client(url=sys.argv[1], token=TOKEN)
client.sys.enable_secrets_engine('kv', path='by-hvac', options={'version': '2'})
assert 'by-hvac/' in client.sys.list_mounted_secrets_engines()['data']
client.sys.create_or_update_policy('by-hvac', 'path "by-hvac/*" { capabilities = ["read"] }')
assert 'by-hvac' in client.sys.list_policies()['data']['policies']
for n in range(3):
    client.secrets.kv.v2.create_or_update_secret('app', mount_point='by-hvac', secret={'n': n})
read = client.secrets.kv.v2.read_secret_version('app', version=2, mount_point='by-hvac', raise_on_deleted_version=True)
assert read['data']['data'] == {'n': 1}, read
assert client.secrets.kv.v2.list_secrets('', mount_point='by-hvac')['data']['keys'] == ['app']
client.secrets.kv.v2.delete_latest_version_of_secret('app', mount_point='by-hvac')
client.secrets.kv.v2.undelete_secret_versions('app', versions=[3], mount_point='by-hvac')
client.secrets.kv.v2.destroy_secret_versions('app', versions=[1], mount_point='by-hvac')
metadata = client.secrets.kv.v2.read_secret_metadata('app', mount_point='by-hvac')['data']
assert metadata['versions']['1']['destroyed'] and not metadata['versions']['3']['deletion_time'], metadata
client.secrets.kv.v2.delete_metadata_and_all_versions('app', mount_point='by-hvac')

made = client.auth.token.create(policies=['by-hvac'], ttl='1h', meta={'for': 'a test'})['auth']
seen = client.auth.token.lookup_accessor(made['accessor'])['data']
assert seen['policies'] == ['by-hvac', 'default'] and seen['id'] == '' and seen['meta'] == {'for': 'a test'}, seen
client.auth.token.revoke_accessor(made['accessor'])
assert not hvac.Client(url=sys.argv[1], token=made['client_token']).is_authenticated()

groups = client.adapter.list('/v1/auth/kerberos/groups')['data']['keys']
assert 'engineers' in groups, groups
client.sys.disable_secrets_engine('by-hvac')
client.sys.delete_policy('by-hvac')
print('done')
"#;

#[test]
fn obol_login_uses_the_ticket_cache_and_keeps_the_token() {
    let cli = Cli::new(server()).tickets(realm(), &ticket("grace"));
    let home = server().dir().join("grace");
    std::fs::create_dir_all(&home).unwrap();
    let cli = cli.env("HOME", &home.display().to_string());
    let said = cli.run(&["login", "-method=kerberos"]).ok();
    assert!(said.stdout.contains("works"), "{}", said.stdout);
    assert_eq!(
        cli.run(&["kv", "get", "-field=text", "secret/works/plan"])
            .ok()
            .text(),
        "build it"
    );
    cli.run(&["kv", "get", "-field=text", "secret/lab/formula"])
        .expect(2);
}

#[test]
fn obol_login_takes_a_keytab_with_the_flags_of_vaults_own_plugin() {
    let keytab = server().dir().join("joan.keytab");
    std::fs::write(&keytab, realm().kdc.keytab(&["joan"]).unwrap()).unwrap();
    // No ticket cache: the keytab alone.
    let said = Cli::new(server())
        .env("KRB5CCNAME", "FILE:/nonexistent/ccache")
        .run(&[
            "login",
            "-method=kerberos",
            "-token-only",
            "username=joan",
            "service=HTTP/localhost",
            "realm=EXAMPLE.COM",
            &format!("keytab_path={}", keytab.display()),
            &format!("krb5conf_path={}", realm().kdc.krb5_conf().display()),
        ])
        .ok();
    let client = server().client().with_token(said.text());
    client.get("secret/data/lab/formula").expect(200);
    assert_eq!(
        client.get("auth/token/lookup-self").data()["display_name"],
        "kerberos-joan"
    );
}

#[test]
fn obol_login_says_what_to_do_when_there_is_no_ticket() {
    let cli = Cli::new(server()).tickets(realm(), &realm().kdc.new_ccache());
    let said = cli.run(&["login", "-method=kerberos"]).expect(1);
    assert!(said.stderr.contains("kinit"), "{}", said.stderr);
}

#[test]
fn the_ticket_is_for_the_service_of_the_configuration() {
    assert_eq!(HTTP_SERVICE, "HTTP/localhost");
    let tickets = ticket("grace");
    curl_login(realm(), &tickets, server()).expect(200);
    // The realm's other service: same keytab file, but not the configured account.
    let other = Cli::new(server()).tickets(realm(), &tickets).run(&[
        "login",
        "-method=kerberos",
        "-token-only",
        "service=vault_svc@EXAMPLE.COM",
    ]);
    assert_ne!(other.status, 0, "{}", other.stdout);
}
