//! `config`: what is stored, what is returned, what is refused.

use obol_testbed::{Issuer, SigningKey};
use serde_json::json;

use crate::common::{Mount, with};
use crate::{EC, claims, discovery, ready};

#[tokio::test]
async fn a_write_replaces_the_configuration_and_reads_back() {
    let (issuer, mount) = ready().await;
    let read = mount.read("config").await.unwrap();
    assert_eq!(read["oidc_discovery_url"], issuer.url());
    assert_eq!(read["oidc_discovery_ca_pem"], issuer.ca_pem());
    mount
        .write(
            "config",
            json!({"jwt_validation_pubkeys": EC.pem().unwrap(), "jwt_supported_algs": "ES256", "default_role": "Dev", "bound_issuer": issuer.url()}),
        )
        .await
        .unwrap();
    let read = mount.read("config").await.unwrap();
    assert_eq!(read["oidc_discovery_url"], "");
    assert_eq!(read["jwt_supported_algs"], json!(["ES256"]));
    assert_eq!(read["default_role"], "dev");
    let jwt = EC.sign(&claims(&issuer)).unwrap();
    let login = mount.login("login", json!({ "jwt": jwt })).await.unwrap();
    assert_eq!(login.metadata["role"], "dev");
}

#[tokio::test]
async fn what_cannot_work_is_refused_with_its_field_and_changes_nothing() {
    let (issuer, mount) = ready().await;
    let before = mount.read("config").await.unwrap();
    let private =
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAAA\n-----END PRIVATE KEY-----\n";
    let good = EC.pem().unwrap();
    for (body, field) in [
        (json!({}), "exactly one of"),
        (
            with(discovery(&issuer), json!({"jwks_url": issuer.jwks_url()})),
            "exactly one of",
        ),
        (
            json!({"oidc_discovery_url": "http://issuer.example.com"}),
            "oidc_discovery_url",
        ),
        (
            json!({"oidc_discovery_url": "issuer"}),
            "oidc_discovery_url",
        ),
        (json!({"jwks_url": "ftp://issuer.example.com"}), "jwks_url"),
        (
            json!({"jwks_url": issuer.jwks_url(), "jwks_ca_pem": "no pem"}),
            "jwks_url",
        ),
        (
            json!({"jwks_url": issuer.jwks_url(), "oidc_discovery_ca_pem": "x"}),
            "oidc_discovery_ca_pem",
        ),
        (
            json!({"jwt_validation_pubkeys": ["no pem"]}),
            "jwt_validation_pubkeys: key number 1",
        ),
        (
            json!({"jwt_validation_pubkeys": [good, private]}),
            "key number 2: it is a private key",
        ),
        (
            with(discovery(&issuer), json!({"jwt_supported_algs": "HS256"})),
            "jwt_supported_algs",
        ),
        (
            with(discovery(&issuer), json!({"jwt_supported_algs": ["none"]})),
            "jwt_supported_algs",
        ),
        (
            with(discovery(&issuer), json!({"jwt_supported_algs": ["ES512"]})),
            "jwt_supported_algs",
        ),
        (
            with(discovery(&issuer), json!({"oidc_client_id": "x"})),
            "oidc_client_id",
        ),
        (
            with(discovery(&issuer), json!({"oidc_client_secret": "hunter2"})),
            "oidc_client_secret",
        ),
        (
            with(
                discovery(&issuer),
                json!({"provider_config": {"provider": "azure"}}),
            ),
            "provider_config",
        ),
        (
            with(
                discovery(&issuer),
                json!({"jwks_pairs": [{"jwks_url": "x"}]}),
            ),
            "jwks_pairs",
        ),
    ] {
        let error = mount.write("config", body.clone()).await.unwrap_err();
        assert_eq!(error.status(), 400, "{body}");
        assert!(error.to_string().contains(field), "{field}: {error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    assert_eq!(mount.read("config").await.unwrap(), before);
    // What says nothing is fine: Terraform and others send all fields.
    let nothing = json!({"oidc_client_id": "", "oidc_response_types": [], "provider_config": {}, "jwks_url": ""});
    mount
        .write("config", with(discovery(&issuer), nothing))
        .await
        .unwrap();
}

#[tokio::test]
async fn weak_keys_and_keys_for_other_things_are_not_taken() {
    let issuer = Issuer::start(&[]).unwrap();
    let mount = Mount::fresh("jwt").await;
    let rsa = SigningKey::generate(Some("x"), "RS256")
        .unwrap()
        .jwk()
        .unwrap();
    let weak = json!("AQAB".repeat(40));
    for key in [
        with(rsa.clone(), json!({"use": "enc"})),
        with(rsa.clone(), json!({"key_ops": ["encrypt"]})),
        with(rsa.clone(), json!({"alg": "RSA-OAEP"})),
        with(rsa.clone(), json!({"alg": "HS256"})),
        with(rsa.clone(), json!({"n": weak})),
        with(rsa.clone(), json!({"n": "not base64!"})),
    ] {
        issuer.publish("/keys", json!({"keys": [key]}));
        let error = mount.write("config", discovery(&issuer)).await.unwrap_err();
        assert!(error.to_string().contains("no key in it"), "{key}: {error}");
    }
}
