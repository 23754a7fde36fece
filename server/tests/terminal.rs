//! Asking for a secret on a real terminal (util-linux's `script` makes one): nothing is echoed, and the terminal is
//! as it was afterwards, whether the question is answered, interrupted or ended by a signal.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

/// A shell command on a terminal of its own.
struct Terminal {
    child: Child,
    keyboard: Option<ChildStdin>,
    seen: String,
}

impl Terminal {
    fn run(line: &str) -> Self {
        let mut child = Command::new("script")
            .args(["-qefc", line, "/dev/null"])
            .env("OBOL", env!("CARGO_BIN_EXE_obol"))
            // Nobody listens there: the secret is asked for before anything is sent.
            .env("VAULT_ADDR", "http://127.0.0.1:1")
            .env("HOME", "/nonexistent")
            .env_remove("OBOL_ADDR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let keyboard = child.stdin.take();
        Self {
            child,
            keyboard,
            seen: String::new(),
        }
    }

    fn wait_for(&mut self, text: &str) {
        let screen = self.child.stdout.as_mut().unwrap();
        while !self.seen.contains(text) {
            let mut byte = [0];
            assert_eq!(
                screen.read(&mut byte).unwrap(),
                1,
                "the end came before {text:?}: {}",
                self.seen
            );
            self.seen.push(char::from(byte[0]));
        }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard
            .as_mut()
            .unwrap()
            .write_all(keys.as_bytes())
            .unwrap();
    }

    /// Everything that was on the screen.
    fn finish(mut self) -> String {
        // The keyboard stays until the command has ended: `script` would pass its end on as Ctrl-D.
        let mut rest = Vec::new();
        self.child
            .stdout
            .take()
            .unwrap()
            .read_to_end(&mut rest)
            .unwrap();
        drop(self.keyboard.take());
        self.child.wait().unwrap();
        self.seen + &String::from_utf8_lossy(&rest)
    }
}

/// What `stty -a` says when the terminal echoes, edits lines and listens to Ctrl-C.
#[track_caller]
fn assert_restored(screen: &str) {
    let settings = screen.rsplit("speed ").next().unwrap();
    for setting in ["echo", "icanon", "isig"] {
        let on = settings
            .split(|c: char| c.is_whitespace() || c == ';')
            .any(|word| word == setting);
        assert!(on, "{setting} is off:\n{screen}");
    }
}

#[test]
fn a_key_that_is_typed_is_not_shown() {
    let mut terminal = Terminal::run("$OBOL operator unseal; echo \"status $?\"; stty -a");
    terminal.wait_for("hidden): ");
    terminal.press("s3cret\r");
    let screen = terminal.finish();
    assert!(!screen.contains("s3cret"), "{screen}");
    assert!(
        screen.contains("Error unsealing") && screen.contains("status 2"),
        "{screen}"
    );
    assert_restored(&screen);
}

#[test]
fn ctrl_c_ends_the_question_and_restores_the_terminal() {
    // The terminal interrupts the shell as well, which is to go on.
    let mut terminal = Terminal::run("trap : INT; $OBOL login; echo \"status $?\"; stty -a");
    terminal.wait_for("hidden): ");
    terminal.press("s3c\u{3}");
    let screen = terminal.finish();
    assert!(
        !screen.contains("s3c") && screen.contains("status 130"),
        "{screen}"
    );
    assert_restored(&screen);
}

#[test]
fn a_signal_that_ends_the_command_restores_the_terminal() {
    let mut terminal =
        Terminal::run("sh -c 'echo pid $$; exec $OBOL login'; echo \"status $?\"; stty -a");
    terminal.wait_for("hidden): ");
    let pid = terminal.seen.split("pid ").nth(1).unwrap();
    let pid = pid.split_whitespace().next().unwrap().to_owned();
    let sent = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    assert!(sent.success());
    let screen = terminal.finish();
    assert!(screen.contains("status 143"), "{screen}");
    assert_restored(&screen);
}

#[test]
fn a_password_that_is_typed_is_not_shown() {
    let mut terminal = Terminal::run(
        "$OBOL login -method=kerberos username=grace@NOWHERE.INVALID service=HTTP/h; echo \"status $?\"; stty -a",
    );
    terminal.wait_for("Password of grace@NOWHERE.INVALID (will be hidden): ");
    terminal.press("s3cret\r");
    let screen = terminal.finish();
    assert!(
        !screen.contains("s3cret") && screen.contains("status 1"),
        "{screen}"
    );
    assert_restored(&screen);
}
