//! `role`: what is stored, returned and refused; and renewals, which look at the role again.

use serde_json::json;

use crate::common::{Mount, with};
use crate::{EC, claims, log_in, ready, role};

#[tokio::test]
async fn a_role_is_written_read_listed_and_deleted() {
    let mount = Mount::fresh("jwt").await;
    assert_eq!(mount.list("role").await.unwrap_err().status(), 404);
    let body = json!({
        "user_claim": "email", "bound_claims": {"team": ["a", "b"]}, "bound_claims_type": "glob",
        "claim_mappings": {"x": "y"}, "clock_skew_leeway": "-1", "expiration_leeway": "2m", "max_age": "1h",
        "token_policies": "Dev", "token_bound_cidrs": "10.0.0.0/8",
    });
    mount.write("role/Dev", body).await.unwrap();
    let read = mount.read("role/dev").await.unwrap();
    for (field, value) in [
        ("role_type", json!("jwt")),
        ("user_claim", json!("email")),
        ("bound_claims", json!({"team": ["a", "b"]})),
        ("bound_claims_type", json!("glob")),
        ("claim_mappings", json!({"x": "y"})),
        ("clock_skew_leeway", json!(-1)),
        ("expiration_leeway", json!(120)),
        ("not_before_leeway", json!(0)),
        ("max_age", json!(3600)),
        ("token_policies", json!(["dev"])),
        ("bound_audiences", json!([])),
    ] {
        assert_eq!(read[field], value, "{field}");
    }
    // What is left out stays.
    mount
        .write("role/dev", json!({"bound_subject": "s"}))
        .await
        .unwrap();
    assert_eq!(
        mount.read("role/dev").await.unwrap(),
        with(read, json!({"bound_subject": "s"}))
    );
    assert_eq!(mount.list("role").await.unwrap(), json!({"keys": ["dev"]}));
    mount.delete("role/DEV").await.unwrap();
    assert_eq!(mount.read("role/dev").await.unwrap_err().status(), 404);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_its_field_and_changes_nothing() {
    let (_issuer, mount) = ready().await;
    let before = mount.read("role/dev").await.unwrap();
    for (body, says) in [
        (json!({"user_claim": ""}), "user_claim"),
        (json!({"user_claim_json_pointer": true}), "user_claim"),
        (json!({"bound_audiences": ""}), "must ask for something"),
        (json!({"bound_claims": {"a": {"b": 1}}}), "bound_claims"),
        (json!({"bound_claims": {"a": []}}), "bound_claims"),
        (
            json!({"bound_claims": {"a": 1}, "bound_claims_type": "glob"}),
            "bound_claims",
        ),
        (json!({"bound_claims": "x"}), "bound_claims"),
        (json!({"bound_claims_type": "regex"}), "bound_claims_type"),
        (
            json!({"claim_mappings": {"a": "x", "b": "x"}}),
            "claim_mappings",
        ),
        (json!({"claim_mappings": {"a": "role"}}), "claim_mappings"),
        (json!({"claim_mappings": {"a": 1}}), "claim_mappings"),
        (json!({"clock_skew_leeway": "soon"}), "clock_skew_leeway"),
        (json!({"expiration_leeway": 1e9}), "expiration_leeway"),
        (json!({"role_type": "oidc"}), "role_type"),
        (json!({"role_type": "saml"}), "role_type"),
        (
            json!({"allowed_redirect_uris": ["https://x"]}),
            "allowed_redirect_uris",
        ),
        (json!({"oidc_scopes": ["x"]}), "oidc_scopes"),
        (
            json!({"verbose_oidc_logging": true}),
            "verbose_oidc_logging",
        ),
        (json!({"token_policies": "root"}), "token_policies"),
        (json!({"token_bound_cidrs": "x"}), "token_bound_cidrs"),
    ] {
        let error = mount.write("role/dev", body.clone()).await.unwrap_err();
        assert_eq!(error.status(), 400, "{body}");
        assert!(error.to_string().contains(says), "{body}: {error}");
    }
    assert_eq!(mount.read("role/dev").await.unwrap(), before);
    let error = mount
        .write("role/new", json!({"bound_subject": "x"}))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("user_claim"), "{error}");
}

#[tokio::test]
async fn a_login_needs_a_role_and_an_address_that_it_allows() {
    let (issuer, mut mount) = ready().await;
    let jwt = EC.sign(&claims(&issuer)).unwrap();
    for (body, says) in [
        (json!({"jwt": jwt, "role": "none"}), "role"),
        (json!({ "jwt": jwt }), "default_role"),
        (json!({"role": "dev"}), "jwt"),
    ] {
        let error = mount.login("login", body).await.unwrap_err();
        assert_eq!(error.status(), 400);
        assert!(error.to_string().contains(says), "{error}");
    }
    mount
        .write("role/dev", json!({"token_bound_cidrs": "192.0.2.0/24"}))
        .await
        .unwrap();
    log_in(&mount, &jwt).await.unwrap();
    mount.peer = Some("198.51.100.1".parse().unwrap());
    assert_eq!(log_in(&mount, &jwt).await.unwrap_err().status(), 403);
}

#[tokio::test]
async fn a_mount_without_an_issuer_says_what_to_write() {
    let mount = Mount::fresh("jwt").await;
    mount.write("role/dev", role()).await.unwrap();
    let error = log_in(&mount, "a.b.c").await.unwrap_err();
    assert!(error.to_string().contains("auth/jwt/config"), "{error}");
}

#[tokio::test]
async fn renew_with_other_identity_a_role_that_says_otherwise_now_renews_nothing() {
    let (issuer, mount) = ready().await;
    let login = log_in(&mount, &EC.sign(&claims(&issuer)).unwrap())
        .await
        .unwrap();
    mount
        .write("role/dev", json!({"token_ttl": "1h", "max_age": 0}))
        .await
        .unwrap();
    let renewal = mount.renew(&login).await.unwrap();
    assert_eq!(renewal.token.ttl.as_secs(), 3600);
    assert!(renewal.group_aliases.is_none());
    for (change, back) in [
        (
            json!({"bound_audiences": "other"}),
            json!({"bound_audiences": "obol"}),
        ),
        (
            json!({"bound_subject": "grace"}),
            json!({"bound_subject": ""}),
        ),
        (
            json!({"bound_claims": {"a": "b"}}),
            json!({"bound_claims": {}}),
        ),
        (json!({"user_claim": "email"}), json!({"user_claim": "sub"})),
        (
            json!({"token_policies": "dev,more"}),
            json!({"token_policies": "dev"}),
        ),
    ] {
        mount.write("role/dev", change.clone()).await.unwrap();
        let error = mount.renew(&login).await.unwrap_err();
        assert_eq!(error.status(), 400, "{change}");
        assert!(error.to_string().contains("log in again"), "{error}");
        mount.write("role/dev", back).await.unwrap();
        mount.renew(&login).await.unwrap();
    }
    mount.delete("role/dev").await.unwrap();
    assert_eq!(mount.renew(&login).await.unwrap_err().status(), 400);
}
