//! The compiled rules, as Vault's page shows them and as past faults demand.

use super::*;

fn compile(texts: &[&str]) -> Acl {
    let policies = texts
        .iter()
        .enumerate()
        .map(|(i, text)| Arc::new(Policy::parse(&format!("p{i}"), text).unwrap()));
    Acl::compile(&policies.collect::<Vec<_>>())
}

fn access(operation: Operation, path: &str) -> Access<'_> {
    Access {
        operation,
        path,
        data: None,
        wrap_ttl: None,
    }
}

fn allows(acl: &Acl, operation: Operation, path: &str) -> bool {
    acl.check(&access(operation, path)).allowed
}

#[test]
fn root_may_do_everything_and_says_so() {
    let acl = Acl::compile(&[Policy::root()]);
    let decision = acl.check(&access(Operation::Delete, "sys/anything"));
    assert!(decision.allowed && decision.sudo && acl.is_root());
    assert_eq!(acl.capabilities("any/path"), ["root"]);
}

/// An entity with a name.
struct Named(&'static str);

impl Values for Named {
    fn value(&self, parameter: &crate::core::policies::Parameter) -> Option<&str> {
        (*parameter == crate::core::policies::Parameter::EntityName).then_some(self.0)
    }
}

#[test]
fn a_templated_rule_is_the_entitys_own_and_keeps_its_place_among_the_others() {
    let shared = Arc::new(compile(&[
        r#"
        path "s/*" { capabilities = ["list"] }
        path "s/{{identity.entity.name}}/*" { capabilities = ["read"] }
        path "s/grace/both" { capabilities = ["update"] }
        path "s/grace/closed/*" { capabilities = ["deny"] }
        "#,
        r#"
        path "s/{{identity.entity.name}}/both" { capabilities = ["delete"] }
        path "s/{{identity.entity.name}}/secret" { capabilities = ["deny"] }
        "#,
    ]));
    let grace = shared.for_entity(&Named("grace"));
    let joan = shared.for_entity(&Named("joan"));
    for (path, of_grace, of_joan, of_nobody) in [
        ("s/grace/x", "read", "list", "list"),
        ("s/joan/x", "list", "read", "list"),
        ("s/grace/both", "delete,update", "update", "update"),
        ("s/joan/both", "list", "delete", "list"),
        ("s/grace/closed/x", "deny", "deny", "deny"),
        ("s/grace/secret", "deny", "list", "list"),
        ("s/GRACE/SECRET", "deny", "list", "list"),
        ("s/{{identity.entity.name}}/x", "list", "list", "list"),
    ] {
        for (acl, expected) in [(&grace, of_grace), (&joan, of_joan), (&shared, of_nobody)] {
            assert_eq!(acl.capabilities(path).join(","), expected, "{path}");
        }
    }
    assert!(grace.reaches("s/") && !grace.reaches("t/"));
    // Without templates everybody shares the same.
    let plain = Arc::new(compile(&[r#"path "a" { capabilities = ["read"] }"#]));
    assert!(Arc::ptr_eq(&plain, &plain.for_entity(&Named("grace"))));
    let root = Arc::new(Acl::compile(&[Policy::root()]));
    assert!(root.for_entity(&Named("*")).is_root());
}

#[test]
fn glob_in_template_a_hostile_name_grants_nothing_and_a_deny_does_not_fall_away_by_it() {
    let grants = r#"path "s/{{identity.entity.name}}/*" { capabilities = ["read"] }
        path "open" { capabilities = ["read"] }"#;
    let denies = r#"path "s/*" { capabilities = ["read"] }
        path "s/{{identity.entity.name}}/x" { capabilities = ["deny"] }"#;
    for name in ["*", "+", "a/../..", "grace/x", "gr*", "..", "a+b"] {
        let acl = Arc::new(compile(&[grants])).for_entity(&Named(name));
        for path in ["s/grace/x", "s/x/y/z", "s/a/b", "s/+/x", "s/*/x"] {
            assert_eq!(acl.capabilities(path), ["deny"], "{name} {path}");
        }
        assert_eq!(acl.capabilities("open"), ["read"], "{name}");
        let acl = Arc::new(compile(&[denies, grants])).for_entity(&Named(name));
        for path in ["s/grace/x", "s/other", "open"] {
            assert_eq!(acl.capabilities(path), ["deny"], "{name} {path}");
            assert!(!allows(&acl, Operation::Read, path), "{name} {path}");
        }
        assert!(!acl.reaches("s/"), "{name}");
    }
}

#[test]
fn nothing_is_allowed_by_default() {
    let acl = Acl::compile(&[]);
    assert_eq!(
        acl.check(&access(Operation::Read, "secret/data/a")).reason,
        Reason::NoRule
    );
    assert_eq!(compile(&[""]).capabilities("a"), ["deny"]);
}

#[test]
fn globs_and_segments_match_as_vaults_page_shows() {
    let acl = compile(&[r#"
        path "secret/foo" { capabilities = ["read"] }
        path "secret/bar/*" { capabilities = ["read"] }
        path "secret/zip-*" { capabilities = ["read"] }
        path "kv/+/teamb" { capabilities = ["read"] }
        path "kv/+/+/teamb" { capabilities = ["read"] }
    "#]);
    for (path, allowed) in [
        ("secret/foo", true),
        ("secret/food", false),
        ("secret/foo/bar", false),
        ("secret/bar/zip", true),
        ("secret/bar/zip/zap", true),
        ("secret/bars/zip", false),
        ("secret/bar", false),
        ("secret/zip-zap", true),
        ("secret/zip-zap/zong", true),
        ("secret/zip/zap", false),
        ("kv/x/teamb", true),
        ("kv/x/y/teamb", true),
        ("kv/teamb", false),
        ("kv/x/y/z/teamb", false),
    ] {
        assert_eq!(allows(&acl, Operation::Read, path), allowed, "{path}");
    }
}

#[test]
fn only_the_highest_priority_pattern_decides() {
    let acl = compile(&[r#"
        path "1/2/*" { capabilities = ["create"] }
        path "1/2/+" { capabilities = ["read"] }
        path "1/2/+/+" { capabilities = ["update"] }
    "#]);
    assert!(
        !allows(&acl, Operation::Read, "1/2/3/4") && allows(&acl, Operation::Update, "1/2/3/4")
    );
    assert!(allows(&acl, Operation::Read, "1/2/3") && !allows(&acl, Operation::Update, "1/2/3"));
    assert!(allows(&acl, Operation::Create, "1/2/3/4/5"));
    assert_eq!(
        acl.check(&access(Operation::Read, "1/2/3")).rule,
        Some("1/2/+")
    );
}

#[test]
fn the_same_pattern_in_several_policies_unites_and_deny_wins() {
    let acl = compile(&[
        r#"path "kv/a" { capabilities = ["update"] } path "kv/b" { capabilities = ["read", "sudo"] }"#,
        r#"path "kv/a" { capabilities = ["read"] } path "kv/b" { capabilities = ["deny"] }"#,
    ]);
    assert_eq!(acl.capabilities("kv/a"), ["read", "update"]);
    assert_eq!(acl.capabilities("kv/b"), ["deny"]);
    let decision = acl.check(&access(Operation::Read, "kv/a"));
    assert_eq!(
        decision
            .policies
            .iter()
            .map(PolicyName::as_str)
            .collect::<Vec<_>>(),
        ["p0", "p1"]
    );
    let decision = acl.check(&access(Operation::Read, "kv/b"));
    assert_eq!(
        (decision.allowed, decision.sudo, decision.reason),
        (false, false, Reason::Denied)
    );
}

#[test]
fn list_bypasses_deny_a_more_specific_deny_reaches_list_on_its_prefix() {
    let list = |acl: &Acl, path| allows(acl, Operation::List, path);
    // GHSA-xp3c-3jw3-4vcr, word for word.
    let acl = compile(&[r#"
        path "secrets/metadata/*" { capabilities = ["list"] }
        path "secrets/metadata/restricted/*" { capabilities = ["deny"] }
    "#]);
    for path in [
        "secrets/metadata/restricted",
        "secrets/metadata/restricted/",
        "secrets/metadata/restricted/x",
    ] {
        assert!(!list(&acl, path), "{path}");
    }
    assert!(list(&acl, "secrets/metadata/open") && list(&acl, "secrets/metadata/"));
    // The deny may be written with or without the slash, exact or with a segment wildcard.
    for deny in ["kv/private", "kv/private/", "kv/private*", "kv/+/", "kv/+"] {
        let acl = compile(&[&format!(
            "path \"kv/*\" {{ capabilities = [\"list\"] }}\npath \"{deny}\" {{ capabilities = [\"deny\"] }}"
        )]);
        assert!(
            !list(&acl, "kv/private") && !list(&acl, "kv/private/"),
            "{deny}"
        );
    }
}

#[test]
fn a_list_rule_works_with_and_without_its_slash() {
    for rule in [
        "foo/sys/policies",
        "foo/sys/policies/",
        "+/sys/policies",
        "+/sys/policies/",
        "foo/sys/policies/*",
    ] {
        let acl = compile(&[&format!("path \"{rule}\" {{ capabilities = [\"list\"] }}")]);
        for path in ["foo/sys/policies", "foo/sys/policies/"] {
            assert!(allows(&acl, Operation::List, path), "{rule} {path}");
        }
    }
}

#[test]
fn a_trailing_slash_is_no_way_around_a_rule() {
    let acl = compile(&[r#"
        path "secret/*" { capabilities = ["read"] }
        path "secret/x" { capabilities = ["deny"] }
    "#]);
    assert!(
        !allows(&acl, Operation::Read, "secret/x") && !allows(&acl, Operation::Read, "secret/x/")
    );
}

#[test]
fn path_traversal_a_trailing_slash_widens_no_grant() {
    for grant in ["kv/team/*", "kv/team/+", "kv/team/", "+/team/*", "kv/+/+"] {
        let acl = compile(&[&format!(
            "path \"{grant}\" {{ capabilities = [\"create\", \"read\", \"update\", \"delete\", \"list\"] }}"
        )]);
        for operation in [
            Operation::Create,
            Operation::Read,
            Operation::Update,
            Operation::Delete,
        ] {
            assert!(!allows(&acl, operation, "kv/team"), "{grant}");
            assert!(!allows(&acl, operation, "kv/team/"), "{grant}");
        }
        assert!(allows(&acl, Operation::List, "kv/team/"), "{grant}");
        // What is said of a path is what is granted on it.
        assert_eq!(acl.capabilities("kv/team"), ["deny"], "{grant}");
        assert_eq!(acl.capabilities("kv/team/"), ["list"], "{grant}");
    }
    let acl = compile(&[r#"
        path "kv/team" { capabilities = ["read", "list"] }
        path "kv/team/" { capabilities = ["deny"] }
    "#]);
    assert!(allows(&acl, Operation::Read, "kv/team/"));
    assert!(!allows(&acl, Operation::List, "kv/team"));
    assert_eq!(acl.capabilities("kv/team/"), ["read"]);
}

#[test]
fn a_deny_rule_matches_whatever_the_case() {
    let acl = compile(&[r#"
        path "secret/data/*" { capabilities = ["read"] }
        path "secret/data/example" { capabilities = ["deny"] }
        path "secret/data/Team/*" { capabilities = ["deny"] }
        path "secret/data/EXAMPLE2" { capabilities = ["read"] }
        path "secret/data/example2" { capabilities = ["deny"] }
        path "secret/data/team/open/x" { capabilities = ["read"] }
    "#]);
    for path in [
        "secret/data/example",
        "secret/data/EXAMPLE",
        "secret/DATA/example",
        "secret/data/team/a",
        "secret/data/TEAM/a",
    ] {
        assert!(!allows(&acl, Operation::Read, path), "{path}");
    }
    // A more specific rule still decides, and so does the one that is spelt as the request is.
    assert!(allows(&acl, Operation::Read, "secret/data/team/open/x"));
    assert!(allows(&acl, Operation::Read, "secret/data/EXAMPLE2"));
    assert!(!allows(&acl, Operation::Read, "secret/data/Example2"));
    assert!(allows(&acl, Operation::Read, "secret/data/other"));
}

#[test]
fn policy_name_case_another_spelling_of_a_name_is_no_way_around_a_narrower_rule() {
    let acl = compile(&[r#"
        path "auth/userpass/users/*" { capabilities = ["create", "update", "read"] }
        path "auth/userpass/users/vip" { capabilities = ["read"] }
        path "auth/userpass/users/BOSS" { capabilities = ["read"] }
        path "auth/userpass/users/Bob" { capabilities = ["update"] }
        path "+/approle/role/vip" { capabilities = ["read"] }
        path "+/approle/role/*" { capabilities = ["update"] }
        path "auth/ldap/users/ann" { capabilities = ["update"] }
        path "secret/*" { capabilities = ["update"] }
        path "secret/prod" { capabilities = ["read"] }
    "#]);
    for narrowed in [
        "auth/userpass/users/vip",
        "auth/userpass/users/VIP",
        "auth/userpass/users/Vip",
        "auth/userpass/users/boss",
        "AUTH/userpass/users/vip",
        "auth/approle/role/ViP",
    ] {
        assert!(!allows(&acl, Operation::Update, narrowed), "{narrowed}");
    }
    // As the rule is spelt; and nothing is granted by a rule in another spelling alone.
    assert!(allows(&acl, Operation::Update, "auth/userpass/users/Bob"));
    assert!(allows(&acl, Operation::Update, "auth/userpass/users/grace"));
    assert!(!allows(&acl, Operation::Update, "auth/ldap/users/Ann"));
    // Names of secrets differ in case.
    assert!(allows(&acl, Operation::Update, "secret/PROD"));
}

#[test]
fn policy_name_case_nor_around_one_that_is_made_for_the_entity() {
    let shared = Arc::new(compile(&[r#"
        path "auth/userpass/users/*" { capabilities = ["update"] }
        path "auth/userpass/users/{{identity.entity.name}}" { capabilities = ["read"] }
        path "auth/ldap/users/{{identity.entity.name}}*" { capabilities = ["update"] }
        path "auth/ldap/users/grace-admin" { capabilities = ["read"] }
    "#]));
    let grace = shared.for_entity(&Named("grace"));
    for narrowed in [
        "auth/userpass/users/grace",
        "auth/userpass/users/GRACE",
        "auth/ldap/users/grace-admin",
        "auth/ldap/users/grace-Admin",
    ] {
        assert!(!allows(&grace, Operation::Update, narrowed), "{narrowed}");
    }
    assert!(allows(
        &grace,
        Operation::Update,
        "auth/userpass/users/joan"
    ));
    assert!(allows(&grace, Operation::Update, "auth/ldap/users/grace-x"));
    assert!(!allows(&grace, Operation::Update, "auth/ldap/users/Grace"));
}

#[test]
fn letters_are_folded_one_by_one() {
    // `str::to_lowercase` folds the last letter of ΑΣ by its neighbours.
    let acl = compile(&[r#"
        path "kv/*" { capabilities = ["read"] }
        path "kv/ΑΣ*" { capabilities = ["deny"] }
    "#]);
    for path in ["kv/ΑΣ", "kv/ΑΣΑ", "kv/ασα", "kv/ασ"] {
        assert!(!allows(&acl, Operation::Read, path), "{path}");
    }
}

#[test]
fn grants_are_case_sensitive() {
    let acl = compile(&[r#"path "secret/Data" { capabilities = ["read"] }"#]);
    assert!(
        allows(&acl, Operation::Read, "secret/Data")
            && !allows(&acl, Operation::Read, "secret/data")
    );
}

#[test]
fn a_wildcard_character_in_a_request_is_only_a_character() {
    let acl = compile(&[r#"
        path "secret/+/x" { capabilities = ["read"] }
        path "secret/a*" { capabilities = ["read"] }
    "#]);
    assert!(!allows(&acl, Operation::Read, "secret/*") && !allows(&acl, Operation::Read, "+/+/x"));
    assert!(
        allows(&acl, Operation::Read, "secret/+/x") && allows(&acl, Operation::Read, "secret/a*")
    );
}

#[test]
fn what_may_be_known_of_a_mount_follows_the_rules_below_it() {
    let acl = compile(&[r#"
        path "foo/+/+/*" { capabilities = ["read"] }
        path "bar*" { capabilities = ["read"] }
        path "auth/token/lookup-self" { capabilities = ["read"] }
        path "hidden/*" { capabilities = ["deny"] }
    "#]);
    for (mount, reached) in [
        ("foo/", true),
        ("foo/bar/", true),
        ("barn/", true),
        ("auth/token/", true),
        ("auth/", true),
        ("hidden/", false),
        ("secret/", false),
        ("ba/", false),
    ] {
        assert_eq!(acl.reaches(mount), reached, "{mount}");
    }
}

#[test]
fn reasons_are_told_to_the_operator() {
    let acl = compile(&[r#"path "a" { capabilities = ["read"], required_parameters = ["x"] }"#]);
    assert_eq!(
        acl.check(&access(Operation::Update, "a"))
            .reason
            .to_string(),
        "the rule does not grant update"
    );
    assert_eq!(
        acl.check(&access(Operation::Read, "a")).reason.to_string(),
        "the rule requires the parameter `x`"
    );
}
