//! `diagnose`: why a login fails, step by step, for operators. Every step is tried with what is configured: the
//! keytab's keys, a KDC, the SPN, a client's own token, each directory server, one user. Each says what it found, and
//! where something is wrong, the mend in a sentence and the command for Windows and for MIT Kerberos. Nothing is
//! changed, and no token is issued: a client's ticket that is tried here can still log in.

mod commands;
mod directory;
mod kdc;
mod report;
mod ticket;

use obol_mount::{Cx, Data, Result, Secret};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Kerberos;
use report::{Report, Steps};

/// `POST diagnose`.
pub(super) async fn diagnose(cx: Cx<Kerberos>, input: DiagnoseInput) -> Result<Data<Report>> {
    let snapshot = cx.live.snapshot(&cx.store).await?;
    let mut steps = Steps::default();
    let service = snapshot.service();
    let accepted = match service {
        None => {
            steps
                .fail("keytab", "no keytab is configured")
                .mend(format!("write one to {}config", cx.request.mount))
                .mit(format!(
                    "base64 -w0 vault.keytab | obol write {}config keytab=- service_account=vault_svc",
                    cx.request.mount
                ));
            None
        }
        Some(service) => {
            ticket::keytab(&mut steps, service);
            kdc::check(&mut steps, service, input.service.as_deref()).await;
            ticket::of_client(
                &mut steps,
                service,
                &cx.request,
                input.authorization.as_ref(),
                &cx.proofs,
            )
            .await?
        }
    };
    let user = match snapshot.users() {
        None => {
            steps
                .fail("ldap", "no directory is configured")
                .mend(format!("write it to {}config/ldap", cx.request.mount));
            None
        }
        Some(users) => {
            let usable = directory::servers(&mut steps, users).await;
            if let Some(service) = service.filter(|_| usable) {
                directory::spn(&mut steps, service, users, input.service.as_deref()).await;
            }
            let named = input.user.as_deref().filter(|name| !name.is_empty());
            if usable {
                directory::user(&mut steps, &snapshot, users, named, accepted.as_ref()).await
            } else {
                // Each question would wait as long as the one before, and come to the same.
                steps.skip("user", "no directory server is usable");
                None
            }
        }
    };
    Ok(Data(steps.into_report(user)))
}

/// What to look at beside the configuration.
#[derive(Deserialize, JsonSchema)]
pub(super) struct DiagnoseInput {
    /// A user whose entry, groups and policies are looked up, as the directory is asked for it: `grace`.
    user: Option<String>,
    /// The SPN that clients ask a ticket for, such as `HTTP/vault.example.com`. Left out: the first `HTTP/...` of the
    /// keytab.
    service: Option<String>,
    /// `Negotiate` and a SPNEGO token in base64, from a client that cannot log in: says whether the keytab opens it.
    authorization: Option<Secret>,
}
