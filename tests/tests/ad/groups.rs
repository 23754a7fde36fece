//! Groups: by the in-chain filter, by `tokenGroups`, by the PAC, and by several at once.

use obol_testbed::samba::people::{SERVICE_ACCOUNT, SERVICE_PASSWORD};
use obol_tests::Server;
use obol_tests::ad::{self, ad, log_in};
use obol_tests::kerberos::{login_at, map_group, policies, with};
use serde_json::{Value, json};

/// MS-ADTS 2.2.16.
const NO_AUTH_DATA_REQUIRED: u32 = 0x0200_0000;

/// A server with one mount whose configuration differs from [`ad::ldap_payload`] by these fields.
fn server_with(config: Value, ldap: Value) -> Server {
    let server = ad::server(ad());
    ad::set_up(&server, ad(), config, ldap);
    server
}

/// Every way that groups can come.
fn ways() -> Vec<(&'static str, Value, Value)> {
    let ldap = json!({"url": ad().ldap_url()});
    let password = json!({
        "bind_with_keytab": false,
        "binddn": ad().dn_of(SERVICE_ACCOUNT).unwrap(),
        "bindpass": SERVICE_PASSWORD,
    });
    vec![
        ("in-chain filter over LDAPS", json!({}), json!({})),
        (
            "in-chain filter over LDAP, sealed by Kerberos",
            json!({}),
            ldap.clone(),
        ),
        (
            "in-chain filter over StartTLS",
            json!({}),
            with(ldap.clone(), json!({"starttls": true})),
        ),
        ("in-chain filter, bound by password", json!({}), password),
        (
            "tokenGroups",
            json!({}),
            json!({"use_token_groups": true, "groupfilter": ""}),
        ),
        (
            "tokenGroups, by account names",
            json!({}),
            json!({"use_token_groups": true, "groupattr": "sAMAccountName"}),
        ),
        ("PAC", json!({"group_source": "pac"}), json!({})),
        (
            "PAC, by account names",
            json!({"group_source": "pac"}),
            json!({"groupattr": "sAMAccountName"}),
        ),
        (
            "PAC and LDAP",
            json!({"group_source": "ldap+pac"}),
            json!({}),
        ),
        (
            "PAC and tokenGroups, remembered",
            json!({"group_source": "ldap+pac"}),
            json!({"use_token_groups": true, "cache_ttl": "1m"}),
        ),
    ]
}

#[test]
fn the_same_user_has_the_same_policies_whichever_way_the_groups_come() {
    for (way, config, ldap) in ways() {
        let server = server_with(config, ldap);
        for (account, expected) in [
            ("grace", vec!["all-hands", "default", "engineers", "staff"]),
            ("joan", vec!["all-hands", "default", "scientists", "staff"]),
            // In 300 groups, in a circle of groups, and with a ticket that is as large as that.
            ("many", vec!["default", "loop-a", "team-299"]),
        ] {
            let login = log_in(&server, ad(), "kerberos", account);
            assert_eq!(login.status, 200, "{account} by {way}: {}", login.text());
            let client = server.client().with_token(login.clone().client_token());
            assert_eq!(policies(login), expected, "{account} by {way}");
            // There is no ticket at a renewal, and the groups are the same.
            let renewed = client.post("auth/token/renew-self", json!({}));
            assert_eq!(
                renewed.status,
                200,
                "{account} by {way}: {}",
                renewed.text()
            );
        }
    }
}

#[test]
fn a_user_is_found_by_the_name_of_the_ticket_with_upndomain() {
    let server = server_with(json!({}), json!({"upndomain": ad().realm()}));
    let login = log_in(&server, ad(), "kerberos", "grace");
    assert!(policies(login).contains(&"staff".to_owned()));
    // Her userPrincipalName is another name than the account's, which is what her ticket has.
    log_in(&server, ad(), "kerberos", "joan").expect(403);
    // As a client asks that was given her UPN.
    let password = ad().password("joan").unwrap();
    let whole = format!("joan.clarke@{}", ad().realm().to_lowercase());
    for (options, name) in [(&[][..], "joan.clarke"), (&["-E"], &whole)] {
        let tickets = ad().kinit_with(options, name, &password).unwrap();
        let login = login_at(&server, "kerberos", &ad::negotiate(ad(), &tickets));
        assert!(policies(login).contains(&"scientists".to_owned()));
    }
}

/// A KDC of Windows takes an account's name before another's UPN (MS-KILE 3.3.5.6.1).
#[test]
fn alias_case_a_name_that_is_one_accounts_and_anothers_upn_gives_nobody_the_others_groups() {
    let ad = ad::own_ad();
    let server = ad::server(&ad);
    let upndomain = json!({"upndomain": ad.realm()});
    ad::set_up(&server, &ad, json!({}), upndomain.clone());
    ad.add_user("taker", "Passw0rd.taker").unwrap();
    let tickets = ad.kinit_as("taker").unwrap();
    let renewable = login_at(&server, "kerberos", &ad::negotiate(&ad, &tickets)).expect(200);
    let client = server.client().with_token(renewable.client_token());
    client.post("auth/token/renew-self", json!({})).expect(200);
    let header = ad::negotiate(&ad, &tickets);
    let taken = ad.sid_of("taker").unwrap();
    let change = |dn: &str, attribute: &str, value: &str| {
        let text = format!("dn: {dn}\nchangetype: modify\nreplace: {attribute}\n");
        ad.modify_ldif(&format!("{text}{attribute}: {value}\n"))
            .unwrap();
    };
    // Samba has no such two names at once, so the ticket is from before the other has it.
    let [taker, grace] = ["taker", "grace"].map(|account| ad.dn_of(account).unwrap());
    let upn = |name: &str| format!("{name}@{}", ad.realm());
    change(&taker, "userPrincipalName", &upn("renamed"));
    change(&taker, "sAMAccountName", "renamed");
    change(&grace, "userPrincipalName", &upn("taker"));
    for config in [json!({}), json!({"group_source": "ldap+pac"})] {
        server.root().post("auth/kerberos/config", config);
        let refused = login_at(&server, "kerberos", &header).expect(403);
        assert!(refused.errors()[0].starts_with("this user may not log in here"));
    }
    let cause = format!("the ticket is of {taken}");
    assert!(server.log().contains(&cause));
    // Nor does the token from before become another's.
    client.post("auth/token/renew-self", json!({})).expect(400);
}

#[test]
fn alias_case_however_the_name_was_asked_for_the_account_logs_in() {
    let server = server_with(json!({"group_source": "pac"}), json!({}));
    for asked in ["joan", "JOAN", "joan.clarke"] {
        let tickets = ad().kinit(asked, &ad().password("joan").unwrap()).unwrap();
        let login = login_at(&server, "kerberos", &ad::negotiate(ad(), &tickets)).expect(200);
        assert_eq!(login.auth()["metadata"]["user"], "joan", "{asked}");
    }
}

#[test]
fn a_user_in_the_pac_needs_no_directory_when_the_groups_are_known() {
    let ad = ad::own_ad();
    let server = ad::server(&ad);
    ad::set_up(&server, &ad, json!({"group_source": "pac"}), json!({}));
    let grace = ad.kinit_as("grace").unwrap();
    let headers = [ad::negotiate(&ad, &grace), ad::negotiate(&ad, &grace)];
    login_at(&server, "kerberos", &headers[0]).expect(200);
    ad.stop().unwrap();
    let login = login_at(&server, "kerberos", &headers[1]);
    assert_eq!(
        policies(login),
        ["all-hands", "default", "engineers", "staff"]
    );
}

#[test]
fn groups_mapped_by_their_sids_need_no_directory_at_all_until_a_renewal() {
    let server = ad::server(ad());
    let root = server.root();
    let config = with(ad::config_payload(ad()), json!({"group_source": "pac"}));
    // Nobody answers there.
    let ldap = with(
        ad::ldap_payload(ad()),
        json!({"url": "ldaps://127.0.0.1:1"}),
    );
    obol_tests::kerberos::enable(&root, "kerberos", &config, &ldap);
    map_group(&root, &ad().sid_of("engineers").unwrap(), "default,works");
    assert_eq!(
        policies(log_in(&server, ad(), "kerberos", "grace")),
        ["default", "works"]
    );
    let joan = log_in(&server, ad(), "kerberos", "joan");
    assert_eq!(policies(joan.clone()), ["default"]);
    let joan = server.client().with_token(joan.client_token());
    // There is no ticket then, and nobody to ask.
    joan.post("auth/token/renew-self", json!({})).expect(502);
    let url = json!({"url": ad().ldaps_url()});
    root.post("auth/kerberos/config/ldap", url).expect(204);
    joan.post("auth/token/renew-self", json!({})).expect(200);
    let grace = log_in(&server, ad(), "kerberos", "grace");
    let client = server.client().with_token(grace.client_token());
    client.post("auth/token/renew-self", json!({})).expect(200);
    // What is said of a named user is what a login gives.
    let body = json!({"service": "HTTP/localhost", "user": "grace"});
    let report = root.post("auth/kerberos/diagnose", body).expect(200).data();
    assert_eq!(
        report["user"]["policies"],
        json!(["default", "works"]),
        "{report:#?}"
    );
    assert_eq!(report["ok"], true, "{report:#?}");
}

/// Whoever may make groups somewhere in the directory chooses their names.
#[test]
fn a_group_that_is_named_as_anothers_sid_gives_nobody_what_is_mapped_to_the_sid() {
    let ad = ad::own_ad();
    let engineers = ad.sid_of("engineers").unwrap();
    ad.add_user("taker", "Passw0rd.taker").unwrap();
    let named_so = format!("CN={engineers},{}", ad.group_dn());
    ad.modify_ldif(&format!(
        "dn: {named_so}\nchangetype: add\nobjectClass: group\nsAMAccountName: taken\nmember: {}\n",
        ad.dn_of("taker").unwrap()
    ))
    .unwrap();
    let server = ad::server(&ad);
    let root = server.root();
    ad::set_up(&server, &ad, json!({}), json!({}));
    map_group(&root, &engineers, "default,works");
    for source in ["ldap", "pac", "ldap+pac"] {
        root.post("auth/kerberos/config", json!({"group_source": source}));
        let ticket = ad.kinit_as("taker").unwrap();
        let login = server
            .client()
            .request("POST", "auth/kerberos/login")
            .header("Authorization", &ad::negotiate(&ad, &ticket))
            .json(&json!({"show_groups": true}))
            .send();
        let shown = login.clone().expect(200).data();
        assert!(
            shown["groups"].to_string().contains(&engineers),
            "{shown:?}"
        );
        assert_eq!(policies(login), ["default"], "{source}");
    }
}

#[test]
fn pac_unverified_a_ticket_without_a_pac_is_refused_where_the_pac_is_the_only_source() {
    // A realm whose KDC writes no groups.
    let realm = obol_tests::realm();
    let server = obol_tests::kerberos::kerberized();
    let root = server.root();
    let config = json!({"group_source": "pac"});
    obol_tests::kerberos::accepted(root.post("auth/kerberos/config", config));
    let header = obol_tests::kerberos::negotiate(realm, &obol_tests::ticket("grace"));
    let refused = login_at(&server, "kerberos", &header);
    refused.expect(403);
    // With LDAP beside it, LDAP alone speaks.
    let config = json!({"group_source": "ldap+pac"});
    obol_tests::kerberos::accepted(root.post("auth/kerberos/config", config));
    let header = obol_tests::kerberos::negotiate(realm, &obol_tests::ticket("grace"));
    let login = login_at(&server, "kerberos", &header);
    assert!(policies(login).contains(&"works".to_owned()));
}

/// Without a PAC a ticket names whom its client asked for; `admin$` may ask as `admin`.
#[test]
fn pac_unverified_a_ticket_without_a_pac_is_refused_where_one_is_required() {
    let ad = ad::own_ad();
    let server = ad::server(&ad);
    ad::set_up(&server, &ad, json!({"require_pac": true}), json!({}));
    let root = server.root();
    let header = || ad::negotiate(&ad, &ad.kinit_as("grace").unwrap());
    login_at(&server, "kerberos", &header()).expect(200);
    // From now on the KDC writes none into tickets for this account.
    ad.control(SERVICE_ACCOUNT, |flags| flags | NO_AUTH_DATA_REQUIRED)
        .unwrap();
    let refused = login_at(&server, "kerberos", &header()).expect(403);
    assert!(refused.errors()[0].starts_with("the ticket does not say enough about its user"));
    assert!(server.log().contains("require_pac is on"));
    // What a login without it costs, the diagnosis says.
    let body = json!({"require_pac": false});
    root.post("auth/kerberos/config", body).expect(204);
    login_at(&server, "kerberos", &header()).expect(200);
    let body = json!({"service": "HTTP/localhost", "authorization": header()});
    let report = root.post("auth/kerberos/diagnose", body).expect(200).data();
    let steps = report["steps"].as_array().unwrap();
    let account = steps.iter().find(|step| step["name"] == "account").unwrap();
    assert_eq!(account["status"], "warning", "{report:#?}");
    let mend = account["mend"].as_str().unwrap();
    assert!(mend.contains("require_pac"), "{mend}");
}

#[test]
fn a_login_shows_its_groups_to_who_asks() {
    let server = server_with(json!({"group_source": "pac"}), json!({}));
    let tickets = ad().kinit_as("grace").unwrap();
    let login = |body: Value| {
        server
            .client()
            .request("POST", "auth/kerberos/login")
            .header("Authorization", &ad::negotiate(ad(), &tickets))
            .json(&body)
            .send()
            .expect(200)
            .json()
    };
    assert_eq!(login(json!({}))["data"], Value::Null);
    let shown = &login(json!({"show_groups": true}))["data"];
    assert_eq!(shown["groups"], json!(["all-hands", "engineers", "staff"]));
    assert_eq!(shown["source"], "pac");
    assert_eq!(shown["user_sid"], json!(ad().sid_of("grace").unwrap()));
}

#[test]
fn decode_pac_cannot_be_off_where_the_pac_is_needed() {
    let server = server_with(json!({}), json!({}));
    let root = server.root();
    for (body, field) in [
        (
            json!({"group_source": "pac", "decode_pac": false}),
            "decode_pac",
        ),
        (
            json!({"require_pac": true, "decode_pac": false}),
            "decode_pac",
        ),
        (json!({"group_source": "kerberos"}), "group_source"),
        (
            json!({"trusted_domain_sids": "S-1-5-x"}),
            "trusted_domain_sids",
        ),
        // A group, a domain of nobody, everything.
        (
            json!({"trusted_domain_sids": "S-1-5-21-1-2-3-512"}),
            "trusted_domain_sids",
        ),
        (
            json!({"trusted_domain_sids": "S-1-5-32"}),
            "trusted_domain_sids",
        ),
        (
            json!({"trusted_domain_sids": "S-1-5"}),
            "trusted_domain_sids",
        ),
        (json!({"allowed_realms": "*"}), "allowed_realms"),
        (json!({"channel_bindings": "maybe"}), "channel_bindings"),
        (
            json!({"allowed_enctypes": "des-cbc-crc"}),
            "allowed_enctypes",
        ),
        (json!({"clock_skew": "1h"}), "clock_skew"),
    ] {
        let refused = root.post("auth/kerberos/config", body.clone());
        refused.expect(400);
        let refused = root.post("auth/kerberos/config", body.clone());
        assert!(
            refused.errors()[0].starts_with(field),
            "{body}: {:?}",
            refused.errors()
        );
    }
    let read = root.get("auth/kerberos/config").expect(200).data();
    assert_eq!(read["group_source"], "ldap");
}
