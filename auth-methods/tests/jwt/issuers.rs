//! Issuers that rotate their keys, are down, slow, lost or broken into.

use std::time::{Duration, Instant};

use obol_testbed::{Behaviour, Issuer, SigningKey};
use serde_json::json;

use crate::common::{Mount, with};
use crate::{EC, RSA, claims, discovery, log_in, ready, role};

/// As long as nobody asks again because of a key that is not known.
const PAUSE: Duration = Duration::from_millis(5200);

#[tokio::test]
async fn new_keys_are_fetched_when_a_token_names_one() {
    let (issuer, mount) = ready().await;
    log_in(&mount, &EC.sign(&claims(&issuer)).unwrap())
        .await
        .unwrap();
    let after_first = issuer.asked();
    log_in(&mount, &RSA.sign(&claims(&issuer)).unwrap())
        .await
        .unwrap();
    assert_eq!(issuer.asked(), after_first, "keys are kept");
    let new = SigningKey::generate(Some("ec-2"), "ES256").unwrap();
    issuer.rotate(std::slice::from_ref(&new)).unwrap();
    tokio::time::sleep(PAUSE).await;
    log_in(&mount, &new.sign(&claims(&issuer)).unwrap())
        .await
        .unwrap();
    // A withdrawn key is forgotten with the others.
    let old = EC.sign(&claims(&issuer)).unwrap();
    assert_eq!(log_in(&mount, &old).await.unwrap_err().status(), 400);
}

#[tokio::test]
async fn tokens_with_made_up_keys_do_not_make_the_server_hammer_the_issuer() {
    let (issuer, mount) = ready().await;
    let before = issuer.asked();
    let mut attempts = Vec::new();
    for number in 0..50 {
        let forged = json!({"alg": "ES256", "kid": format!("made-up-{number}")});
        attempts.push(EC.sign_with(&forged, &claims(&issuer)).unwrap());
    }
    let started = Instant::now();
    let logins = attempts.iter().map(|jwt| log_in(&mount, jwt));
    for login in futures(logins).await {
        assert_eq!(login.unwrap_err().status(), 400);
    }
    // The discovery document and the keys, once; twice at most if that took longer than the pause.
    let rounds = 1 + usize::try_from(started.elapsed().as_secs() / 5).unwrap();
    assert!(issuer.asked() - before <= 2 * rounds, "{}", issuer.asked());
    // And nobody else is kept out by it.
    log_in(&mount, &EC.sign(&claims(&issuer)).unwrap())
        .await
        .unwrap();
}

/// Runs them at once, on this thread.
async fn futures<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = all.map(Box::pin).map(Some).collect();
    let mut done: Vec<Option<F::Output>> = pending.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (slot, output) in pending.iter_mut().zip(&mut done) {
            if let Some(future) = slot
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(context)
            {
                *output = Some(ready);
                *slot = None;
            }
        }
        match pending.iter().all(Option::is_none) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test]
async fn while_the_issuer_is_down_known_keys_count_and_a_new_server_refuses() {
    let (issuer, mount) = ready().await;
    let jwt = EC.sign(&claims(&issuer)).unwrap();
    log_in(&mount, &jwt).await.unwrap();
    let restarted = mount.another_server().await;
    issuer.behave(Behaviour::Down);
    log_in(&mount, &jwt).await.unwrap();
    let error = log_in(&restarted, &jwt).await.unwrap_err();
    assert_eq!(error.status(), 502);
    let text = error.messages().join(" ");
    assert!(!text.contains("localhost"), "{text}");
    let asked = issuer.asked();
    assert_eq!(log_in(&restarted, &jwt).await.unwrap_err().status(), 502);
    assert_eq!(issuer.asked(), asked, "not asked again at once");
    issuer.behave(Behaviour::Usual);
    tokio::time::sleep(PAUSE).await;
    log_in(&restarted, &jwt).await.unwrap();
}

#[tokio::test]
async fn an_issuer_that_misbehaves_is_not_configured_and_costs_a_bounded_time() {
    let issuer = Issuer::start(std::slice::from_ref(&EC)).unwrap();
    let mount = Mount::fresh("jwt").await;
    for (behaviour, says) in [
        (Behaviour::Down, ""),
        (Behaviour::Failing, "503"),
        (Behaviour::NotJson, "not json"),
        (Behaviour::Huge(600 * 1024), "limit"),
        (Behaviour::Slow(Duration::from_secs(8)), "timeout"),
        (Behaviour::Redirecting(issuer.url()), "redirect"),
        (Behaviour::Redirecting("http://localhost:1/".into()), ""),
    ] {
        issuer.behave(behaviour.clone());
        let started = Instant::now();
        let error = mount.write("config", discovery(&issuer)).await.unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(15), "{behaviour:?}");
        assert_eq!(error.status(), 400, "{behaviour:?}");
        let text = error.to_string();
        assert!(text.contains("oidc_discovery_url"), "{text}");
        assert!(text.to_lowercase().contains(says), "{behaviour:?}: {text}");
    }
    assert_eq!(mount.read("config").await.unwrap_err().status(), 404);
    // The operator may insist.
    let written = mount
        .write(
            "config",
            with(discovery(&issuer), json!({"skip_jwks_validation": true})),
        )
        .await
        .unwrap();
    assert!(written.warnings[0].contains("oidc_discovery_url"));
    issuer.behave(Behaviour::Usual);
    mount.write("role/dev", role()).await.unwrap();
    log_in(&mount, &EC.sign(&claims(&issuer)).unwrap())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_discovery_document_must_be_the_issuers_own() {
    let issuer = Issuer::start(std::slice::from_ref(&EC)).unwrap();
    let mount = Mount::fresh("jwt").await;
    for (document, says) in [
        (
            json!({"issuer": "https://another.example.com"}),
            "another.example.com",
        ),
        (json!({"issuer": format!("{}/", issuer.url())}), "issuer"),
        (json!({"issuer": null}), "issuer"),
        (
            json!({"jwks_uri": "http://elsewhere.example.com/keys"}),
            "https://",
        ),
        (json!({"jwks_uri": null}), "jwks_uri"),
        (json!({"jwks_uri": format!("{}/none", issuer.url())}), "404"),
    ] {
        issuer.discover(document.clone());
        let error = mount.write("config", discovery(&issuer)).await.unwrap_err();
        assert_eq!(error.status(), 400, "{document}");
        assert!(error.to_string().contains(says), "{document}: {error}");
    }
    issuer.discover(json!({}));
    for keys in [
        json!([]),
        json!([{"kty": "oct", "k": "c2VjcmV0"}]),
        json!("x"),
    ] {
        issuer.publish("/keys", json!({ "keys": keys }));
        let error = mount.write("config", discovery(&issuer)).await.unwrap_err();
        assert_eq!(error.status(), 400, "{keys}");
    }
    // Keys of other kinds beside good ones do no harm.
    issuer.publish(
        "/keys",
        json!({"keys": [{"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}, {"kty": "strange"}, 7, EC.jwk().unwrap()]}),
    );
    mount.write("config", discovery(&issuer)).await.unwrap();
}

#[tokio::test]
async fn the_issuers_certificate_is_checked() {
    let issuer = Issuer::start(std::slice::from_ref(&EC)).unwrap();
    let other = Issuer::start(std::slice::from_ref(&EC)).unwrap();
    let mount = Mount::fresh("jwt").await;
    for ca in [other.ca_pem(), String::new()] {
        let body = json!({"jwks_url": issuer.jwks_url(), "jwks_ca_pem": ca});
        let error = mount.write("config", body).await.unwrap_err();
        assert!(error.to_string().contains("jwks_url"), "{error}");
    }
    assert_eq!(issuer.asked(), 0);
    mount
        .write(
            "config",
            json!({"jwks_url": issuer.jwks_url(), "jwks_ca_pem": issuer.ca_pem(), "bound_issuer": issuer.url()}),
        )
        .await
        .unwrap();
    mount.write("role/dev", role()).await.unwrap();
    log_in(&mount, &EC.sign(&claims(&issuer)).unwrap())
        .await
        .unwrap();
}
