//! Tokens that log in, and tokens that must not.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use obol_testbed::SigningKey;
use ring::hmac;
use serde_json::json;

use crate::common::{Mount, with};
use crate::{EC, RSA, claims, discovery, log_in, ready, role};

#[tokio::test]
async fn a_token_of_the_issuer_logs_in_as_its_role_says() {
    let (issuer, mount) = ready().await;
    let login = log_in(&mount, &RSA.sign(&claims(&issuer)).unwrap())
        .await
        .unwrap();
    assert_eq!(
        (login.alias.as_str(), login.display_name.as_str()),
        ("grace", "grace")
    );
    assert_eq!(login.group_aliases, ["engineers"]);
    assert_eq!(login.token.policies, ["dev"]);
    assert_eq!(login.token.ttl.as_secs(), 600);
    assert_eq!(login.metadata["role"], "dev");
    assert!(login.renewable);
}

#[tokio::test]
async fn every_algorithm_of_the_list_is_verified() {
    let (issuer, mount) = ready().await;
    let mut keys = vec![RSA.clone(), EC.clone()];
    keys.push(SigningKey::generate(Some("ec-3"), "ES384").unwrap());
    keys.push(SigningKey::generate(Some("ed-1"), "EdDSA").unwrap());
    issuer.rotate(&keys).unwrap();
    let fresh = Mount::fresh("jwt").await;
    fresh.write("config", discovery(&issuer)).await.unwrap();
    fresh.write("role/dev", role()).await.unwrap();
    drop(mount);
    for algorithm in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        keys.push(RSA.with(algorithm));
    }
    for key in keys {
        let jwt = key.sign(&claims(&issuer)).unwrap();
        log_in(&fresh, &jwt)
            .await
            .unwrap_or_else(|error| panic!("{jwt}: {error}"));
        // The last character of a signature may hold bits that count for nothing, one in the middle does not.
        let at = jwt.len() - 20;
        let other = if jwt.as_bytes()[at] == b'A' { "B" } else { "A" };
        let tampered = format!("{}{other}{}", &jwt[..at], &jwt[at + 1..]);
        assert_eq!(log_in(&fresh, &tampered).await.unwrap_err().status(), 400);
    }
}

#[tokio::test]
async fn no_public_key_is_ever_a_shared_secret_and_none_is_no_signature() {
    let (issuer, mount) = ready().await;
    let payload = URL_SAFE_NO_PAD.encode(claims(&issuer).to_string());
    let sign = |header: serde_json::Value, secret: &[u8]| {
        let message = format!("{}.{payload}", URL_SAFE_NO_PAD.encode(header.to_string()));
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let tag = hmac::sign(&key, message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let pem = RSA.pem().unwrap();
    let modulus = RSA.jwk().unwrap()["n"].as_str().unwrap().to_owned();
    let modulus = URL_SAFE_NO_PAD.decode(modulus).unwrap();
    // The issuer's document has a symmetric key, too.
    issuer.publish(
        "/keys",
        json!({"keys": [RSA.jwk().unwrap(), {"kty": "oct", "kid": "shared", "k": URL_SAFE_NO_PAD.encode("secret")}]}),
    );
    let mut forged = vec![
        sign(json!({"alg": "HS256"}), pem.as_bytes()),
        sign(json!({"alg": "HS256", "kid": "rsa-1"}), pem.as_bytes()),
        sign(json!({"alg": "HS256", "kid": "rsa-1"}), &modulus),
        sign(json!({"alg": "HS256", "kid": "shared"}), b"secret"),
        sign(json!({"alg": "RS256", "kid": "rsa-1"}), pem.as_bytes()),
    ];
    for alg in ["none", "None", "NONE", "", "nOnE"] {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": alg}).to_string());
        forged.push(format!("{header}.{payload}."));
        forged.push(format!("{header}.{payload}"));
    }
    // A key that the token brings along counts for nothing.
    let own = SigningKey::generate(Some("rsa-1"), "ES256").unwrap();
    let header = json!({"alg": "ES256", "jwk": own.jwk().unwrap()});
    forged.push(own.sign_with(&header, &claims(&issuer)).unwrap());
    forged.push(own.sign(&claims(&issuer)).unwrap());
    for jwt in forged {
        let error = log_in(&mount, &jwt).await.unwrap_err();
        assert_eq!(error.status(), 400, "{jwt}");
        let text = error.to_string();
        assert!(
            !text.contains(&payload) && !text.contains("grace"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn what_is_no_proper_jws_is_refused() {
    let (issuer, mount) = ready().await;
    let good = EC.sign(&claims(&issuer)).unwrap();
    log_in(&mount, &good).await.unwrap();
    let critical = json!({"alg": "ES256", "kid": "ec-1", "crit": ["b64"], "b64": false});
    let zipped = json!({"alg": "ES256", "kid": "ec-1", "zip": "DEF"});
    for jwt in [
        String::new(),
        "x".into(),
        "..".into(),
        "a.b.c.d.e".into(),
        format!("{good}."),
        format!("{good}x{}", "y".repeat(70_000)),
        good.replace('.', " ."),
        EC.sign_with(&critical, &claims(&issuer)).unwrap(),
        EC.sign_with(&zipped, &claims(&issuer)).unwrap(),
        EC.sign(&json!(["no", "claims"])).unwrap(),
        EC.sign(&json!("text")).unwrap(),
    ] {
        let error = log_in(&mount, &jwt).await.unwrap_err();
        assert_eq!(error.status(), 400, "{jwt:.80}");
    }
}

#[tokio::test]
async fn realm_confusion_another_issuer_or_audience_is_refused() {
    let (issuer, mount) = ready().await;
    for changes in [
        json!({"iss": "https://elsewhere.example.com"}),
        json!({"iss": format!("{}/", issuer.url())}),
        json!({"iss": null}),
        json!({"iss": [issuer.url()]}),
        json!({"aud": "another"}),
        json!({"aud": null}),
        json!({"exp": 1}),
        json!({"sub": null}),
        json!({"groups": null}),
    ] {
        let jwt = EC.sign(&with(claims(&issuer), changes.clone())).unwrap();
        let error = log_in(&mount, &jwt).await.unwrap_err();
        assert_eq!(error.status(), 400, "{changes}");
    }
}

#[tokio::test]
async fn an_algorithm_that_is_not_asked_for_is_refused() {
    let (issuer, mount) = ready().await;
    let config = with(discovery(&issuer), json!({"jwt_supported_algs": "ES256"}));
    mount.write("config", config).await.unwrap();
    log_in(&mount, &EC.sign(&claims(&issuer)).unwrap())
        .await
        .unwrap();
    let error = log_in(&mount, &RSA.sign(&claims(&issuer)).unwrap())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("jwt_supported_algs"), "{error}");
}

#[tokio::test]
async fn keys_may_be_written_into_the_configuration() {
    let (issuer, mount) = ready().await;
    let certificate = issuer.ca_pem();
    let written = mount
        .write(
            "config",
            json!({"jwt_validation_pubkeys": [RSA.pem().unwrap(), EC.pem().unwrap(), certificate]}),
        )
        .await
        .unwrap();
    assert!(written.warnings[0].contains("bound_issuer"));
    for key in [&*RSA, &*EC] {
        log_in(&mount, &key.sign(&claims(&issuer)).unwrap())
            .await
            .unwrap();
    }
    let ed = SigningKey::generate(None, "EdDSA").unwrap();
    let jwt = ed.sign(&claims(&issuer)).unwrap();
    assert_eq!(log_in(&mount, &jwt).await.unwrap_err().status(), 400);
    mount
        .write(
            "config",
            json!({"jwt_validation_pubkeys": ed.pem().unwrap(), "bound_issuer": "someone"}),
        )
        .await
        .unwrap();
    assert!(
        log_in(&mount, &jwt)
            .await
            .unwrap_err()
            .to_string()
            .contains("iss")
    );
    let jwt = ed
        .sign(&with(claims(&issuer), json!({"iss": "someone"})))
        .unwrap();
    log_in(&mount, &jwt).await.unwrap();
}

/// The reference's Kubernetes service account, federated: issuer of the cluster, subject of the account, one audience.
#[tokio::test]
async fn the_workload_identity_of_the_azure_gateway_is_a_role() {
    let (issuer, mount) = ready().await;
    mount
        .write(
            "role/apim-gateway",
            json!({
                "role_type": "jwt",
                "bound_audiences": ["api://AzureADTokenExchange"],
                "bound_subject": "system:serviceaccount:apim-gateway-wi:apim-gateway-workload-identity",
                "bound_claims": {
                    "/kubernetes.io/namespace": "apim-gateway-wi",
                    "/kubernetes.io/serviceaccount/name": "apim-gateway-workload-identity",
                },
                "claim_mappings": {
                    "/kubernetes.io/namespace": "namespace",
                    "/kubernetes.io/pod/name": "pod",
                },
                "user_claim": "sub",
                "token_policies": "gateway-configuration-reader",
            }),
        )
        .await
        .unwrap();
    let token = |namespace: &str, audience: &str| {
        let account = "apim-gateway-workload-identity";
        let claims = issuer.claims(json!({
            "aud": [audience],
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
            "kubernetes.io": {
                "namespace": namespace,
                "pod": {"name": "apim-gateway-7d9f", "uid": "3c1e"},
                "serviceaccount": {"name": account, "uid": "9a2b"},
            },
        }));
        RSA.sign(&claims).unwrap()
    };
    let log_in = async |jwt: String| {
        mount
            .login("login", json!({"role": "apim-gateway", "jwt": jwt}))
            .await
    };
    let login = log_in(token("apim-gateway-wi", "api://AzureADTokenExchange"))
        .await
        .unwrap();
    assert_eq!(
        login.alias,
        "system:serviceaccount:apim-gateway-wi:apim-gateway-workload-identity"
    );
    assert_eq!(
        (&*login.metadata["namespace"], &*login.metadata["pod"]),
        ("apim-gateway-wi", "apim-gateway-7d9f")
    );
    log_in(token("another", "api://AzureADTokenExchange"))
        .await
        .unwrap_err();
    log_in(token("apim-gateway-wi", "https://kubernetes.default.svc"))
        .await
        .unwrap_err();
}
