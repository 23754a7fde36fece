//! What is remembered of the directory, and for how long.

use std::time::{Duration, Instant};

use obol_tests::ad;
use obol_tests::eventually;
use obol_tests::kerberos::{accepted, login_at, policies};
use serde_json::json;

#[test]
fn group_gone_a_user_moved_out_of_a_group_loses_its_policy_within_cache_ttl() {
    let ad = ad::own_ad();
    let server = ad::server(&ad);
    ad::set_up(&server, &ad, json!({}), json!({"cache_ttl": "3s"}));
    let grace = ad.kinit_as("grace").unwrap();
    let log_in = || policies(login_at(&server, "kerberos", &ad::negotiate(&ad, &grace)));
    let before = log_in();
    assert!(before.contains(&"engineers".to_owned()), "{before:?}");
    ad.remove_member("engineers", "grace").unwrap();
    let moved = Instant::now();
    eventually("the policy goes", || {
        (log_in() == ["default"]).then_some(())
    });
    // What was remembered at the move may be used for three seconds; curl and a search come on top.
    assert!(
        moved.elapsed() < Duration::from_secs(8),
        "{:?}",
        moved.elapsed()
    );
}

#[test]
fn what_is_remembered_is_counted_and_can_be_forgotten() {
    let ad = ad::own_ad();
    let server = ad::server(&ad);
    ad::set_up(&server, &ad, json!({}), json!({"cache_ttl": "1h"}));
    let root = server.root();
    let grace = ad.kinit_as("grace").unwrap();
    let log_in = || policies(login_at(&server, "kerberos", &ad::negotiate(&ad, &grace)));
    for _ in 0..2 {
        log_in();
    }
    let login = login_at(&server, "kerberos", &ad::negotiate(&ad, &grace)).expect(200);
    let token = server.client().with_token(login.client_token());
    let users = root.get("auth/kerberos/cache").expect(200).data()["users"].clone();
    assert_eq!(
        (&users["misses"], &users["hits"], &users["entries"]),
        (&json!(1), &json!(2), &json!(1))
    );
    ad.remove_member("engineers", "grace").unwrap();
    assert!(
        log_in().contains(&"engineers".to_owned()),
        "it is remembered for an hour"
    );
    // A token that lived on by what is remembered would have its policies for a lifetime more.
    token.post("auth/token/renew-self", json!({})).expect(400);
    let spelled = format!("auth/kerberos/cache/GRACE@{}", ad.realm());
    root.delete(&spelled).expect(204);
    assert_eq!(log_in(), ["default"]);
    ad.add_member("engineers", "grace").unwrap();
    root.delete("auth/kerberos/cache").expect(204);
    assert!(log_in().contains(&"engineers".to_owned()));
    // A configuration that is written anew forgets too.
    ad.remove_member("engineers", "grace").unwrap();
    accepted(root.post("auth/kerberos/config/ldap", json!({"cache_ttl": "2h"})));
    assert_eq!(log_in(), ["default"]);
}
