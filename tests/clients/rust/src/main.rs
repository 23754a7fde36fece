//! One journey through a server that nobody has set up yet, with vaultrs as it comes from crates.io.
//!
//!     cargo run -- ADDRESS
//!
//! Ends with status 0 when every step went as the crate's users expect.

use std::collections::HashMap;

use serde_json::{Value, json};
use vaultrs::api::kv2::requests::SetSecretRequestOptions;
use vaultrs::api::sys::requests::EnableEngineRequest;
use vaultrs::api::token::requests::{CreateTokenRequest, LookupTokenRequest};
use vaultrs::api::transit::KeyType;
use vaultrs::api::transit::requests::CreateKeyRequest;
use vaultrs::api::{ResponseWrapper, auth::approle::requests::SetAppRoleRequest};
use vaultrs::auth::{approle, userpass};
use vaultrs::client::{Client, VaultClient, VaultClientSettingsBuilder};
use vaultrs::error::ClientError;
use vaultrs::{identity, kv1, kv2, sys, token, transit};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let url = std::env::args()
        .nth(1)
        .expect("usage: cargo run -- ADDRESS");
    // vaultrs was built without one.
    rustls::crypto::ring::default_provider()
        .install_default()
        .unwrap();
    let mut vault = connect(&url, "");

    // init and unseal
    let made = sys::start_initialization(&vault, 3, 2, None).await.unwrap();
    let first = sys::unseal(&vault, Some(made.keys[0].clone()), None, None).await;
    assert!(first.unwrap().sealed);
    let second = sys::unseal(&vault, Some(made.keys[1].clone()), None, None).await;
    assert!(!second.unwrap().sealed);
    vault.set_token(&made.root_token);
    assert!(sys::health(&vault).await.unwrap().initialized);

    // policies
    let rules = r#"path "secret/data/app/*" { capabilities = ["read", "list"] }"#;
    sys::policy::set(&vault, "reader", rules).await.unwrap();
    let names = sys::policy::list(&vault).await.unwrap().policies;
    assert!(names.contains(&"reader".to_owned()));
    assert_eq!(
        sys::policy::read(&vault, "reader").await.unwrap().rules,
        rules
    );

    // kv, both versions
    for (path, version) in [("secret", "2"), ("old", "1")] {
        let options = HashMap::from([("version".to_owned(), version.to_owned())]);
        let mut request = EnableEngineRequest::builder();
        request.options(options);
        sys::mount::enable(&vault, path, "kv", Some(&mut request))
            .await
            .unwrap();
    }
    kv2::set(&vault, "secret", "app/db", &json!({"password": "one"}))
        .await
        .unwrap();
    let options = SetSecretRequestOptions { cas: 1 };
    kv2::set_with_options(
        &vault,
        "secret",
        "app/db",
        &json!({"password": "two"}),
        options,
    )
    .await
    .unwrap();
    let read: Value = kv2::read(&vault, "secret", "app/db").await.unwrap();
    assert_eq!(read, json!({"password": "two"}));
    assert_eq!(kv2::list(&vault, "secret", "app").await.unwrap(), ["db"]);
    kv2::delete_versions(&vault, "secret", "app/db", vec![1])
        .await
        .unwrap();
    kv2::undelete_versions(&vault, "secret", "app/db", vec![1])
        .await
        .unwrap();
    let first: Value = kv2::read_version(&vault, "secret", "app/db", 1)
        .await
        .unwrap();
    assert_eq!(first, json!({"password": "one"}));
    kv2::destroy_versions(&vault, "secret", "app/db", vec![1])
        .await
        .unwrap();
    let metadata = kv2::read_metadata(&vault, "secret", "app/db")
        .await
        .unwrap();
    assert!(metadata.versions["1"].destroyed);
    kv1::set(&vault, "old", "thing", &HashMap::from([("a", "b")]))
        .await
        .unwrap();
    let thing: HashMap<String, String> = kv1::get(&vault, "old", "thing").await.unwrap();
    assert_eq!(thing["a"], "b");

    // logins, and who logged in
    sys::auth::enable(&vault, "userpass", "userpass", None)
        .await
        .unwrap();
    userpass::user::set(&vault, "userpass", "ada", "correct horse", None)
        .await
        .unwrap();
    userpass::user::update_policies(&vault, "userpass", "ada", "reader")
        .await
        .unwrap();
    sys::auth::enable(&vault, "approle", "approle", None)
        .await
        .unwrap();
    let mut role = SetAppRoleRequest::builder();
    role.token_policies(vec!["reader".to_owned()])
        .token_ttl("10m");
    approle::role::set(&vault, "approle", "robot", Some(&mut role))
        .await
        .unwrap();
    let role = approle::role::read_id(&vault, "approle", "robot")
        .await
        .unwrap()
        .role_id;
    let secret = approle::role::secret::generate(&vault, "approle", "robot", None)
        .await
        .unwrap();
    let anyone = connect(&url, "");
    let login = userpass::login(&anyone, "userpass", "ada", "correct horse")
        .await
        .unwrap();
    let ada = connect(&url, &login.client_token);
    let read: Value = kv2::read(&ada, "secret", "app/db").await.unwrap();
    assert_eq!(read["password"], "two");
    let login = approle::login(&anyone, "approle", &role, &secret.secret_id)
        .await
        .unwrap();
    let robot = connect(&url, &login.client_token);
    let write = kv2::set(&robot, "secret", "app/db", &json!({})).await;
    refused(write.unwrap_err(), 403);

    // identity
    let entity = token::lookup_self(&ada).await.unwrap().entity_id;
    let found = identity::entity::read_by_id(&vault, &entity).await.unwrap();
    assert_eq!(found.id, entity);
    let made = identity::entity::create_or_update_by_name(&vault, "grace", None).await;
    made.unwrap();
    let names = identity::entity::list_by_name(&vault).await.unwrap().keys;
    assert!(names.contains(&"grace".to_owned()), "{names:?}");

    // transit
    sys::mount::enable(&vault, "transit", "transit", None)
        .await
        .unwrap();
    transit::key::create(&vault, "transit", "orders", None)
        .await
        .unwrap();
    let sealed = transit::data::encrypt(&vault, "transit", "orders", "aGVsbG8=", None).await;
    let sealed = sealed.unwrap().ciphertext;
    transit::key::rotate(&vault, "transit", "orders")
        .await
        .unwrap();
    let again = transit::data::rewrap(&vault, "transit", "orders", &sealed, None).await;
    let again = again.unwrap().ciphertext;
    assert!(again.starts_with("vault:v2:"), "{again}");
    let opened = transit::data::decrypt(&vault, "transit", "orders", &again, None).await;
    assert_eq!(opened.unwrap().plaintext, "aGVsbG8=");
    let mut signer = CreateKeyRequest::builder();
    signer.key_type(KeyType::Ed25519);
    transit::key::create(&vault, "transit", "signer", Some(&mut signer))
        .await
        .unwrap();
    let signed = transit::data::sign(&vault, "transit", "signer", "aGVsbG8=", None).await;
    assert!(signed.unwrap().signature.starts_with("vault:v1:"));

    // wrapping
    let lookup = LookupTokenRequest::builder()
        .token(&login.client_token)
        .build()
        .unwrap();
    let wrapped = lookup.wrap(&vault).await.unwrap();
    assert_eq!(
        wrapped.lookup(&vault).await.unwrap().creation_path,
        "auth/token/lookup"
    );
    assert_eq!(
        wrapped.unwrap(&vault).await.unwrap().accessor,
        login.accessor
    );
    assert!(wrapped.unwrap(&vault).await.is_err());

    // tokens, renewed and revoked
    let mut request = CreateTokenRequest::builder();
    request.policies(vec!["reader".to_owned()]).ttl("1h");
    let child = token::new(&vault, Some(&mut request)).await.unwrap();
    let kid = connect(&url, &child.client_token);
    assert_eq!(kid.renew(Some("2h")).await.unwrap().lease_duration, 7200);
    token::revoke_accessor(&vault, &child.accessor)
        .await
        .unwrap();
    refused(kid.lookup().await.unwrap_err(), 403);
    robot.revoke().await.unwrap();
    refused(robot.lookup().await.unwrap_err(), 403);
    sys::seal(&vault).await.unwrap();
    println!("vaultrs");
}

fn connect(url: &str, token: &str) -> VaultClient {
    let settings = VaultClientSettingsBuilder::default()
        .address(url)
        .token(token)
        .build()
        .unwrap();
    VaultClient::new(settings).unwrap()
}

fn refused(error: ClientError, status: u16) {
    match error {
        ClientError::APIError { code, .. } => assert_eq!(code, status),
        other => panic!("{other}"),
    }
}
