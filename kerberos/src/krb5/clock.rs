//! How far clocks may differ, by libkrb5's configuration.

use std::ffi::c_int;
use std::ptr;
use std::sync::OnceLock;
use std::time::Duration;

use super::sys::{krb5_get_profile, profile_get_integer};
use super::{Context, Krb5Error, Profile};

/// How far the clock of a client may be from this host's, by libkrb5's configuration on this host
/// (`clockskew` in `[libdefaults]` of krb5.conf, five minutes where it is not set). A request can be
/// replayed for so long before and after the time that stands in it.
///
/// Read once in the life of the process, so that what was planned with it stays true: libkrb5 itself
/// reads a changed krb5.conf at any time, but acceptors keep to this as the most.
pub fn library_clock_skew() -> Result<Duration, Krb5Error> {
    static FIRST: OnceLock<Duration> = OnceLock::new();
    match FIRST.get() {
        Some(first) => Ok(*first),
        None => read_clock_skew().map(|skew| *FIRST.get_or_init(|| skew)),
    }
}

fn read_clock_skew() -> Result<Duration, Krb5Error> {
    let context = Context::new()?;
    let mut profile = Profile(ptr::null_mut());
    // SAFETY: the context is live; `profile` receives a handle of its own, which its guard releases.
    context.check(unsafe { krb5_get_profile(context.raw(), &mut profile.0) })?;
    let mut seconds = 0;
    // SAFETY: the profile is live, the names are nul-terminated and only read, the result is a
    // local; profile.h allows null for the third name.
    let code = unsafe {
        profile_get_integer(
            profile.0,
            c"libdefaults".as_ptr(),
            c"clockskew".as_ptr(),
            ptr::null(),
            DEFAULT_CLOCK_SKEW,
            &mut seconds,
        )
    };
    // A value that is no number stops libkrb5 as well.
    context.check(code as i32)?; // com_err codes have 32 bits
    Ok(Duration::from_secs(u64::from(
        u32::try_from(seconds).unwrap_or(0),
    )))
}

/// libkrb5's own default.
const DEFAULT_CLOCK_SKEW: c_int = 300;
