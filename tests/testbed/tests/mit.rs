//! What the KDC of a test bed does for its users.
#![allow(clippy::unwrap_used)]

use obol_testbed::keytab::{AES128_CTS_HMAC_SHA1_96, AES256_CTS_HMAC_SHA1_96};
use obol_testbed::{CCache, Error, KeepOldKeys, Keytab, MitOptions, MitRealm, ShiftedClock};

const HTTP: &str = "HTTP/localhost";

#[test]
fn a_user_gets_a_ticket_with_the_right_password_and_only_with_it() {
    let realm = realm_with_grace();
    realm.kinit("grace", "grace-password").unwrap();
    let refused = realm.kinit("grace", "wrong").unwrap_err();
    assert!(
        refused.to_string().contains("Password incorrect"),
        "{refused}"
    );
    assert!(realm.kinit("nobody", "grace-password").is_err());
}

#[test]
fn the_keytab_of_a_service_opens_the_tickets_for_it_and_a_wrong_key_does_not() {
    let realm = realm_with_grace();
    let grace = realm.kinit("grace", "grace-password").unwrap();
    let keytab = realm.keytab(&[HTTP]).unwrap();
    assert!(opens(&realm, &grace, &keytab));

    let parsed = Keytab::parse(&keytab).unwrap();
    assert_eq!(parsed.to_bytes(), keytab, "written as it was read");
    assert!(
        parsed
            .entries
            .iter()
            .all(|entry| entry.principal() == "HTTP/localhost@EXAMPLE.COM" && entry.kvno == 1)
    );
    assert!(!opens(
        &realm,
        &grace,
        &parsed.clone().with_wrong_keys().to_bytes()
    ));
    let renumbered = Keytab::parse(&parsed.with_kvno(700).to_bytes()).unwrap();
    assert!(renumbered.entries.iter().all(|entry| entry.kvno == 700));
}

#[test]
fn a_keytab_can_be_thinned_to_chosen_encryption_types() {
    let realm = realm_with_grace();
    let grace = realm.kinit("grace", "grace-password").unwrap();
    let aes256 = realm
        .keytab_with_enctypes(&[HTTP], &[AES256_CTS_HMAC_SHA1_96])
        .unwrap();
    let aes128 = realm
        .keytab_with_enctypes(&[HTTP], &[AES128_CTS_HMAC_SHA1_96])
        .unwrap();
    assert_eq!(Keytab::parse(&aes128).unwrap().entries.len(), 1);
    // The KDC seals with the strongest key that it has.
    assert!(opens(&realm, &grace, &aes256));
    assert!(!opens(&realm, &grace, &aes128));
}

#[test]
fn a_service_can_have_keys_of_one_encryption_type() {
    let realm = realm_with_grace();
    realm
        .add_service_with_enctypes("weak/localhost", &["aes128-cts-hmac-sha1-96"])
        .unwrap();
    let keytab = Keytab::parse(&realm.keytab(&["weak/localhost"]).unwrap()).unwrap();
    let types: Vec<u16> = keytab.entries.iter().map(|entry| entry.enctype).collect();
    assert_eq!(types, [AES128_CTS_HMAC_SHA1_96]);
    assert_eq!(
        realm
            .change_enctypes("weak/localhost", &["aes256-cts-hmac-sha1-96"])
            .unwrap(),
        2
    );
}

#[test]
fn changed_keys_have_the_next_version_and_may_keep_the_old_ones() {
    let realm = realm_with_grace();
    let grace = realm.kinit("grace", "grace-password").unwrap();
    assert_eq!(realm.service_ticket(&grace, HTTP).unwrap(), 1);

    assert_eq!(realm.change_key(HTTP, KeepOldKeys::Yes).unwrap(), 2);
    assert!(
        opens(&realm, &grace, &realm.keytab(&[HTTP]).unwrap()),
        "the old key is still there"
    );

    assert_eq!(realm.change_key(HTTP, KeepOldKeys::No).unwrap(), 3);
    assert!(
        !opens(&realm, &grace, &realm.keytab(&[HTTP]).unwrap()),
        "the old key is gone"
    );
    let fresh = realm.kinit("grace", "grace-password").unwrap();
    assert_eq!(realm.service_ticket(&fresh, HTTP).unwrap(), 3);
}

#[test]
fn a_service_logs_in_with_its_keytab() {
    let realm = realm_with_grace();
    let file = realm.dir().join("service.keytab");
    std::fs::write(&file, realm.keytab(&[HTTP]).unwrap()).unwrap();
    realm.kinit_keytab(HTTP, &file).unwrap();
}

#[test]
fn a_kdc_that_stops_comes_back_on_the_same_port_with_its_principals() {
    let realm = realm_with_grace();
    let grace = realm.kinit("grace", "grace-password").unwrap();
    realm.service_ticket(&grace, HTTP).unwrap();
    let (address, keytab) = (realm.kdc_addr(), realm.keytab(&[HTTP]).unwrap());

    realm.stop_kdc().unwrap();
    assert!(realm.kinit("grace", "grace-password").is_err());
    assert!(
        opens(&realm, &grace, &keytab),
        "a ticket in hand needs no KDC"
    );

    realm.start_kdc().unwrap();
    assert_eq!(realm.kdc_addr(), address);
    realm.kinit("grace", "grace-password").unwrap();
}

#[test]
fn realms_run_side_by_side_and_share_nothing_even_under_one_name() {
    let realms: Vec<MitRealm> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..4).map(|_| scope.spawn(realm_with_grace)).collect();
        starting
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let (ours, theirs) = (&realms[0], &realms[1]);
    let grace = theirs.kinit("grace", "grace-password").unwrap();
    assert!(!opens(theirs, &grace, &ours.keytab(&[HTTP]).unwrap()));
    assert!(
        ours.service_ticket(&grace, "krbtgt/EXAMPLE.COM").is_ok(),
        "it is in the cache already"
    );
    assert!(ours.service_ticket(&grace, HTTP).is_ok(), "so is this one");
    let fresh = theirs.kinit("grace", "grace-password").unwrap();
    assert!(
        ours.service_ticket(&fresh, HTTP).is_err(),
        "our KDC does not know their ticket"
    );
}

#[test]
fn a_user_of_a_trusted_realm_reaches_our_service_and_keeps_the_name_of_the_realm() {
    let ours = realm_with_grace();
    let theirs = MitRealm::start(MitOptions::realm("OTHER.REALM")).unwrap();
    theirs.add_principal("grace", "their-grace").unwrap();

    ours.know(&theirs).unwrap();
    let stranger = ours.kinit("grace@OTHER.REALM", "their-grace").unwrap();
    assert!(
        ours.service_ticket(&stranger, "HTTP/localhost@EXAMPLE.COM")
            .is_err(),
        "there is no trust yet"
    );

    ours.trust(&theirs).unwrap();
    let stranger = ours.kinit("grace@OTHER.REALM", "their-grace").unwrap();
    assert_eq!(
        ours.service_ticket(&stranger, "HTTP/localhost@EXAMPLE.COM")
            .unwrap(),
        1
    );
    let shown = ours.command("klist").envs(stranger.env()).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(
        shown.contains("Default principal: grace@OTHER.REALM"),
        "{shown}"
    );
    assert!(shown.contains("krbtgt/EXAMPLE.COM@OTHER.REALM"), "{shown}");
}

#[test]
fn a_program_under_a_shifted_clock_sees_the_shifted_time_and_its_changes() {
    let now = |env: &[(String, String)]| -> i64 {
        let output = std::process::Command::new("date")
            .arg("+%s")
            .envs(env.iter().cloned())
            .output()
            .unwrap();
        String::from_utf8(output.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    };
    let clock = ShiftedClock::new(600).unwrap();
    let ahead = now(&clock.env()) - now(&[]);
    assert!((598..=602).contains(&ahead), "{ahead} seconds ahead");
    clock.set(-3600).unwrap();
    let ahead = now(&clock.env()) - now(&[]);
    assert!((-3602..=-3598).contains(&ahead), "{ahead} seconds ahead");
}

#[test]
fn a_client_whose_clock_is_off_is_refused_by_the_kdc() {
    let options = MitOptions {
        libdefaults: vec![("kdc_timesync".into(), "0".into())],
        ..MitOptions::default()
    };
    let realm = MitRealm::start(options).unwrap();
    realm.add_principal("grace", "grace-password").unwrap();
    let clock = ShiftedClock::new(1200).unwrap();
    let mut kinit = realm.command("kinit");
    kinit
        .envs(clock.env())
        .arg("grace")
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = kinit.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"grace-password\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("Clock skew too great"),
        "{said}"
    );
}

#[test]
fn a_kdc_whose_clock_is_ahead_issues_tickets_that_are_not_valid_yet() {
    let realm = MitRealm::start(MitOptions {
        clock_shift: 3600,
        ..MitOptions::default()
    })
    .unwrap();
    realm.add_principal("grace", "grace-password").unwrap();
    let grace = realm.kinit("grace", "grace-password").unwrap();
    let shown = realm
        .command("sh")
        .envs(grace.env())
        .args(["-c", STARTS_IN])
        .output()
        .unwrap();
    let starts_in: i64 = String::from_utf8(shown.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!((3590..=3601).contains(&starts_in), "{starts_in} seconds");
}

/// Seconds until the first ticket in the cache starts to be valid.
const STARTS_IN: &str = r#"
start=$(klist | sed -n 's/^\([0-9/]* [0-9:]*\)  .*krbtgt.*/\1/p')
echo $(($(date -d "$start" +%s) - $(date +%s)))
"#;

#[test]
fn many_principals_are_added_at_once_and_a_failure_among_them_is_told() {
    let realm = realm_with_grace();
    let quoted = [
        ("jo an".to_owned(), "with \"quotes\" and \\"),
        ("\"ida\"".to_owned(), "x y"),
    ];
    realm.add_principals(&quoted).unwrap();
    realm.kinit("jo an", "with \"quotes\" and \\").unwrap();
    realm.kinit("\"ida\"", "x y").unwrap();
    let again = realm.add_principals(&[("new".to_owned(), "x"), ("grace".to_owned(), "x")]);
    assert!(matches!(again, Err(Error::Usage(_))), "{again:?}");
}

fn realm_with_grace() -> MitRealm {
    let realm = MitRealm::start(MitOptions::default()).unwrap();
    realm.add_principal("grace", "grace-password").unwrap();
    realm.add_service(HTTP).unwrap();
    realm
}

/// Whether the ticket for HTTP in the cache (or a new one) can be opened with the keytab.
fn opens(realm: &MitRealm, ccache: &CCache, keytab: &[u8]) -> bool {
    let file = realm.dir().join(format!("try-{}", keytab.len()));
    std::fs::write(&file, keytab).unwrap();
    let mut kvno = realm.command("kvno");
    kvno.envs(ccache.env()).arg("-k").arg(&file).arg(HTTP);
    kvno.output().unwrap().status.success()
}
