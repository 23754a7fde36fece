//! `kerberos doctor`: goes through what a login needs, on this computer and on the server, and ends with the mend in
//! one sentence and the commands to run. The server's half is its `auth/<mount>/diagnose`.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use obol_kerberos::{InitiateError, Initiator};
use serde_json::{Map, Value, json};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};
use ureq::http::{HeaderMap, header};

use super::report::{Status, Step, to_mend};
use crate::cli::client::{Client, HttpFlags, Request};
use crate::cli::failure::{Failure, Outcome, REMOTE, SUCCESS};
use crate::cli::logical::sanitised;
use crate::cli::login::kerberos::{sentence, spn};
use crate::cli::output::{Format, FormatFlag, heading};
use crate::cli::{Command, Example, Session};

/// Find out why a Kerberos login fails, or whether one would work
///
/// Looks at this computer first: is there a ticket, does the KDC give one for the service, does the clock agree with
/// the server's. Then the server looks at its own side, step by step: the keytab, the service's name, clock, DNS, KDC,
/// whether this computer's ticket decrypts, each LDAP server, and with -user that user's DN, groups and policies.
/// Ends with the mend of the first fault, and the commands to run on Windows and with MIT Kerberos.
///
/// Needs a token whose policies grant `update` and `sudo` on auth/kerberos/diagnose. The exit status is 0 when a login
/// would work, 2 when not.
#[derive(clap::Args)]
pub(in crate::cli) struct Doctor {
    /// Where the auth method is enabled
    #[arg(
        long,
        alias = "path",
        value_name = "PATH",
        default_value = "kerberos",
        hide_default_value = true
    )]
    mount: String,
    /// A user to look up: DN, groups from each source, policies
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The service to get a ticket for; HTTP/ and the host of the address by default
    #[arg(long, value_name = "SPN")]
    service: Option<String>,
    /// Leave this computer out: no ticket is asked for, and none is sent
    #[arg(long)]
    server_only: bool,
    #[command(flatten)]
    http: HttpFlags,
    #[command(flatten)]
    format: FormatFlag,
}

impl Command for Doctor {
    const NAME: &'static str = "kerberos doctor";
    const EXAMPLES: &'static [Example] = &[
        (
            "Would a login from this computer work?",
            "obol kerberos doctor",
        ),
        (
            "What the server knows about a user",
            "obol kerberos doctor -user=grace",
        ),
        (
            "Of a method at another path, asked under another name",
            "obol kerberos doctor -mount=kerberos-lab -service=HTTP/vault.lab.example.com",
        ),
    ];

    fn run(self, session: &mut Session<'_>) -> Outcome {
        let format = self.format.resolve(&session.env)?;
        let client = Client::new(&self.http, &session.env)?;
        let mount = sanitised(&self.mount);
        let mount = mount.strip_prefix("auth/").unwrap_or(mount);

        let (mut here, authorization) = if self.server_only {
            (Vec::new(), None)
        } else {
            self.this_computer(&client)
        };
        let mut question = Map::new();
        let mut ask = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                question.insert(key.to_owned(), value.into());
            }
        };
        ask("user", self.user.clone());
        ask("service", self.service_for_server(&client));
        ask("authorization", authorization);
        let asked = SystemTime::now();
        let request = Request::post(format!("auth/{mount}/diagnose"), Value::Object(question))
            .without_redirects();
        let answer = match client.send(request) {
            Ok(answer) => answer,
            Err(failure) if failure.replacement().is_some() => return Err(failure),
            Err(failure) => {
                // What was found here may be the very reason.
                if format == Format::Table && !here.is_empty() {
                    print_steps(session, "This computer", &here)?;
                    session.line("")?;
                }
                return Err(explained(failure, mount));
            }
        };
        if !self.server_only {
            here.push(clock(&answer.headers, asked, SystemTime::now()));
        }
        let data = answer.data();
        let there: Vec<Step> = data["steps"]
            .as_array()
            .into_iter()
            .flatten()
            .map(Step::of_server)
            .collect();
        let well = data["ok"] == Value::Bool(true)
            && !here.iter().any(|step| step.status == Status::Failed);
        // What the server has found comes first: of a fault that both sides see, it knows the names that mend it.
        let failed_here = here.iter().find(|step| step.status == Status::Failed);
        let summary = match failed_here.filter(|_| data["ok"] == Value::Bool(true)) {
            Some(step) => sentence(&step.finding),
            None => data["summary"].as_str().unwrap_or_default().to_owned(),
        };
        if format == Format::Table {
            print(session, mount, &here, &there, data, &summary)?;
        } else {
            let here: Vec<Value> = here.iter().map(Step::to_json).collect();
            let all = json!({ "ok": well, "summary": summary, "client": here, "server": data });
            session.print_value(format, &all)?;
        }
        Ok(if well { SUCCESS } else { REMOTE })
    }
}

impl Doctor {
    /// What can be found out without the server; and, where there is a ticket for it, the header that shows it.
    fn this_computer(&self, client: &Client) -> (Vec<Step>, Option<String>) {
        let mut steps = Vec::new();
        let name = match spn(self.service.as_deref(), client.address()) {
            Ok(name) => name,
            Err(_) => {
                steps.push(
                    Step::new(
                        "service",
                        Status::Warning,
                        format!(
                            "the address is {}, and Kerberos knows services by name",
                            client.address().host()
                        ),
                    )
                    .mend("use the server's host name in VAULT_ADDR, or add -service=HTTP/host"),
                );
                return (steps, None);
            }
        };
        let initiator = match Initiator::from_ccache(None) {
            Ok(initiator) => initiator,
            Err(error) => {
                steps.push(ticket_missing(&error));
                return (steps, None);
            }
        };
        let found = format!("there is one in {}", initiator.client());
        steps.push(Step::new("tickets", Status::Ok, found));
        match initiator.negotiate(&name, client.channel_bindings().as_ref()) {
            Ok((token, _)) => {
                let size = token.len();
                steps.push(Step::new(
                    "service ticket",
                    Status::Ok,
                    format!("the KDC gave one for {name} ({size} bytes)"),
                ));
                // A header of this size passes through Obol; proxies often take less.
                if size > LARGE_TICKET {
                    steps.push(
                        Step::new(
                            "ticket size",
                            Status::Warning,
                            format!(
                                "{} bytes as a header, and many proxies take 8 KiB",
                                size * 4 / 3
                            ),
                        )
                        .mend(
                            "raise the header limit of a proxy in between \
                             (nginx: large_client_header_buffers, Apache: LimitRequestFieldSize)",
                        ),
                    );
                }
                let header = format!("Negotiate {}", STANDARD.encode(token));
                (steps, Some(header))
            }
            Err(error) => {
                let literal = literal(&name);
                steps.push(
                    Step::new("service ticket", Status::Failed, error.to_string())
                        .mend(error.mend())
                        .commands(format!("setspn -Q {literal}"), format!("kvno {literal}")),
                );
                (steps, None)
            }
        }
    }

    /// As the server takes it: with a slash. `None` leaves it to the server's own default.
    fn service_for_server(&self, client: &Client) -> Option<String> {
        match &self.service {
            Some(service) if service.contains('/') => Some(service.clone()),
            Some(service) if service.contains('@') => Some(literal(service)),
            Some(class) => Some(format!("{class}/{}", client.address().host())),
            None => {
                let host = client.address().host();
                host.parse::<IpAddr>()
                    .is_err()
                    .then(|| format!("HTTP/{host}"))
            }
        }
    }
}

/// Somebody without a ticket may still want to know how the server does: no fault, but to be said.
fn ticket_missing(error: &InitiateError) -> Step {
    let status = match error {
        InitiateError::NoTicket { .. } | InitiateError::TicketExpired { .. } => Status::Warning,
        _ => Status::Failed,
    };
    let finding = format!("{error}; the server's side is looked at without one");
    Step::new("tickets", status, finding)
        .mend(error.mend())
        .commands("klist", "kinit")
}

/// `HTTP@host` in the form that other tools take.
fn literal(spn: &str) -> String {
    if spn.contains('/') {
        spn.to_owned()
    } else {
        spn.replacen('@', "/", 1)
    }
}

/// Compares this computer's clock with the `Date` of the server's answer, which is exact to a second.
fn clock(headers: &HeaderMap, asked: SystemTime, answered: SystemTime) -> Step {
    let server = headers
        .get(header::DATE)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| PrimitiveDateTime::parse(text, IMF_FIXDATE).ok());
    let Some(server) = server.map(PrimitiveDateTime::assume_utc) else {
        return Step::new(
            "clock",
            Status::Skipped,
            "the server's answer has no Date to compare with",
        );
    };
    // Anything between question and answer is right.
    let (before, after) = (OffsetDateTime::from(asked), OffsetDateTime::from(answered));
    let (ahead, off) = if server < before {
        (false, before - server)
    } else if server > after {
        (true, server - after)
    } else {
        (true, time::Duration::ZERO)
    };
    let off = Duration::try_from(off).unwrap_or_default().as_secs();
    let finding = format!(
        "the server's clock is {off} s {} this computer's",
        if ahead { "ahead of" } else { "behind" }
    );
    let mend = "synchronise both clocks with the domain's (NTP); tickets allow five minutes";
    let commands = |step: Step| {
        step.mend(mend)
            .commands("w32tm /resync", "chronyc makestep")
    };
    match off {
        0..=2 => Step::new(
            "clock",
            Status::Ok,
            "this computer's clock agrees with the server's",
        ),
        3..=60 => Step::new("clock", Status::Ok, finding),
        61..=299 => commands(Step::new("clock", Status::Warning, finding)),
        _ => commands(Step::new("clock", Status::Failed, finding)),
    }
}

fn explained(failure: Failure, mount: &str) -> Failure {
    let failure = failure.doing(format!("asking auth/{mount}/diagnose"));
    match failure.status() {
        Some(403) => failure.hint(format!(
            "The token needs a policy with:\n\n  path \"auth/{mount}/diagnose\" {{\n    capabilities = \
             [\"update\", \"sudo\"]\n  }}"
        )),
        Some(404 | 405) => failure.hint(format!(
            "Is there a Kerberos method at auth/{mount}? obol auth list shows where; -mount=PATH names it."
        )),
        _ => failure,
    }
}

fn print(
    session: &mut Session<'_>,
    mount: &str,
    here: &[Step],
    there: &[Step],
    data: &Map<String, Value>,
    summary: &str,
) -> Result<(), Failure> {
    if !here.is_empty() {
        print_steps(session, "This computer", here)?;
        session.line("")?;
    }
    print_steps(session, &format!("The server, auth/{mount}"), there)?;
    if let Some(user) = data.get("user").filter(|user| user.is_object()) {
        session.line("")?;
        print_user(session, user)?;
    }
    session.line("")?;
    session.line(summary)?;
    let Some(step) = to_mend(there.iter().chain(here)) else {
        return Ok(());
    };
    if !step.mend.is_empty() && !summary.contains(&step.mend) {
        session.line(&sentence(&step.mend))?;
    }
    for (system, command) in [
        ("On Windows", &step.windows),
        ("With MIT Kerberos", &step.mit),
    ] {
        if !command.is_empty() {
            session.line(&format!("\n  {system}:"))?;
            for line in command.lines() {
                session.line(&format!("    {line}"))?;
            }
        }
    }
    Ok(())
}

fn print_steps(session: &mut Session<'_>, title: &str, steps: &[Step]) -> Result<(), Failure> {
    session.line(&heading(title, HEADING))?;
    let names = steps.iter().map(|step| step.name.chars().count());
    let width = names.max().unwrap_or(0).max(NAMES);
    for line in steps.iter().flat_map(|step| step.lines(width)) {
        session.line(&line)?;
    }
    Ok(())
}

fn print_user(session: &mut Session<'_>, user: &Value) -> Result<(), Failure> {
    let name = user["name"].as_str().unwrap_or_default();
    session.line(&heading(&format!("The user {name}"), HEADING))?;
    session.line(&format!(
        "  DN        {}",
        user["dn"].as_str().unwrap_or("n/a")
    ))?;
    let texts = |list: &Value| -> Vec<String> {
        let list = list.as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let policies = texts(&user["policies"]);
    let policies = if policies.is_empty() {
        "none".to_owned()
    } else {
        policies.join(", ")
    };
    session.line(&format!("  Policies  {policies}"))?;
    let groups = user["groups"].as_array().map_or(&[][..], Vec::as_slice);
    session.line(&format!("  Groups    {}", groups.len()))?;
    for group in groups {
        let sources = texts(&group["sources"]).join(", ");
        let name = group["name"].as_str().unwrap_or_default();
        session.line(&format!("    {name}  ({sources})"))?;
    }
    Ok(())
}

/// A ticket that becomes more than 6 KiB of header; nginx and Apache take lines of 8 KiB.
const LARGE_TICKET: usize = 6 << 10;
const HEADING: usize = 60;
/// The width of the column of names, at least.
const NAMES: usize = 14;

/// `Date` as every server has to send it (RFC 9110, section 5.6.7).
const IMF_FIXDATE: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn clocks_are_compared_with_the_servers_date() {
        let mut headers = HeaderMap::new();
        assert_eq!(clock(&headers, at(0), at(1)).status, Status::Skipped);
        headers.insert(
            header::DATE,
            "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap(),
        );
        let date = 784_111_777;
        for (asked, status) in [
            (date, Status::Ok),
            (date - 30, Status::Ok),
            (date + 120, Status::Warning),
            (date - 600, Status::Failed),
            (date + 600, Status::Failed),
        ] {
            let step = clock(&headers, at(asked), at(asked + 1));
            assert_eq!(step.status, status, "{}", step.finding);
        }
        let step = clock(&headers, at(date + 600), at(date + 601));
        assert!(step.finding.contains("600 s behind"), "{}", step.finding);
    }

    #[test]
    fn services_are_written_with_a_slash_for_other_tools() {
        assert_eq!(literal("HTTP@vault.example.com"), "HTTP/vault.example.com");
        assert_eq!(literal("HTTP/h@REALM"), "HTTP/h@REALM");
    }
}
