//! A real Active Directory domain controller: nesting, SIDs, referrals, and the bind with a keytab.

use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use obol_directory::{
    DirectoryConfig, DirectoryError, SaslError, SaslGssapi, SaslServer, SaslSource, StepName,
    sid_text,
};
use obol_kerberos::{ChannelBindings, InitiateError, Initiator, Keytab, SaslClient, SecurityLayer};
use obol_testbed::samba::people::{AWKWARD_NAMES, SERVICE_ACCOUNT, SERVICE_PASSWORD};
use obol_testbed::{AdOptions, SambaAd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Proxy, open, sorted};

fn domain() -> &'static SambaAd {
    static DOMAIN: OnceLock<SambaAd> = OnceLock::new();
    DOMAIN.get_or_init(|| SambaAd::start(AdOptions::default()).unwrap())
}

const IN_CHAIN: &str = "(&(objectClass=group)(member:1.2.840.113556.1.4.1941:={{.UserDN}}))";

/// As the README's page on Active Directory has it, over LDAPS.
fn config(domain: &SambaAd) -> DirectoryConfig {
    DirectoryConfig {
        url: domain.ldaps_url(),
        certificate: domain.ca_pem(),
        binddn: domain.dn_of(SERVICE_ACCOUNT).unwrap(),
        bindpass: SERVICE_PASSWORD.to_owned().into(),
        userdn: domain.base_dn(),
        userattr: "sAMAccountName".into(),
        groupdn: domain.group_dn(),
        groupfilter: IN_CHAIN.into(),
        groupattr: "sAMAccountName".into(),
        request_timeout: Duration::from_secs(60),
        ..DirectoryConfig::default()
    }
}

#[tokio::test]
async fn nested_groups_are_the_same_by_filter_by_token_and_by_sid() {
    let domain = domain();
    for groupattr in ["sAMAccountName", "cn"] {
        let by_filter = open(&DirectoryConfig {
            groupattr: groupattr.into(),
            ..config(domain)
        });
        let by_token = open(&DirectoryConfig {
            use_token_groups: true,
            groupattr: groupattr.into(),
            ..config(domain)
        });
        for user in ["grace", "joan", "admin", "loner", "many", "zoe"]
            .iter()
            .chain(AWKWARD_NAMES)
        {
            let filtered = by_filter.lookup(user).await.unwrap();
            // Mail goes to these, and they are in no token.
            let mut filtered = sorted(&filtered.groups);
            filtered.retain(|name| name != "newsletter");
            let tokens = sorted(&by_token.lookup(user).await.unwrap().groups);
            assert_eq!(tokens, filtered, "{user} {groupattr}");
            let explained = by_filter.explain_user(user).await;
            let sids: Vec<_> = explained.token_groups.unwrap().unwrap();
            // The primary group is elsewhere: it has a SID, and no name that counts.
            let elsewhere = sids.iter().find(|group| group.names.is_empty()).unwrap();
            let text = sid_text(&elsewhere.sid).unwrap();
            assert!(text.starts_with("S-1-5-"), "{text}");
            let sids: Vec<_> = sids.into_iter().map(|group| group.sid).collect();
            let named = by_filter.group_names_of_sids(&sids).await.unwrap();
            let named: Vec<_> = named.into_iter().flat_map(|group| group.names).collect();
            let named = sorted(&named);
            assert_eq!(named, tokens, "{user} {groupattr}");
        }
    }
    let grace = open(&config(domain)).lookup("grace").await.unwrap();
    assert_eq!(sorted(&grace.groups), ["all-hands", "engineers", "staff"]);
}

#[tokio::test]
async fn member_of_names_the_same_groups_as_their_sids_do() {
    let domain = domain();
    let directory = open(&DirectoryConfig {
        groupdn: domain.user_dn(),
        groupfilter: "(sAMAccountName={{.Username}})".into(),
        groupattr: "memberOf".into(),
        ..config(domain)
    });
    let many = directory.lookup("many").await.unwrap();
    let many = &many.groups;
    assert!(many.len() >= 300, "{}", many.len());
    let explained = directory.explain_user("many").await;
    let by_sid: Vec<_> = explained.token_groups.unwrap().unwrap();
    let by_sid: Vec<_> = by_sid.into_iter().flat_map(|group| group.names).collect();
    for name in many {
        assert!(by_sid.contains(name), "{name}");
    }
}

/// A domain controller sends 1,500 values of an attribute at a time (MS-ADTS 3.1.1.3.1.3.3), or all
/// of them, as Samba may.
#[tokio::test]
async fn more_values_than_come_at_once_arrive() {
    let domain = domain();
    let listed = domain
        .search(
            "(|(sAMAccountName=crowd-*)(sAMAccountName=team-*))",
            &["dn"],
        )
        .unwrap();
    let members: Vec<_> = listed
        .lines()
        .filter_map(|line| line.strip_prefix("dn: "))
        .collect();
    assert!(members.len() >= 1500, "{}", members.len());
    let mut ldif = format!(
        "dn: CN=everybody,{}\nchangetype: add\nobjectClass: group\nsAMAccountName: everybody\n\
         groupType: -2147483644\n",
        // Beside the groups that other tests look for.
        domain.user_dn()
    );
    for member in &members {
        ldif += &format!("member: {member}\n");
    }
    domain.modify_ldif(&ldif).unwrap();
    let directory = open(&DirectoryConfig {
        groupdn: domain.user_dn(),
        groupfilter: "(sAMAccountName=everybody)".into(),
        groupattr: "member".into(),
        ..config(domain)
    });
    let found = directory.lookup("grace").await.unwrap();
    assert_eq!(found.group_dns.len(), members.len());
}

#[tokio::test]
async fn transports_are_what_active_directory_asks_for() {
    let domain = domain();
    let starttls = DirectoryConfig {
        url: domain.ldap_url(),
        starttls: true,
        ..config(domain)
    };
    let by_upn = DirectoryConfig {
        binddn: format!("{SERVICE_ACCOUNT}@{}", domain.realm().to_lowercase()),
        ..config(domain)
    };
    for config in [starttls.clone(), by_upn] {
        let found = open(&config).lookup("joan").await.unwrap();
        assert!(found.groups.contains(&"scientists".to_owned()));
    }
    let plain = DirectoryConfig {
        starttls: false,
        ..starttls
    };
    let error = open(&plain).lookup("grace").await.unwrap_err();
    assert!(matches!(error, DirectoryError::Bind { .. }), "{error:?}");
    assert!(error.mend().contains("starttls"), "{error:?}");
}

#[tokio::test]
async fn referrals_at_the_root_do_not_hang_a_lookup() {
    let domain = domain();
    // A search from the root of the domain meets references to the other naming contexts.
    let directory = open(&DirectoryConfig {
        groupdn: domain.base_dn(),
        ..config(domain)
    });
    let begun = Instant::now();
    let found = directory.lookup("grace").await.unwrap();
    assert!(found.groups.contains(&"all-hands".to_owned()));
    assert!(begun.elapsed() < Duration::from_secs(30));
    // A base in another domain is an error that says so.
    let elsewhere = open(&DirectoryConfig {
        groupdn: "OU=Groups,DC=other,DC=example".into(),
        ..config(domain)
    });
    let error = elsewhere.lookup("grace").await.unwrap_err();
    let DirectoryError::Search { .. } = &error else {
        panic!("{error:?}");
    };
    let mend = error.mend();
    assert!(
        mend.contains("another server holds") || mend.contains("groupdn"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_domain_controller_is_known_by_its_root_dse() {
    let domain = domain();
    let probes = open(&config(domain)).probe().await;
    assert!(probes[0].is_usable(), "{probes:?}");
    let step = |name| probes[0].steps.iter().find(|step| step.name == name);
    let root = step(StepName::RootDse).unwrap().outcome.clone().unwrap();
    assert!(root.starts_with("Active Directory"), "{root}");
    assert!(root.contains(&domain.base_dn()), "{root}");
    assert!(root.contains("GSSAPI"), "{root}");
}

/// libkrb5 reads KRB5_CONFIG when a process starts to use it, so another process has to.
#[test]
fn a_keytab_binds_sealed_on_a_plain_connection_and_inside_tls() {
    let domain = domain();
    let scratch = obol_testbed::Scratch::new("bind").unwrap();
    let keytab = scratch.path().join("keytab");
    std::fs::write(&keytab, domain.keytab(SERVICE_ACCOUNT).unwrap()).unwrap();
    let stale = scratch.path().join("stale");
    domain.add_user("rotated", "First-password-1").unwrap();
    std::fs::write(&stale, domain.keytab("rotated").unwrap()).unwrap();
    domain.set_password("rotated", "Second-password-2").unwrap();
    // What stands between client and server is reached by this name.
    domain
        .modify_ldif(&format!(
            "dn: CN=DC1,OU=Domain Controllers,{}\nchangetype: modify\nadd: servicePrincipalName\n\
             servicePrincipalName: ldap/127.0.0.1\n",
            domain.base_dn()
        ))
        .unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "active_directory::with_a_keytab",
        ])
        .envs(domain.env())
        .env("OBOL_TEST_KEYTAB", &keytab)
        .env("OBOL_TEST_STALE_KEYTAB", &stale)
        .env("OBOL_TEST_CA", domain.ca_file())
        .env(
            "OBOL_TEST_URLS",
            format!("{} {}", domain.ldap_url(), domain.ldaps_url()),
        )
        .env(
            "OBOL_TEST_BASES",
            format!("{} {}", domain.base_dn(), domain.group_dn()),
        )
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&child.stderr)
    );
}

#[tokio::test]
#[ignore = "runs in a process of its own, started by the test above"]
async fn with_a_keytab() {
    let source = |name: &str| {
        let file = std::env::var(name).ok()?;
        let keytab = Keytab::parse(&std::fs::read(file).unwrap()).unwrap();
        Some(Arc::new(WithKeytab(keytab)))
    };
    let Some(current) = source("OBOL_TEST_KEYTAB") else {
        return;
    };
    let pair = |name: &str| {
        let value = std::env::var(name).unwrap();
        let (one, other) = value.split_once(' ').unwrap();
        (one.to_owned(), other.to_owned())
    };
    let (ldap, ldaps) = pair("OBOL_TEST_URLS");
    let (base, groups) = pair("OBOL_TEST_BASES");
    let server = ldap.trim_start_matches("ldap://").to_owned();
    let plain = DirectoryConfig {
        url: ldap,
        certificate: std::fs::read_to_string(std::env::var("OBOL_TEST_CA").unwrap()).unwrap(),
        sasl: Some(current),
        userdn: base,
        userattr: "sAMAccountName".into(),
        groupdn: groups,
        groupfilter: IN_CHAIN.into(),
        ..DirectoryConfig::default()
    };
    let starttls = DirectoryConfig {
        starttls: true,
        ..plain.clone()
    };
    let inside = DirectoryConfig {
        url: ldaps,
        ..plain.clone()
    };
    for (config, layer) in [
        (plain.clone(), "what follows is sealed"),
        (starttls, "inside TLS"),
        (inside, "inside TLS"),
    ] {
        let directory = open(&config);
        // Answers of many frames, and several requests on one connection.
        for _ in 0..2 {
            assert!(directory.lookup("many").await.unwrap().groups.len() >= 300);
        }
        let grace = directory.lookup("grace").await.unwrap();
        assert_eq!(sorted(&grace.groups), ["all-hands", "engineers", "staff"]);
        let probes = directory.probe().await;
        assert!(probes[0].is_usable(), "{probes:?}");
        let bind = probes[0].steps[2].outcome.clone().unwrap();
        assert!(
            bind.contains(layer) && bind.contains(SERVICE_ACCOUNT),
            "{bind}"
        );
    }

    // Somebody in between who changes a bit of a sealed answer.
    let meddler = Proxy::start(move |client| {
        let server = server.clone();
        Box::pin(async move {
            let server = TcpStream::connect((server.as_str(), 389)).await.unwrap();
            meddle(client, server).await;
        })
    })
    .await;
    let error = open(&DirectoryConfig {
        url: meddler.url(),
        ..plain.clone()
    })
    .lookup("grace")
    .await
    .unwrap_err();
    assert!(error.cause().contains("cannot be opened"), "{error:?}");

    // A name that the KDC does not know, and a key that it knows no more.
    let nameless = DirectoryConfig {
        url: format!("ldap://localhost:{}", meddler.port),
        ..plain.clone()
    };
    let stale = DirectoryConfig {
        sasl: source("OBOL_TEST_STALE_KEYTAB").map(|source| source as Arc<dyn SaslSource>),
        ..plain
    };
    for (config, said) in [(nameless, "ldap/localhost"), (stale, "rotated")] {
        let error = open(&config).lookup("grace").await.unwrap_err();
        let DirectoryError::Sasl { .. } = &error else {
            panic!("{error:?}");
        };
        assert!(error.to_string().contains(said), "{error}");
        assert!(!error.mend().is_empty() && !error.is_refusal());
    }
}

/// Carries both ways, and flips the last bit of what the server sends once it is sealed: a frame
/// begins with its length, LDAP in the clear with 0x30.
async fn meddle(client: TcpStream, server: TcpStream) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back = async {
        let mut bytes = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from_server.read(&mut bytes).await {
            if bytes[0] != 0x30 {
                bytes[length - 1] ^= 1;
            }
            if to_client.write_all(&bytes[..length]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        () = back => {}
    }
}

/// The adapter, as the method has it.
struct WithKeytab(Keytab);

impl SaslSource for WithKeytab {
    fn name(&self) -> String {
        self.0.entries()[0].principal().to_string()
    }

    fn start(&self, server: &SaslServer) -> Result<Box<dyn SaslGssapi>, SaslError> {
        let layers = match server.over_tls {
            true => [SecurityLayer::None],
            false => [SecurityLayer::Confidentiality],
        };
        let bindings = server.channel_binding.as_deref();
        let bindings = bindings.map(ChannelBindings::from_bytes);
        Initiator::from_keytab_bytes(&self.0, None)
            .and_then(|initiator| {
                initiator.sasl(&format!("ldap/{}", server.host), &layers, bindings.as_ref())
            })
            .map(|client| Box::new(Client(client)) as Box<dyn SaslGssapi>)
            .map_err(refused)
    }
}

struct Client(SaslClient);

impl SaslGssapi for Client {
    fn step(&mut self, challenge: Option<&[u8]>) -> Result<Vec<u8>, SaslError> {
        self.0.step(challenge).map_err(refused)
    }

    fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    fn has_layer(&self) -> bool {
        self.0.layer() != Some(SecurityLayer::None)
    }

    fn max_send(&self) -> usize {
        self.0.max_message()
    }

    fn max_receive(&self) -> usize {
        SaslClient::MAX_WRAPPED
    }

    fn wrap(&mut self, plain: &[u8]) -> Result<Vec<u8>, SaslError> {
        self.0.wrap(plain).map_err(refused)
    }

    fn unwrap(&mut self, sealed: &[u8]) -> Result<Vec<u8>, SaslError> {
        self.0.unwrap(sealed).map_err(refused)
    }
}

fn refused(error: InitiateError) -> SaslError {
    SaslError {
        cause: error.to_string(),
        mend: error.mend().to_owned(),
        is_unavailable: false,
    }
}
