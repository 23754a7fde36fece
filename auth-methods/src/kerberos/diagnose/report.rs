//! What `diagnose` answers.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;

/// The answer.
#[derive(Debug, Serialize, JsonSchema)]
pub(in super::super) struct Report {
    /// No step has failed.
    ok: bool,
    /// One sentence: that everything works, or the first fault and its mend.
    summary: String,
    /// What was tried, in this order.
    steps: Vec<Step>,
    /// The user who was asked for, or whose ticket was sent.
    user: Option<UserReport>,
}

/// One thing that was tried.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Step {
    /// What was tried: `keytab`, `kdc`, `service ticket` and so on.
    name: &'static str,
    status: Status,
    /// What was found.
    finding: String,
    /// What to do about it; empty where nothing is to be done.
    mend: String,
    /// The command to run on Windows, if there is one.
    windows: String,
    /// The command to run with MIT Kerberos or with Obol, if there is one.
    mit: String,
    /// Milliseconds that it took.
    took_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Ok,
    /// Works, and deserves a second look.
    Warning,
    Failed,
    /// Could not be tried, because something before it failed or was not given.
    Skipped,
}

/// What is known of one user.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct UserReport {
    /// The principal without its realm; with it where the realm is one of `allowed_realms`.
    pub(super) name: String,
    /// The entry in the directory; null if it was not found.
    pub(super) dn: Option<String>,
    /// The groups that were found, by name; empty when there are none.
    pub(super) groups: Vec<GroupReport>,
    /// The policies that a login would get, those of `token_policies` and `default` included; what identity adds is not.
    pub(super) policies: Vec<String>,
}

/// One group of a user.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct GroupReport {
    /// Its name, or its SID where no group that counts has it.
    pub(super) name: String,
    /// Where it was found: `ldap` (by `groupfilter`), `token_groups`, `pac`.
    pub(super) sources: Vec<&'static str>,
}

/// The steps so far.
pub(super) struct Steps {
    steps: Vec<Step>,
    /// When the present step began: where the last one ended.
    since: Instant,
}

impl Default for Steps {
    fn default() -> Self {
        Self {
            steps: Vec::new(),
            since: Instant::now(),
        }
    }
}

impl Steps {
    pub(super) fn ok(&mut self, name: &'static str, finding: impl Into<String>) -> &mut Step {
        self.add(name, Status::Ok, finding.into())
    }

    pub(super) fn warn(&mut self, name: &'static str, finding: impl Into<String>) -> &mut Step {
        self.add(name, Status::Warning, finding.into())
    }

    pub(super) fn fail(&mut self, name: &'static str, finding: impl Into<String>) -> &mut Step {
        self.add(name, Status::Failed, finding.into())
    }

    /// What comes next took this long, measured elsewhere.
    pub(super) fn took(&mut self, took: Duration) {
        self.since = Instant::now().checked_sub(took).unwrap_or(self.since);
    }

    pub(super) fn skip(&mut self, name: &'static str, why: impl Into<String>) -> &mut Step {
        self.add(name, Status::Skipped, why.into())
    }

    fn add(&mut self, name: &'static str, status: Status, finding: String) -> &mut Step {
        let now = Instant::now();
        let took = now.duration_since(self.since);
        self.since = now;
        self.steps.push(Step {
            name,
            status,
            finding,
            mend: String::new(),
            windows: String::new(),
            mit: String::new(),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        });
        let last = self.steps.len() - 1;
        &mut self.steps[last]
    }

    /// The first step that failed; whose the SPN is explains a ticket that is not there or does not open.
    fn first_fault(&self) -> Option<&Step> {
        let mut failed = self
            .steps
            .iter()
            .filter(|step| step.status == Status::Failed);
        let first = failed.next()?;
        let explained = matches!(first.name, "service ticket" | "client ticket");
        failed
            .find(|step| explained && step.name == "spn owner")
            .or(Some(first))
    }

    pub(super) fn into_report(self, user: Option<UserReport>) -> Report {
        let failed = self.first_fault();
        let warned = self
            .steps
            .iter()
            .find(|step| step.status == Status::Warning);
        let sentence = |step: &Step| match step.mend.is_empty() {
            true => format!("{}: {}.", step.name, step.finding),
            false => format!(
                "{}: {}; to mend it, {}.",
                step.name, step.finding, step.mend
            ),
        };
        let summary = match (failed, warned) {
            (Some(step), _) => sentence(step),
            (None, Some(step)) => format!("Logins work, with a warning. {}", sentence(step)),
            (None, None) => "Everything that was tried works.".to_owned(),
        };
        Report {
            ok: failed.is_none(),
            summary,
            steps: self.steps,
            user,
        }
    }
}

impl Step {
    /// What to do, as a phrase that follows "to mend it,".
    pub(super) fn mend(&mut self, mend: impl Into<String>) -> &mut Self {
        self.mend = mend.into();
        self
    }

    pub(super) fn windows(&mut self, command: impl Into<String>) -> &mut Self {
        self.windows = command.into();
        self
    }

    pub(super) fn mit(&mut self, command: impl Into<String>) -> &mut Self {
        self.mit = command.into();
        self
    }
}
