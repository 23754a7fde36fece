//! The directory: where users and groups are looked for, how it is bound to, and what it refuses.

use obol_testbed::ldap::BIND_PASSWORD;
use obol_testbed::{LdapOptions, OpenLdap, TlsVersion};
use obol_tests::kerberos::{accepted, config_payload, ldap_payload, policies, with};
use obol_tests::{realm, ticket};
use serde_json::{Value, json};

use super::story::{Method, NO_COMMANDS, ad, ad_account, ad_ldap, config, mit};

/// A method of the MIT realm with these changes to `config/ldap`, and a header of grace for it.
fn in_realm(name: &'static str, changes: Value) -> (Method<'static>, String) {
    let ldap = with(ldap_payload(realm()), changes);
    let method = mit().method(name, &config_payload(realm()), &ldap);
    (method, mit().header(&ticket("grace"), "localhost"))
}

/// The same in the domain, for `HTTP/<name>.test`.
fn in_domain(name: &'static str, changes: Value) -> (Method<'static>, String) {
    let site = ad();
    let ad = &site.realm;
    let [account, host] = [format!("svc-{name}"), format!("{name}.test")];
    ad_account(ad, &account, &[&format!("HTTP/{host}")]);
    let config = config(&ad.keytab(&account).unwrap(), &account);
    let method = site.method(name, &config, &with(ad_ldap(ad, &account), changes));
    (method, site.header(&ad.kinit_as("grace").unwrap(), &host))
}

fn both(name: &'static str, realm: Value, domain: Value) -> [(Method<'static>, String); 2] {
    [in_realm(name, realm), in_domain(name, domain)]
}

#[test]
fn userdn_that_is_not_there() {
    for (method, header) in both(
        "userdn-gone",
        json!({"userdn": "ou=Nowhere,dc=example,dc=com"}),
        json!({"userdn": "OU=Nowhere,DC=ad,DC=example,DC=com"}),
    ) {
        let cause = ["noSuchObject (32)", "=Nowhere,"];
        method.refuses(&header, 502, &cause, "check userdn");
        method
            .diagnose(json!({"user": "grace"}))
            .passes("ldap bind")
            .fails("userdn", &["noSuchObject"], "check userdn", NO_COMMANDS)
            .in_short(&["userdn", "noSuchObject", "check userdn"]);
    }
}

#[test]
fn userdn_of_another_part_of_the_tree() {
    for (method, header) in both(
        "userdn-other",
        json!({"userdn": "ou=Groups,dc=example,dc=com"}),
        json!({"userdn": "OU=Groups,DC=ad,DC=example,DC=com"}),
    ) {
        method.refuses(
            &header,
            403,
            &["no user", "=Groups,", "found nothing"],
            "check userdn, userattr",
        );
        method
            .diagnose(json!({"user": "grace"}))
            .passes("userdn")
            .fails(
                "user entry",
                &["no user \"grace\" under", "=Groups,"],
                "check userdn, userattr",
                NO_COMMANDS,
            )
            .in_short(&["user entry", "check userdn, userattr"]);
    }
}

#[test]
fn userattr_wrong() {
    // `uid` is what other directories have.
    for (method, header) in both(
        "userattr",
        json!({"userattr": "mail"}),
        json!({"userattr": "uid"}),
    ) {
        method.refuses(
            &header,
            403,
            &["=grace)", "found nothing"],
            "check userdn, userattr",
        );
        method
            .diagnose(json!({"user": "grace"}))
            .passes("userdn")
            .fails(
                "user entry",
                &["=grace)"],
                "check userdn, userattr",
                NO_COMMANDS,
            )
            .in_short(&["user entry", "userattr"]);
    }
}

#[test]
fn groupdn_that_is_not_there() {
    for (method, header) in both(
        "groupdn-gone",
        json!({"groupdn": "ou=Nowhere,dc=example,dc=com"}),
        json!({"groupdn": "OU=Nowhere,DC=ad,DC=example,DC=com"}),
    ) {
        method.refuses(&header, 502, &["noSuchObject (32)", "=Nowhere,"], "groupdn");
        method
            .diagnose(json!({"user": "grace"}))
            .passes("userdn")
            .fails("groupdn", &["noSuchObject"], "groupdn", NO_COMMANDS)
            .in_short(&["groupdn", "noSuchObject"]);
    }
}

#[test]
fn groupdn_of_another_part_of_the_tree() {
    for (method, header) in both(
        "groupdn-other",
        json!({"groupdn": "ou=Users,dc=example,dc=com"}),
        json!({"groupdn": "OU=People,DC=ad,DC=example,DC=com"}),
    ) {
        // No refusal: a user without groups, who gets nothing that groups give.
        assert_eq!(policies(method.login(&header)), ["default"]);
        method
            .diagnose(json!({"user": "grace"}))
            .passes("groupdn")
            .passes("user entry")
            .warns(
                "groups",
                &["finds none", "below"],
                "check groupdn",
                NO_COMMANDS,
            )
            .in_short(&["groups", "finds none", "check groupdn"])
            .works();
    }
}

#[test]
fn groupattr_wrong() {
    let wrong = json!({"groupattr": "objectClass"});
    for (method, header) in both("groupattr", wrong.clone(), wrong) {
        let root = method.server.root();
        let groups = format!("auth/{}/groups/engineers", method.name);
        root.post(&groups, json!({"policies": "works"})).expect(204);
        // No refusal, and no group of that name any more.
        assert_eq!(policies(method.login(&header)), ["default"]);
        method
            .diagnose(json!({"user": "grace"}))
            .passes("user entry")
            .passes("groups")
            .warns(
                "user",
                &["the mapped ones give 0 policies"],
                "set groupattr in config/ldap",
                NO_COMMANDS,
            )
            .in_short(&["user", "groupattr", "if these are none: ", "group"])
            .works();
        let ldap = format!("auth/{}/config/ldap", method.name);
        accepted(root.post(&ldap, json!({"groupattr": "cn"})));
        method
            .diagnose(json!({"user": "grace"}))
            .passes("user")
            .works();
    }
}

#[test]
fn filter_syntax_is_refused_when_it_is_written_with_its_place() {
    let (method, header) = in_realm("filter", json!({}));
    let path = "auth/filter/config/ldap";
    for (field, filter, place) in [
        ("groupfilter", "(member={{.UserDN}", "at byte 9"),
        (
            "groupfilter",
            "(|(member={{.UserDN}})(memberUid={{.User}}))",
            "at byte 34",
        ),
        (
            "userfilter",
            "(&(objectClass=person)(uid={{.Username}})",
            "at byte ",
        ),
        ("userfilter", "({{.UserAttr}}={{.Username)", "at byte "),
        ("userfilter", "uid={{.Username}}", "at byte 1"),
    ] {
        let reply = method
            .server
            .root()
            .post(path, json!({ field: filter }))
            .expect(400);
        let [error] = &reply.errors()[..] else {
            panic!("{}", reply.text());
        };
        assert!(
            error.contains(field) && error.contains(place),
            "{filter}: {error}"
        );
    }
    // What was there before serves on.
    method.login(&header).expect(200);
}

#[test]
fn bind_password_wrong() {
    let wrong = json!({"bindpass": "Another-1"});
    let mends = ["check binddn and bindpass"; 2];
    for ((method, header), mend) in both("bindpass", wrong.clone(), wrong)
        .into_iter()
        .zip(mends)
    {
        method.refuses(
            &header,
            502,
            &["refused the bind as", "invalidCredentials (49)"],
            "",
        );
        assert!(!method.server.log().contains("Another-1"));
        method
            .diagnose(json!({}))
            .passes("ldap tls")
            .fails("ldap bind", &["invalidCredentials (49)"], mend, NO_COMMANDS)
            .in_short(&["ldap bind", "invalidCredentials"]);
    }
}

#[test]
fn ca_unknown() {
    for (method, header) in both(
        "ca",
        json!({"certificate": realm().ldap.other_ca_pem()}),
        json!({"certificate": ad().realm.other_ca_pem()}),
    ) {
        method.refuses(
            &header,
            502,
            &["no TLS with ldaps://"],
            "put the PEM of the CA",
        );
        method
            .diagnose(json!({}))
            .passes("ldap dial")
            .fails(
                "ldap tls",
                &["certificate"],
                "put the PEM of the CA",
                NO_COMMANDS,
            )
            .in_short(&["ldap tls", "put the PEM of the CA"]);
    }
}

#[test]
fn tls_version_older_than_allowed() {
    let old = OpenLdap::start(LdapOptions {
        tls_max: Some(TlsVersion::Tls12),
        ..LdapOptions::default()
    });
    let old = old.unwrap();
    let fields = json!({"tls_min_version": "tls13"});
    // Less protection than the bind password was stored with: it is sent again.
    let mended = json!({"tls_min_version": "tls12", "bindpass": BIND_PASSWORD});
    tls_version(
        "tls-old",
        &old,
        false,
        fields.clone(),
        "it takes TLSv1.2",
        mended.clone(),
    );
    tls_version(
        "starttls-old",
        &old,
        true,
        fields,
        "it takes TLSv1.2",
        mended,
    );
}

#[test]
fn tls_version_newer_than_allowed() {
    let new = OpenLdap::start(LdapOptions {
        tls_min: Some(TlsVersion::Tls13),
        ..LdapOptions::default()
    });
    let fields = json!({"tls_max_version": "tls12"});
    let mended = json!({"tls_max_version": "tls13"});
    tls_version(
        "tls-new",
        &new.unwrap(),
        false,
        fields,
        "it takes TLSv1.3",
        mended,
    );
}

fn tls_version(
    name: &'static str,
    directory: &OpenLdap,
    starttls: bool,
    fields: Value,
    takes: &str,
    mended: Value,
) {
    let url = match starttls {
        true => directory.url(),
        false => directory.ldaps_url(),
    };
    let ldap = json!({"url": url, "starttls": starttls, "certificate": directory.ca_pem()});
    let (method, header) = in_realm(name, with(ldap, fields));
    method.refuses(
        &header,
        502,
        &["no TLS with"],
        "tls_min_version and tls_max_version",
    );
    method
        .diagnose(json!({}))
        .passes("ldap dial")
        .fails("ldap tls", &[takes], "widen tls_min_version", NO_COMMANDS)
        .in_short(&["ldap tls", takes, "widen tls_min_version"]);
    let path = format!("auth/{name}/config/ldap");
    accepted(method.server.root().post(&path, mended));
    let header = mit().header(&ticket("grace"), "localhost");
    method.login(&header).expect(200);
}

#[test]
fn ldap_size_limit_of_the_server() {
    let tight = OpenLdap::start(LdapOptions {
        size_limit: Some(100),
        ..LdapOptions::default()
    })
    .unwrap();
    let (method, few) = in_realm(
        "size",
        json!({"url": tight.ldaps_url(), "certificate": tight.ca_pem()}),
    );
    // In 300 groups, of which the server shows 100: not to be taken for all of them.
    let many = mit().header(&ticket("many"), "localhost");
    method.refuses(
        &many,
        502,
        &["was cut short after", "sizeLimitExceeded (4)"],
        "raise the server's size limit",
    );
    method
        .diagnose(json!({"user": "many"}))
        .passes("user entry")
        .fails(
            "groups",
            &["cut short"],
            "raise the server's size limit",
            NO_COMMANDS,
        )
        .in_short(&["groups", "raise the server's size limit"]);
    method.login(&few).expect(200);
}
