//! The realm as its users see it.
#![allow(clippy::unwrap_used)]

use obol_testbed::{Realm, RealmOptions, Transport};

#[test]
fn a_user_logs_in() {
    let t = std::time::Instant::now();
    let realm = Realm::start(RealmOptions::default()).unwrap();
    eprintln!("{:?}", t.elapsed());
    let cc = realm.kinit("grace").unwrap();
    realm.kdc.service_ticket(&cc, "HTTP/localhost").unwrap();
    for t in [Transport::Plain, Transport::StartTls, Transport::Ldaps] {
        eprintln!(
            "{:?}",
            realm.ldap.whoami(
                "uid=grace,ou=Users,dc=example,dc=com",
                "grace-password",
                t,
                &realm.ldap.ca_file()
            )
        );
        eprintln!(
            "{:?}",
            realm.ldap.whoami(
                "uid=grace,ou=Users,dc=example,dc=com",
                "grace-password",
                t,
                &realm.ldap.other_ca_file()
            )
        );
    }
    eprintln!(
        "{}",
        realm
            .ldap
            .search("(uid=*r*)", &["memberOf", "uid"])
            .unwrap()
    );
    eprintln!("{}", realm.ldap.connections_seen().unwrap());
}
