//! Users of a domain that ours trusts: who may log in, under which name, and whose word about groups counts.

use obol_testbed::samba::people::Scope;
use obol_testbed::{AdOptions, SambaAd};
use obol_tests::ad;
use obol_tests::kerberos::{accepted, login_at, map_group, policies};
use serde_json::{Value, json};

#[test]
fn realm_confusion_a_trusted_domains_user_is_nobody_here_unless_it_is_said() {
    let (ours, theirs) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| SambaAd::start(AdOptions::realm("OTHER.EXAMPLE.COM")).unwrap());
        (ad::own_ad(), theirs.join().unwrap())
    });
    ours.trust(&theirs).unwrap();
    ours.add_group_of(Scope::DomainLocal, "visitors", &[])
        .unwrap();
    let stranger_sid = theirs.sid_of("joan").unwrap();
    ours.add_foreign_member("visitors", &stranger_sid).unwrap();

    let server = ad::server(&ours);
    ad::set_up(&server, &ours, json!({"group_source": "pac"}), json!({}));
    let root = server.root();
    map_group(&root, "visitors", "guest");
    map_group(&root, &theirs.sid_of("scientists").unwrap(), "partner");
    let allow = |body: Value| drop(accepted(root.post("auth/kerberos/config", body)));
    let password = theirs.password("joan").unwrap();
    let stranger = ours.kinit("joan@OTHER.EXAMPLE.COM", &password).unwrap();
    let log_in = || login_at(&server, "kerberos", &ad::negotiate(&ours, &stranger));

    log_in().expect(400);
    allow(json!({"allowed_realms": "OTHER.EXAMPLE.COM"}));
    let login = log_in().expect(200);
    assert_eq!(
        login.clone().auth()["metadata"]["user"],
        "joan@OTHER.EXAMPLE.COM"
    );
    assert_eq!(
        policies(login),
        ["default"],
        "nobody's word about groups counts yet"
    );
    allow(json!({"trusted_domain_sids": ours.domain_sid().unwrap()}));
    assert_eq!(policies(log_in()), ["default", "guest"]);
    allow(
        json!({"trusted_domain_sids": [ours.domain_sid().unwrap(), theirs.domain_sid().unwrap()]}),
    );
    assert_eq!(policies(log_in()), ["default", "guest", "partner"]);

    // Our own joan is another person all the while.
    let ours_joan = ad::log_in(&server, &ours, "kerberos", "joan").expect(200);
    assert_eq!(ours_joan.clone().auth()["metadata"]["user"], "joan");
    assert_eq!(
        policies(ours_joan),
        ["all-hands", "default", "scientists", "staff"]
    );
}
