//! What a rule demands of a request beyond its path: parameters, and how long the answer may stay wrapped.
//!
//! The rules are Vault's ("Policies" page, "Fine-grained control", as of 1.21: lists and comma-separated texts are
//! compared item by item). Denying is deliberately wider than Vault's: a denied value is found whatever its case,
//! its type (`true`, `"1"`, `1`) and its depth inside the parameter, because the mounts accept all these spellings.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use obol_mount::Operation;
use serde_json::{Map, Value};

use super::acl::Reason;
use super::fold;

/// The name that stands for every parameter.
const ANY: &str = "*";

/// Names are lower case; a parameter with an empty list stands for any value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters {
    pub(super) required: BTreeSet<String>,
    pub(super) allowed: BTreeMap<String, Vec<Value>>,
    pub(super) denied: BTreeMap<String, Vec<Value>>,
    /// The shortest and the longest time for which the answer may be wrapped. Either makes wrapping mandatory.
    pub(super) min_wrapping_ttl: Option<Duration>,
    pub(super) max_wrapping_ttl: Option<Duration>,
}

impl Parameters {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Joins the constraints of the same path in another block or policy: all requirements hold, lists of values
    /// unite (an empty one, "any value", swallows the rest), and of each TTL the lowest counts.
    pub(super) fn merge(&mut self, other: &Self) {
        self.required.extend(other.required.iter().cloned());
        unite(&mut self.allowed, &other.allowed);
        unite(&mut self.denied, &other.denied);
        let lowest = |a: Option<Duration>, b: Option<Duration>| a.into_iter().chain(b).min();
        self.min_wrapping_ttl = lowest(self.min_wrapping_ttl, other.min_wrapping_ttl);
        self.max_wrapping_ttl = lowest(self.max_wrapping_ttl, other.max_wrapping_ttl);
    }

    /// Whether a request keeps to the constraints. Parameters are checked for every operation that carries any; they
    /// are required where Vault requires them, which is not of a delete or a list.
    pub(super) fn check(
        &self,
        operation: Operation,
        data: Option<&Map<String, Value>>,
        wrap_ttl: Option<Duration>,
    ) -> Result<(), Reason<'_>> {
        if self.min_wrapping_ttl.is_some() || self.max_wrapping_ttl.is_some() {
            let ttl = wrap_ttl.ok_or(Reason::WrappingRequired)?;
            if self.min_wrapping_ttl.is_some_and(|min| ttl < min)
                || self.max_wrapping_ttl.is_some_and(|max| ttl > max)
            {
                return Err(Reason::WrappingTtl);
            }
        }
        if !self.required.is_empty() && !matches!(operation, Operation::Delete | Operation::List) {
            // A parameter that is null is not given: mounts take it for absent.
            let given = |name: &str| {
                data.is_some_and(|data| {
                    data.iter()
                        .any(|(key, value)| !value.is_null() && fold(key) == name)
                })
            };
            if let Some(missing) = self.required.iter().find(|name| !given(name)) {
                return Err(Reason::ParameterMissing(missing));
            }
        }
        for (key, value) in data.into_iter().flatten() {
            let key = fold(key);
            if let Some((name, _)) = self.denied.get_key_value(ANY) {
                return Err(Reason::ParameterDenied(name));
            }
            if let Some((name, values)) = self.denied.get_key_value(&*key)
                && (values.is_empty() || values.iter().any(|denied| finds(denied, value)))
            {
                return Err(Reason::ParameterDenied(name));
            }
            if self.allowed.is_empty() {
                continue;
            }
            match self.allowed.get(&*key) {
                Some(values) if values.is_empty() || permits(values, value) => {}
                None if self.allowed.contains_key(ANY) => {}
                _ => return Err(Reason::ParameterNotAllowed),
            }
        }
        Ok(())
    }
}

fn unite(into: &mut BTreeMap<String, Vec<Value>>, from: &BTreeMap<String, Vec<Value>>) {
    for (name, values) in from {
        match into.get_mut(name) {
            None => {
                into.insert(name.clone(), values.clone());
            }
            Some(known) if known.is_empty() || values.is_empty() => known.clear(),
            Some(known) => {
                for value in values {
                    if !known.contains(value) {
                        known.push(value.clone());
                    }
                }
            }
        }
    }
}

/// Whether `value` is one of the allowed ones: as a whole, or each of its items.
fn permits(allowed: &[Value], value: &Value) -> bool {
    if allowed.iter().any(|entry| equals(entry, value)) {
        return true;
    }
    match value {
        Value::Array(items) => items.iter().all(|item| permits(allowed, item)),
        Value::String(text) if text.contains(',') => text.split(',').all(|item| {
            let item = Value::String(item.trim().to_owned());
            allowed.iter().any(|entry| equals(entry, &item))
        }),
        _ => false,
    }
}

/// An allowed value and what was sent. A text may begin or end with `*`; a number or a boolean may come as its text,
/// as it must in a query.
fn equals(allowed: &Value, value: &Value) -> bool {
    match (allowed, value) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| exactly(a, b))
        }
        (Value::Object(_), Value::Object(_)) => exactly(allowed, value),
        (Value::Null, Value::Null) => true,
        (Value::String(pattern), _) => scalar(value).is_some_and(|text| glob(pattern, &text)),
        _ => matches!((scalar(allowed), scalar(value)), (Some(a), Some(b)) if a == b),
    }
}

/// Equality inside lists and objects: numbers by value, no globs, the order of keys without meaning.
fn exactly(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| exactly(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| exactly(a, b)))
        }
        (Value::Number(_), Value::Number(_)) => scalar(a) == scalar(b),
        _ => a == b,
    }
}

/// Whether a denied value is in what was sent, at any depth.
fn finds(denied: &Value, value: &Value) -> bool {
    let here = match (denied, value) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(denied), _) => boolean(value) == Some(*denied),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| finds(a, b))
        }
        (Value::Object(a), Value::Object(b)) => a.iter().all(|(key, a)| {
            b.iter()
                .any(|(other, b)| fold(key) == fold(other) && finds(a, b))
        }),
        _ => match (scalar(denied), scalar(value)) {
            (Some(denied), Some(text)) => {
                let (denied, text) = (fold(&denied), fold(&text));
                glob(&denied, &text)
                    || glob(&denied, text.trim())
                    || text.split(',').any(|item| glob(&denied, item.trim()))
            }
            _ => false,
        },
    };
    // A boolean that the policy writes as a text: the mounts take `1` and `t` for it all the same.
    let in_words = match denied.as_str() {
        Some(text) if text.eq_ignore_ascii_case("true") => boolean(value) == Some(true),
        Some(text) if text.eq_ignore_ascii_case("false") => boolean(value) == Some(false),
        _ => false,
    };
    here || in_words
        || match value {
            Value::Array(items) => items.iter().any(|item| finds(denied, item)),
            Value::Object(members) => members.values().any(|member| finds(denied, member)),
            _ => false,
        }
}

/// The spellings of a boolean that the mounts accept.
fn boolean(value: &Value) -> Option<bool> {
    match scalar(value)?.trim() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A string, number or boolean as one text; whole numbers alike whether they came as `1` or `1.0`.
fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    /// Up to here every whole number is a float of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Bool(true) => Some(Cow::Borrowed("true")),
        Value::Bool(false) => Some(Cow::Borrowed("false")),
        Value::Number(number) => Some(Cow::Owned(match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT => {
                (float as i64).to_string()
            }
            _ => number.to_string(),
        })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// `*` at either end of the pattern, or at both, stands for anything.
fn glob(pattern: &str, text: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(""), _) => true,
        (Some(tail), Some(_)) => text.contains(&tail[..tail.len() - 1]),
        (Some(suffix), None) => text.ends_with(suffix),
        (None, Some(prefix)) => text.starts_with(prefix),
        (None, None) => pattern == text,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use crate::core::policies::{Access, Acl, Policy};

    use super::*;

    fn acl(body: &str) -> Acl {
        let text = format!(
            "path \"p\" {{\n capabilities = [\"create\", \"read\", \"update\", \"delete\", \"list\"]\n{body}\n}}"
        );
        Acl::compile(&[Arc::new(Policy::parse("test", &text).unwrap())])
    }

    fn allows(acl: &Acl, operation: Operation, data: Value) -> bool {
        acl.check(&Access {
            operation,
            path: "p",
            data: data.as_object(),
            wrap_ttl: None,
        })
        .allowed
    }

    fn update(acl: &Acl, data: Value) -> bool {
        allows(acl, Operation::Update, data)
    }

    #[test]
    fn parameter_constraints_hold_whatever_the_case_type_and_depth() {
        // By case of the name, in the policy or in the request; by sending it twice.
        let denied = acl("denied_parameters = { \"Token_Policies\" = [] }");
        for name in ["token_policies", "TOKEN_POLICIES", "Token_Policies"] {
            assert!(!update(&denied, json!({ name: "x" })), "{name}");
        }
        let allowed = acl("allowed_parameters = { \"ttl\" = [\"1h\"] }");
        assert!(update(&allowed, json!({"TTL": "1h"})));
        assert!(!update(&allowed, json!({"ttl": "1h", "TTL": "2h"})));
        // By nesting, by type, by case of the value, by hiding it in a list or a comma-separated text.
        let denied = acl("denied_parameters = { \"policies\" = [\"admin*\"] }");
        for hidden in [
            json!("admin"),
            json!("ADMIN"),
            json!(" admin-2 "),
            json!(["dev", "admin"]),
            json!([["admin"]]),
            json!("dev, admin"),
            json!({"a": {"b": "admin"}}),
            json!("dev,Admin,x"),
        ] {
            assert!(!update(&denied, json!({"policies": hidden})), "{hidden}");
        }
        assert!(update(&denied, json!({"policies": ["dev", "sadmin"]})));
        let denied = acl("denied_parameters = { \"no_store\" = [false], \"n\" = [1] }");
        for spelling in [
            json!(false),
            json!("false"),
            json!("FALSE"),
            json!("f"),
            json!(0),
            json!("0"),
        ] {
            assert!(
                !update(&denied, json!({"no_store": spelling})),
                "{spelling}"
            );
        }
        for spelling in [json!(1), json!(1.0), json!("1")] {
            assert!(!update(&denied, json!({"n": spelling})), "{spelling}");
        }
        // The query of a read, a list or a delete is no way around.
        for operation in [Operation::Read, Operation::List, Operation::Delete] {
            assert!(!allows(&denied, operation, json!({"n": "1"})));
        }
        // A required parameter that is null counts as absent.
        let required = acl("required_parameters = [\"No_Store\"]");
        assert!(
            update(&required, json!({"no_store": true}))
                && update(&required, json!({"NO_STORE": false}))
        );
        assert!(!update(&required, json!({"no_store": null})) && !update(&required, json!({})));
    }

    #[test]
    fn allowed_values_are_compared_whole_or_item_by_item_as_vault_documents() {
        let acl = acl("allowed_parameters = { \"x\" = [\"A\", \"B\"] }");
        for good in [
            json!("A"),
            json!("B"),
            json!(["A", "B"]),
            json!(["B"]),
            json!("A,B"),
            json!("B,A"),
        ] {
            assert!(update(&acl, json!({"x": good})), "{good}");
        }
        for bad in [
            json!("C"),
            json!(["A", "C"]),
            json!("A,C"),
            json!("a"),
            json!(null),
            json!({"A": "B"}),
            json!(["A", ["C"]]),
        ] {
            assert!(!update(&acl, json!({"x": bad})), "{bad}");
        }
        assert!(
            !update(&acl, json!({"y": "A"})),
            "a parameter that is not named is not allowed"
        );
        assert!(update(&acl, json!({})), "no parameter, nothing to forbid");
    }

    #[test]
    fn typed_and_nested_values_are_compared_by_value() {
        let acl = acl(
            "allowed_parameters = { \"map\" = [{ \"good\" = 1 }], \"int\" = [1, 2], \"bool\" = [false], \"*\" = [] }",
        );
        for good in [
            json!({"map": {"good": 1.0}}),
            json!({"int": 1}),
            json!({"int": "2"}),
            json!({"bool": false}),
            json!({"other": [1]}),
        ] {
            assert!(update(&acl, good.clone()), "{good}");
        }
        for bad in [
            json!({"map": {"bad": 1}}),
            json!({"map": {"good": 1, "more": 2}}),
            json!({"map": {"good": "*"}}),
            json!({"int": 3}),
            json!({"int": 1.5}),
            json!({"bool": true}),
            json!({"bool": "0"}),
        ] {
            assert!(!update(&acl, bad.clone()), "{bad}");
        }
    }

    #[test]
    fn a_denied_boolean_is_found_in_every_spelling_that_mounts_accept() {
        for denied in ["true", "\"true\"", "\"TRUE\""] {
            let acl = acl(&format!("denied_parameters = {{ \"x\" = [{denied}] }}"));
            for bad in [
                json!(true),
                json!("true"),
                json!("True"),
                json!(1),
                json!("1"),
                json!("t"),
                json!([1]),
            ] {
                assert!(!update(&acl, json!({"x": bad})), "{denied} {bad}");
            }
            for good in [
                json!(false),
                json!("0"),
                json!(0),
                json!("f"),
                json!("other"),
            ] {
                assert!(update(&acl, json!({"x": good})), "{denied} {good}");
            }
        }
    }

    #[test]
    fn globs_stand_at_the_ends_of_a_value() {
        for (pattern, good, bad) in [
            ("foo-*", "foo-1", "xfoo-1"),
            ("*-foo", "1-foo", "1-foox"),
            ("*foo*", "xfoox", "fo"),
            ("*", "any", ""),
            ("a*b", "a*b", "axb"),
            ("**", "x", ""),
        ] {
            assert!(glob(pattern, good), "{pattern} {good}");
            assert!(
                pattern.chars().all(|c| c == '*') || !glob(pattern, bad),
                "{pattern} {bad}"
            );
        }
    }

    #[test]
    fn deny_outweighs_allow_and_star_denies_all() {
        let both =
            acl("allowed_parameters = { \"steve\" = [] }\ndenied_parameters = { \"steve\" = [] }");
        assert!(!update(&both, json!({"steve": 1})));
        let all = acl("allowed_parameters = { \"*\" = [] }\ndenied_parameters = { \"*\" = [] }");
        assert!(!update(&all, json!({"x": 1})) && update(&all, json!({})));
        let some = acl("allowed_parameters = { \"*\" = [] }\ndenied_parameters = { \"foo\" = [] }");
        assert!(update(&some, json!({"one": 1})) && !update(&some, json!({"foo": 1})));
    }

    #[test]
    fn a_wrapping_ttl_makes_wrapping_mandatory_and_bounds_it() {
        let wrapped = |acl: &Acl, seconds: Option<u64>| {
            let wrap_ttl = seconds.map(Duration::from_secs);
            acl.check(&Access {
                operation: Operation::Read,
                path: "p",
                data: None,
                wrap_ttl,
            })
            .allowed
        };
        let both = acl("min_wrapping_ttl = 300\nmax_wrapping_ttl = \"400s\"");
        assert_eq!(
            [None, Some(50), Some(450), Some(350)].map(|ttl| wrapped(&both, ttl)),
            [false, false, false, true]
        );
        let max = acl("max_wrapping_ttl = 400");
        assert_eq!(
            [None, Some(450), Some(1)].map(|ttl| wrapped(&max, ttl)),
            [false, false, true]
        );
        let min = acl("min_wrapping_ttl = \"1s\"");
        assert_eq!([None, Some(1)].map(|ttl| wrapped(&min, ttl)), [false, true]);
    }

    #[test]
    fn constraints_on_one_path_are_joined() {
        let merged = acl(
            "allowed_parameters = { \"a\" = [1], \"b\" = [1] }\nrequired_parameters = [\"a\"]\nmax_wrapping_ttl = 300\n}\n\
             path \"p\" {\ncapabilities = [\"patch\"]\nallowed_parameters = { \"a\" = [2], \"b\" = [], \"c\" = [] }\n\
             required_parameters = [\"c\"]\nmax_wrapping_ttl = 200",
        );
        let check = |data: Value, ttl| {
            let wrap_ttl = Some(Duration::from_secs(ttl));
            merged
                .check(&Access {
                    operation: Operation::Patch,
                    path: "p",
                    data: data.as_object(),
                    wrap_ttl,
                })
                .allowed
        };
        assert!(check(json!({"a": 2, "b": "any", "c": 0}), 200));
        assert!(!check(json!({"a": 3, "c": 0}), 200));
        assert!(!check(json!({"a": 1}), 200));
        assert!(!check(json!({"a": 1, "c": 0}), 250));
    }
}
