//! What GSSAPI does not tell and libkrb5 does: how far clocks may differ by its configuration, when
//! a client made its request by its own clock, and the end of a ticket cache in memory. The
//! declarations are few, and written out here from krb5.h and profile.h, whose ABI MIT keeps.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint};
use std::marker::{PhantomData, PhantomPinned};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use thiserror::Error;

use crate::memfd::sealed_memfd;

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

/// What libkrb5 allows now, up to a second ago; `None` where that cannot be known.
pub(crate) fn present_clock_skew() -> Option<Duration> {
    /// When it was read, in seconds since the first time, and what it was, 32 bits each.
    static READ: AtomicU64 = AtomicU64::new(0);
    static START: OnceLock<Instant> = OnceLock::new();
    let now = START.get_or_init(Instant::now).elapsed().as_secs() + 1;
    let read = READ.load(Ordering::Relaxed);
    if read >> 32 == now {
        return Some(Duration::from_secs(read & u64::from(u32::MAX)));
    }
    let skew = read_clock_skew().ok()?;
    // At most what fits an i32.
    READ.store(now << 32 | skew.as_secs(), Ordering::Relaxed);
    Some(skew)
}

fn read_clock_skew() -> Result<Duration, Krb5Error> {
    let context = Context::new()?;
    let mut profile = Profile(ptr::null_mut());
    // SAFETY: the context is live; `profile` receives a handle of its own, which its guard releases.
    context.check(unsafe { krb5_get_profile(context.0, &mut profile.0) })?;
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

/// A fault that libkrb5 found outside of GSSAPI.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("libkrb5: {text} ({code})")]
pub struct Krb5Error {
    pub code: i32,
    pub text: String,
}

/// The time that a client wrote into its request, by its own clock. Decrypts the ticket with the
/// keytab and the authenticator with the session key in it, and checks everything but the clock;
/// for requests that libkrb5 has accepted already, or refused because of the clock.
pub(crate) fn client_time(keytab: &CStr, ap_req: &[u8]) -> Result<SystemTime, Krb5Error> {
    TIMELESS.with_borrow_mut(|timeless| {
        let context = match timeless {
            Some(context) => context,
            None => timeless.insert(Context::timeless()?),
        };
        context.client_time(keytab, ap_req)
    })
}

/// Keeps libkrb5's reading of krb5.conf alive. GSSAPI makes a context in each of its calls, some five
/// for an accept, and each parses the configuration unless another context holds it parsed: with the
/// smallest of files that was more than a third of an accept.
///
/// A changed krb5.conf is noticed even so, within a second: libkrb5 looks at the file's time. It does
/// not look at the files that it includes, so the holder gives way now and then; a server that is
/// busy at each of these moments goes on with what it has read until krb5.conf itself is touched.
pub(crate) fn keep_configuration() {
    static HOLDER: Mutex<Option<(Parked, Instant)>> = Mutex::new(None);
    // Whoever finds it locked leaves it to the other thread.
    let Ok(mut holder) = HOLDER.try_lock() else {
        return;
    };
    if let Some((_, since)) = &*holder
        && since.elapsed() < CONFIGURATION_LIFE
    {
        return;
    }
    // The old one first, or the new one would share its reading.
    *holder = None;
    let context = Context::new().ok();
    *holder = context.map(|context| (Parked { _context: context }, Instant::now()));
}

/// A context that nobody uses.
struct Parked {
    _context: Context,
}

// SAFETY: libkrb5 asks that no two threads use a context at once, and keeps nothing in it that belongs
// to one thread. This one is used by none; whichever replaces it frees it.
unsafe impl Send for Parked {}

/// A ticket cache in memory under a name that nobody else has. libkrb5 keeps what lies in one until
/// somebody destroys it: this does when it is dropped.
pub(crate) struct MemoryCache(CString);

impl MemoryCache {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("MEMORY:obol-{number}");
        Self(CString::new(name).expect("a number and a constant hold no NUL"))
    }

    pub(crate) fn name(&self) -> &CStr {
        &self.0
    }
}

impl Drop for MemoryCache {
    fn drop(&mut self) {
        // Without memory for a context there is nothing to be done about it here.
        let Ok(context) = Context::new() else { return };
        let mut cache = ptr::null_mut();
        // SAFETY: the context is live, the name nul-terminated; `cache` receives a handle, which
        // krb5_cc_destroy takes back, whatever it returns. Other handles of the same cache count
        // their own references.
        unsafe {
            if krb5_cc_resolve(context.0, self.0.as_ptr(), &mut cache) == 0 {
                krb5_cc_destroy(context.0, cache);
            }
        }
    }
}

/// A context of libkrb5. Not for two threads at once, and so neither Send nor Sync.
struct Context(*mut RawContext);

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
    /// has refused on these grounds, it has refused before.
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
            code => return Err(Krb5Error::without_context(code as i32)),
        }
        let mut context = ptr::null_mut();
        // SAFETY: the profile is live, and the context makes a copy of its own (krb5.h,
        // krb5_init_context_profile); the result is a local that stays null on failure.
        match unsafe { krb5_init_context_profile(profile.0, 0, &mut context) } {
            0 => Ok(Self(context)),
            code => Err(Krb5Error::without_context(code)),
        }
    }

    fn client_time(&self, keytab_name: &CStr, ap_req: &[u8]) -> Result<SystemTime, Krb5Error> {
        let request = Data {
            magic: 0,
            length: c_uint::try_from(ap_req.len()).map_err(|_| Krb5Error {
                code: 0,
                text: "the request is too large".to_owned(),
            })?,
            data: ap_req.as_ptr().cast_mut().cast(),
        };
        let mut held = Held {
            context: self,
            keytab: ptr::null_mut(),
            auth: ptr::null_mut(),
            authenticator: ptr::null_mut(),
        };
        // SAFETY: the context is live and used by this thread alone; all results go to fields of
        // `held`, which start null and are freed by its guard. The name is nul-terminated and the
        // request is only read. Flags of zero keep the replay cache out of it (krb5.h,
        // krb5_auth_con_setflags). Null is allowed for the server (any of the keytab), the options
        // and the ticket. The authenticator is asked for only after krb5_rd_req has succeeded and so
        // has stored one, and krb5.h gives it to the caller as a copy.
        unsafe {
            self.check(krb5_kt_resolve(
                self.0,
                keytab_name.as_ptr(),
                &mut held.keytab,
            ))?;
            self.check(krb5_auth_con_init(self.0, &mut held.auth))?;
            self.check(krb5_auth_con_setflags(self.0, held.auth, 0))?;
            self.check(krb5_rd_req(
                self.0,
                &mut held.auth,
                &request,
                ptr::null(),
                held.keytab,
                ptr::null_mut(),
                ptr::null_mut(),
            ))?;
            self.check(krb5_auth_con_getauthenticator(
                self.0,
                held.auth,
                &mut held.authenticator,
            ))?;
        }
        // SAFETY: the call above has succeeded, so the pointer leads to an authenticator that lives
        // until the guard frees it.
        let (seconds, micros) = unsafe {
            let authenticator = &*held.authenticator;
            (authenticator.ctime, authenticator.cusec)
        };
        // krb5_timestamp is signed and counts on through 2038 as if it were not.
        let since_1970 = Duration::from_secs(u64::from(seconds as u32))
            + Duration::from_micros(u64::try_from(micros).unwrap_or(0));
        Ok(SystemTime::UNIX_EPOCH + since_1970)
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

/// What one reading of a request holds, freed together.
struct Held<'a> {
    context: &'a Context,
    keytab: *mut RawKeytab,
    auth: *mut RawAuthContext,
    authenticator: *mut Authenticator,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: each pointer is null or was given by libkrb5 in this context, is owned by this
        // value alone and freed once, before the context.
        unsafe {
            if !self.authenticator.is_null() {
                krb5_free_authenticator(self.context.0, self.authenticator);
            }
            if !self.auth.is_null() {
                krb5_auth_con_free(self.context.0, self.auth);
            }
            if !self.keytab.is_null() {
                krb5_kt_close(self.context.0, self.keytab);
            }
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

thread_local! {
    /// A context costs more than a request, so each thread that needs one keeps it.
    static TIMELESS: RefCell<Option<Context>> = const { RefCell::new(None) };
}

/// Types of which only pointers are known here, one each, so that they cannot be confused.
macro_rules! opaque {
    ($($name:ident)*) => {$(
        #[repr(C)]
        struct $name {
            _bytes: [u8; 0],
            _marker: PhantomData<(*mut u8, PhantomPinned)>,
        }
    )*};
}

opaque! { RawContext RawProfile RawKeytab RawAuthContext RawCache RawPrincipal }

/// krb5_data
#[repr(C)]
struct Data {
    magic: i32,
    length: c_uint,
    data: *mut c_char,
}

/// The head of krb5_authenticator, as far as it is read here.
#[repr(C)]
struct Authenticator {
    magic: i32,
    client: *mut RawPrincipal,
    checksum: *mut u8,
    cusec: i32,
    ctime: i32,
}

#[link(name = "krb5")]
unsafe extern "C" {
    fn krb5_init_context(context: *mut *mut RawContext) -> i32;
    fn krb5_init_context_profile(
        profile: *mut RawProfile,
        flags: i32,
        context: *mut *mut RawContext,
    ) -> i32;
    fn krb5_free_context(context: *mut RawContext);
    fn krb5_get_error_message(context: *mut RawContext, code: i32) -> *const c_char;
    fn krb5_free_error_message(context: *mut RawContext, message: *const c_char);

    fn krb5_get_profile(context: *mut RawContext, profile: *mut *mut RawProfile) -> i32;
    fn profile_init_path(files: *const c_char, profile: *mut *mut RawProfile) -> c_long;
    fn profile_get_integer(
        profile: *mut RawProfile,
        name: *const c_char,
        subname: *const c_char,
        subsubname: *const c_char,
        default: c_int,
        value: *mut c_int,
    ) -> c_long;
    fn profile_release(profile: *mut RawProfile);

    fn krb5_kt_resolve(
        context: *mut RawContext,
        name: *const c_char,
        keytab: *mut *mut RawKeytab,
    ) -> i32;
    fn krb5_kt_close(context: *mut RawContext, keytab: *mut RawKeytab) -> i32;
    fn krb5_auth_con_init(context: *mut RawContext, auth: *mut *mut RawAuthContext) -> i32;
    fn krb5_auth_con_setflags(
        context: *mut RawContext,
        auth: *mut RawAuthContext,
        flags: i32,
    ) -> i32;
    fn krb5_auth_con_free(context: *mut RawContext, auth: *mut RawAuthContext) -> i32;
    fn krb5_rd_req(
        context: *mut RawContext,
        auth: *mut *mut RawAuthContext,
        request: *const Data,
        server: *const RawPrincipal,
        keytab: *mut RawKeytab,
        options: *mut i32,
        ticket: *mut *mut u8,
    ) -> i32;
    fn krb5_auth_con_getauthenticator(
        context: *mut RawContext,
        auth: *mut RawAuthContext,
        authenticator: *mut *mut Authenticator,
    ) -> i32;
    fn krb5_free_authenticator(context: *mut RawContext, authenticator: *mut Authenticator);

    fn krb5_cc_resolve(
        context: *mut RawContext,
        name: *const c_char,
        cache: *mut *mut RawCache,
    ) -> i32;
    fn krb5_cc_destroy(context: *mut RawContext, cache: *mut RawCache) -> i32;
}

const CONFIGURATION_LIFE: Duration = Duration::from_secs(10);

/// libkrb5's own default.
const DEFAULT_CLOCK_SKEW: c_int = 300;

/// Thirty years: whatever two clocks say, a ticket is decrypted and its time is read.
const TIMELESS_CONFIGURATION: &[u8] = b"[libdefaults]\n\
    clockskew = 946080000\n\
    allow_weak_crypto = true\n\
    allow_rc4 = true\n\
    allow_des3 = true\n";
