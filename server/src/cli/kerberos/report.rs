//! What the doctor found: steps with a mark each, as text for people and as JSON for scripts.

use serde_json::{Value, json};

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    Warning,
    Failed,
    Skipped,
}

/// One thing that was looked at. The commands are empty where there is nothing to run.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) status: Status,
    pub(super) finding: String,
    pub(super) mend: String,
    pub(super) windows: String,
    pub(super) mit: String,
}

impl Step {
    pub(super) fn new(name: &str, status: Status, finding: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            status,
            finding: finding.into(),
            mend: String::new(),
            windows: String::new(),
            mit: String::new(),
        }
    }

    pub(super) fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = mend.into();
        self
    }

    pub(super) fn commands(mut self, windows: impl Into<String>, mit: impl Into<String>) -> Self {
        self.windows = windows.into();
        self.mit = mit.into();
        self
    }

    /// A step of the server's answer. What it does not say is empty; a status of a later version is a warning.
    pub(super) fn of_server(step: &Value) -> Self {
        let text = |key: &str| step[key].as_str().unwrap_or_default().to_owned();
        Self {
            name: text("name"),
            status: match step["status"].as_str() {
                Some("ok") => Status::Ok,
                Some("failed") => Status::Failed,
                Some("skipped") => Status::Skipped,
                _ => Status::Warning,
            },
            finding: text("finding"),
            mend: text("mend"),
            windows: text("windows"),
            mit: text("mit"),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "status": self.status.name(),
            "finding": self.finding,
            "mend": self.mend,
            "windows": self.windows,
            "mit": self.mit,
        })
    }

    /// The line of a step, and below it what to do where something is to be done.
    pub(super) fn lines(&self, width: usize) -> Vec<String> {
        let mark = self.status.mark();
        let mut lines = vec![format!("  {mark}  {:<width$}  {}", self.name, self.finding)];
        if matches!(self.status, Status::Failed | Status::Warning) && !self.mend.is_empty() {
            lines.push(format!("        {:<width$}  → {}", "", self.mend));
        }
        lines
    }
}

impl Status {
    fn mark(self) -> &'static str {
        match self {
            Self::Ok => "ok  ",
            Self::Warning => "warn",
            Self::Failed => "FAIL",
            Self::Skipped => "-   ",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// The step that calls for something first: the first that failed, else the first that warns.
pub(super) fn to_mend<'a>(steps: impl Iterator<Item = &'a Step> + Clone) -> Option<&'a Step> {
    let first = |status| steps.clone().find(|step| step.status == status);
    first(Status::Failed).or_else(|| first(Status::Warning))
}
