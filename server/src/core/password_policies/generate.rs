//! Passwords: characters drawn from the system's randomness, each of the set as likely as any other; what does not
//! meet the rules is thrown away whole. So every password that meets them is as likely as any other, too.

use obol_mount::{Error, Result};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::PasswordPolicy;

impl PasswordPolicy {
    /// A password. Refused when the rules are so hard to meet that drawing would take too long.
    pub fn generate(&self) -> Result<Zeroizing<String>> {
        let mut dice = Dice::new();
        let mut drawn = Zeroizing::new(Vec::with_capacity(self.length));
        for _ in 0..(DRAWN_CHARACTERS / self.length).max(1) {
            drawn.clear();
            for _ in 0..self.length {
                drawn.push(self.charset[dice.below(self.charset.len())?]);
            }
            if self.is_met_by(&drawn) {
                return Ok(Zeroizing::new(drawn.iter().collect()));
            }
        }
        Err(Error::bad_request(
            "the password policy is so hard to meet that no password was found: ask for fewer min-chars or a greater length",
        ))
    }

    fn is_met_by(&self, password: &[char]) -> bool {
        self.rules.iter().all(|rule| {
            let of_set = password.iter().filter(|c| rule.charset.contains(c));
            of_set.count() >= rule.min_chars
        })
    }
}

/// Even numbers from random bytes.
struct Dice {
    random: SystemRandom,
    bytes: Zeroizing<[u8; 256]>,
    used: usize,
}

impl Dice {
    fn new() -> Self {
        Self {
            random: SystemRandom::new(),
            bytes: Zeroizing::new([0; 256]),
            used: 256,
        }
    }

    /// One of 0 to `many` - 1, of which there are at most 256.
    fn below(&mut self, many: usize) -> Result<usize> {
        // Bytes past the last whole multiple would favour the first numbers.
        let fair = 256 - 256 % many;
        loop {
            if self.used == self.bytes.len() {
                self.random
                    .fill(self.bytes.as_mut_slice())
                    .map_err(|_| Error::internal("no randomness"))?;
                self.used = 0;
            }
            let byte = usize::from(self.bytes[self.used]);
            self.used += 1;
            if byte < fair {
                return Ok(byte % many);
            }
        }
    }
}

/// How many characters are drawn at most: some tens of milliseconds.
const DRAWN_CHARACTERS: usize = 1 << 20;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn policy(text: &str) -> PasswordPolicy {
        PasswordPolicy::parse(text).unwrap()
    }

    #[test]
    fn a_password_meets_every_rule() {
        let policy = policy(
            "length = 12\nrule \"charset\" {\n charset = \"abcdefghij\"\n min-chars = 1\n}\nrule \"charset\" {\n charset = \"0123456789\"\n min-chars = 4\n}",
        );
        for _ in 0..500 {
            let password = policy.generate().unwrap();
            assert_eq!(password.len(), 12);
            assert!(password.bytes().filter(u8::is_ascii_digit).count() >= 4);
            assert!(password.bytes().any(|b| b.is_ascii_lowercase()));
        }
    }

    /// A chi-square test over a set whose size is no divisor of 256.
    #[test]
    fn every_character_is_as_likely_as_any_other() {
        let policy =
            policy("length = 1000\nrule \"charset\" { charset = \"abcdefghijk€mnopqrs\" }");
        let mut seen: BTreeMap<char, f64> = BTreeMap::new();
        for _ in 0..100 {
            for c in policy.generate().unwrap().chars() {
                *seen.entry(c).or_default() += 1.0;
            }
        }
        assert_eq!(seen.len(), 19);
        let expected = 100_000.0 / 19.0;
        let chi: f64 = seen
            .values()
            .map(|n| (n - expected).powi(2) / expected)
            .sum();
        // 18 degrees of freedom: beyond 60 once in two million runs. `byte % 19` alone would be near 450.
        assert!(chi < 60.0, "{chi}: {seen:?}");
    }

    #[test]
    fn what_can_hardly_be_met_is_refused_in_time() {
        let policy = policy(
            "length = 100\nrule \"charset\" { charset = \"abcdefghijklmnopqrstuvwxyz\" }\nrule \"charset\" {\n charset = \"0\"\n min-chars = 100\n}",
        );
        assert_eq!(policy.generate().unwrap_err().status(), 400);
    }
}
