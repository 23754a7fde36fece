//! Ten thousand logins while the directory is killed and comes back: those that can succeed do, and nobody gets a
//! policy that is not theirs.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use obol_testbed::Realm;
use obol_tests::clients::python;
use obol_tests::kerberos::{
    self, config_payload, enable, kerberized_for, ldap_payload, login_at, own_realm, with,
};
use obol_tests::{Server, eventually};
use serde_json::json;

/// Whose logins, and the policies that are theirs. In each mount as many of each.
const USERS: [(&str, &[&str]); 3] = [
    ("grace", &["default", "works"]),
    ("joan", &["default", "lab"]),
    ("loner", &["default"]),
];
/// `asked` asks the directory at each login, `remembered` once for each user.
const MOUNTS: [&str; 2] = ["asked", "remembered"];
const LOGINS: usize = 10_000;
const CLIENTS: usize = 16;

/// One login to come.
struct Login {
    mount: &'static str,
    policies: &'static [&'static str],
    header: String,
}

#[test]
fn ten_thousand_logins_with_the_directory_killed_and_restarted_in_the_middle() {
    let realm = own_realm();
    let server = kerberized_for(&realm);
    let root = server.root();
    for mount in MOUNTS {
        let ttl = if mount == "asked" { "0" } else { "1h" };
        let ldap = with(ldap_payload(&realm), json!({ "cache_ttl": ttl }));
        enable(&root, mount, &config_payload(&realm), &ldap);
        for (group, policy) in [("engineers", "works"), ("scientists", "lab")] {
            let path = format!("auth/{mount}/groups/{group}");
            root.post(&path, json!({ "policies": policy })).expect(204);
        }
    }
    let logins = logins(&realm, &server);
    // Each user is known to the mount that remembers.
    for (user, _) in USERS {
        let header = kerberos::negotiate(&realm, &realm.kinit(user).unwrap());
        login_at(&server, "remembered", &header).expect(200);
    }

    let next = AtomicUsize::new(0);
    let refused = Mutex::new(BTreeMap::<(&str, u16), usize>::new());
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while let Some(login) = logins.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let reply = login_at(&server, login.mount, &login.header);
                    match reply.status {
                        200 => assert_eq!(kerberos::policies(reply), login.policies),
                        // The directory is away, or everybody waits for it.
                        status @ (502 | 503) => {
                            *refused
                                .lock()
                                .unwrap()
                                .entry((login.mount, status))
                                .or_default() += 1;
                        }
                        other => panic!("{other}: {}", reply.text()),
                    }
                }
            });
        }
        let past = |count: usize| {
            eventually("logins go on", || {
                (next.load(Ordering::Relaxed) >= count).then_some(())
            });
        };
        past(LOGINS / 4);
        realm.ldap.stop().unwrap();
        past(LOGINS / 2);
        realm.ldap.start_again().unwrap();
    });

    let refused = refused.into_inner().unwrap();
    let count = |mount: &str| -> usize {
        refused
            .iter()
            .filter(|((at, _), _)| *at == mount)
            .map(|(_, count)| count)
            .sum()
    };
    assert_eq!(count("remembered"), 0, "{refused:?}");
    // A quarter of the logins came while there was no directory; half of those asked it.
    assert!(count("asked") > 0, "{refused:?}");
    assert!(count("asked") < LOGINS * 3 / 8, "{refused:?}");
    // And all is as before.
    for (user, policies) in USERS {
        for mount in MOUNTS {
            let header = kerberos::negotiate(&realm, &realm.kinit(user).unwrap());
            let login = login_at(&server, mount, &header).expect(200);
            assert_eq!(kerberos::policies(login), policies);
        }
    }
}

/// Tickets made ahead, users and mounts in turn.
fn logins(realm: &Realm, server: &Server) -> Vec<Login> {
    let kinds: Vec<_> = MOUNTS
        .into_iter()
        .flat_map(|mount| USERS.map(|(user, policies)| (mount, user, policies)))
        .collect();
    let each = LOGINS.div_ceil(kinds.len());
    let code = format!("COUNT = {each}\n{NEGOTIATE}");
    let headers: Vec<Vec<String>> = kinds
        .iter()
        .map(|(_, user, _)| {
            let tickets = realm.kinit(user).unwrap();
            let said = python(realm, &tickets, server, &code).ok();
            said.text().lines().map(str::to_owned).collect()
        })
        .collect();
    (0..each)
        .flat_map(|nth| {
            let headers = &headers;
            kinds
                .iter()
                .enumerate()
                .map(move |(kind, (mount, _, policies))| Login {
                    mount,
                    policies,
                    header: headers[kind][nth].clone(),
                })
        })
        .collect()
}

const NEGOTIATE: &str = r#"
import base64, gssapi
name = gssapi.Name("HTTP@localhost", gssapi.NameType.hostbased_service)
mech = gssapi.OID.from_int_seq("1.3.6.1.5.5.2")
for _ in range(COUNT):
    token = gssapi.SecurityContext(name=name, mech=mech, usage="initiate").step()
    print("Negotiate " + base64.b64encode(token).decode())
"#;
