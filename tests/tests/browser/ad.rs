//! The same page in an Active Directory: a keytab of the account alone, and groups that are nested.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_testbed::samba::people::{SERVICE_ACCOUNT, SERVICE_PASSWORD};
use obol_testbed::{AdOptions, CCache, SambaAd};
use obol_tests::kerberos::{accepted, map_group};
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
        root.post("sys/auth/kerberos", json!({"type": "kerberos"})).expect(204);
        let keytab = ad.keytab(SERVICE_ACCOUNT).unwrap();
        accepted(root.post(
            "auth/kerberos/config",
            json!({"keytab": STANDARD.encode(keytab), "service_account": SERVICE_ACCOUNT}),
        ));
        accepted(root.post(
            "auth/kerberos/config/ldap",
            json!({
                "url": ad.ldaps_url(),
                "certificate": ad.ca_pem(),
                "binddn": ad.dn_of(SERVICE_ACCOUNT).unwrap(),
                "bindpass": SERVICE_PASSWORD,
                "userdn": ad.user_dn(),
                "userattr": "sAMAccountName",
                "groupdn": ad.group_dn(),
                "groupattr": "cn",
                "groupfilter": "(&(objectClass=group)(member:1.2.840.113556.1.4.1941:={{.UserDN}}))",
            }),
        ));
        for policy in ["lab", "house"] {
            let text = format!("path \"secret/data/{policy}/*\" {{ capabilities = [\"read\"] }}");
            root.put(&format!("sys/policies/acl/{policy}"), json!({"policy": text}))
                .expect(204);
        }
        map_group(&root, "scientists", "lab");
        map_group(&root, "all-hands", "house");
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
