//! Field types that accept every form that Vault's API accepts: `"1h"` or 3600, `true` or `"true"`, a list or
//! a comma-separated text. Their errors say what was expected and never repeat what was sent
//! (threats: `error-leaks-input`).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::{Error, Result, TokenKind, TokenParams, assignable_policies, cidr, duration};

/// A duration: seconds as a number, or a text such as `1h30m`. Serialised as whole seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ttl(pub Duration);

impl Ttl {
    pub fn as_secs(self) -> u64 {
        self.0.as_secs()
    }
}

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct TtlVisitor;
        impl Visitor<'_> for TtlVisitor {
            type Value = Ttl;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"1h30m\" or 5400 (seconds)")
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Ttl, E> {
                duration::seconds(v).map(Ttl).map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Ttl, E> {
                u64::try_from(v)
                    .map_err(|_| E::custom(duration::ParseError::Negative))
                    .and_then(|v| self.visit_u64(v))
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Ttl, E> {
                if v >= 0.0 && v.fract() == 0.0 && v < 1e12 {
                    return self.visit_u64(v as u64);
                }
                Err(E::custom(duration::ParseError::Syntax))
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Ttl, E> {
                if v.trim().is_empty() {
                    return Ok(Ttl::default());
                }
                duration::parse(v).map(Ttl).map_err(E::custom)
            }
        }
        d.deserialize_any(TtlVisitor)
    }
}

impl Serialize for Ttl {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(self.as_secs())
    }
}

impl JsonSchema for Ttl {
    fn schema_name() -> Cow<'static, str> {
        "Ttl".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        match answers(generator) {
            true => json_schema!({ "type": "integer", "minimum": 0 }),
            false => {
                json_schema!({ "type": ["integer", "string"], "minimum": 0, "examples": ["1h30m", 5400] })
            }
        }
    }
}

/// A list of texts: an array, or one text with commas. Blanks around items and empty items go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct CommaList(pub Vec<String>);

impl<'de> Deserialize<'de> for CommaList {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = CommaList;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of texts, or one text with commas")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<CommaList, E> {
                Ok(CommaList(
                    v.split(',')
                        .map(str::trim)
                        .filter(|s| !s.is_empty())
                        .map(str::to_owned)
                        .collect(),
                ))
            }
            fn visit_unit<E: de::Error>(self) -> Result<CommaList, E> {
                Ok(CommaList::default())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<CommaList, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element::<String>()? {
                    // An item of an array is taken as it is: a name that must not have blanks around it is
                    // refused where names are checked, not mended here.
                    if !item.is_empty() {
                        items.push(item);
                    }
                }
                Ok(CommaList(items))
            }
        }
        d.deserialize_any(ListVisitor)
    }
}

impl JsonSchema for CommaList {
    fn schema_name() -> Cow<'static, str> {
        "CommaList".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        match answers(generator) {
            true => json_schema!({ "type": "array", "items": { "type": "string" } }),
            false => json_schema!({ "type": ["array", "string"], "items": { "type": "string" } }),
        }
    }
}

/// Metadata: texts by name, as an object or as `key=value` texts. A number in an object is taken as its text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Metadata(pub BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct MetadataVisitor;
        impl<'de> Visitor<'de> for MetadataVisitor {
            type Value = Metadata;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("texts by name, or a list of \"key=value\"")
            }
            fn visit_unit<E: de::Error>(self) -> Result<Metadata, E> {
                Ok(Metadata::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metadata, A::Error> {
                let mut out = BTreeMap::new();
                while let Some((key, Text(value))) = map.next_entry::<String, Text>()? {
                    out.insert(key, value);
                }
                Ok(Metadata(out))
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Metadata, E> {
                match v.is_empty() {
                    true => Ok(Metadata::default()),
                    false => pair(v).map(|pair| Metadata([pair].into())),
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Metadata, A::Error> {
                let mut out = BTreeMap::new();
                while let Some(item) = seq.next_element::<String>()? {
                    let (key, value) = pair(&item)?;
                    out.insert(key, value);
                }
                Ok(Metadata(out))
            }
        }
        d.deserialize_any(MetadataVisitor)
    }
}

/// A text, or a number as its text.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl Visitor<'_> for TextVisitor {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Text, E> {
                Ok(Text(v.to_owned()))
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Text, E> {
                Ok(Text(v.to_string()))
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Text, E> {
                Ok(Text(v.to_string()))
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Text, E> {
                Ok(Text(v.to_string()))
            }
        }
        d.deserialize_any(TextVisitor)
    }
}

fn pair<E: de::Error>(text: &str) -> Result<(String, String), E> {
    text.split_once('=')
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .ok_or_else(|| E::custom("expected \"key=value\""))
}

impl JsonSchema for Metadata {
    fn schema_name() -> Cow<'static, str> {
        "Metadata".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        match answers(generator) {
            true => {
                json_schema!({ "type": "object", "additionalProperties": { "type": "string" } })
            }
            false => json_schema!({
                "type": ["object", "array", "string"],
                "additionalProperties": { "type": ["string", "number"] },
                "items": { "type": "string" },
            }),
        }
    }
}

/// `true`, `"true"`, `"1"`, 1 and their opposites.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Flag(pub bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct FlagVisitor;
        impl Visitor<'_> for FlagVisitor {
            type Value = Flag;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }
            fn visit_bool<E: de::Error>(self, v: bool) -> Result<Flag, E> {
                Ok(Flag(v))
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Flag, E> {
                match v {
                    0 => Ok(Flag(false)),
                    1 => Ok(Flag(true)),
                    _ => Err(E::custom("expected true or false")),
                }
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Flag, E> {
                match v {
                    "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Flag(true)),
                    "0" | "f" | "F" | "false" | "FALSE" | "False" | "" => Ok(Flag(false)),
                    _ => Err(E::custom("expected true or false")),
                }
            }
        }
        d.deserialize_any(FlagVisitor)
    }
}

impl JsonSchema for Flag {
    fn schema_name() -> Cow<'static, str> {
        "Flag".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        match answers(generator) {
            true => json_schema!({ "type": "boolean" }),
            false => json_schema!({ "type": ["boolean", "string"] }),
        }
    }
}

/// A whole number that is not negative, as a number or as a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Count(pub u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct CountVisitor;
        impl Visitor<'_> for CountVisitor {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number that is not negative")
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Count, E> {
                Ok(Count(v))
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Count, E> {
                u64::try_from(v)
                    .map(Count)
                    .map_err(|_| E::custom("expected a whole number that is not negative"))
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Count, E> {
                if v >= 0.0 && v.fract() == 0.0 && v < 9e15 {
                    return Ok(Count(v as u64));
                }
                Err(E::custom("expected a whole number that is not negative"))
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Count, E> {
                v.trim()
                    .parse()
                    .map(Count)
                    .map_err(|_| E::custom("expected a whole number that is not negative"))
            }
        }
        d.deserialize_any(CountVisitor)
    }
}

impl JsonSchema for Count {
    fn schema_name() -> Cow<'static, str> {
        "Count".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        match answers(generator) {
            true => json_schema!({ "type": "integer", "minimum": 0 }),
            false => json_schema!({ "type": ["integer", "string"], "minimum": 0 }),
        }
    }
}

/// A list of whole numbers, such as kv's `versions`: an array of numbers or texts, one number, or a text with commas.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct CountList(pub Vec<u64>);

impl<'de> Deserialize<'de> for CountList {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = CountList;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of whole numbers")
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<CountList, E> {
                Ok(CountList(vec![v]))
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<CountList, E> {
                v.split(',')
                    .map(str::trim)
                    .filter(|s| !s.is_empty())
                    .map(|s| {
                        s.parse()
                            .map_err(|_| E::custom("expected a list of whole numbers"))
                    })
                    .collect::<Result<_, _>>()
                    .map(CountList)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<CountList, A::Error> {
                let mut items = Vec::new();
                while let Some(Count(item)) = seq.next_element()? {
                    items.push(item);
                }
                Ok(CountList(items))
            }
        }
        d.deserialize_any(ListVisitor)
    }
}

impl JsonSchema for CountList {
    fn schema_name() -> Cow<'static, str> {
        "CountList".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        match answers(generator) {
            true => json_schema!({ "type": "array", "items": { "type": "integer" } }),
            false => {
                json_schema!({ "type": ["array", "integer", "string"], "items": { "type": ["integer", "string"] } })
            }
        }
    }
}

/// Whether the schema is that of an answer: what is taken in many forms is given in one.
fn answers(generator: &SchemaGenerator) -> bool {
    generator.contract().is_serialize()
}

/// Vault's `token_*` fields, for `#[serde(flatten)]` in a configuration: optional on the way in.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct TokenFields {
    /// The first TTL of a token from this method; 0 means the mount's default.
    pub token_ttl: Option<Ttl>,
    /// The TTL that renewals cannot exceed; 0 means the mount's maximum.
    pub token_max_ttl: Option<Ttl>,
    /// Policies that every token from this method gets besides its own.
    pub token_policies: Option<CommaList>,
    /// Addresses (CIDR blocks) from which a token of this method may be used.
    pub token_bound_cidrs: Option<CommaList>,
    /// A limit on a token's whole life that no renewal moves; 0 means none.
    pub token_explicit_max_ttl: Option<Ttl>,
    /// Leave out the `default` policy.
    pub token_no_default_policy: Option<Flag>,
    /// How often a token may be used; 0 means without limit.
    pub token_num_uses: Option<Count>,
    /// Makes tokens periodic: each renewal sets the TTL to this period.
    pub token_period: Option<Ttl>,
    /// `service`, `batch`, `default`, `default-service` or `default-batch`.
    pub token_type: Option<TokenKind>,
}

/// Names that some of them had before, beside them in a configuration whose clients may still send those.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct OlderTokenFields {
    /// Older name of token_policies.
    #[schemars(extend("x-aliases" = ["token_policies"]))]
    pub policies: Option<CommaList>,
    /// Older name of token_ttl.
    #[schemars(extend("x-aliases" = ["token_ttl"]))]
    pub ttl: Option<Ttl>,
    /// Older name of token_max_ttl.
    #[schemars(extend("x-aliases" = ["token_max_ttl"]))]
    pub max_ttl: Option<Ttl>,
    /// Older name of token_bound_cidrs.
    #[schemars(extend("x-aliases" = ["token_bound_cidrs"]))]
    pub bound_cidrs: Option<CommaList>,
}

impl TokenFields {
    /// With what was sent by an older name alone.
    pub fn or_older(self, older: &OlderTokenFields) -> Self {
        Self {
            token_policies: self.token_policies.or_else(|| older.policies.clone()),
            token_ttl: self.token_ttl.or(older.ttl),
            token_max_ttl: self.token_max_ttl.or(older.max_ttl),
            token_bound_cidrs: self.token_bound_cidrs.or_else(|| older.bound_cidrs.clone()),
            ..self
        }
    }

    /// Sets what was sent, and leaves the rest as it is. Nothing is set when the result would make no sense.
    pub fn apply(self, params: &mut TokenParams) -> Result<()> {
        let Self {
            token_ttl,
            token_max_ttl,
            token_policies,
            token_bound_cidrs,
            token_explicit_max_ttl,
            token_no_default_policy,
            token_num_uses,
            token_period,
            token_type,
        } = self;
        let mut changed = params.clone();
        let set = |to: &mut Duration, from: Option<Ttl>| {
            if let Some(Ttl(value)) = from {
                *to = value;
            }
        };
        set(&mut changed.ttl, token_ttl);
        set(&mut changed.max_ttl, token_max_ttl);
        set(&mut changed.explicit_max_ttl, token_explicit_max_ttl);
        set(&mut changed.period, token_period);
        if let Some(CommaList(value)) = token_policies {
            changed.policies = assignable_policies("token_policies", &value)?;
        }
        if let Some(CommaList(value)) = token_bound_cidrs {
            cidr::parse_list("token_bound_cidrs", &value)?;
            changed.bound_cidrs = value;
        }
        if let Some(Flag(value)) = token_no_default_policy {
            changed.no_default_policy = value;
        }
        if let Some(Count(value)) = token_num_uses {
            changed.num_uses = value;
        }
        if let Some(value) = token_type {
            changed.kind = value;
        }
        if !changed.max_ttl.is_zero() && changed.ttl > changed.max_ttl {
            return Err(Error::bad_request("token_ttl is longer than token_max_ttl"));
        }
        // Batch tokens are not stored: nothing can count their uses or renew them.
        if matches!(changed.kind, TokenKind::Batch | TokenKind::DefaultBatch) {
            if changed.num_uses > 0 {
                return Err(Error::bad_request(
                    "token_type: batch tokens cannot have token_num_uses",
                ));
            }
            if !changed.period.is_zero() {
                return Err(Error::bad_request(
                    "token_type: batch tokens cannot have a token_period",
                ));
            }
        }
        *params = changed;
        Ok(())
    }
}

/// The same fields as they are stored and read back; `#[serde(flatten)]` it into a record or an answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StoredTokenFields {
    pub token_ttl: Ttl,
    pub token_max_ttl: Ttl,
    pub token_policies: CommaList,
    pub token_bound_cidrs: CommaList,
    pub token_explicit_max_ttl: Ttl,
    pub token_no_default_policy: bool,
    pub token_num_uses: u64,
    pub token_period: Ttl,
    pub token_type: TokenKind,
}

impl From<&TokenParams> for StoredTokenFields {
    fn from(p: &TokenParams) -> Self {
        Self {
            token_ttl: Ttl(p.ttl),
            token_max_ttl: Ttl(p.max_ttl),
            token_policies: CommaList(p.policies.clone()),
            token_bound_cidrs: CommaList(p.bound_cidrs.clone()),
            token_explicit_max_ttl: Ttl(p.explicit_max_ttl),
            token_no_default_policy: p.no_default_policy,
            token_num_uses: p.num_uses,
            token_period: Ttl(p.period),
            token_type: p.kind,
        }
    }
}

impl From<StoredTokenFields> for TokenParams {
    fn from(s: StoredTokenFields) -> Self {
        Self {
            ttl: s.token_ttl.0,
            max_ttl: s.token_max_ttl.0,
            explicit_max_ttl: s.token_explicit_max_ttl.0,
            period: s.token_period.0,
            policies: s.token_policies.0,
            bound_cidrs: s.token_bound_cidrs.0,
            num_uses: s.token_num_uses,
            no_default_policy: s.token_no_default_policy,
            kind: s.token_type,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read<T: for<'a> Deserialize<'a>>(value: serde_json::Value) -> Result<T, String> {
        serde_json::from_value(value).map_err(|e| e.to_string())
    }

    #[test]
    fn vaults_flexible_forms_are_accepted() {
        assert_eq!(read::<Ttl>(json!("1h")).unwrap().as_secs(), 3600);
        assert_eq!(read::<Ttl>(json!(3600)).unwrap().as_secs(), 3600);
        assert_eq!(
            read::<CommaList>(json!("a, b,,c")).unwrap().0,
            ["a", "b", "c"]
        );
        assert_eq!(read::<CommaList>(json!(["a", "b"])).unwrap().0, ["a", "b"]);
        assert!(read::<Flag>(json!("true")).unwrap().0);
        assert!(!read::<Flag>(json!(false)).unwrap().0);
        assert_eq!(read::<Count>(json!("7")).unwrap().0, 7);
        assert_eq!(read::<CountList>(json!([1, "2"])).unwrap().0, [1, 2]);
        assert_eq!(read::<CountList>(json!("1,2")).unwrap().0, [1, 2]);
    }

    fn fields(value: serde_json::Value) -> TokenFields {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_was_not_sent_stays_as_it_is() {
        let mut params = TokenParams::default();
        fields(json!({"token_ttl": "1h", "token_policies": "Web,dev"}))
            .apply(&mut params)
            .unwrap();
        fields(json!({"token_max_ttl": 7200}))
            .apply(&mut params)
            .unwrap();
        let stored = serde_json::to_value(StoredTokenFields::from(&params)).unwrap();
        assert_eq!(stored["token_ttl"], 3600);
        assert_eq!(stored["token_max_ttl"], 7200);
        assert_eq!(stored["token_policies"], json!(["web", "dev"]));
        assert_eq!(
            TokenParams::from(serde_json::from_value::<StoredTokenFields>(stored).unwrap()),
            params
        );
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_as_a_whole() {
        for wrong in [
            json!({"token_ttl": "2h", "token_max_ttl": "1h"}),
            json!({"token_ttl": 5, "token_policies": "dev,ROOT"}),
            json!({"token_ttl": 5, "token_policies": [" root"]}),
            json!({"token_ttl": 5, "token_bound_cidrs": "10.0.0.0/40"}),
            json!({"token_ttl": 5, "token_type": "batch", "token_num_uses": 1}),
            json!({"token_ttl": 5, "token_type": "default-batch", "token_period": "1h"}),
        ] {
            let mut params = TokenParams::default();
            assert_eq!(
                fields(wrong.clone())
                    .apply(&mut params)
                    .unwrap_err()
                    .status(),
                400,
                "{wrong}"
            );
            assert_eq!(params, TokenParams::default(), "{wrong}");
        }
    }

    #[test]
    fn negative_and_foreign_values_are_refused() {
        assert!(read::<Ttl>(json!(-1)).is_err());
        assert!(read::<Count>(json!(-1)).is_err());
        assert!(read::<Flag>(json!("perhaps")).is_err());
        assert!(read::<CommaList>(json!([1])).is_err());
    }
}
