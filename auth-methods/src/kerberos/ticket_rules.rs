//! What is asked of a ticket beyond a key that opens it, and what is read from it: a part of `config`.
//! What cannot work is refused when it is written.

use std::time::Duration;

use obol_kerberos::{AcceptorOptions, BindingMode, Enctype, Sid};
use obol_mount::fields::{CommaList, Flag, Ttl};
use obol_mount::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The fields of `config` that say it.
#[derive(Clone, Default, Deserialize, JsonSchema)]
pub(super) struct WriteTicketRules {
    /// Where a user's groups come from: `ldap` asks the directory, `pac` takes what the domain controller wrote
    /// into the ticket (Active Directory; no LDAP on the way of a login), `ldap+pac` unites both.
    group_source: Option<String>,
    /// Whether a ticket's PAC is read: for the groups where `group_source` has `pac`, and in any case for the account's
    /// own name. Active Directory writes the name that was asked for into a ticket; with this off, that name counts,
    /// and who may join computers to the domain can log in as a name that no account has.
    decode_pac: Option<Flag>,
    /// Refuses tickets without a PAC that the domain controller vouches for. Right where every user is of an Active
    /// Directory: the name in such a ticket is only the one that was asked for. Realms of MIT Kerberos and Heimdal write
    /// no PAC that says who somebody is, and tickets for a service account with NO_AUTH_DATA_REQUIRED have none.
    require_pac: Option<Flag>,
    /// What is asked of the client's channel bindings (`tls-server-end-point`, RFC 5929), which tie a login to the
    /// TLS connection: `ignore` (for a proxy that ends TLS), `accept` (right where the client sends them), `require`.
    channel_bindings: Option<String>,
    /// The encryption types that tickets and their session keys may have, such as
    /// `aes256-cts-hmac-sha1-96,aes128-cts-hmac-sha1-96`. Empty: what libkrb5 permits.
    allowed_enctypes: Option<CommaList>,
    /// How far a client's clock may be from this host's, if that is to be less than libkrb5's `clockskew` (five
    /// minutes). Zero: what libkrb5 allows.
    clock_skew: Option<Ttl>,
    /// Realms whose users may log in beside those of the keytab's keys (or the one of `upndomain`). Such a user is
    /// known with the realm, `grace@OTHER.REALM`, to the directory too, and is never taken for this realm's `grace`.
    allowed_realms: Option<CommaList>,
    /// Domains (`S-1-5-21-...`) whose groups in a PAC count beside those of the user's own domain: of trusted
    /// domains, and of this one where users of `allowed_realms` are in its groups (then see that the trust filters
    /// SIDs: their domain controllers must not be able to name ours).
    trusted_domain_sids: Option<CommaList>,
}

/// What is asked of a ticket, and what is read from it.
#[derive(Clone, Deserialize, Serialize, JsonSchema)]
pub(super) struct TicketRules {
    pub(super) group_source: GroupSource,
    pub(super) decode_pac: bool,
    /// Records of before know nothing of it.
    #[serde(default)]
    pub(super) require_pac: bool,
    pub(super) channel_bindings: Bindings,
    pub(super) allowed_enctypes: Vec<String>,
    /// Zero: libkrb5's.
    pub(super) clock_skew: Ttl,
    pub(super) allowed_realms: Vec<String>,
    pub(super) trusted_domain_sids: Vec<String>,
}

impl Default for TicketRules {
    fn default() -> Self {
        Self {
            group_source: GroupSource::default(),
            decode_pac: true,
            require_pac: false,
            channel_bindings: Bindings::default(),
            allowed_enctypes: Vec::new(),
            clock_skew: Ttl(Duration::ZERO),
            allowed_realms: Vec::new(),
            trusted_domain_sids: Vec::new(),
        }
    }
}

/// Where a user's groups come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub(super) enum GroupSource {
    #[default]
    #[serde(rename = "ldap")]
    Ldap,
    #[serde(rename = "pac")]
    Pac,
    #[serde(rename = "ldap+pac")]
    LdapAndPac,
}

impl GroupSource {
    pub(super) fn asks_ldap(self) -> bool {
        self != Self::Pac
    }

    pub(super) fn reads_pac(self) -> bool {
        self != Self::Ldap
    }

    fn parse(text: &str) -> Result<Self> {
        match text {
            "ldap" => Ok(Self::Ldap),
            "pac" => Ok(Self::Pac),
            "ldap+pac" | "pac+ldap" => Ok(Self::LdapAndPac),
            _ => Err(Error::bad_request(
                "group_source: expected one of ldap, pac and ldap+pac",
            )),
        }
    }
}

/// What is asked of channel bindings; [`BindingMode`] in the words of the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Bindings {
    /// The default, as in Vault: behind a proxy that ends TLS, clients bind to a certificate that is not ours.
    #[default]
    Ignore,
    Accept,
    Require,
}

impl Bindings {
    pub(super) fn mode(self) -> BindingMode {
        match self {
            Self::Ignore => BindingMode::Ignore,
            Self::Accept => BindingMode::Accept,
            Self::Require => BindingMode::Require,
        }
    }

    fn parse(text: &str) -> Result<Self> {
        match text {
            "ignore" => Ok(Self::Ignore),
            "accept" => Ok(Self::Accept),
            "require" => Ok(Self::Require),
            _ => Err(Error::bad_request(
                "channel_bindings: expected one of ignore, accept and require",
            )),
        }
    }
}

impl TicketRules {
    /// What the acceptor insists on.
    pub(super) fn acceptor_options(&self) -> Result<AcceptorOptions> {
        Ok(AcceptorOptions {
            allowed_enctypes: match self.allowed_enctypes.as_slice() {
                [] => None,
                names => Some(enctypes(names)?),
            },
            decode_pac: self.decode_pac,
            clock_skew: Some(self.clock_skew.0).filter(|skew| !skew.is_zero()),
            channel_bindings: self.channel_bindings.mode(),
        })
    }

    pub(super) fn trusted_domains(&self) -> Result<Vec<Sid>> {
        self.trusted_domain_sids
            .iter()
            .map(|text| {
                let refuse = |why: String| {
                    Error::bad_request(format!("trusted_domain_sids: {text:?}: {why}"))
                };
                let sid: Sid = text.parse().map_err(|error| refuse(format!("{error}")))?;
                match (sid.authority(), sid.sub_authorities()) {
                    (5, [21, _, _, _]) => Ok(sid),
                    _ => Err(refuse("expected a domain's SID, S-1-5-21-A-B-C".to_owned())),
                }
            })
            .collect()
    }
}

impl WriteTicketRules {
    pub(super) fn apply(self, rules: &mut TicketRules) -> Result<()> {
        if let Some(text) = &self.group_source {
            rules.group_source = GroupSource::parse(text)?;
        }
        if let Some(Flag(decode)) = self.decode_pac {
            rules.decode_pac = decode;
        }
        if let Some(Flag(require)) = self.require_pac {
            rules.require_pac = require;
        }
        if let Some(text) = &self.channel_bindings {
            rules.channel_bindings = Bindings::parse(text)?;
        }
        if let Some(CommaList(names)) = &self.allowed_enctypes {
            // Stored in one spelling, whatever number or name was sent.
            rules.allowed_enctypes = enctypes(names)?.iter().map(Enctype::to_string).collect();
        }
        if let Some(Ttl(skew)) = self.clock_skew {
            if skew.subsec_nanos() != 0 {
                return Err(Error::bad_request(
                    "clock_skew: expected whole seconds, because tickets count in them",
                ));
            }
            rules.clock_skew = Ttl(skew);
        }
        if let Some(CommaList(realms)) = self.allowed_realms {
            rules.allowed_realms = realms;
        }
        if let Some(CommaList(sids)) = self.trusted_domain_sids {
            rules.trusted_domain_sids = sids;
        }
        if rules.group_source.reads_pac() && !rules.decode_pac {
            return Err(Error::bad_request(
                "decode_pac: group_source takes groups from the PAC, so it must be decoded",
            ));
        }
        if rules.require_pac && !rules.decode_pac {
            return Err(Error::bad_request(
                "decode_pac: require_pac asks for a PAC that can be believed, so it must be decoded",
            ));
        }
        if !rules.allowed_realms.iter().all(|realm| is_realm(realm)) {
            return Err(Error::bad_request(
                "allowed_realms: expected names of realms, such as OTHER.EXAMPLE.COM",
            ));
        }
        rules.trusted_domains().map(drop)
    }
}

fn is_realm(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 255
        && !text.contains(['@', '/', '*'])
        && !text.chars().any(char::is_control)
}

fn enctypes(names: &[String]) -> Result<Vec<Enctype>> {
    let known = |name: &String| {
        let enctype = name.parse::<Enctype>().ok()?;
        enctype.is_usable().then_some(enctype)
    };
    names
        .iter()
        .map(|name| {
            known(name).ok_or_else(|| {
                Error::bad_request(format!(
                    "allowed_enctypes: {name:?} is no encryption type that is accepted; there are aes256-cts-hmac-sha1-96, aes128-cts-hmac-sha1-96, aes256-cts-hmac-sha384-192, aes128-cts-hmac-sha256-128 and arcfour-hmac"
                ))
            })
        })
        .collect()
}
