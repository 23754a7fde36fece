//! `config`, `users` and `groups`: what is stored, what is returned, what is refused.

use obol_mount::Reply;
use obol_testbed::ldap::BIND_PASSWORD;
use serde_json::json;

use crate::common::{Mount, with};
use crate::{directory, ready, shared};

#[tokio::test]
async fn what_is_written_is_read_back_without_its_secrets() {
    let mount = Mount::fresh("ldap").await;
    assert_eq!(mount.read("config").await.unwrap_err().status(), 404);
    let fields =
        json!({"token_ttl": "30m", "token_policies": "base", "userfilter": "(uid={{.Username}})"});
    mount
        .write("config", with(directory(shared()), fields))
        .await
        .unwrap();
    let read = mount.read("config").await.unwrap();
    assert_eq!(read["binddn"], "cn=vault,ou=Users,dc=example,dc=com");
    assert_eq!(read["bindpass"], "");
    assert_eq!(read["token_ttl"], 1800);
    assert_eq!(read["token_policies"], json!(["base"]));
    assert_eq!(read["userfilter"], "(uid={{.Username}})");
    assert_eq!(read["deny_null_bind"], true);
    assert_eq!(read["request_timeout"], 5);
    assert!(read.get("bind_with_keytab").is_none());
    assert!(!read.to_string().contains(BIND_PASSWORD));
    // What is left out stays.
    mount
        .write("config", json!({"token_ttl": 60}))
        .await
        .unwrap();
    let again = mount.read("config").await.unwrap();
    assert_eq!(again, with(read, json!({"token_ttl": 60})));
    mount
        .login("login/grace", json!({"password": "grace-password"}))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_cannot_work_is_refused_with_its_field_and_changes_nothing() {
    let mount = ready(shared()).await;
    let before = mount.read("config").await.unwrap();
    for (field, value) in [
        ("url", json!("http://x")),
        ("userfilter", json!("(uid={{.Nobody}})")),
        ("groupfilter", json!("(uid=")),
        ("certificate", json!("no pem")),
        ("tls_min_version", json!("tls14")),
        ("userdn", json!("no dn")),
        ("dereference_aliases", json!("sometimes")),
        ("max_page_size", json!(-1)),
        ("starttls", json!("perhaps")),
        ("request_timeout", json!("-1s")),
        ("token_policies", json!("root")),
        ("token_bound_cidrs", json!("everywhere")),
    ] {
        let error = mount.write("config", json!({ field: value })).await;
        let error = error.unwrap_err();
        assert_eq!(error.status(), 400, "{field}");
        assert!(error.to_string().contains(field), "{field}: {error}");
    }
    assert_eq!(mount.read("config").await.unwrap(), before);
}

#[tokio::test]
async fn alias_case_a_name_in_identity_that_nobody_logs_in_with_is_warned_of() {
    let mount = ready(shared()).await;
    for (userattr, userfilter, warned) in [
        ("cn", "(uid={{.Username}})", true),
        ("uid", "(uid={{.Username}})", false),
        ("uid", "(|(mail={{.Username}})(UID={{.Username}}))", false),
        ("cn", "({{.UserAttr}}={{.Username}})", false),
        ("cn", "", false),
    ] {
        let body = json!({"userattr": userattr, "userfilter": userfilter});
        let written = mount.write("config", body).await.unwrap();
        let warnings = written
            .warnings
            .iter()
            .filter(|w| w.starts_with("userattr: "));
        assert_eq!(
            warnings.count(),
            usize::from(warned),
            "{userattr} {userfilter}"
        );
    }
    let quiet =
        json!({"userattr": "cn", "userfilter": "(uid={{.Username}})", "username_as_alias": true});
    let written = mount.write("config", quiet).await.unwrap();
    assert!(written.warnings.is_empty(), "{:?}", written.warnings);
}

/// Whoever may change the configuration is not to have the account's password sent to a server of theirs.
#[tokio::test]
async fn a_stored_bind_password_goes_to_the_servers_that_it_was_stored_with() {
    let mount = ready(shared()).await;
    let url = shared().ldaps_url();
    for (field, body) in [
        ("url", json!({"url": "ldaps://127.0.0.1:1"})),
        ("url", json!({"url": format!("{url},ldaps://127.0.0.1:1")})),
        ("insecure_tls", json!({"insecure_tls": true})),
        ("certificate", json!({"certificate": ""})),
        ("tls_min_version", json!({"tls_min_version": "tls11"})),
    ] {
        let error = mount.write("config", body.clone()).await.unwrap_err();
        assert_eq!(error.status(), 400);
        assert!(error.messages()[0].starts_with(&format!("{field}: send bindpass")));
        let mut with_password = body;
        with_password["bindpass"] = json!(BIND_PASSWORD);
        mount.write("config", with_password).await.unwrap();
        mount.write("config", directory(shared())).await.unwrap();
    }
    // The same servers in other words, and fewer of them, are nothing new.
    let both = format!("{url},ldaps://127.0.0.1:1");
    let body = json!({"url": both, "bindpass": BIND_PASSWORD});
    mount.write("config", body).await.unwrap();
    for url in [
        format!("{both}/"),
        url.to_uppercase().replace("LDAPS", "ldaps"),
        url,
    ] {
        mount.write("config", json!({"url": url})).await.unwrap();
    }
}

#[tokio::test]
async fn a_directory_without_an_account_is_warned_of() {
    let mount = ready(shared()).await;
    let written = mount
        .write("config", json!({"binddn": "", "bindpass": ""}))
        .await
        .unwrap();
    assert!(
        written.warnings.iter().any(|w| w.contains("own rights")),
        "{:?}",
        written.warnings
    );
}

#[tokio::test]
async fn users_are_written_read_listed_and_deleted_as_vault_shows_them() {
    let mount = ready(shared()).await;
    assert_eq!(mount.list("users").await.unwrap_err().status(), 404);
    let body = json!({"policies": ["Dev", "dev"], "groups": ["a", "b"]});
    let written = mount.write("users/Grace", body).await.unwrap();
    assert!(matches!(written.reply, Reply::Empty));
    assert_eq!(
        mount.read("users/GRACE").await.unwrap(),
        json!({"policies": ["dev"], "groups": "a,b"})
    );
    mount
        .write("users/grace/admin", json!({"policies": "x"}))
        .await
        .unwrap();
    assert_eq!(
        mount.list("users").await.unwrap(),
        json!({"keys": ["grace", "grace/admin"]})
    );
    mount.delete("users/grace").await.unwrap();
    assert_eq!(mount.read("users/grace").await.unwrap_err().status(), 404);
    for (body, field) in [
        (json!({"policies": "root"}), "policies"),
        (json!({"groups": ["a\u{0}"]}), "groups"),
    ] {
        let error = mount.write("users/grace", body).await.unwrap_err();
        assert_eq!(error.status(), 400);
        assert!(error.to_string().contains(field), "{error}");
    }
}

#[tokio::test]
async fn case_fold_group_users_and_groups_become_one_name_or_the_write_is_refused() {
    let mount = ready(shared()).await;
    let write = async |path, body| mount.write(path, body).await;
    write("config", json!({"case_sensitive_names": true}))
        .await
        .unwrap();
    write("users/Joan", json!({"policies": "one"}))
        .await
        .unwrap();
    write("users/joan", json!({"policies": "two"}))
        .await
        .unwrap();
    let error = write("config", json!({"case_sensitive_names": false}))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("the users"), "{error}");
    mount.delete("users/joan").await.unwrap();
    write("config", json!({"case_sensitive_names": false}))
        .await
        .unwrap();
    assert_eq!(
        mount.list("users").await.unwrap(),
        json!({"keys": ["joan"]})
    );
}
