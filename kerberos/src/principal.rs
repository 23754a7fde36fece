//! Kerberos names: parsing with the escapes of RFC 1964 section 2.1.1, and printing them back. A
//! `Principal` always has a realm; a `ServiceAccount` is what an operator writes and may leave it
//! out.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A full Kerberos principal such as `grace/admin@EXAMPLE.COM`. Names are compared byte for byte:
/// Kerberos is case-sensitive, and any folding is for the caller to decide and to state.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Principal {
    components: Vec<String>,
    realm: String,
}

impl Principal {
    /// Builds a principal from parts that are not escaped, as they stand in keytabs and tickets.
    pub fn new<S: Into<String>>(
        components: impl IntoIterator<Item = S>,
        realm: impl Into<String>,
    ) -> Result<Self, PrincipalError> {
        let components: Vec<String> = components.into_iter().map(Into::into).collect();
        let realm = realm.into();
        check_components(&components)?;
        check_part(&realm, PrincipalError::EmptyRealm)?;
        Ok(Self { components, realm })
    }

    /// Parses `primary[/instance...]@REALM`. `\/`, `\@` and `\\` stand for the character itself.
    pub fn parse(text: &str) -> Result<Self, PrincipalError> {
        let (components, realm) = split(text)?;
        Self::new(components, realm.ok_or(PrincipalError::NoRealm)?)
    }

    /// The first component: the user, or the service class (`HTTP`) of a service.
    pub fn primary(&self) -> &str {
        &self.components[0]
    }

    /// The second component: `admin` of `grace/admin`, or a service's host.
    pub fn instance(&self) -> Option<&str> {
        self.components.get(1).map(String::as_str)
    }

    /// All components, not escaped; never empty.
    pub fn components(&self) -> &[String] {
        &self.components
    }

    /// The realm, not escaped; never empty.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// The same name with its first component alone. `grace/admin` and `grace` become one name by
    /// this, so it is for operators to ask for (`remove_instance_name`), never a default.
    pub fn without_instance(&self) -> Self {
        Self {
            components: vec![self.components[0].clone()],
            realm: self.realm.clone(),
        }
    }

    /// The escaped name without its realm.
    pub fn name(&self) -> String {
        let mut out = String::new();
        write_name(&mut out, &self.components);
        out
    }

    /// Whether this is the well-known anonymous name of RFC 8062, in whichever realm.
    pub fn is_anonymous(&self) -> bool {
        self.components
            .iter()
            .map(String::as_str)
            .eq(["WELLKNOWN", "ANONYMOUS"])
            || self.realm == "WELLKNOWN:ANONYMOUS"
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        write_name(&mut out, &self.components);
        out.push('@');
        write_part(&mut out, &self.realm);
        f.write_str(&out)
    }
}

impl FromStr for Principal {
    type Err = PrincipalError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// The service account of a configuration: a name whose realm may be left out (`vault_svc`,
/// `HTTP/localhost`, `HTTP/localhost@EXAMPLE.COM`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccount {
    components: Vec<String>,
    realm: Option<String>,
}

impl ServiceAccount {
    pub fn parse(text: &str) -> Result<Self, PrincipalError> {
        let (components, realm) = split(text)?;
        check_components(&components)?;
        if let Some(realm) = &realm {
            check_part(realm, PrincipalError::EmptyRealm)?;
        }
        Ok(Self { components, realm })
    }

    /// Whether `principal` is this account. Without a realm in the account, any realm matches.
    pub fn matches(&self, principal: &Principal) -> bool {
        self.components == principal.components
            && self
                .realm
                .as_ref()
                .is_none_or(|realm| *realm == principal.realm)
    }
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        write_name(&mut out, &self.components);
        if let Some(realm) = &self.realm {
            out.push('@');
            write_part(&mut out, realm);
        }
        f.write_str(&out)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PrincipalError {
    #[error("the principal has no realm (expected name@REALM)")]
    NoRealm,
    #[error("the principal has an empty realm")]
    EmptyRealm,
    #[error("the principal has an empty component")]
    EmptyComponent,
    #[error("the principal has more than one unescaped '@'")]
    SecondRealm,
    #[error("the principal ends in the middle of an escape")]
    OpenEscape,
    #[error("the principal contains a control character")]
    ControlCharacter,
    #[error(
        "the principal is longer than {MAX_PRINCIPAL_BYTES} bytes or has more than {MAX_COMPONENTS} components"
    )]
    TooLong,
}

fn split(text: &str) -> Result<(Vec<String>, Option<String>), PrincipalError> {
    if text.len() > 2 * MAX_PRINCIPAL_BYTES {
        return Err(PrincipalError::TooLong);
    }
    let mut components = Vec::new();
    let mut in_realm = false;
    let mut part = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            // libkrb5 also knows \n, \t, \b and \0 for control characters; no name here may hold
            // one.
            '\\' => match chars.next().ok_or(PrincipalError::OpenEscape)? {
                'n' | 't' | 'b' | '0' => return Err(PrincipalError::ControlCharacter),
                escaped => part.push(escaped),
            },
            '@' if in_realm => return Err(PrincipalError::SecondRealm),
            '@' => {
                components.push(std::mem::take(&mut part));
                in_realm = true;
            }
            '/' if !in_realm => components.push(std::mem::take(&mut part)),
            _ => part.push(c),
        }
    }
    if in_realm {
        Ok((components, Some(part)))
    } else {
        components.push(part);
        Ok((components, None))
    }
}

fn check_components(components: &[String]) -> Result<(), PrincipalError> {
    if components.is_empty() {
        return Err(PrincipalError::EmptyComponent);
    }
    let bytes: usize = components.iter().map(String::len).sum();
    if components.len() > MAX_COMPONENTS || bytes > MAX_PRINCIPAL_BYTES {
        return Err(PrincipalError::TooLong);
    }
    components
        .iter()
        .try_for_each(|component| check_part(component, PrincipalError::EmptyComponent))
}

fn check_part(part: &str, when_empty: PrincipalError) -> Result<(), PrincipalError> {
    if part.is_empty() {
        Err(when_empty)
    } else if part.len() > MAX_PRINCIPAL_BYTES {
        Err(PrincipalError::TooLong)
    } else if part.chars().any(char::is_control) {
        Err(PrincipalError::ControlCharacter)
    } else {
        Ok(())
    }
}

fn write_name(out: &mut String, components: &[String]) {
    for (index, component) in components.iter().enumerate() {
        if index > 0 {
            out.push('/');
        }
        write_part(out, component);
    }
}

/// A letter that would turn into a control escape is safe after a backslash only when the backslash
/// itself is escaped, which it always is here.
fn write_part(out: &mut String, part: &str) {
    for c in part.chars() {
        if matches!(c, '/' | '@' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
}

const MAX_PRINCIPAL_BYTES: usize = 4096;
const MAX_COMPONENTS: usize = 32;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_with_an_instance_is_taken_apart() {
        let grace = Principal::parse("grace/admin@EXAMPLE.COM").unwrap();
        assert_eq!(grace.primary(), "grace");
        assert_eq!(grace.instance(), Some("admin"));
        assert_eq!(grace.realm(), "EXAMPLE.COM");
        assert_eq!(grace.to_string(), "grace/admin@EXAMPLE.COM");
        assert_eq!(grace.name(), "grace/admin");
        assert_eq!(grace.without_instance().to_string(), "grace@EXAMPLE.COM");
        assert_ne!(grace, grace.without_instance());
    }

    #[test]
    fn escaped_separators_belong_to_the_component() {
        let odd = Principal::parse(r"a\/b\@c\\d/e@R\@X").unwrap();
        assert_eq!(odd.components(), [r"a/b@c\d", "e"]);
        assert_eq!(odd.realm(), "R@X");
        assert_eq!(odd.to_string(), r"a\/b\@c\\d/e@R\@X");
    }

    #[test]
    fn what_is_no_name_is_refused_by_its_reason() {
        for (text, error) in [
            ("grace", PrincipalError::NoRealm),
            ("grace@", PrincipalError::EmptyRealm),
            ("@EXAMPLE.COM", PrincipalError::EmptyComponent),
            ("", PrincipalError::NoRealm),
            ("grace/@R", PrincipalError::EmptyComponent),
            ("grace@A@B", PrincipalError::SecondRealm),
            ("grace@A\\", PrincipalError::OpenEscape),
            ("gr\\0ace@A", PrincipalError::ControlCharacter),
            ("gr\nace@A", PrincipalError::ControlCharacter),
            ("gr\0ace@A", PrincipalError::ControlCharacter),
        ] {
            assert_eq!(Principal::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(
            Principal::parse(&"x".repeat(9000)),
            Err(PrincipalError::TooLong)
        );
        assert_eq!(
            Principal::parse(&"x/".repeat(100)),
            Err(PrincipalError::NoRealm)
        );
    }

    #[test]
    fn the_anonymous_name_is_known_in_every_realm() {
        assert!(
            Principal::parse("WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS")
                .unwrap()
                .is_anonymous()
        );
        assert!(
            Principal::parse("WELLKNOWN/ANONYMOUS@EXAMPLE.COM")
                .unwrap()
                .is_anonymous()
        );
        assert!(
            !Principal::parse("WELLKNOWN\\/ANONYMOUS@EXAMPLE.COM")
                .unwrap()
                .is_anonymous()
        );
    }

    #[test]
    fn an_account_matches_with_and_without_its_realm() {
        let service = Principal::parse("HTTP/localhost@EXAMPLE.COM").unwrap();
        for (account, matches) in [
            ("HTTP/localhost", true),
            ("HTTP/localhost@EXAMPLE.COM", true),
            ("HTTP/localhost@OTHER.COM", false),
            ("HTTP", false),
            ("http/localhost", false),
        ] {
            assert_eq!(
                ServiceAccount::parse(account).unwrap().matches(&service),
                matches,
                "{account}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_printed_name_parses_to_itself(
            components in proptest::collection::vec("[^\\p{C}]{1,12}", 1..5),
            realm in "[^\\p{C}]{1,12}",
        ) {
            let principal = Principal::new(components, realm).unwrap();
            prop_assert_eq!(Principal::parse(&principal.to_string()).unwrap(), principal);
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            if let Ok(principal) = Principal::parse(&text) {
                prop_assert_eq!(Principal::parse(&principal.to_string()).unwrap(), principal);
            }
        }
    }
}
