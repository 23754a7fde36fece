//! `groups`: names, policies, and which spellings are one group.

use obol_mount::Reply;
use serde_json::json;

use crate::mount::Mount;
use crate::world::Client;

#[tokio::test]
async fn the_contracts_group_is_written_read_listed_and_deleted() {
    let mount = Mount::fresh().await;
    assert_eq!(mount.list("groups").await.unwrap_err().status(), 404);
    let written = mount
        .write("groups/admins", json!({"policies": "admin,default"}))
        .await
        .unwrap();
    assert!(matches!(written.reply, Reply::Empty) && written.warnings.is_empty());
    assert_eq!(
        mount.read("groups/admins").await.unwrap(),
        json!({"policies": ["admin", "default"]})
    );
    for name in ["scientists", "engineers"] {
        mount
            .write(&format!("groups/{name}"), json!({"policies": []}))
            .await
            .unwrap();
    }
    assert_eq!(
        mount.list("groups").await.unwrap(),
        json!({"keys": ["admins", "engineers", "scientists"]})
    );
    assert!(matches!(
        mount.delete("groups/admins").await.unwrap().reply,
        Reply::Empty
    ));
    assert_eq!(mount.read("groups/admins").await.unwrap_err().status(), 404);
    assert!(matches!(
        mount.delete("groups/admins").await.unwrap().reply,
        Reply::Empty
    ));
}

#[tokio::test]
async fn policy_name_case_no_spelling_of_root_is_mapped() {
    let mount = Mount::fresh().await;
    for policies in [
        json!("root"),
        json!("dev, ROOT"),
        json!([" root"]),
        json!(["Root\u{0}"]),
        json!(["a/b"]),
        json!(["ro\u{200b}ot"]),
    ] {
        let error = mount
            .write("groups/admins", json!({"policies": policies}))
            .await
            .unwrap_err();
        assert_eq!(error.status(), 400, "{policies}");
        assert!(
            error.to_string().contains("policies: policy number"),
            "{error}"
        );
    }
    assert_eq!(mount.list("groups").await.unwrap_err().status(), 404);
    mount
        .write("groups/admins", json!({"policies": ["Dev", "dev", "LAB"]}))
        .await
        .unwrap();
    assert_eq!(
        mount.read("groups/admins").await.unwrap(),
        json!({"policies": ["dev", "lab"]})
    );
}

#[tokio::test]
async fn case_fold_group_storing_listing_and_logging_in_agree() {
    let mount = Mount::ready().await;
    // LDAP spells it `Admins`.
    let admin = Client::of("admin");
    mount
        .write("groups/aDMINS", json!({"policies": "ops"}))
        .await
        .unwrap();
    assert_eq!(mount.list("groups").await.unwrap()["keys"][0], "admins");
    assert_eq!(
        mount.read("groups/ADMINS").await.unwrap(),
        json!({"policies": ["ops"]})
    );
    assert_eq!(
        mount.policies(&admin.token()).await.unwrap(),
        ["dev", "ops", "shared"]
    );

    // From now on spelling counts; what was folded stays folded, and LDAP's `Admins` is another group.
    let response = mount
        .write("config/ldap", json!({"case_sensitive_names": true}))
        .await
        .unwrap();
    assert!(
        response.warnings[0].contains("lower case"),
        "{:?}",
        response.warnings
    );
    assert_eq!(
        mount.policies(&admin.token()).await.unwrap(),
        ["dev", "shared"]
    );
    assert_eq!(mount.read("groups/Admins").await.unwrap_err().status(), 404);
    mount
        .write("groups/Admins", json!({"policies": "real-ops"}))
        .await
        .unwrap();
    assert_eq!(
        mount.policies(&admin.token()).await.unwrap(),
        ["dev", "real-ops", "shared"]
    );

    // Back: two groups would become one, and whose policies count is not ours to say.
    let error = mount
        .write("config/ldap", json!({"case_sensitive_names": false}))
        .await
        .unwrap_err();
    assert_eq!(error.status(), 400);
    assert!(
        error.to_string().contains("\"Admins\" and \"admins\""),
        "{error}"
    );
    assert_eq!(
        mount.read("config/ldap").await.unwrap()["case_sensitive_names"],
        true
    );
    mount.delete("groups/admins").await.unwrap();
    mount
        .write("config/ldap", json!({"case_sensitive_names": false}))
        .await
        .unwrap();
    assert_eq!(mount.list("groups").await.unwrap()["keys"][0], "admins");
    assert_eq!(
        mount.policies(&admin.token()).await.unwrap(),
        ["dev", "real-ops", "shared"]
    );
}

#[tokio::test]
async fn odd_names_are_groups_like_any_other() {
    let mount = Mount::ready().await;
    let joan = Client::of("joan");
    // A group of the directory, letter by letter.
    mount
        .write(
            "groups/research, development + \"more\"",
            json!({"policies": "r-and-d"}),
        )
        .await
        .unwrap();
    assert_eq!(
        mount.policies(&joan.token()).await.unwrap(),
        ["lab", "r-and-d", "shared"]
    );
    for name in ["a/b", "100%", "%2f", "...", "grüße"] {
        mount
            .write(&format!("groups/{name}"), json!({"policies": "dev"}))
            .await
            .unwrap();
        assert_eq!(
            mount.read(&format!("groups/{name}")).await.unwrap(),
            json!({"policies": ["dev"]}),
            "{name}"
        );
        let keys = mount.list("groups").await.unwrap();
        assert!(
            keys["keys"].as_array().unwrap().contains(&json!(name)),
            "{name}: {keys}"
        );
    }
    for name in [
        "a\u{0}b".to_owned(),
        "x".repeat(513),
        "line\nbreak".to_owned(),
    ] {
        assert_eq!(
            mount
                .write(&format!("groups/{name}"), json!({"policies": "dev"}))
                .await
                .unwrap_err()
                .status(),
            400
        );
    }
}

#[tokio::test]
async fn a_mapping_counts_from_the_next_login_on_every_server() {
    let mount = Mount::ready().await;
    let other = mount.another_server().await;
    let grace = Client::of("grace");
    assert_eq!(
        other.policies(&grace.token()).await.unwrap(),
        ["dev", "shared"]
    );
    mount
        .write("groups/engineers", json!({"policies": "dev,new"}))
        .await
        .unwrap();
    mount
        .write("groups/coders", json!({"policies": "code"}))
        .await
        .unwrap();
    assert_eq!(
        other.policies(&grace.token()).await.unwrap(),
        ["code", "dev", "new"]
    );
    mount.delete("groups/engineers").await.unwrap();
    assert_eq!(other.policies(&grace.token()).await.unwrap(), ["code"]);
}

#[tokio::test]
async fn a_group_by_its_sid_is_warned_of_where_nobody_says_sids() {
    let mount = Mount::ready().await;
    let path = "groups/S-1-5-21-1004336348-1177238915-682003330-512";
    for (source, warned) in [("ldap", true), ("pac", false), ("ldap+pac", false)] {
        mount
            .write("config", json!({"group_source": source}))
            .await
            .unwrap();
        let written = mount.write(path, json!({"policies": "dev"})).await.unwrap();
        assert_eq!(written.warnings.len(), usize::from(warned), "{source}");
        assert!(written.warnings.iter().all(|w| w.contains("group_source")));
        let written = mount
            .write("groups/admins", json!({"policies": "dev"}))
            .await;
        assert!(written.unwrap().warnings.is_empty());
    }
}
