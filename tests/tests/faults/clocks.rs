//! Clocks that are ten minutes off. The server's is moved; for the ticket it is the same as a client that is off the
//! other way.

use obol_testbed::ShiftedClock;
use obol_testbed::realm::HTTP_SERVICE;
use obol_tests::kerberos::{config_payload, ldap_payload};
use obol_tests::{ServerOptions, realm, ticket};
use serde_json::json;

use super::story::{Site, mit};

const RESYNC: [&str; 2] = ["w32tm /resync", "chronyc makestep"];
const NTP: &str = "synchronise the clocks of client, KDC and this host (NTP)";

fn off_by(name: &'static str, seconds: i64, cause: &str) {
    let clock = ShiftedClock::new(seconds).unwrap();
    let site = Site::new(
        realm(),
        ServerOptions {
            env: clock.env(),
            ..ServerOptions::default()
        },
    );
    let method = site.method(name, &config_payload(realm()), &ldap_payload(realm()));
    let header = site.header(&ticket("grace"), "localhost");
    method.refuses(&header, 401, &[cause], NTP);
    method
        .diagnose(json!({"authorization": header}))
        .fails("service ticket", &["clock"], NTP, RESYNC)
        .fails("client ticket", &[cause], NTP, RESYNC)
        .in_short(&["clock", NTP]);
    // Both computers' clocks are compared by the doctor.
    let said = site
        .doctor(&ticket("grace"), &[&format!("-mount={name}")])
        .expect(2);
    assert!(said.stdout.contains("FAIL  clock"), "{}", said.stdout);
    // Mended while it runs.
    clock.set(0).unwrap();
    let header = site.header(&ticket("grace"), "localhost");
    method.login(&header).expect(200);
    method.diagnose(json!({})).passes("service ticket");
}

#[test]
fn clock_of_the_client_ten_minutes_ahead() {
    off_by("ahead", -600, "seconds ahead of");
}

#[test]
fn clock_of_the_client_ten_minutes_behind() {
    off_by("behind", 600, "seconds behind");
}

#[test]
fn clock_of_a_client_that_has_its_ticket_already() {
    let method = mit().method("skewed", &config_payload(realm()), &ldap_payload(realm()));
    let tickets = ticket("grace");
    realm().kdc.service_ticket(&tickets, HTTP_SERVICE).unwrap();
    let clock = ShiftedClock::new(600).unwrap();
    let mut curl = mit().command(&tickets, "curl");
    curl.envs(clock.env());
    let header = obol_tests::kerberos::negotiate_from(curl, 1).remove(0);
    method.refuses(
        &header,
        401,
        &["the client's clock is", "seconds ahead of this host's"],
        NTP,
    );
    method
        .diagnose(json!({"authorization": header}))
        .passes("service ticket")
        .fails(
            "client ticket",
            &["seconds ahead of this host's"],
            NTP,
            RESYNC,
        )
        .in_short(&["client ticket", "seconds ahead", NTP]);
}
