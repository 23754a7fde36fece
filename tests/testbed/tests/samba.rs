//! What the Active Directory of a test bed shows to its clients, and what is left of it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;
use std::thread;

use obol_testbed::keytab::{AES256_CTS_HMAC_SHA1_96, ARCFOUR_HMAC};
use obol_testbed::samba::escape_filter;
use obol_testbed::samba::people::{
    AWKWARD_NAMES, CROWD, CROWD_SIZE, DISABLED, EXPIRED, HTTP_SERVICE, SERVICE_ACCOUNT,
    SERVICE_PASSWORD, Scope, TEAMS, USERS,
};
use obol_testbed::{AdOptions, CCache, Keytab, MitOptions, MitRealm, SambaAd};

#[test]
fn every_user_gets_a_ticket_but_those_who_may_not() {
    let ad = start();
    for user in USERS {
        let ticket = ad.kinit_as(user.name);
        match user.name {
            DISABLED => assert_said(ticket, "credentials have been revoked"),
            EXPIRED => assert_said(ticket, "Password expired"),
            _ => drop(ticket.unwrap()),
        }
    }
    ad.kinit_with(&["-E"], "joan.clarke@ad.example.com", "joan-password")
        .unwrap();
    assert_said(ad.kinit("grace", "wrong"), "Password incorrect");
    assert_said(
        ad.kinit("nobody", "wrong"),
        "not found in Kerberos database",
    );
}

#[test]
fn each_way_to_encrypt_and_to_bind_leads_to_the_directory() {
    let ad = start();
    let dn = ad.dn_of(SERVICE_ACCOUNT).unwrap();
    let by_password = ["-x", "-D", &dn, "-w", SERVICE_PASSWORD];
    for url in [
        &["-H", &ad.ldaps_url()] as &[_],
        &["-ZZ", "-H", &ad.ldap_url()],
    ] {
        assert_eq!(
            read_itself(&ad, &ad.ca_file(), None, &[url, &by_password].concat()).unwrap(),
            SERVICE_ACCOUNT
        );
        let other_ca = read_itself(
            &ad,
            &ad.other_ca_file(),
            None,
            &[url, &by_password].concat(),
        );
        let refusal = other_ca.unwrap_err();
        // StartTLS's failure says no more than this.
        assert!(
            refusal.contains("Connect error") || refusal.contains("Can't contact"),
            "{refusal}"
        );
    }
    let plain = read_itself(
        &ad,
        &ad.ca_file(),
        None,
        &[&["-H", &ad.ldap_url()], &by_password as &[_]].concat(),
    );
    assert!(
        plain
            .unwrap_err()
            .contains("Strong(er) authentication required")
    );

    let ticket = ad.kinit_as(SERVICE_ACCOUNT).unwrap();
    let by_ticket = ["-Q", "-N", "-Y", "GSSAPI"];
    for url in [
        &["-H", &ad.ldap_url()] as &[_],
        &["-O", "maxssf=0", "-H", &ad.ldaps_url()],
    ] {
        let who = read_itself(
            &ad,
            &ad.ca_file(),
            Some(&ticket),
            &[&by_ticket, url].concat(),
        );
        assert_eq!(who.unwrap(), SERVICE_ACCOUNT);
    }
}

#[test]
fn nested_groups_are_found_by_chain_and_by_token() {
    let ad = start();
    let grace = ad.dn_of("grace").unwrap();
    let chain = format!("(&(objectClass=group)(member:1.2.840.113556.1.4.1941:={grace}))");
    assert_eq!(names(&ad, &chain), ["all-hands", "engineers", "staff"]);
    let joan = ad.dn_of("joan").unwrap();
    assert!(
        joan.starts_with("CN=Clarke\\, Joan,OU=People,DC=ad,"),
        "{joan}"
    );
    let direct = format!("(&(objectClass=group)(member={}))", escape_filter(&joan));
    assert_eq!(
        names(&ad, &direct),
        ["newsletter", "research-and-more", "scientists"]
    );
    assert_eq!(
        ad.search("(cn=team-*)", &["dn"])
            .unwrap()
            .matches("dn: ")
            .count(),
        TEAMS
    );
    let many = ad.attribute("many", "objectSid").unwrap();
    assert_eq!(many, ad.sid_of("many").unwrap());
    assert!(many.starts_with(&ad.domain_sid().unwrap()));
}

#[test]
fn a_crowd_is_shown_in_pieces() {
    let ad = start();
    let dn = ad.dn_of("zoe").unwrap();
    let bind = [
        "-x",
        "-LLL",
        "-H",
        &ad.ldaps_url(),
        "-D",
        &dn,
        "-w",
        "zoe-password",
        "-b",
        &ad.base_dn(),
    ];
    let ask = |more: &[&str]| {
        let output = ad
            .ldap_command("ldapsearch", &ad.ca_file())
            .args(bind)
            .args(more)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let crowd = format!("(cn={CROWD})");
    let piece = ask(&[&crowd, "member;range=0-999"]);
    assert_eq!(piece.matches("member;range=0-999: ").count(), 1000);
    let rest = ask(&[&crowd, "member;range=1000-*"]);
    assert_eq!(
        rest.matches("member;range=1000-*: ").count(),
        CROWD_SIZE + 1 - 1000
    );
    let paged = ask(&["-E", "pr=500/noprompt", "(cn=crowd-*)", "cn"]);
    assert_eq!(paged.matches("\ncn: ").count(), CROWD_SIZE);
}

#[test]
fn a_keytab_holds_the_account_alone_and_opens_its_services_tickets() {
    let ad = start();
    let keytab = Keytab::parse(&ad.keytab(SERVICE_ACCOUNT).unwrap()).unwrap();
    assert!(
        keytab
            .entries
            .iter()
            .all(|entry| entry.principal() == "vault_svc@AD.EXAMPLE.COM")
    );
    let kvno = ad.kvno(SERVICE_ACCOUNT).unwrap();
    assert!(keytab.entries.iter().all(|entry| entry.kvno == kvno));
    let enctypes: Vec<u16> = keytab.entries.iter().map(|entry| entry.enctype).collect();
    assert!(enctypes.contains(&AES256_CTS_HMAC_SHA1_96), "{enctypes:?}");

    let file = ad.dir().join("vault.keytab");
    fs::write(&file, ad.keytab(SERVICE_ACCOUNT).unwrap()).unwrap();
    ad.kinit_keytab(SERVICE_ACCOUNT, &file).unwrap();
    let grace = ad.kinit_as("grace").unwrap();
    let ticket = |keytab: &[u8]| {
        fs::write(&file, keytab).unwrap();
        let mut kvno = ad.command("kvno");
        said(
            kvno.envs(grace.env())
                .arg("-k")
                .arg(&file)
                .arg(HTTP_SERVICE),
        )
    };
    assert!(
        ticket(&ad.keytab_as(SERVICE_ACCOUNT, HTTP_SERVICE).unwrap())
            .unwrap()
            .contains("keytab entry valid")
    );
}

#[test]
fn msktutil_makes_a_keytab_over_the_network_that_opens_tickets() {
    let ad = start();
    let administrator = ad.kinit_as("Administrator").unwrap();
    let file = ad.dir().join("vault.keytab");
    let mut msktutil = ad.command("msktutil");
    msktutil
        .envs(administrator.env())
        .args(["create", "--use-service-account", "--no-reverse-lookups"])
        .args(["--account-name", SERVICE_ACCOUNT])
        .args(["--service", HTTP_SERVICE, "--enctypes", "24"])
        .args(["--realm", ad.realm(), "--base", "OU=Services"])
        .args(["--server", &ad.address().to_string(), "--keytab"])
        .arg(&file)
        .current_dir(ad.dir());
    let before = ad.kvno(SERVICE_ACCOUNT).unwrap();
    said(&mut msktutil).unwrap();
    assert_eq!(ad.kvno(SERVICE_ACCOUNT).unwrap(), before + 1);
    let grace = ad.kinit_as("grace").unwrap();
    let mut kvno = ad.command("kvno");
    let kvno = kvno.envs(grace.env()).arg("-k").arg(&file);
    assert!(
        said(kvno.arg(HTTP_SERVICE))
            .unwrap()
            .contains("keytab entry valid")
    );
}

#[test]
fn a_new_password_makes_a_new_key_version_beside_the_old() {
    let ad = start();
    let before = ad.kvno(SERVICE_ACCOUNT).unwrap();
    let grace = ad.kinit_as("grace").unwrap();
    assert_eq!(ad.service_ticket(&grace, HTTP_SERVICE).unwrap(), before);
    let after = ad
        .set_password(SERVICE_ACCOUNT, "another password")
        .unwrap();
    assert_eq!(after, before + 1);
    let joan = ad.kinit_as("joan").unwrap();
    assert_eq!(ad.service_ticket(&joan, HTTP_SERVICE).unwrap(), after);
    ad.kinit_as(SERVICE_ACCOUNT).unwrap();
    let versions = |bytes: Vec<u8>| {
        let mut versions: Vec<u32> = Keytab::parse(&bytes)
            .unwrap()
            .entries
            .iter()
            .map(|entry| entry.kvno)
            .collect();
        versions.dedup();
        versions
    };
    assert_eq!(versions(ad.keytab(SERVICE_ACCOUNT).unwrap()), [after]);
    assert_eq!(
        versions(ad.keytab_of_versions(SERVICE_ACCOUNT).unwrap()),
        [before, after]
    );
}

#[test]
fn the_tickets_encryption_type_is_the_accounts() {
    let ad = start();
    let enctype = || {
        let grace = ad.kinit_as("grace").unwrap();
        ad.service_ticket(&grace, HTTP_SERVICE).unwrap();
        let shown = said(ad.command("klist").envs(grace.env()).arg("-e")).unwrap();
        let line = shown
            .lines()
            .skip_while(|line| !line.contains(HTTP_SERVICE))
            .find(|line| line.contains("tkt"));
        line.unwrap().trim().rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(enctype(), "aes256-cts-hmac-sha1-96");
    ad.set_enctypes(SERVICE_ACCOUNT, &[ARCFOUR_HMAC]).unwrap();
    assert_eq!(enctype(), "DEPRECATED:arcfour-hmac");
    ad.set_enctypes(SERVICE_ACCOUNT, &[]).unwrap();
    assert_eq!(enctype(), "DEPRECATED:arcfour-hmac");
}

#[test]
fn a_service_name_is_one_accounts_unless_the_rules_are_bypassed() {
    let ad = start();
    let spn = "HTTP/localhost:8200";
    let ticket = || ad.service_ticket(&ad.kinit_as("grace")?, spn);
    assert_said(ticket(), "not found in Kerberos database");
    ad.add_spn(SERVICE_ACCOUNT, spn).unwrap();
    ticket().unwrap();
    ad.add_user("other_svc", "other-password").unwrap();
    assert_said(ad.add_spn("other_svc", spn), "conflict");
    ad.add_duplicate_spn("other_svc", spn).unwrap();
    assert_said(ticket(), "not found in Kerberos database");
    ad.remove_spn("other_svc", spn).unwrap();
    ticket().unwrap();
    ad.remove_spn(SERVICE_ACCOUNT, spn).unwrap();
    assert_said(ticket(), "not found in Kerberos database");
}

#[test]
fn accounts_and_groups_change_while_the_domain_runs() {
    let ad = start();
    ad.add_user("alan", "alan-password").unwrap();
    ad.kinit_as("alan").unwrap();
    ad.disable("alan").unwrap();
    assert_said(ad.kinit_as("alan"), "credentials have been revoked");
    ad.enable("alan").unwrap();
    ad.kinit_as("alan").unwrap();
    ad.expire_password("alan").unwrap();
    assert_said(ad.kinit_as("alan"), "Password expired");

    ad.add_group("codebreakers", &["alan", "joan"]).unwrap();
    ad.add_member("staff", "codebreakers").unwrap();
    let of_alan = || {
        let alan = ad.dn_of("alan").unwrap();
        names(&ad, &format!("(member:1.2.840.113556.1.4.1941:={alan})"))
    };
    assert_eq!(of_alan(), ["all-hands", "codebreakers", "staff"]);
    let sid = ad.sid_of("codebreakers").unwrap();
    ad.rename_group("codebreakers", "hut 8").unwrap();
    assert_eq!(of_alan(), ["all-hands", "hut 8", "staff"]);
    assert_eq!(ad.sid_of("hut 8").unwrap(), sid);
    assert!(ad.dn_of("hut 8").unwrap().starts_with("CN=hut 8,"));
    ad.remove_member("hut 8", "alan").unwrap();
    assert!(of_alan().is_empty());
    ad.remove("hut 8").unwrap();
    ad.remove("alan").unwrap();
    assert_said(
        ad.kinit("alan", "alan-password"),
        "not found in Kerberos database",
    );
    for name in AWKWARD_NAMES {
        ad.remove_member("awkward", name).unwrap();
    }
}

#[test]
fn a_stopped_domain_controller_comes_back_with_its_contents() {
    let ad = start();
    ad.add_user("alan", "alan-password").unwrap();
    ad.stop().unwrap();
    assert!(ad.pid().is_none());
    assert_said(ad.kinit_as("alan"), "Cannot contact any KDC");
    ad.start_again().unwrap();
    ad.kinit_as("alan").unwrap();
    ad.pause().unwrap();
    ad.resume().unwrap();
    ad.kinit_as("alan").unwrap();
}

#[test]
fn users_of_a_trusted_domain_reach_our_services_and_may_be_in_our_groups() {
    let (one, two) = thread::scope(|scope| {
        let one = scope.spawn(|| SambaAd::start(AdOptions::realm("OTHER.EXAMPLE.COM")).unwrap());
        (start(), one.join().unwrap())
    });
    one.trust(&two).unwrap();
    one.add_group_of(Scope::DomainLocal, "guests-of-one", &[])
        .unwrap();
    one.add_foreign_member("guests-of-one", &two.sid_of("scientists").unwrap())
        .unwrap();
    let members = one.search("(cn=guests-of-one)", &["member"]).unwrap();
    assert!(
        members.contains("CN=ForeignSecurityPrincipals"),
        "{members}"
    );
    for (here, there) in [(&one, &two), (&two, &one)] {
        let joan = here
            .kinit(&format!("joan@{}", there.realm()), "joan-password")
            .unwrap();
        here.service_ticket(&joan, HTTP_SERVICE).unwrap();
        let shown = said(here.command("klist").envs(joan.env())).unwrap();
        let krbtgt = format!("krbtgt/{}@{}", here.realm(), there.realm());
        assert!(shown.contains(&krbtgt), "{shown}");
    }
}

#[test]
fn our_users_reach_services_of_an_mit_realm_that_trusts_us() {
    let ad = start();
    let mit = MitRealm::start(MitOptions::default()).unwrap();
    mit.add_service(HTTP_SERVICE).unwrap();
    mit.add_principal("grace", "grace-password").unwrap();
    ad.trusted_by(&mit).unwrap();
    let joan = mit.kinit("joan@AD.EXAMPLE.COM", "joan-password").unwrap();
    mit.service_ticket(&joan, HTTP_SERVICE).unwrap();
    let grace = ad.kinit("grace@EXAMPLE.COM", "grace-password").unwrap();
    assert!(ad.service_ticket(&grace, HTTP_SERVICE).is_err());
}

#[test]
fn two_domain_controllers_stand_side_by_side_and_leave_nothing() {
    let (one, two) = thread::scope(|scope| {
        let one = scope.spawn(start);
        (start(), one.join().unwrap())
    });
    assert_ne!(one.address(), two.address());
    one.add_user("alan", "alan-password").unwrap();
    one.kinit_as("alan").unwrap();
    assert_said(
        two.kinit("alan", "alan-password"),
        "not found in Kerberos database",
    );
    let (dir, pid) = (one.dir().to_owned(), one.pid().unwrap());
    drop(one);
    assert!(!dir.exists() && !is_alive(pid));
    two.kinit_as("grace").unwrap();
}

#[test]
fn a_domain_is_provisioned_once_for_all_who_race_for_it_and_survives_a_killed_one() {
    let cache = tempfile::tempdir().unwrap();
    // What a process leaves that was killed while it provisioned.
    fs::create_dir(cache.path().join("RACE.TEST.part")).unwrap();
    let options = || AdOptions {
        cache: Some(cache.path().to_owned()),
        ..AdOptions::realm("RACE.TEST")
    };
    let sids: Vec<String> = thread::scope(|scope| {
        let starts: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let ad = SambaAd::start(options()).unwrap();
                    ad.kinit_as("grace").unwrap();
                    ad.domain_sid().unwrap()
                })
            })
            .collect();
        starts
            .into_iter()
            .map(|start| start.join().unwrap())
            .collect()
    });
    assert_eq!(sids[0], sids[1]);
    let kept: Vec<_> = fs::read_dir(cache.path())
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert_eq!(kept.len(), 2, "the domain and a lock: {kept:?}");
}

fn start() -> SambaAd {
    SambaAd::start(AdOptions::default()).unwrap()
}

/// Binds as the service's account, and reads the account's own name.
fn read_itself(
    ad: &SambaAd,
    ca: &std::path::Path,
    ticket: Option<&CCache>,
    args: &[&str],
) -> Result<String, String> {
    let dn = ad.dn_of(SERVICE_ACCOUNT).unwrap();
    let mut command = ad.ldap_command("ldapsearch", ca);
    command
        .envs(ticket.into_iter().flat_map(CCache::env))
        .args(["-LLL", "-b", &dn])
        .args(args)
        .arg("sAMAccountName");
    let shown = said(&mut command)?;
    let name = shown
        .lines()
        .find_map(|line| line.strip_prefix("sAMAccountName: "));
    Ok(name.unwrap_or_default().to_owned())
}

/// sAMAccountNames, sorted.
fn names(ad: &SambaAd, filter: &str) -> Vec<String> {
    let found = ad.search(filter, &["sAMAccountName"]).unwrap();
    let mut names: Vec<String> = found
        .lines()
        .filter_map(|line| line.strip_prefix("sAMAccountName: "))
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

fn said(command: &mut Command) -> Result<String, String> {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

#[track_caller]
fn assert_said<T>(result: obol_testbed::Result<T>, what: &str) {
    let error = result
        .err()
        .map(|error| error.to_string())
        .unwrap_or_default();
    assert!(error.contains(what), "{what:?} is not in {error:?}");
}

fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['Z', 'X']))
}
