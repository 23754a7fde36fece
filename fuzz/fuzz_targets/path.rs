//! Any text as the path of a request, and its first line as a rule against it: no panic; what
//! passes has plain segments only, passes again unchanged, and is matched by the rule that is spelt
//! as the path is.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use obol::core::path::RequestPath;
use obol::core::policies::{Acl, Pattern, Policy};

fuzz_target!(|text: &str| {
    let (rule, raw) = text.split_once('\n').unwrap_or((text, text));
    let Ok(path) = RequestPath::parse(raw) else {
        return;
    };
    assert!(path.segments().all(|segment| !segment.is_empty() && segment != "." && segment != ".."));
    assert!(!path.as_sent().contains(|c: char| c.is_control() || c == '\\'));
    assert_eq!(RequestPath::from_decoded(path.as_sent()).as_ref(), Ok(&path));
    for pattern in [rule, path.as_sent()] {
        let (Ok(checked), Ok(quoted)) = (Pattern::parse(pattern), serde_json::to_string(pattern)) else {
            continue;
        };
        let text = format!("{{\"path\": {{{quoted}: {{\"capabilities\": [\"read\"]}}}}}}");
        let policy = Policy::parse("fuzz", &text).expect("a checked pattern makes a policy");
        let capabilities = Acl::compile(&[Arc::new(policy)]).capabilities(path.as_sent());
        if checked.as_str() == path.as_sent() {
            assert_eq!(capabilities, ["read"], "a path matches the rule that is spelt alike");
        }
    }
});
