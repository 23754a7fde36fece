//! The page `/ui/login` in a real Chromium, with real tickets: what it shows to whom, and what it does not give away.
#![allow(clippy::unwrap_used)]

mod ad;
mod pages;

use std::sync::OnceLock;

use obol_testbed::{CCache, Scratch};
use obol_tests::clients::Cli;
use obol_tests::kerberos::{self, ticket};
use obol_tests::server::Tls;
use obol_tests::{Browser, BrowserOptions, Server, ServerOptions, realm};
use serde_json::{Value, json};

/// A server for all tests that leave it as it is.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(kerberos::kerberized)
}

fn with_tickets(tickets: &CCache) -> BrowserOptions {
    let env = realm().kdc.env().into_iter().chain(tickets.env());
    BrowserOptions {
        env: env.collect(),
        ..BrowserOptions::default()
    }
}

/// In the realm, with a ticket cache that is not there.
fn without_tickets() -> BrowserOptions {
    with_tickets(&realm().kdc.new_ccache())
}

fn login_page(server: &Server) -> String {
    format!("{}/ui/login", server.url())
}

/// Complaints that are none: the console tells of every refused request.
fn complaints(browser: &Browser) -> Vec<String> {
    let console = browser.console().into_iter();
    console
        .filter(|line| !line.contains("Failed to load resource"))
        .collect()
}

#[test]
fn a_ticket_signs_the_browser_in_and_the_page_says_who_for_what_and_how_long() {
    let browser = Browser::start(with_tickets(&ticket("joan")));
    browser.open(&login_page(server()));
    browser.await_state("welcome");
    assert_eq!(browser.text("#who"), "joan");
    assert_eq!(browser.text("#domain"), realm().kdc.realm());
    let mut policies = browser.texts("#policies li");
    policies.sort();
    assert_eq!(policies, ["default", "lab"]);
    assert!(
        browser.text("#ends-in").contains("day"),
        "{}",
        browser.text("dl")
    );
    assert_eq!(browser.console(), [""; 0]);
}

#[test]
fn the_token_is_in_no_url_no_markup_no_cookie_and_no_storage() {
    let browser = Browser::start(with_tickets(&ticket("grace")));
    let page = login_page(server());
    browser.open(&page);
    browser.await_state("welcome");
    let kept = browser.run(
        "return [document.documentElement.outerHTML, location.href, document.cookie, \
         JSON.stringify(localStorage), JSON.stringify(sessionStorage), JSON.stringify(history.state), \
         JSON.stringify([...document.querySelectorAll('input')].map(at => at.value)), \
         performance.getEntriesByType('resource').map(at => at.name).join()].join('\\n')",
    );
    let kept = kept.as_str().unwrap();
    assert!(kept.contains(&page) && !kept.contains("obs."), "{kept}");
    // Nor in what the browser has written to its profile.
    let found = std::process::Command::new("grep")
        .args(["-r", "-l", "-a", "obs\\.[A-Za-z0-9]\\{20\\}"])
        .arg(browser.dir())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[test]
fn the_copy_button_gives_the_token_and_signing_out_ends_it() {
    let browser = Browser::start(with_tickets(&ticket("grace")));
    browser.open(&login_page(server()));
    browser.await_state("welcome");
    // A page on localhost may use the clipboard; headless, it has to be allowed.
    browser.devtools(
        "Browser.grantPermissions",
        json!({"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}),
    );
    browser.click("#copy");
    obol_tests::holds("the button says that it has copied", || {
        browser.text("#copy") == "Copied" || !browser.run("return token.value").is_null()
    });
    let token = browser.run("return navigator.clipboard.readText()");
    let token = token.as_str().unwrap();
    let mine = server().client().with_token(token);
    assert_eq!(
        mine.get("auth/token/lookup-self").data()["display_name"],
        "kerberos-grace"
    );
    browser.click("#revoke");
    browser.await_state("gone");
    assert_eq!(browser.text("#gone-title"), "You are signed out");
    mine.get("auth/token/lookup-self").expect(403);
}

#[test]
fn a_browser_that_has_never_met_kerberos_signs_in_all_the_same() {
    let browser = Browser::start(BrowserOptions {
        fresh: true,
        ..with_tickets(&ticket("joan"))
    });
    browser.open(&login_page(server()));
    browser.await_state("welcome");
    assert_eq!(browser.text("#who"), "joan");
}

#[test]
fn without_a_ticket_the_page_says_what_to_do() {
    let browser = Browser::start(without_tickets());
    browser.open(&login_page(server()));
    browser.await_state("help");
    assert_eq!(
        browser.text("#help-title"),
        "Your browser sent no Kerberos ticket"
    );
    let text = browser.text("#help");
    assert!(text.contains("klist") && text.contains("kinit"), "{text}");
    // The browser at hand is unfolded, the others are not.
    assert!(text.contains("AuthServerAllowlist"), "{text}");
    assert!(!text.contains("network.negotiate-auth"), "{text}");
    let all = browser.texts("#help").concat();
    assert!(
        all.contains("network.negotiate-auth.trusted-uris") && all.contains("HTTP/localhost"),
        "{all}"
    );
    assert_eq!(complaints(&browser), [""; 0]);
}

#[test]
fn a_browser_that_was_told_of_no_server_keeps_its_ticket() {
    let browser = Browser::start(BrowserOptions {
        allowlist: "elsewhere.example.com",
        ..with_tickets(&ticket("grace"))
    });
    browser.open(&login_page(server()));
    browser.await_state("help");
    assert_eq!(
        browser.run("return document.getElementById('help').dataset.cause"),
        "nothing"
    );
}

#[test]
fn a_ticket_that_comes_later_is_enough_to_try_again() {
    let tickets = realm().kdc.new_ccache();
    let browser = Browser::start(with_tickets(&tickets));
    browser.open(&login_page(server()));
    browser.await_state("help");
    std::fs::copy(ticket("joan").path(), tickets.path()).unwrap();
    browser.click("#help .again");
    browser.await_state("welcome");
    assert_eq!(browser.text("#who"), "joan");
}

#[test]
fn ntlm_downgrade_a_browser_that_sends_ntlm_is_told_what_to_do() {
    let browser = Browser::start(without_tickets());
    browser.open(&login_page(server()));
    browser.await_state("help");
    // A Windows browser's first NTLM message; this one has none of its own to send.
    browser.devtools("Network.enable", json!({}));
    browser.devtools(
        "Network.setExtraHTTPHeaders",
        json!({"headers": {"Authorization": NTLM}}),
    );
    browser.click("#help .again");
    obol_tests::holds("the page speaks of NTLM", || {
        browser.text("#help-title") == "Your browser sent NTLM in place of a ticket"
    });
    let text = browser.text("#help");
    assert!(
        text.contains("HTTP/localhost") && text.contains("klist"),
        "{text}"
    );
    let id = browser.text("#request-id");
    assert!(server().log().contains(&id) && id.len() == 36, "{id:?}");
}

#[test]
fn headers_that_are_too_large_are_told_apart_from_a_refusal() {
    let browser = Browser::start(without_tickets());
    browser.open(&login_page(server()));
    browser.await_state("help");
    // As large as a ticket that no domain controller makes; proxies give up at a fortieth of it.
    browser.devtools("Network.enable", json!({}));
    browser.devtools(
        "Network.setExtraHTTPHeaders",
        json!({"headers": {"X-Large": "x".repeat(320_000)}}),
    );
    browser.click("#help .again");
    obol_tests::holds("the page speaks of the size", || {
        browser.text("#help-title") == "Your ticket is too large"
    });
}

#[test]
fn a_ticket_that_does_not_decrypt_comes_with_the_number_that_the_log_has() {
    let server = kerberos::kerberized();
    let other = realm()
        .kdc
        .keytab(&[obol_testbed::realm::SERVICE_ACCOUNT])
        .unwrap();
    let config = kerberos::with(
        kerberos::config_with_keytab(&other),
        json!({"service_account": obol_testbed::realm::SERVICE_ACCOUNT}),
    );
    kerberos::accepted(server.root().post("auth/kerberos/config", config));
    let browser = Browser::start(with_tickets(&ticket("grace")));
    browser.open(&login_page(&server));
    browser.await_state("help");
    assert_eq!(browser.text("#help-title"), "Your ticket was not accepted");
    let id = browser.text("#request-id");
    assert!(server.log().contains(&id) && id.len() == 36, "{id:?}");
}

#[test]
fn names_from_outside_are_text_and_never_markup() {
    let browser = Browser::start(with_tickets(&ticket("grace")));
    let hostile = "%3Cimg%20src=x%20onerror=%22document.title='taken'%22%3E";
    browser.open(&format!("{}?mount={hostile}", login_page(server())));
    browser.await_state("help");
    assert_eq!(
        browser.run("return document.querySelectorAll('#help img, #working img').length"),
        0
    );
    assert_eq!(browser.run("return document.title"), "Sign in · Obol");
    assert!(
        browser.text("#help-text").contains("<img src=x"),
        "{}",
        browser.text("#help")
    );

    browser.run_with(
        "document.getElementById('help-title').textContent = ''; list('policies', arguments[0]);",
        json!([["<b>bold</b>"]]),
    );
    assert_eq!(browser.texts("#policies li"), ["<b>bold</b>"]);
    assert_eq!(
        browser.run("return document.querySelectorAll('#policies b').length"),
        0
    );
}

#[test]
fn a_mount_of_another_name_is_signed_in_at_by_its_path() {
    let server = kerberos::kerberized();
    kerberos::enable(
        &server.root(),
        "lab/kerberos",
        &kerberos::config_payload(realm()),
        &kerberos::ldap_payload(realm()),
    );
    let browser = Browser::start(with_tickets(&ticket("grace")));
    browser.open(&format!("{}?mount=lab/kerberos", login_page(&server)));
    browser.await_state("welcome");
    assert_eq!(browser.text("#who"), "grace");
    // Nobody's groups mean anything at that mount.
    assert_eq!(browser.texts("#policies li"), ["default"]);
}

#[test]
fn a_sealed_server_says_so() {
    let server = Server::start(ServerOptions::default());
    let browser = Browser::start(without_tickets());
    browser.open(&login_page(&server));
    assert_eq!(browser.text("h1"), "This server is sealed");
    server.init();
    server.unseal();
    browser.click("#sealed .button");
    browser.await_state("help");
    assert_eq!(
        browser.text("#help-title"),
        "There is no Kerberos login here"
    );
    assert_eq!(complaints(&browser), [""; 0]);
}

#[test]
fn over_https_a_browser_that_binds_to_nothing_gets_in_unless_bindings_are_required() {
    let files = Scratch::new("tls").unwrap();
    let tls = Tls::on_loopback(&files);
    let ca = tls.ca.clone();
    let server = Server::start(ServerOptions {
        tls: Some(tls),
        ..ServerOptions::default()
    });
    let root = Cli::make_ready(&server, &ca);
    root.run(&["auth", "enable", "kerberos"]).ok();
    let write = |path: &str, body: Value| {
        root.run_with_input(&["write", path, "-"], &body.to_string())
            .ok();
    };
    let accept = json!({"channel_bindings": "accept"});
    write(
        "auth/kerberos/config",
        kerberos::with(kerberos::config_payload(realm()), accept),
    );
    write("auth/kerberos/config/ldap", kerberos::ldap_payload(realm()));
    let browser = Browser::start(with_tickets(&ticket("grace")));
    browser.open(&login_page(&server));
    browser.await_state("welcome");
    assert_eq!(browser.text("#who"), "grace");
    assert_eq!(browser.run("return isSecureContext"), true);
    assert_eq!(complaints(&browser), [""; 0]);
    // Chromium binds on Windows alone: elsewhere `require` locks it out.
    write(
        "auth/kerberos/config",
        json!({"channel_bindings": "require"}),
    );
    browser.open(&login_page(&server));
    browser.await_state("help");
    assert_eq!(browser.text("#help-title"), "Your ticket was not accepted");
}

/// `NTLMSSP`, a message of type 1, as Windows puts it into Negotiate.
const NTLM: &str = "Negotiate TlRMTVNTUAABAAAAB4IIogAAAAAAAAAAAAAAAAAAAAAGAbEdAAAADw==";
