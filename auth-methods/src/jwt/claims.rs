//! What a role asks of a token whose signature is right: its times, its audience, its subject, its claims; and what is
//! taken from it: who it is, groups, metadata. A refusal names the claim and never its value.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::role::{Comparison, METADATA_ROLE, Role};

/// The claims of a token.
pub(super) struct Claims(Value);

/// Tolerance in seconds.
pub(super) struct Leeways {
    pub(super) clock_skew: i64,
    pub(super) expiration: i64,
    pub(super) not_before: i64,
}

/// Whom a token stands for.
#[derive(Debug)]
pub(super) struct Who {
    pub(super) name: String,
    pub(super) groups: Vec<String>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// Why a token is refused: for the client who sent it, and for the log.
type Refusal = Cow<'static, str>;

impl Claims {
    pub(super) fn new(claims: Map<String, Value>) -> Self {
        Self(Value::Object(claims))
    }

    /// Everything that the mount and the role ask.
    pub(super) fn check(&self, role: &Role, issuer: Option<&str>, now: i64) -> Result<(), Refusal> {
        if issuer.is_some_and(|issuer| self.0["iss"] != issuer) {
            return Err("its issuer (iss) is not the one that is trusted here".into());
        }
        self.check_times(&role.leeways(), now)?;
        self.check_age(role, now)?;
        self.check_audience(&role.bound_audiences)?;
        if !role.bound_subject.is_empty() && self.0["sub"] != *role.bound_subject {
            return Err("its subject (sub) is not the one that the role is bound to".into());
        }
        for (claim, wanted) in &role.bound_claims {
            self.check_claim(claim, wanted, role.bound_claims_type)?;
        }
        Ok(())
    }

    /// RFC 7519 §4.1.4 to 4.1.6. What is missing of the times is taken from the others, as Vault documents it; a
    /// token without any is good for ever and so for nothing.
    fn check_times(&self, leeways: &Leeways, now: i64) -> Result<(), Refusal> {
        let issued = self.time("iat")?;
        let not_before = self.time("nbf")?;
        let expires = self.time("exp")?;
        let start = issued.max(not_before);
        let expires = match (expires, start) {
            (Some(expires), _) => expires,
            (None, Some(start)) => start.saturating_add(leeways.expiration),
            (None, None) => return Err("it says no time at all: no exp, nbf or iat".into()),
        };
        let not_before = not_before
            .or(issued)
            .unwrap_or(expires.saturating_sub(leeways.not_before));
        let skew = leeways.clock_skew;
        if expires.saturating_add(skew) < now {
            return Err("it has expired (exp)".into());
        }
        if not_before.saturating_sub(skew) > now {
            return Err("it is not valid yet (nbf)".into());
        }
        if issued.is_some_and(|issued| issued.saturating_sub(skew) > now) {
            return Err("it was issued in the future (iat)".into());
        }
        Ok(())
    }

    fn check_age(&self, role: &Role, now: i64) -> Result<(), Refusal> {
        let max_age = i64::try_from(role.max_age.as_secs()).unwrap_or(i64::MAX);
        if max_age == 0 {
            return Ok(());
        }
        let proved = self
            .time("auth_time")?
            .ok_or("it does not say when its user proved who they are (auth_time)")?;
        let latest = proved
            .saturating_add(max_age)
            .saturating_add(role.leeways().clock_skew);
        match latest < now {
            true => Err("its user proved who they are too long ago (auth_time)".into()),
            false => Ok(()),
        }
    }

    /// A NumericDate (RFC 7519 §2), in whole seconds.
    fn time(&self, claim: &str) -> Result<Option<i64>, Refusal> {
        match &self.0[claim] {
            Value::Null => Ok(None),
            Value::Number(number) => number
                .as_i64()
                .or_else(|| {
                    let seconds = number.as_f64()?;
                    (seconds.abs() < 1e15).then_some(seconds as i64)
                })
                .map(Some)
                .ok_or_else(|| format!("its {claim} is no time").into()),
            _ => Err(format!("its {claim} is no time").into()),
        }
    }

    /// A token that is for somebody is not for everybody (RFC 7519 §4.1.3).
    fn check_audience(&self, bound: &[String]) -> Result<(), Refusal> {
        let audience = match &self.0["aud"] {
            Value::Null => Vec::new(),
            value => texts(value).ok_or("its audience (aud) is no text and no list of texts")?,
        };
        match (bound.is_empty(), audience.is_empty()) {
            (true, true) => Ok(()),
            (true, false) => {
                Err("it has an audience (aud), and the role has no bound_audiences".into())
            }
            (false, _) if audience.iter().any(|one| bound.iter().any(|b| b == one)) => Ok(()),
            (false, _) => Err("its audience (aud) is none of the role's bound_audiences".into()),
        }
    }

    fn check_claim(
        &self,
        claim: &str,
        wanted: &Value,
        comparison: Comparison,
    ) -> Result<(), Refusal> {
        let found = self
            .get(claim)
            .ok_or_else(|| format!("the claim {claim} of bound_claims is missing"))?;
        let fits = list(found).iter().any(|found| {
            list(wanted)
                .iter()
                .any(|wanted| meets(found, wanted, comparison))
        });
        match fits {
            true => Ok(()),
            false => Err(format!("the claim {claim} is not what bound_claims asks for").into()),
        }
    }

    /// Whom the token stands for.
    pub(super) fn who(&self, role: &Role, role_name: &str) -> Result<Who, Refusal> {
        let user = &role.user_claim;
        let name = match role.user_claim_json_pointer {
            true => self.0.pointer(user),
            false => self.0.get(user),
        };
        let name = name
            .ok_or_else(|| format!("the claim {user} (user_claim) is missing"))?
            .as_str()
            .filter(|name| !name.trim().is_empty())
            .ok_or_else(|| format!("the claim {user} (user_claim) is no text, or empty"))?;
        if name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
            return Err(format!(
                "the claim {user} (user_claim) is longer than 512 bytes or holds control characters"
            )
            .into());
        }
        let groups = match role.groups_claim.as_str() {
            "" => Vec::new(),
            claim => {
                let groups = self
                    .get(claim)
                    .ok_or_else(|| format!("the claim {claim} (groups_claim) is missing"))?;
                texts(groups).ok_or_else(|| {
                    format!("the claim {claim} (groups_claim) is no text and no list of texts")
                })?
            }
        };
        let mut metadata: BTreeMap<String, String> =
            [(METADATA_ROLE.to_owned(), role_name.to_owned())].into();
        for (claim, target) in &role.claim_mappings {
            match self.get(claim) {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) => drop(metadata.insert(target.clone(), text.clone())),
                Some(other) => drop(metadata.insert(target.clone(), other.to_string())),
            }
        }
        Ok(Who {
            name: name.to_owned(),
            groups: groups.into_iter().map(str::to_owned).collect(),
            metadata,
        })
    }

    /// A claim by its name, or by a JSON pointer if that begins with a slash.
    fn get(&self, claim: &str) -> Option<&Value> {
        match claim.starts_with('/') {
            true => self.0.pointer(claim),
            false => self.0.get(claim),
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value
        .as_array()
        .map_or(std::slice::from_ref(value), Vec::as_slice)
}

fn texts(value: &Value) -> Option<Vec<&str>> {
    list(value).iter().map(Value::as_str).collect()
}

fn meets(found: &Value, wanted: &Value, comparison: Comparison) -> bool {
    match (comparison, found, wanted) {
        (Comparison::Glob, Value::String(found), Value::String(pattern)) => {
            matches_glob(found, pattern)
        }
        (Comparison::Glob, ..) => false,
        (Comparison::String, ..) => found == wanted,
    }
}

/// `*` stands for any text, also none; nothing else is special.
fn matches_glob(text: &str, pattern: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return text == pattern;
    };
    let Some(mut left) = text.strip_prefix(start) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    // `split` gives one part at least.
    let end = parts.pop().unwrap_or_default();
    // The first place for each part is as good as any later one.
    for part in parts {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(end)
}

const MAX_NAME_BYTES: usize = 512;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(value: Value) -> Claims {
        Claims(value)
    }

    fn role(value: Value) -> Role {
        let mut role = serde_json::to_value(Role::default()).unwrap();
        role.as_object_mut()
            .unwrap()
            .extend(value.as_object().unwrap().clone());
        serde_json::from_value(role).unwrap()
    }

    #[test]
    fn times_are_kept_to_with_their_leeways() {
        let now = 1_000_000;
        for (times, leeways, accepted) in [
            (json!({"exp": now + 1}), json!({}), true),
            (json!({"exp": now - 59}), json!({}), true),
            (json!({"exp": now - 61}), json!({}), false),
            (
                json!({"exp": now - 1}),
                json!({"clock_skew_leeway": -1}),
                false,
            ),
            (
                json!({"exp": now - 90}),
                json!({"clock_skew_leeway": 100}),
                true,
            ),
            (json!({"nbf": now + 59, "exp": now + 300}), json!({}), true),
            (json!({"nbf": now + 61, "exp": now + 300}), json!({}), false),
            (json!({"iat": now + 61, "exp": now + 300}), json!({}), false),
            (
                json!({"iat": now + 61, "nbf": now, "exp": now + 300}),
                json!({}),
                false,
            ),
            // Without an end, 150 seconds from the beginning.
            (json!({"iat": now - 200}), json!({}), true),
            (json!({"iat": now - 211}), json!({}), false),
            (
                json!({"iat": now - 100}),
                json!({"expiration_leeway": -1}),
                false,
            ),
            (
                json!({"iat": now - 1000}),
                json!({"expiration_leeway": 3600}),
                true,
            ),
            // Without a beginning, 150 seconds before the end.
            (json!({"exp": now + 209}), json!({}), true),
            (json!({"exp": now + 211}), json!({}), false),
            (
                json!({"exp": now + 1000}),
                json!({"not_before_leeway": 3600}),
                true,
            ),
            (json!({"exp": 1.5e6, "iat": 999_999.5}), json!({}), true),
            (json!({}), json!({}), false),
            (json!({"exp": "soon"}), json!({}), false),
            (json!({"exp": now + 1, "nbf": [1]}), json!({}), false),
            (json!({"exp": i64::MAX, "iat": now}), json!({}), true),
            (json!({"exp": i64::MIN, "iat": now}), json!({}), false),
            (json!({"exp": 1e300, "iat": now}), json!({}), false),
        ] {
            let result = claims(times.clone()).check(&role(leeways.clone()), None, now);
            assert_eq!(result.is_ok(), accepted, "{times} {leeways} {result:?}");
        }
    }

    #[test]
    fn a_login_of_too_long_ago_is_refused_where_the_role_asks() {
        let now = 1_000_000;
        let asks = role(json!({"max_age": 600}));
        for (auth_time, accepted) in [
            (json!(now - 600), true),
            (json!(now - 661), false),
            (Value::Null, false),
            (json!("then"), false),
        ] {
            let token = claims(json!({"iat": now, "auth_time": auth_time}));
            assert_eq!(
                token.check(&asks, None, now).is_ok(),
                accepted,
                "{auth_time}"
            );
        }
    }

    #[test]
    fn a_token_for_somebody_is_not_for_everybody() {
        for (aud, bound, accepted) in [
            (json!("a"), json!(["a", "b"]), true),
            (json!(["x", "b"]), json!(["a", "b"]), true),
            (json!("x"), json!(["a"]), false),
            (json!("A"), json!(["a"]), false),
            (json!([]), json!(["a"]), false),
            (Value::Null, json!(["a"]), false),
            (json!("a"), json!([]), false),
            (Value::Null, json!([]), true),
            (json!({"a": 1}), json!(["a"]), false),
            (json!(["a", 1]), json!(["a"]), false),
        ] {
            let token = claims(json!({"iat": 0, "aud": aud}));
            let result = token.check(&role(json!({"bound_audiences": bound})), None, 0);
            assert_eq!(result.is_ok(), accepted, "{aud} {bound}");
        }
    }

    #[test]
    fn claims_are_met_by_value_by_list_by_glob_and_by_pointer() {
        let token = json!({"iat": 0, "team": "red", "roles": ["dev", "ops"], "level": 3, "on": true,
            "a": {"b/c": {"d": ["x"]}}, "path": "group/project:main"});
        for (bound, kind, accepted) in [
            (json!({"team": "red"}), "string", true),
            (json!({"team": ["blue", "red"]}), "string", true),
            (json!({"team": "re*"}), "string", false),
            (json!({"roles": "ops"}), "string", true),
            (json!({"roles": ["qa", "dev"]}), "string", true),
            (json!({"roles": "qa"}), "string", false),
            (json!({"level": 3, "on": true}), "string", true),
            (json!({"level": "3"}), "string", false),
            (json!({"/a/b~1c/d": "x"}), "string", true),
            (json!({"/a/none": "x"}), "string", false),
            (json!({"missing": "x"}), "string", false),
            (json!({"team": "r*"}), "glob", true),
            (json!({"team": "*"}), "glob", true),
            (json!({"team": "R*"}), "glob", false),
            (json!({"path": "group/*:main"}), "glob", true),
            (json!({"path": ["x*", "*project*"]}), "glob", true),
            (json!({"path": "group/*:mai"}), "glob", false),
            (json!({"level": "*"}), "glob", false),
        ] {
            let asks = role(json!({"bound_claims": bound, "bound_claims_type": kind}));
            let result = claims(token.clone()).check(&asks, None, 0);
            assert_eq!(result.is_ok(), accepted, "{bound} {kind} {result:?}");
        }
    }

    #[test]
    fn a_star_is_any_text_and_nothing_else_is_special() {
        for (text, pattern, matches) in [
            ("", "*", true),
            ("abc", "a*c", true),
            ("ac", "a*c", true),
            ("abcab", "*ab", true),
            ("ab", "ab*ab", false),
            ("aab", "*a*b", true),
            ("abc", "a**c", true),
            ("abc", "a?c", false),
            ("a.c", "a.c", true),
            ("abc", "", false),
            ("é", "*é", true),
        ] {
            assert_eq!(matches_glob(text, pattern), matches, "{text} {pattern}");
        }
    }

    #[test]
    fn who_it_is_comes_from_the_claims_that_the_role_names() {
        let token = claims(json!({"sub": "s", "groups": ["a", "b"], "one": "x", "n": 5,
            "deep": {"name": "grace", "list": ["y"]}}));
        let asks = role(json!({"user_claim": "sub", "groups_claim": "groups",
            "claim_mappings": {"n": "number", "/deep/list/0": "first", "none": "nothing"}}));
        let who = token.who(&asks, "r").unwrap();
        assert_eq!(
            (who.name.as_str(), who.groups),
            ("s", vec!["a".into(), "b".into()])
        );
        assert_eq!(
            serde_json::to_value(who.metadata).unwrap(),
            json!({"role": "r", "number": "5", "first": "y"})
        );
        let deep = role(
            json!({"user_claim": "/deep/name", "user_claim_json_pointer": true, "groups_claim": "/deep/list"}),
        );
        let who = token.who(&deep, "r").unwrap();
        assert_eq!((who.name.as_str(), who.groups), ("grace", vec!["y".into()]));
        for wrong in [
            json!({"user_claim": "/deep/name"}),
            json!({"user_claim": "none"}),
            json!({"user_claim": "n"}),
            json!({"user_claim": "sub", "groups_claim": "none"}),
            json!({"user_claim": "sub", "groups_claim": "n"}),
        ] {
            assert!(token.who(&role(wrong.clone()), "r").is_err(), "{wrong}");
        }
    }

    #[test]
    fn error_leaks_input_a_refusal_names_claims_and_no_values() {
        let token =
            claims(json!({"iat": 0, "sub": "hunter2", "team": "hunter2", "aud": "hunter2"}));
        for asks in [
            json!({"bound_subject": "secret-subject"}),
            json!({"bound_claims": {"team": "secret-team"}, "bound_audiences": ["hunter2"]}),
            json!({"bound_audiences": ["secret-audience"]}),
        ] {
            let refusal = token.check(&role(asks), None, 0).unwrap_err();
            assert!(
                !refusal.contains("hunter2") && !refusal.contains("secret"),
                "{refusal}"
            );
        }
    }
}
