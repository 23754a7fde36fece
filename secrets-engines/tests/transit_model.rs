//! Versions, minimums and trims in any order, against a model of what must hold; and messages of any kind.
#![allow(clippy::unwrap_used)]

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Mount, get, post};
use proptest::prelude::*;
use serde_json::json;

#[derive(Clone, Debug)]
enum Step {
    Rotate,
    MinDecryption(u64),
    MinEncryption(u64),
    Trim(u64),
    /// With this version; 0 is the latest.
    Encrypt(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Rotate),
        2 => (0..7u64).prop_map(Step::MinDecryption),
        2 => (0..7u64).prop_map(Step::MinEncryption),
        2 => (0..7u64).prop_map(Step::Trim),
        3 => (0..7u64).prop_map(Step::Encrypt),
    ];
    proptest::collection::vec(step, 1..24)
}

struct Model {
    latest: u64,
    available: u64,
    decryption: u64,
    encryption: u64,
}

impl Model {
    fn in_range(&self, version: u64) -> bool {
        (self.available..=self.latest).contains(&version)
    }

    /// Whether the step is allowed; then it is done.
    fn take(&mut self, step: &Step) -> bool {
        match *step {
            Step::Rotate => self.latest += 1,
            Step::MinDecryption(version) => {
                let version = version.max(1);
                if !self.in_range(version) || (self.encryption > 0 && self.encryption < version) {
                    return false;
                }
                self.decryption = version;
            }
            Step::MinEncryption(version) => {
                let unset = version == 0 && self.available == 0;
                if !unset && (!self.in_range(version) || version < self.decryption) {
                    return false;
                }
                self.encryption = version;
            }
            Step::Trim(version) => {
                if version < self.available
                    || self.encryption == 0
                    || version > self.encryption.min(self.decryption)
                {
                    return false;
                }
                self.available = version;
            }
            Step::Encrypt(version) => {
                let first = self.encryption.max(self.decryption);
                return version == 0 || (first..=self.latest).contains(&version);
            }
        }
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn versions_follow_the_model(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let transit = Mount::open("transit", &[]).await;
            transit.done(post("keys/a", json!({}))).await;
            let mut model = Model { latest: 1, available: 0, decryption: 1, encryption: 0 };
            let mut made: Vec<(u64, String)> = Vec::new();
            for step in &steps {
                let ask = match step {
                    Step::Rotate => post("keys/a/rotate", json!({})),
                    Step::MinDecryption(v) => post("keys/a/config", json!({"min_decryption_version": v})),
                    Step::MinEncryption(v) => post("keys/a/config", json!({"min_encryption_version": v})),
                    Step::Trim(v) => post("keys/a/trim", json!({"min_available_version": v})),
                    Step::Encrypt(v) => post("encrypt/a", json!({"plaintext": "aGVsbG8=", "key_version": v})),
                };
                let outcome = transit.ask(ask).await;
                assert_eq!(outcome.is_ok(), model.take(step), "{step:?} of {steps:?}: {outcome:?}");
                if let (Step::Encrypt(_), Ok(answer)) = (step, outcome) {
                    let version = answer.data["key_version"].as_u64().unwrap();
                    made.push((version, answer.data["ciphertext"].as_str().unwrap().to_owned()));
                }
                for (version, text) in &made {
                    let opened = transit.ask(post("decrypt/a", json!({"ciphertext": text}))).await;
                    assert_eq!(opened.is_ok(), *version >= model.decryption, "v{version} after {step:?}");
                }
            }
            let read = transit.done(get("keys/a")).await.data;
            assert_eq!(
                (&read["latest_version"], &read["min_available_version"], &read["min_decryption_version"], &read["min_encryption_version"]),
                (&json!(model.latest), &json!(model.available), &json!(model.decryption), &json!(model.encryption))
            );
            let kept = transit.kept().await;
            let kept = kept.iter().filter(|path| path.starts_with("versions/")).count() as u64;
            assert_eq!(kept, model.latest + 1 - model.available.max(1));
        });
    }

    #[test]
    fn any_message_comes_back_and_no_changed_one(
        message in proptest::collection::vec(any::<u8>(), 0..200),
        data in proptest::collection::vec(any::<u8>(), 0..40),
        kind in prop::sample::select(vec!["aes128-gcm96", "aes256-gcm96", "chacha20-poly1305"]),
        derived: bool,
        at in any::<prop::sample::Index>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let transit = Mount::open("transit", &[]).await;
            let body = json!({"type": kind, "derived": derived, "convergent_encryption": derived});
            transit.done(post("keys/a", body)).await;
            let (message, data) = (STANDARD.encode(message), STANDARD.encode(data));
            let context = if derived { "Y29udGV4dA==" } else { "" };
            let body = json!({"plaintext": message, "associated_data": data, "context": context});
            let sealed = transit.done(post("encrypt/a", body)).await.data;
            let body = json!({"ciphertext": sealed["ciphertext"], "associated_data": data, "context": context});
            assert_eq!(transit.done(post("decrypt/a", body)).await.data["plaintext"], message);

            let text = sealed["ciphertext"].as_str().unwrap();
            let mut bytes = STANDARD.decode(text.strip_prefix("vault:v1:").unwrap()).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1;
            let changed = format!("vault:v1:{}", STANDARD.encode(bytes));
            let body = json!({"ciphertext": changed, "associated_data": data, "context": context});
            assert_eq!(transit.status(post("decrypt/a", body)).await, 400);
        });
    }
}
