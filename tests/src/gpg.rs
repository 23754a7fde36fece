//! People with PGP keys, and GnuPG to read what was encrypted for them.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use obol_testbed::Scratch;

/// GnuPG with a home of its own. Its agent ends with it.
pub struct Gpg {
    home: Scratch,
}

/// A key, as `gpg --quick-generate-key` and `--quick-add-key` take it.
pub struct KeyKind<'a> {
    pub primary: &'a str,
    /// What the primary key is for, such as `sign`; it certifies in any case.
    pub usage: &'a str,
    /// A subkey for encryption.
    pub subkey: Option<&'a str>,
    /// `never`, or as `2020-01-01`: the day on which the subkey, or the primary key without one, expires. The key is
    /// made in the year before then.
    pub expires: &'a str,
}

impl KeyKind<'_> {
    pub const RSA: Self = Self::of("rsa3072", "rsa3072");
    pub const CURVE_25519: Self = Self::of("ed25519", "cv25519");
    pub const NIST_P256: Self = Self::of("nistp256", "nistp256");
}

impl<'a> KeyKind<'a> {
    const fn of(primary: &'a str, subkey: &'a str) -> Self {
        Self {
            primary,
            usage: "sign",
            subkey: Some(subkey),
            expires: "never",
        }
    }
}

impl Gpg {
    pub fn new() -> Self {
        Self {
            home: Scratch::new("gpg").expect("a home for GnuPG"),
        }
    }

    /// Makes a key for `name` and tells its fingerprint, in lower case.
    pub fn make(&self, name: &str, kind: &KeyKind<'_>) -> String {
        let user = format!("{name} <{name}@example.org>");
        let past: &[&str] = match kind.expires {
            "never" => &[],
            _ => &["--faked-system-time=20190601T000000"],
        };
        let with = |arguments: &[&str]| {
            let all = [past, &["--passphrase="], arguments].concat();
            self.run(&all, b"");
        };
        let primary_expires = if kind.subkey.is_some() {
            "never"
        } else {
            kind.expires
        };
        with(&[
            "--quick-generate-key",
            &user,
            kind.primary,
            kind.usage,
            primary_expires,
        ]);
        let listed = self.run(&["--with-colons", "--list-keys", &user], b"");
        let listed = String::from_utf8(listed).expect("text");
        let fingerprint = listed.lines().find_map(|line| line.strip_prefix("fpr:"));
        let fingerprint = fingerprint
            .expect("a fingerprint")
            .trim_matches(':')
            .to_owned();
        if let Some(subkey) = kind.subkey {
            with(&[
                "--quick-add-key",
                &fingerprint,
                subkey,
                "encr",
                kind.expires,
            ]);
        }
        fingerprint.to_lowercase()
    }

    /// Of the key, then of its subkeys.
    fn fingerprints(&self, user: &str) -> Vec<String> {
        let listed = self.run(
            &[
                "--with-colons",
                "--with-subkey-fingerprint",
                "--list-keys",
                user,
            ],
            b"",
        );
        let listed = String::from_utf8(listed).expect("text");
        let lines = listed.lines().filter_map(|line| line.strip_prefix("fpr:"));
        lines
            .map(|line| line.trim_matches(':').to_owned())
            .collect()
    }

    /// The public key, in binary.
    pub fn export(&self, fingerprint: &str) -> Vec<u8> {
        self.run(&["--export", fingerprint], b"")
    }

    /// The public key as Vault's API takes it.
    pub fn export_base64(&self, fingerprint: &str) -> String {
        STANDARD.encode(self.export(fingerprint))
    }

    pub fn export_armored(&self, fingerprint: &str) -> Vec<u8> {
        self.run(&["--armor", "--export", fingerprint], b"")
    }

    pub fn export_secret(&self, fingerprint: &str) -> Vec<u8> {
        self.run(&["--passphrase=", "--export-secret-keys", fingerprint], b"")
    }

    /// Revokes the key with the certificate that was made beside it.
    pub fn revoke(&self, fingerprint: &str) {
        let name = format!("openpgp-revocs.d/{}.rev", fingerprint.to_uppercase());
        let certificate = std::fs::read_to_string(self.home.join(name)).expect("a certificate");
        // A colon guards it against being used by accident.
        let certificate = certificate.replace(":-----BEGIN", "-----BEGIN");
        self.run(&["--import"], certificate.as_bytes());
    }

    /// Lets the key and its subkeys live on for ever, those that have expired included.
    pub fn prolong(&self, fingerprint: &str) {
        let set = ["--passphrase=", "--quick-set-expire", fingerprint, "0"];
        self.run(&set, b"");
        for subkey in &self.fingerprints(fingerprint)[1..] {
            self.run(&[&set[..], &[subkey]].concat(), b"");
        }
    }

    /// Signs one key with another, as people do who have met.
    pub fn certify(&self, with: &str, key: &str) {
        let with = format!("--local-user={with}");
        self.run(&["--passphrase=", &with, "--quick-sign-key", key], b"");
    }

    /// What a message in binary says.
    pub fn decrypt(&self, message: &[u8]) -> String {
        let plain = self.run(&["--passphrase=", "--decrypt"], message);
        String::from_utf8(plain).expect("text")
    }

    pub fn decrypt_base64(&self, message: &str) -> String {
        self.decrypt(&STANDARD.decode(message).expect("base64"))
    }

    /// A file of this home, with this content.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.home.join(name);
        std::fs::write(&path, content).expect("a file");
        path
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut gpg = self
            .command("gpg")
            .args([
                "--batch",
                "--yes",
                "--quiet",
                "--no-tty",
                "--pinentry-mode=loopback",
            ])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("gpg runs (package gnupg)");
        let mut stdin = gpg.stdin.take().expect("a pipe");
        stdin.write_all(input).expect("gpg reads");
        drop(stdin);
        let ended = gpg.wait_with_output().expect("gpg ends");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "gpg {arguments:?}: {said}");
        ended.stdout
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("GNUPGHOME", self.home.path())
            .env("LC_ALL", "C");
        command
    }
}

impl Default for Gpg {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = self.command("gpgconf").args(["--kill", "all"]).status();
    }
}
