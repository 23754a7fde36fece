//! What every renewal of a directory's user asks: the user must still be there, as the same entry and with the same
//! policies; otherwise they log in again (threats: `renew-with-other-identity`, `group-gone`).

use std::time::SystemTime;

use obol_directory::{DirectoryError, Standing};
use obol_mount::{Error, Renewal, Result, TokenParams, same_policies};

/// A renewal that is refused: the answer is for the client, the cause for the log, where it stands beside the request.
pub(crate) fn refused(who: &str, cause: &str, answer: &str) -> Error {
    Error::bad_request(format!("{answer}; log in again"))
        .with_cause(format!("a renewal of {who} was refused: {cause}"))
}

/// The directory does not give the user: a verdict, or an outage that passes.
pub(crate) fn not_found(who: &str, error: &DirectoryError) -> Error {
    if error.is_refusal() {
        return refused(who, &error.to_string(), GONE);
    }
    Error::bad_gateway(
        "the directory cannot be asked for the user's groups; the token was not renewed",
    )
    .with_cause(format!("{error}: {} ({})", error.cause(), error.mend()))
}

/// Another entry under the same name is not the same user.
pub(crate) fn same_entry(who: &str, was: &str, is: &str) -> Result<()> {
    match was == is {
        true => Ok(()),
        false => Err(refused(
            who,
            &format!("the user's entry was {was:?} and is {is:?}"),
            "the user is another entry of the directory now",
        )),
    }
}

/// An account that is disabled or has expired is nobody's, whatever groups it is in (threats: `group-gone`).
pub(crate) fn not_shut_out(who: &str, standing: &Standing) -> Result<()> {
    match standing.shut_out(SystemTime::now()) {
        Some(cause) => Err(refused(who, cause, GONE)),
        None => Ok(()),
    }
}

/// The renewal, with the settings of today and without its groups, if `granted` and the mount's own policies are those that the token was
/// issued with.
pub(crate) fn unchanged(
    who: &str,
    mut granted: Vec<String>,
    token: &TokenParams,
    issued: &[String],
) -> Result<Renewal> {
    granted.extend(token.policies.iter().cloned());
    if !same_policies(&granted, issued) {
        let cause = format!(
            "the policies were {} and are {}",
            issued.join(","),
            granted.join(",")
        );
        return Err(refused(
            who,
            &cause,
            "the user's policies have changed since the login",
        ));
    }
    Ok(Renewal {
        token: token.clone(),
        ..Renewal::default()
    })
}

pub(crate) const GONE: &str = "this user may not log in here any more";
