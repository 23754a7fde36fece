//! libkrb5 behind types that cannot be misused: what it opens requests with, and what GSSAPI does not tell: how far clocks
//! may differ by its configuration, and the end of a ticket cache in memory.
//!
//! The accepting side calls libkrb5 and not GSSAPI, which makes a context (that looks at krb5.conf) in each of its calls
//! and reads the keytab anew for each request: three times the work of the cryptography. What GSSAPI adds to an AP-REQ
//! is little, and read in `gss_checksum.rs`.

mod cache;
mod clock;
mod keytab;
mod request;
mod sys;

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::memfd::sealed_memfd;
use sys::{
    RawContext, RawProfile, krb5_free_context, krb5_free_error_message, krb5_get_error_message,
    krb5_init_context, krb5_init_context_profile, profile_init_path, profile_release,
};

pub(crate) use cache::MemoryCache;
pub use clock::library_clock_skew;
pub(crate) use keytab::MemoryKeytab;
pub(crate) use request::{LogonInfo, OpenRequest, client_time};

/// A fault that libkrb5 found.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("libkrb5: {text} ({code})")]
pub struct Krb5Error {
    /// Of krb5.h; zero if libkrb5 found nothing wrong and this crate did.
    pub code: i32,
    pub text: String,
}

/// Runs something with a context that nobody else uses meanwhile. Contexts are kept between requests, because each that is
/// made looks at krb5.conf, but none for longer than a second: a changed krb5.conf is noticed as soon.
///
/// libkrb5 looks at the time of that file alone, and not at the files that it includes, while any context has them read.
/// All that rest are dropped together for that; a server that is busy at each of these moments goes on with what it has
/// read of them until krb5.conf itself is touched.
pub(crate) fn with_context<T>(use_it: impl FnOnce(&Context) -> T) -> Result<T, Krb5Error> {
    static RESTING: Mutex<Vec<Resting>> = Mutex::new(Vec::new());
    // Nothing is half-made where a thread dies with the lock.
    let resting = || RESTING.lock().unwrap_or_else(PoisonError::into_inner);
    let rested = resting().pop();
    let context = match rested {
        Some(context) if context.since.elapsed() < CONTEXT_LIFE => context,
        old => {
            // The old ones first, or the new one would share their reading.
            let others = std::mem::take(&mut *resting());
            drop((old, others));
            Resting {
                context: Context::new()?,
                since: Instant::now(),
            }
        }
    };
    let result = use_it(&context.context);
    resting().push(context);
    Ok(result)
}

/// A context between two uses.
struct Resting {
    context: Context,
    since: Instant,
}

// SAFETY: libkrb5 asks that no two threads use a context at once, and keeps nothing in it that belongs to one thread.
// Whoever takes one out of the list has it alone until it is put back.
unsafe impl Send for Resting {}

/// A context of libkrb5. Not for two threads at once, and so neither Send nor Sync.
pub(crate) struct Context(*mut RawContext);

impl Context {
    fn new() -> Result<Self, Krb5Error> {
        let mut context = ptr::null_mut();
        // SAFETY: the result is a local; on failure it stays null.
        match unsafe { krb5_init_context(&mut context) } {
            0 => Ok(Self(context)),
            code => Err(Krb5Error::without_context(code)),
        }
    }

    /// A context for which every time is right and every encryption type permitted: what libkrb5
    /// has refused on these grounds, it has refused before. It does not read krb5.conf.
    fn timeless() -> Result<Self, Krb5Error> {
        static CONFIGURATION: OnceLock<Option<OwnedFd>> = OnceLock::new();
        let configuration = CONFIGURATION
            .get_or_init(|| sealed_memfd(c"krb5.conf", TIMELESS_CONFIGURATION).ok())
            .as_ref()
            .ok_or_else(|| Krb5Error {
                code: 0,
                text: "the system gives no file in memory".to_owned(),
            })?;
        let path = CString::new(format!("/proc/self/fd/{}", configuration.as_raw_fd()))
            .expect("a number and a constant hold no NUL");
        let mut profile = Profile(ptr::null_mut());
        // SAFETY: the path is nul-terminated and only read; `profile` receives a handle, which its
        // guard releases.
        match unsafe { profile_init_path(path.as_ptr(), &mut profile.0) } {
            0 => {}
            code => return Err(Krb5Error::without_context(code as i32)), // com_err codes have 32 bits
        }
        let mut context = ptr::null_mut();
        // SAFETY: the profile is live, and the context makes a copy of its own (krb5.h,
        // krb5_init_context_profile); the result is a local that stays null on failure.
        match unsafe { krb5_init_context_profile(profile.0, 0, &mut context) } {
            0 => Ok(Self(context)),
            code => Err(Krb5Error::without_context(code)),
        }
    }

    /// For a call that borrows the context.
    fn raw(&self) -> *mut RawContext {
        self.0
    }

    fn check(&self, code: i32) -> Result<(), Krb5Error> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the context is live; the message is nul-terminated, never null, and freed after it
        // was copied.
        let text = unsafe {
            let message = krb5_get_error_message(self.0, code);
            let text = CStr::from_ptr(message).to_string_lossy().into_owned();
            krb5_free_error_message(self.0, message);
            text
        };
        Err(Krb5Error { code, text })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context is owned by this value alone and not used again.
        unsafe { krb5_free_context(self.0) };
    }
}

impl Krb5Error {
    fn without_context(code: i32) -> Self {
        Self {
            code,
            text: "no context can be made, see krb5.conf".to_owned(),
        }
    }
}

struct Profile(*mut RawProfile);

impl Drop for Profile {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the handle is owned by this value alone and not used again.
            unsafe { profile_release(self.0) };
        }
    }
}

const CONTEXT_LIFE: Duration = Duration::from_secs(1);

/// Thirty years: whatever two clocks say, a ticket is decrypted and its time is read.
const TIMELESS_CONFIGURATION: &[u8] = b"[libdefaults]\n\
    clockskew = 946080000\n\
    allow_weak_crypto = true\n\
    allow_rc4 = true\n\
    allow_des3 = true\n";
