#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn text_of<'a>(object: &'a Object, key: &str) -> &'a Value {
    &object
        .members
        .iter()
        .find(|m| m.key.text == key)
        .unwrap()
        .value
        .value
}

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// The tree without its places, for comparing two layouts of one text.
fn plain(object: &Object) -> String {
    let members = object.members.iter().map(|m| {
        let labels: Vec<_> = m.labels.iter().map(|l| &l.text).collect();
        format!("{:?}{labels:?}{}", m.key.text, plain_value(&m.value))
    });
    format!("{{{}}}", members.collect::<Vec<_>>().join(";"))
}

fn plain_value(node: &Node) -> String {
    match &node.value {
        Value::Object(object) => plain(object),
        Value::List(items) => format!("{:?}", items.iter().map(plain_value).collect::<Vec<_>>()),
        Value::Text(text) => format!("{:?}", text.as_str()),
        Value::Number(number) => number.to_string(),
        Value::Bool(b) => b.to_string(),
        Value::Null => "null".into(),
    }
}

#[test]
fn blocks_attributes_lists_and_objects_are_read() {
    let tree = parse(
        r##"
        # one
        name = "a\n\u00e9\"" // two
        path "x" { /* three */
          list = ["a", 1, -2.5e3, true,]
          map  = { "k" = [], other = "v" }
        }"##,
    )
    .unwrap();
    assert_eq!(
        *text_of(&tree, "name"),
        Value::Text(Zeroizing::new("a\né\"".into()))
    );
    let path = &tree.members[1];
    assert_eq!(path.labels[0].text, "x");
    let Value::Object(body) = &path.value.value else {
        panic!()
    };
    let Value::List(items) = text_of(body, "list") else {
        panic!()
    };
    assert_eq!(items.len(), 4);
    assert_eq!(
        items[2].value,
        Value::Number(Number::from_f64(-2500.0).unwrap())
    );
}

#[test]
fn a_one_line_block_may_hold_several_attributes_as_in_vault() {
    let tree = parse(r#"path "a" { capabilities = ["read"], required = ["x"] more = 1 }"#).unwrap();
    let Value::Object(body) = &tree.members[0].value.value else {
        panic!()
    };
    assert_eq!(body.members.len(), 3);
}

#[test]
fn a_brace_on_the_next_line_is_accepted() {
    assert_eq!(
        plain(&parse("path \"a\"\n{\n}").unwrap()),
        plain(&parse("path \"a\" {}").unwrap())
    );
}

#[test]
fn json_reads_to_the_same_stanzas_as_hcl() {
    for text in [
        r#"listener "tcp" { a = 1 } listener "tcp" { a = 2 }"#,
        r#"{"listener": [{"tcp": {"a": 1}}, {"tcp": {"a": 2}}]}"#,
        r#"{"listener": {"tcp": [{"a": 1}, {"a": 2}]}}"#,
    ] {
        let tree = parse(text).unwrap();
        let stanzas: Vec<_> = tree
            .members
            .iter()
            .flat_map(|m| m.stanzas().unwrap())
            .collect();
        let found: Vec<_> = stanzas
            .iter()
            .map(|s| (s.label.text.as_str(), plain(s.body)))
            .collect();
        assert_eq!(found.len(), 2, "{text}");
        assert!(found.iter().all(|(label, _)| *label == "tcp"));
        assert!(found[1].1.contains('2'));
    }
}

#[test]
fn errors_name_line_and_column() {
    assert_eq!(
        error("a = 1\nb = nope"),
        "line 2, column 5: expected a value; put quotes around a text, found `nope`"
    );
    assert_eq!(error("é = 1"), "line 1, column 1: unexpected character 'é'");
    assert_eq!(
        error("a = \"é\" ]"),
        "line 1, column 9: expected a key or a block, found `]`"
    );
    assert_eq!(
        error("a {\n b = 1"),
        "line 2, column 7: `}` is missing at the end"
    );
    assert_eq!(
        error("a = 1\na = 2"),
        "line 2, column 1: `a` is set twice; remove one of them"
    );
    assert_eq!(
        error("a = [1 2]"),
        "line 1, column 8: expected `,` or `]`, found `2`"
    );
    assert!(error("a = \"x\nb = 1").starts_with("line 1, column 5: this string is never closed"));
    assert!(error("ttl = 768h").contains("as in \"768h\""));
    assert!(error("a = 0755").contains("not a number"));
    assert!(error("a = <<EOF").contains("heredocs"));
    assert!(error("a = 99999999999999999999").contains("too large"));
    assert!(error("a = 1e999").contains("too large"));
    assert_eq!(
        error("{\"a\": 1,\n \"a\": 2}"),
        "line 2, column 2: `a` is set twice; remove one of them"
    );
    assert!(error("{\"a\": 01}").contains("not a number"));
    assert!(error("{} x").contains("after the closing"));
    assert!(error("{\"a\": \"\\ud800\"}").contains("surrogate"));
}

#[test]
fn json_bomb_nesting_is_bounded_in_both_languages() {
    for depth in [MAX_DEPTH + 2, 200_000] {
        assert!(error(&format!("a = {}", "[".repeat(depth))).contains("levels deep"));
        assert!(error(&"a {".repeat(depth)).contains("levels deep"));
        assert!(error(&format!("{{\"a\": {}", "[".repeat(depth))).contains("levels deep"));
    }
}

#[test]
fn a_surrogate_pair_in_json_is_one_character() {
    let tree = parse(r#"{"a": "\ud83d\ude00\/"}"#).unwrap();
    assert_eq!(
        *text_of(&tree, "a"),
        Value::Text(Zeroizing::new("😀/".into()))
    );
}

#[test]
fn formatting_aligns_indents_and_keeps_comments() {
    let ugly = "#top\n\n\n\npath \"a\" {capabilities=[\"read\",\"list\"],  required_parameters = [\"x\"] }  # why\n\
                path \"b\"\n{\n\n\n  # inside\n min_wrapping_ttl=\"1s\" // short\n max = 3\n\n\n  list = [ # items\n\"a\", # first\n\"b\"\n]\n\
                map = {\n\"k\"=[]\nlonger = [1]\n}\n\n}\npath \"c\" {}\n";
    let neat = r#"#top

path "a" {
  capabilities        = ["read", "list"]
  required_parameters = ["x"]
} # why
path "b" {
  # inside
  min_wrapping_ttl = "1s" // short
  max              = 3

  list = [ # items
    "a", # first
    "b",
  ]
  map = {
    "k"    = []
    longer = [1]
  }
}
path "c" {}
"#;
    assert_eq!(format(ugly).unwrap(), neat);
    assert_eq!(format(neat).unwrap(), neat);
}

#[test]
fn a_comment_in_an_odd_place_moves_before_its_member() {
    assert_eq!(
        format("a /* x */ = /* y */ 1").unwrap(),
        "/* x */\n/* y */\na = 1\n"
    );
}

#[test]
fn an_empty_value_stands_on_one_line_and_is_aligned() {
    assert_eq!(
        format("a = [\n]\nlong = {\n\n}").unwrap(),
        "a    = []\nlong = {}\n"
    );
}

#[test]
fn json_is_formatted_as_json() {
    let neat = "{\n  \"path\": {\n    \"a\": {\n      \"capabilities\": [\"read\", \"list\"]\n    }\n  },\n  \"b\": []\n}\n";
    assert_eq!(
        format(r#"{"path":{"a":{"capabilities":["read","list"]}},"b":[]}"#).unwrap(),
        neat
    );
    assert_eq!(format(neat).unwrap(), neat);
}

#[test]
fn a_text_that_does_not_parse_is_not_formatted() {
    assert!(format("path {").is_err());
}

#[test]
fn debug_shows_no_text() {
    let tree = parse("key = \"hunter2\"\nlist = [\"hunter2\"]").unwrap();
    assert!(!format!("{tree:?}").contains("hunter2"));
}

/// Texts that look like HCL often enough to reach deep into the parser and the formatter.
fn scraps() -> impl Strategy<Value = String> {
    let scrap = prop_oneof![
        Just("path"),
        Just("a"),
        Just("\"x\""),
        Just("\"\\u00e9\""),
        Just("="),
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just("\n"),
        Just("\n\n\n"),
        Just("# c\n"),
        Just("// d\n"),
        Just("/* e\n f */"),
        Just("1"),
        Just("-2.5e+3"),
        Just("true"),
        Just(":"),
        Just("null"),
        Just("\\"),
        Just("\r\n"),
        Just("é"),
        Just("\""),
    ];
    prop::collection::vec(scrap, 0..40).prop_map(|scraps| scraps.join(" "))
}

fn hcl_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("\"s\"".to_owned()),
        Just("12".to_owned()),
        Just("false".to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("[\n]".to_owned()),
        Just("{\n\n}".to_owned())
    ];
    let gap = prop_oneof![
        Just(" "),
        Just("\n"),
        Just(" # c\n"),
        Just(" /* d */ "),
        Just("\n\n\n# e\n")
    ];
    leaf.prop_recursive(3, 16, 4, move |inner| {
        let item = (gap.clone(), inner, gap.clone());
        prop_oneof![
            prop::collection::vec(item.clone(), 0..4).prop_map(|items| format!(
                "[{}]",
                items
                    .iter()
                    .map(|(a, v, b)| format!("{a}{v}{b},"))
                    .collect::<String>()
            )),
            prop::collection::vec(item, 0..4).prop_map(|items| {
                let members = items
                    .iter()
                    .enumerate()
                    .map(|(i, (a, v, b))| format!("{a}k{i} ={a}{v}{b}"));
                format!("{{{}}}", members.collect::<String>())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_panic(text in "\\PC{0,60}") {
        let _ = parse(&text);
        let _ = format(&text);
        let _ = parse(&format!("{{{text}"));
    }

    #[test]
    fn formatting_is_idempotent_and_keeps_the_meaning(text in scraps()) {
        if let Ok(tree) = parse(&text) {
            let once = format(&text).unwrap();
            prop_assert_eq!(plain(&parse(&once).unwrap()), plain(&tree));
            prop_assert_eq!(format(&once).unwrap(), once);
        }
    }

    #[test]
    fn formatting_keeps_nested_values_and_their_comments(values in prop::collection::vec(hcl_value(), 1..5)) {
        let text: String = values.iter().enumerate().map(|(i, v)| format!("key{i} = {v}\nblock \"b\" {{ x = {v} }}\n")).collect();
        let tree = parse(&text).unwrap();
        let once = format(&text).unwrap();
        prop_assert_eq!(plain(&parse(&once).unwrap()), plain(&tree));
        prop_assert_eq!(format(&once).unwrap(), once.clone());
        for comment in ["# c", "/* d */", "# e"] {
            prop_assert_eq!(once.matches(comment).count(), text.matches(comment).count());
        }
    }

    #[test]
    fn any_json_that_serde_reads_is_read_alike(value in json_value()) {
        let text = serde_json::json!({"v": value}).to_string();
        let tree = parse(&text).unwrap();
        prop_assert_eq!(to_json(&tree), serde_json::json!({"v": value}));
        let neat = format(&text).unwrap();
        // Both through serde_json's own reader of floats, which may miss the last digit.
        let reread: serde_json::Value = serde_json::from_str(&neat).unwrap();
        prop_assert_eq!(reread, serde_json::from_str::<serde_json::Value>(&text).unwrap());
        prop_assert_eq!(format(&neat).unwrap(), neat);
    }
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>()
            .prop_filter("finite", |f| f.is_finite())
            .prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::Array),
            prop::collection::btree_map(".{0,6}", inner, 0..5)
                .prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn to_json(object: &Object) -> serde_json::Value {
    fn node(value: &Value) -> serde_json::Value {
        match value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(b) => (*b).into(),
            Value::Number(number) => serde_json::Value::Number(number.clone()),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(|item| node(&item.value)).collect(),
            Value::Object(object) => to_json(object),
        }
    }
    object
        .members
        .iter()
        .map(|m| (m.key.text.clone(), node(&m.value.value)))
        .collect()
}
