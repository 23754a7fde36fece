//! Why a command did not succeed, how that is told, and with which exit status: 1 for what is wrong on this side
//! (the command line, a file), 2 for what the server refused or could not do, as Vault's command line has it.

use std::fmt;

/// The exit status of a command that ran to its end. `status` also ends with 2 when the server is sealed.
pub(super) type Outcome = Result<u8, Failure>;

pub(super) const SUCCESS: u8 = 0;
pub(super) const LOCAL: u8 = 1;
pub(super) const REMOTE: u8 = 2;

/// A command that did not succeed. `Display` is what the user reads on standard error.
#[derive(Debug)]
pub(super) struct Failure {
    kind: Kind,
    /// What was being done: "reading secret/data/app".
    doing: Option<String>,
    exit: u8,
    hints: Vec<String>,
}

#[derive(Debug)]
enum Kind {
    Message(String),
    Refused(Box<Refusal>),
    /// All has been said already.
    Quiet,
    /// The request was not sent: this was asked for instead, and goes to standard output.
    Instead(String),
}

/// An answer of the server with a status of 400 or more.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) method: String,
    pub(super) url: String,
    pub(super) status: u16,
    /// As the server sent them; empty for a plain 404.
    pub(super) errors: Vec<String>,
}

impl Failure {
    pub(super) fn local(message: impl Into<String>) -> Self {
        Self::new(Kind::Message(message.into()), LOCAL)
    }

    pub(super) fn remote(message: impl Into<String>) -> Self {
        Self::new(Kind::Message(message.into()), REMOTE)
    }

    pub(super) fn refused(refusal: Refusal) -> Self {
        Self::new(Kind::Refused(Box::new(refusal)), REMOTE)
    }

    /// Ends the command now, without another word.
    pub(super) fn quiet(exit: u8) -> Self {
        Self::new(Kind::Quiet, exit)
    }

    pub(super) fn instead(text: String) -> Self {
        Self::new(Kind::Instead(text), SUCCESS)
    }

    fn new(kind: Kind, exit: u8) -> Self {
        Self {
            kind,
            doing: None,
            exit,
            hints: Vec::new(),
        }
    }

    pub(super) fn doing(mut self, doing: impl Into<String>) -> Self {
        self.doing.get_or_insert(doing.into());
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    pub(super) fn with_exit(mut self, exit: u8) -> Self {
        self.exit = exit;
        self
    }

    pub(super) fn exit(&self) -> u8 {
        self.exit
    }

    pub(super) fn is_quiet(&self) -> bool {
        matches!(self.kind, Kind::Quiet)
    }

    /// What to print on standard output in place of a result.
    pub(super) fn replacement(&self) -> Option<&str> {
        match &self.kind {
            Kind::Instead(text) => Some(text),
            _ => None,
        }
    }

    /// A plain 404: nothing is there. (A 404 with a reason is about the route.)
    pub(super) fn is_not_found(&self) -> bool {
        matches!(&self.kind, Kind::Refused(refusal) if refusal.status == 404 && refusal.errors.is_empty())
    }

    /// The HTTP status, when the server answered.
    pub(super) fn status(&self) -> Option<u16> {
        match &self.kind {
            Kind::Refused(refusal) => Some(refusal.status),
            _ => None,
        }
    }
}

/// An error of the operating system on a file that the user named.
pub(super) fn file_failure(what: &str, path: impl fmt::Display, error: &std::io::Error) -> Failure {
    Failure::local(format!("cannot {what} {path}: {error}"))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.doing {
            Some(doing) => write!(f, "Error {doing}: ")?,
            None => f.write_str("Error: ")?,
        }
        match &self.kind {
            Kind::Message(message) => f.write_str(message)?,
            Kind::Refused(refusal) => write!(f, "{refusal}")?,
            Kind::Quiet | Kind::Instead(_) => {}
        }
        for hint in &self.hints {
            write!(f, "\n\n{hint}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Refusal {
    /// The lines "Code: 403. Errors:" and "* permission denied" are what scripts written for Vault look for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the server refused the request.\n\nURL: {} {}\nCode: {}.",
            self.method, self.url, self.status
        )?;
        if !self.errors.is_empty() {
            f.write_str(" Errors:\n")?;
        }
        for error in &self.errors {
            write!(f, "\n* {error}")?;
        }
        Ok(())
    }
}
