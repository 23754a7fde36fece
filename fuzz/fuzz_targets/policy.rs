//! Any text as a policy, as a configuration file and as HCL to be formatted: no panic; formatting
//! keeps the meaning and is done after one time; what compiles answers.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use obol::config::Config;
use obol::core::policies::{Access, Acl, Policy, format};
use obol_mount::Operation;

fuzz_target!(|text: &str| {
    let _ = Config::parse(&[("fuzz.hcl", text)]).map_err(|error| error.to_string());
    let parsed = Policy::parse("fuzz", text);
    let Ok(neat) = format(text) else {
        assert!(parsed.is_err(), "what cannot be formatted cannot be read");
        return;
    };
    assert_eq!(format(&neat).expect("what was formatted reads"), neat);
    let policy = match parsed {
        Ok(policy) => policy,
        Err(error) => {
            assert!(error.line >= 1 && error.column >= 1);
            return;
        }
    };
    let again = Policy::parse("fuzz", &neat).expect("formatting keeps the meaning");
    assert_eq!(again.rules(), policy.rules());
    let acl = Acl::compile(&[Arc::new(policy)]);
    for path in ["secret/data/a", "sys/mounts/", "a", "A/b"] {
        for operation in [Operation::Read, Operation::List] {
            let decision = acl.check(&Access { operation, path, data: None, wrap_ttl: None });
            assert!(!decision.allowed || !acl.capabilities(path).is_empty());
        }
    }
});
