//! Templates in a rule's path: `secret/data/{{identity.entity.name}}/*` is another path for each entity.
//!
//! The rule for values, because people choose names and directories hold anything: a value takes the place of its
//! template letter by letter, and only there. One that holds `*`, `+`, `/`, a backslash or a control character, or that
//! makes a segment `.` or `..`, is not used at all: the rule then grants nothing (GHSA-59w7, threats:
//! `glob-in-template`). A rule that denies must not fall away by such a value: who has it is denied everything that
//! these policies could allow. A value that is absent or empty leaves its rule out, as in Vault, and so does a caller
//! without an entity.

use super::pattern::{Pattern, PatternError};

/// A path with templates, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(Box<str>),
    Value(Parameter),
}

/// What a template asks of an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parameter {
    EntityId,
    EntityName,
    EntityMetadata(Box<str>),
    /// Of the alias at the mount with this accessor.
    Alias(Box<str>, OfAlias),
    /// Of a group that the entity is in, directly or through another.
    GroupById(Box<str>, OfGroup),
    GroupByName(Box<str>, OfGroup),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OfAlias {
    Id,
    Name,
    Metadata(Box<str>),
    CustomMetadata(Box<str>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OfGroup {
    Id,
    Name,
    Metadata(Box<str>),
}

/// Who answers for an entity.
pub trait Values {
    fn value(&self, parameter: &Parameter) -> Option<&str>;
}

/// A template for one entity.
#[derive(Debug, PartialEq)]
pub(super) enum Filled {
    Pattern(Pattern),
    /// The entity has no such value.
    Absent,
    /// The value could mean more than itself.
    Unusable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("`{{{{` without `}}}}`")]
    Open,
    #[error(
        "unknown template; known are identity.entity.id, .name, .metadata.KEY, .aliases.ACCESSOR.id, .name, .metadata.KEY, .custom_metadata.KEY, identity.groups.ids.ID.name, .metadata.KEY, identity.groups.names.NAME.id, .metadata.KEY"
    )]
    Unknown,
    #[error(transparent)]
    Path(#[from] PatternError),
}

impl Template {
    /// Whether a path has templates at all.
    pub fn is_in(path: &str) -> bool {
        path.contains("{{")
    }

    pub fn parse(path: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = path;
        // With something harmless in each place, what is around the templates must be a path.
        let mut example = String::new();
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, after) = after.split_once("}}").ok_or(TemplateError::Open)?;
            let parameter = Parameter::parse(inside.trim()).ok_or(TemplateError::Unknown)?;
            parts.push(Part::Text(before.into()));
            parts.push(Part::Value(parameter));
            example.push_str(before);
            example.push('x');
            rest = after;
        }
        parts.push(Part::Text(rest.into()));
        example.push_str(rest);
        Pattern::parse(&example)?;
        Ok(Self(parts))
    }

    /// The pattern for one entity.
    pub(super) fn fill(&self, values: &dyn Values) -> Filled {
        let mut path = String::new();
        let mut usable = true;
        for part in &self.0 {
            match part {
                Part::Text(text) => path.push_str(text),
                Part::Value(parameter) => match values.value(parameter) {
                    None | Some("") => return Filled::Absent,
                    Some(value) => {
                        usable &= !value.contains(|c: char| {
                            matches!(c, '*' | '+' | '/' | '\\') || c.is_control()
                        });
                        path.push_str(value);
                    }
                },
            }
        }
        match Pattern::parse(&path) {
            Ok(pattern) if usable => Filled::Pattern(pattern),
            _ => Filled::Unusable,
        }
    }
}

impl Parameter {
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("identity.")?;
        if let Some(of_entity) = text.strip_prefix("entity.") {
            return match of_entity {
                "id" => Some(Self::EntityId),
                "name" => Some(Self::EntityName),
                _ => {
                    if let Some(key) = of_entity.strip_prefix("metadata.") {
                        return Some(Self::EntityMetadata(named(key)?));
                    }
                    let (accessor, what) = of_entity.strip_prefix("aliases.")?.split_once('.')?;
                    let what = match what {
                        "id" => OfAlias::Id,
                        "name" => OfAlias::Name,
                        _ => match what.split_once('.')? {
                            ("metadata", key) => OfAlias::Metadata(named(key)?),
                            ("custom_metadata", key) => OfAlias::CustomMetadata(named(key)?),
                            _ => return None,
                        },
                    };
                    Some(Self::Alias(named(accessor)?, what))
                }
            };
        }
        let of_group = text.strip_prefix("groups.")?;
        if let Some(by_id) = of_group.strip_prefix("ids.") {
            let (id, what) = by_id.split_once('.')?;
            let what = match (what, what.strip_prefix("metadata.")) {
                ("name", _) => OfGroup::Name,
                (_, Some(key)) => OfGroup::Metadata(named(key)?),
                _ => return None,
            };
            return Some(Self::GroupById(named(id)?, what));
        }
        // A group's name may hold dots, so it is what is left of a known end.
        let by_name = of_group.strip_prefix("names.")?;
        if let Some((name, key)) = by_name.split_once(".metadata.") {
            return Some(Self::GroupByName(
                named(name)?,
                OfGroup::Metadata(named(key)?),
            ));
        }
        let name = by_name.strip_suffix(".id")?;
        Some(Self::GroupByName(named(name)?, OfGroup::Id))
    }
}

fn named(text: &str) -> Option<Box<str>> {
    (!text.is_empty()).then(|| text.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    struct Name(&'static str);

    impl Values for Name {
        fn value(&self, parameter: &Parameter) -> Option<&str> {
            (*parameter == Parameter::EntityName).then_some(self.0)
        }
    }

    struct Any(HashMap<String, String>);

    impl Values for Any {
        fn value(&self, parameter: &Parameter) -> Option<&str> {
            self.0.get(&format!("{parameter:?}")).map(String::as_str)
        }
    }

    fn fill(template: &str, name: &'static str) -> Filled {
        Template::parse(template).unwrap().fill(&Name(name))
    }

    fn pattern(text: &str) -> Filled {
        Filled::Pattern(Pattern::parse(text).unwrap())
    }

    #[test]
    fn values_take_the_place_of_their_templates() {
        for (template, path) in [
            ("secret/{{identity.entity.name}}/*", "secret/grace/*"),
            ("/secret/{{ identity.entity.name }}", "secret/grace"),
            ("a/u-{{identity.entity.name}}-x", "a/u-grace-x"),
            (
                "{{identity.entity.name}}/{{identity.entity.name}}",
                "grace/grace",
            ),
        ] {
            assert_eq!(fill(template, "grace"), pattern(path), "{template}");
        }
        assert_eq!(
            fill("a/{{identity.entity.name}}", "CN=Grace, @x.y"),
            pattern("a/CN=Grace, @x.y")
        );
        assert_eq!(fill("a/{{identity.entity.id}}", "grace"), Filled::Absent);
        assert_eq!(fill("a/b-{{identity.entity.name}}", ""), Filled::Absent);
    }

    #[test]
    fn glob_in_template_a_value_that_could_mean_more_than_itself_is_not_used() {
        for value in [
            "*", "+", "/", "a*", "a/b", "a+b", "..", ".", "a\\b", "a\0", "{{", "../root", "\n",
        ] {
            for template in [
                "secret/{{identity.entity.name}}",
                "secret/{{identity.entity.name}}/data/*",
                "{{identity.entity.name}}/x",
            ] {
                assert_eq!(
                    fill(template, value),
                    Filled::Unusable,
                    "{template} {value:?}"
                );
            }
        }
    }

    #[test]
    fn every_parameter_that_vault_documents_is_known() {
        use Parameter::*;
        let known = [
            ("identity.entity.id", EntityId),
            ("identity.entity.name", EntityName),
            (
                "identity.entity.metadata.team.x",
                EntityMetadata("team.x".into()),
            ),
            (
                "identity.entity.aliases.auth_k_1.id",
                Alias("auth_k_1".into(), OfAlias::Id),
            ),
            (
                "identity.entity.aliases.auth_k_1.name",
                Alias("auth_k_1".into(), OfAlias::Name),
            ),
            (
                "identity.entity.aliases.a.metadata.k",
                Alias("a".into(), OfAlias::Metadata("k".into())),
            ),
            (
                "identity.entity.aliases.a.custom_metadata.k",
                Alias("a".into(), OfAlias::CustomMetadata("k".into())),
            ),
            (
                "identity.groups.ids.1-2.name",
                GroupById("1-2".into(), OfGroup::Name),
            ),
            (
                "identity.groups.ids.1-2.metadata.k",
                GroupById("1-2".into(), OfGroup::Metadata("k".into())),
            ),
            (
                "identity.groups.names.the.works.id",
                GroupByName("the.works".into(), OfGroup::Id),
            ),
            (
                "identity.groups.names.w.metadata.k",
                GroupByName("w".into(), OfGroup::Metadata("k".into())),
            ),
        ];
        for (text, parameter) in known {
            assert_eq!(Parameter::parse(text), Some(parameter), "{text}");
        }
        for text in [
            "",
            "identity",
            "identity.",
            "identity.entity",
            "identity.entity.",
            "identity.entity.metadata.",
            "identity.entity.metadata",
            "identity.entity.aliases.a",
            "identity.entity.aliases.a.other",
            "identity.entity.aliases..name",
            "identity.groups.ids.1",
            "identity.groups.ids..name",
            "identity.groups.names..id",
            "identity.groups.names.x",
            "entity.id",
            "time.now",
        ] {
            assert_eq!(Parameter::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_template_or_no_path_around_it_is_refused() {
        assert_eq!(
            Template::parse("a/{{identity.entity.id"),
            Err(TemplateError::Open)
        );
        assert_eq!(Template::parse("a/{{other}}"), Err(TemplateError::Unknown));
        for text in [
            "a//{{identity.entity.id}}",
            "a/*/{{identity.entity.id}}",
            "../{{identity.entity.id}}",
        ] {
            assert!(
                matches!(Template::parse(text), Err(TemplateError::Path(_))),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn glob_in_template_a_pattern_keeps_its_shape_whatever_the_value(value in "[a.+*/{}\\\\]{0,6}|\\PC{0,6}") {
            let values = Any([(format!("{:?}", Parameter::EntityName), value)].into());
            let template = Template::parse("secret/{{identity.entity.name}}/+/x*").unwrap();
            if let Filled::Pattern(pattern) = template.fill(&values) {
                prop_assert_eq!(pattern.steps().count(), 4);
                prop_assert_eq!(pattern.as_str().matches(['+', '*']).count(), 2);
            }
        }

        #[test]
        fn any_text_is_read_or_refused_without_panic(text in "\\PC{0,60}") {
            let _ = Template::parse(&text);
            let _ = Template::parse(&format!("a/{{{{{text}}}}}"));
            let _ = Template::parse(&format!("a/{{{{identity.{text}}}}}"));
        }
    }
}
