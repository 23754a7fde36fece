//! The same page in an Active Directory: a keytab of the account alone, and groups that are nested.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_testbed::samba::people::{SERVICE_ACCOUNT, SERVICE_PASSWORD};
use obol_testbed::{AdOptions, CCache, SambaAd};
use obol_tests::kerberos::{enable, map_group};
use obol_tests::{Browser, BrowserOptions, Server, ServerOptions};
use serde_json::json;

use super::login_page;

struct Domain {
    ad: SambaAd,
    server: Server,
}

fn domain() -> &'static Domain {
    static DOMAIN: OnceLock<Domain> = OnceLock::new();
    DOMAIN.get_or_init(|| {
        let ad = SambaAd::start(AdOptions::default()).unwrap();
        let server = Server::ready(ServerOptions::default());
        let root = server.root();
        let keytab = STANDARD.encode(ad.keytab(SERVICE_ACCOUNT).unwrap());
        let ldap = json!({
            "url": ad.ldaps_url(),
            "certificate": ad.ca_pem(),
            "binddn": ad.dn_of(SERVICE_ACCOUNT).unwrap(),
            "bindpass": SERVICE_PASSWORD,
            "userdn": ad.user_dn(),
            "userattr": "sAMAccountName",
            "groupdn": ad.group_dn(),
            "groupattr": "cn",
            "groupfilter": "(&(objectClass=group)(member:1.2.840.113556.1.4.1941:={{.UserDN}}))",
        });
        for (mount, source) in [("kerberos", "ldap"), ("pac", "pac")] {
            let config = json!({
                "keytab": keytab,
                "service_account": SERVICE_ACCOUNT,
                "group_source": source,
            });
            enable(&root, mount, &config, &ldap);
        }
        for policy in ["lab", "house"] {
            let text = format!("path \"secret/data/{policy}/*\" {{ capabilities = [\"read\"] }}");
            root.put(
                &format!("sys/policies/acl/{policy}"),
                json!({"policy": text}),
            )
            .expect(204);
        }
        map_group(&root, "scientists", "lab");
        map_group(&root, "all-hands", "house");
        root.post("auth/pac/groups/all-hands", json!({"policies": "house"}))
            .expect(204);
        Domain { ad, server }
    })
}

fn browser(tickets: &CCache) -> Browser {
    let env = domain().ad.env().into_iter().chain(tickets.env());
    Browser::start(BrowserOptions {
        env: env.collect(),
        ..BrowserOptions::default()
    })
}

#[test]
fn a_domain_user_signs_in_with_the_policies_of_nested_groups() {
    let Domain { ad, server } = domain();
    let browser = browser(&ad.kinit_as("joan").unwrap());
    browser.open(&login_page(server));
    browser.await_state("welcome");
    assert_eq!(browser.text("#who"), "joan");
    assert_eq!(browser.text("#domain"), ad.realm());
    let mut policies = browser.texts("#policies li");
    policies.sort();
    assert_eq!(policies, ["default", "house", "lab"]);
    let groups = browser.texts("#groups li");
    for group in [
        "scientists",
        "all-hands",
        "research, development + \"more\"",
    ] {
        assert!(groups.contains(&group.to_owned()), "{groups:?}");
    }
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
fn the_page_shows_the_groups_that_a_ticket_states() {
    let Domain { ad, server } = domain();
    let browser = browser(&ad.kinit_as("grace").unwrap());
    browser.open(&format!("{}?mount=pac", login_page(server)));
    browser.await_state("welcome");
    let mut policies = browser.texts("#policies li");
    policies.sort();
    assert_eq!(policies, ["default", "house"]);
    let groups = browser.texts("#groups li");
    for group in ["engineers", "staff", "all-hands"] {
        assert!(groups.contains(&group.to_owned()), "{groups:?}");
    }
    assert_eq!(browser.text("#group-source"), "as your ticket states them");
    // No directory was asked for the user.
    assert_eq!(
        browser.run("return document.getElementById('directory-row').hidden"),
        true
    );
}

#[test]
fn a_large_ticket_of_a_user_in_300_groups_passes() {
    let Domain { ad, server } = domain();
    let browser = browser(&ad.kinit_as("many").unwrap());
    browser.open(&login_page(server));
    browser.await_state("welcome");
    assert_eq!(browser.text("#who"), "many");
}

#[test]
fn without_a_ticket_of_the_domain_the_page_says_what_to_do() {
    let Domain { ad, server } = domain();
    let browser = browser(&ad.new_ccache());
    browser.open(&login_page(server));
    browser.await_state("help");
    assert_eq!(
        browser.text("#help-title"),
        "Your browser sent no Kerberos ticket"
    );
}
