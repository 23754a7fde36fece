//! The name of the service: nobody's, two accounts', with a port, under an alias, and what DNS makes of it.

use std::fs;

use obol_testbed::{Realm, Scratch};
use obol_tests::kerberos::{ldap_payload, negotiate_for};
use obol_tests::{ServerOptions, realm, ticket};
use serde_json::json;

use super::story::{Site, ad, ad_account, ad_ldap, config, mit, mit_service};

#[test]
fn spn_missing_in_a_realm() {
    let spn = mit_service("present.test");
    let keytab = mit().realm.kdc.keytab(&[&spn]).unwrap();
    let method = mit().method(
        "missing",
        &config(&keytab, &spn),
        &ldap_payload(mit().realm),
    );
    let register = [
        "setspn -S HTTP/missing.test",
        "addprinc -randkey HTTP/missing.test",
    ];
    method
        .diagnose(json!({"service": "HTTP/missing.test"}))
        .fails(
            "service ticket",
            &["does not know the service HTTP/missing.test"],
            "register",
            register,
        )
        .in_short(&["service ticket", "register HTTP/missing.test"]);
    // A client gets no ticket to be refused with. Its own doctor says why.
    let said = mit().doctor(
        &ticket("grace"),
        &["-mount=missing", "-service=HTTP/missing.test"],
    );
    let said = said.expect(2).stdout;
    assert!(
        said.contains("FAIL  service ticket") && said.contains("setspn"),
        "{said}"
    );
}

#[test]
fn spn_missing_in_a_domain_until_it_is_registered() {
    let site = ad();
    let ad = &site.realm;
    ad_account(ad, "svc-missing", &[]);
    let keytab = ad.keytab("svc-missing").unwrap();
    let method = site.method(
        "missing",
        &config(&keytab, "svc-missing"),
        &ad_ldap(ad, "svc-missing"),
    );
    let question = json!({"service": "HTTP/missing.test"});
    let setspn = "setspn -S HTTP/missing.test svc-missing";
    method
        .diagnose(question.clone())
        .passes("kdc")
        .fails(
            "service ticket",
            &["HTTP/missing.test"],
            "on that account alone",
            [setspn, "addprinc"],
        )
        .fails(
            "spn owner",
            &["no account has HTTP/missing.test"],
            "register",
            [setspn, "addprinc"],
        )
        .in_short(&[
            "spn owner: no account has HTTP/missing.test",
            "register HTTP/missing.test",
        ]);
    ad.add_spn("svc-missing", "HTTP/missing.test").unwrap();
    method
        .diagnose(question)
        .passes("service ticket")
        .passes("spn owner")
        .works();
    let header = site.header(&ad.kinit_as("grace").unwrap(), "missing.test");
    method.login(&header).expect(200);
}

#[test]
fn spn_on_two_accounts() {
    let site = ad();
    let ad = &site.realm;
    ad_account(ad, "svc-twice", &["HTTP/twice.test"]);
    ad_account(ad, "svc-rival", &[]);
    let keytab = ad.keytab("svc-twice").unwrap();
    let method = site.method(
        "twice",
        &config(&keytab, "svc-twice"),
        &ad_ldap(ad, "svc-twice"),
    );
    let question = json!({"service": "HTTP/twice.test"});
    method
        .diagnose(question.clone())
        .passes("spn owner")
        .works();

    ad.add_duplicate_spn("svc-rival", "HTTP/twice.test")
        .unwrap();
    let find = ["setspn -Q HTTP/twice.test", "getprinc"];
    method
        .diagnose(question.clone())
        .passes("kdc")
        .fails(
            "spn owner",
            &["2 accounts", "svc-twice", "svc-rival"],
            "remove the SPN from all",
            find,
        )
        .in_short(&["spn owner", "2 accounts: ", "remove the SPN"]);
    ad.remove_spn("svc-rival", "HTTP/twice.test").unwrap();
    method.diagnose(question).passes("service ticket").works();
}

#[test]
fn spn_with_a_port_in_a_realm() {
    let spn = mit_service("port.test:8200");
    let keytab = mit().realm.kdc.keytab(&[&spn]).unwrap();
    let method = mit().method("port", &config(&keytab, &spn), &ldap_payload(mit().realm));
    // Asked for by nobody: curl leaves the port out, as browsers do.
    let register = [
        "setspn -S HTTP/port.test ",
        "addprinc -randkey HTTP/port.test\"",
    ];
    method
        .diagnose(json!({}))
        .warns(
            "spn",
            &["names the port 8200"],
            "register HTTP/port.test without the port",
            register,
        )
        .passes("service ticket")
        .in_short(&["spn", "without the port"]);
    method
        .diagnose(json!({"service": "HTTP/port.test"}))
        .warns(
            "spn",
            &["the keytab holds HTTP/port.test:8200"],
            "without the port",
            register,
        )
        .fails(
            "service ticket",
            &["HTTP/port.test"],
            "register HTTP/port.test",
            register,
        );
}

#[test]
fn spn_with_a_port_in_a_domain() {
    let site = ad();
    let ad = &site.realm;
    ad_account(ad, "svc-port", &["HTTP/port.test:8200"]);
    let keytab = ad.keytab("svc-port").unwrap();
    let method = site.method(
        "port",
        &config(&keytab, "svc-port"),
        &ad_ldap(ad, "svc-port"),
    );
    let register = ["setspn -S HTTP/port.test svc-port", "addprinc"];
    method
        .diagnose(json!({"service": "HTTP/port.test"}))
        .fails(
            "spn owner",
            &["no account has HTTP/port.test; svc-port has HTTP/port.test:8200"],
            "register HTTP/port.test",
            register,
        )
        .in_short(&["clients leave the port out", "register HTTP/port.test"]);
    method
        .diagnose(json!({"service": "HTTP/port.test:8200"}))
        .warns(
            "spn",
            &["names the port 8200"],
            "without the port",
            register,
        )
        .passes("service ticket")
        .works();
}

#[test]
fn spn_for_an_alias() {
    let site = ad();
    let ad = &site.realm;
    ad_account(ad, "svc-alias", &["HTTP/host.test"]);
    let keytab = ad.keytab("svc-alias").unwrap();
    let method = site.method(
        "alias",
        &config(&keytab, "svc-alias"),
        &ad_ldap(ad, "svc-alias"),
    );
    let grace = ad.kinit_as("grace").unwrap();
    method.login(&site.header(&grace, "host.test")).expect(200);
    // Clients that go to the alias ask for the alias; nobody has registered that.
    method
        .diagnose(json!({"service": "HTTP/www.test"}))
        .fails(
            "service ticket",
            &["HTTP/www.test"],
            "register HTTP/www.test",
            ["setspn -S HTTP/www.test svc-alias", "addprinc"],
        )
        .in_short(&["no account has HTTP/www.test"]);
    // The account's key opens tickets for every name it has: no new keytab.
    ad.add_spn("svc-alias", "HTTP/www.test").unwrap();
    method.login(&site.header(&grace, "www.test")).expect(200);
    method.diagnose(json!({"service": "HTTP/www.test"})).works();
}

#[test]
fn spn_for_an_alias_that_is_another_service() {
    let [front, alias] = ["front.test", "front-alias.test"].map(mit_service);
    let keytab = mit().realm.kdc.keytab(&[&front]).unwrap();
    let method = mit().method(
        "alias",
        &config(&keytab, &front),
        &ldap_payload(mit().realm),
    );
    let header = mit().header(&ticket("grace"), "front-alias.test");
    let cause = [
        "the ticket for HTTP/front-alias.test",
        "holds keys of HTTP/front.test@",
    ];
    method.refuses(&header, 401, &cause, "an alias");
    method
        .diagnose(json!({"service": alias, "authorization": header}))
        .fails(
            "service ticket",
            &cause,
            "export a keytab that holds this service too",
            ["setspn -Q HTTP/front-alias.test", "dns_canonicalize"],
        )
        .fails(
            "client ticket",
            &cause,
            "an alias",
            ["setspn -Q", "dns_canonicalize"],
        )
        .in_short(&["HTTP/front-alias.test"]);
}

#[test]
fn an_alias_in_dns_leads_clients_to_the_name_behind_it() {
    let [alias, _target] = ["cname-alias.test", "cname-target.test"].map(mit_service);
    // What a resolver makes of a CNAME record: the first name is the canonical one.
    let named = Named::by("127.0.8.10 cname-target.test cname-alias.test\n");
    let site = &named.site;
    let keytab = realm().kdc.keytab(&[&alias]).unwrap();
    let method = site.method("cname", &config(&keytab, &alias), &ldap_payload(realm()));

    let header = named.header_of_a_canonicalizing_client("rdns = false", "cname-alias.test");
    let cause = [
        "the ticket for HTTP/cname-target.test",
        "holds keys of HTTP/cname-alias.test@",
    ];
    method.refuses(&header, 401, &cause, "an alias");
    method
        .diagnose(json!({"authorization": header}))
        .passes("service ticket")
        .warns(
            "dns",
            &["cname-alias.test is another name for cname-target.test"],
            "register HTTP/cname-target.test too",
            [
                "setspn -S HTTP/cname-target.test",
                "dns_canonicalize_hostname = false",
            ],
        )
        .fails(
            "client ticket",
            &cause,
            "an alias",
            ["setspn -Q HTTP/cname-target.test", "dns_canonicalize"],
        )
        .in_short(&["HTTP/cname-target.test"]);
    // Mended at the client.
    method
        .login(&site.header(&ticket("grace"), "cname-alias.test"))
        .expect(200);
}

#[test]
fn reverse_dns_leads_clients_to_another_name() {
    let [front, _back] = ["rdns-front.test", "rdns-back.test"].map(mit_service);
    // The front's address leads back to a name that has a service of its own.
    let named = Named::by("127.0.8.9 rdns-back.test\n127.0.8.9 rdns-front.test\n");
    let site = &named.site;
    let keytab = realm().kdc.keytab(&[&front]).unwrap();
    let method = site.method("rdns", &config(&keytab, &front), &ldap_payload(realm()));

    let header = named.header_of_a_canonicalizing_client("rdns = true", "rdns-front.test");

    let cause = [
        "the ticket for HTTP/rdns-back.test",
        "holds keys of HTTP/rdns-front.test@",
    ];
    method.refuses(&header, 401, &cause, "reverse DNS (rdns");
    method
        .diagnose(json!({"authorization": header}))
        .passes("service ticket")
        .warns(
            "dns",
            &["leads back to rdns-back.test"],
            "set rdns = false",
            ["setspn -S HTTP/rdns-back.test", "rdns = false"],
        )
        .fails(
            "client ticket",
            &cause,
            "reverse DNS",
            ["setspn -Q HTTP/rdns-back.test", "rdns = false"],
        )
        .in_short(&["HTTP/rdns-back.test", "rdns"]);
    // Mended at the client.
    method
        .login(&site.header(&ticket("grace"), "rdns-front.test"))
        .expect(200);
}

/// A server, and clients, that resolve names from a file of hosts.
struct Named {
    files: Scratch,
    env: [(String, String); 2],
    site: Site<&'static Realm>,
}

impl Named {
    fn by(hosts: &str) -> Self {
        let files = Scratch::new("dns").unwrap();
        let path = files.join("hosts");
        fs::write(&path, format!("127.0.0.1 localhost\n{hosts}")).unwrap();
        let env = [
            ("LD_PRELOAD".to_owned(), "libnss_wrapper.so".to_owned()),
            ("NSS_WRAPPER_HOSTS".to_owned(), path.display().to_string()),
        ];
        let options = ServerOptions {
            env: env.to_vec(),
            ..ServerOptions::default()
        };
        let site = Site::new(realm(), options);
        Self { files, env, site }
    }

    /// What a client sends that asks for the name that DNS calls the canonical one, as many a distribution has it by
    /// default. `rdns` says whether it follows the address back, too.
    fn header_of_a_canonicalizing_client(&self, rdns: &str, host: &str) -> String {
        let krb5_conf = fs::read_to_string(realm().kdc.krb5_conf()).unwrap();
        let krb5_conf = krb5_conf.replace("rdns = false", rdns).replace(
            "dns_canonicalize_hostname = false",
            "dns_canonicalize_hostname = true",
        );
        let path = self.files.join("krb5.conf");
        fs::write(&path, krb5_conf).unwrap();
        let mut curl = self.site.command(&ticket("grace"), "curl");
        curl.envs(self.env.clone()).env("KRB5_CONFIG", path);
        negotiate_for(curl, host, 1).remove(0)
    }
}
