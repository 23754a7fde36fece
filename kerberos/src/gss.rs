//! The whole of the C library, behind types that cannot be misused: credentials from a credential
//! store, one accepting step, and what it learned. All `unsafe` code of the project is in this
//! file.
//!
//! Only the Kerberos mechanism is called, never the library's SPNEGO: its minor codes come through
//! unchanged (the mechanism glue renumbers codes that reach it through a second mechanism), and
//! `spnego.rs` has already read the outer frame.
//!
//! `libgssapi` serves the initiator. Its server context hides the handles of context and names,
//! which the credential store, the returned flags and the attributes of names need; so the
//! accepting side is written on `libgssapi-sys`.

use std::ffi::{CStr, c_int, c_void};
use std::{fmt, ptr, slice};

use libgssapi_sys as sys;
use libgssapi_sys::{OM_uint32, gss_buffer_desc, gss_cred_id_t, gss_ctx_id_t, gss_name_t};

/// What the library answered: both codes, and its own words for them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) major: u32,
    /// A libkrb5 code for everything that Kerberos itself found wrong; zero if there is none.
    pub(crate) minor: i32,
    pub(crate) text: String,
}

impl Status {
    /// Must run on the thread of the failed call, before the next one: libkrb5 keeps the detailed
    /// message per thread.
    fn of(major: OM_uint32, minor: OM_uint32) -> Self {
        let mut text = display_status(minor, sys::GSS_C_MECH_CODE);
        if minor == 0 || text.is_empty() {
            text = display_status(major, sys::GSS_C_GSS_CODE);
        }
        Self {
            major,
            minor: minor as i32,
            text,
        }
    }

    /// The same for a call that was made through libgssapi.
    pub(crate) fn from_libgssapi(error: libgssapi::error::Error) -> Self {
        Self::of(error.major.bits(), error.minor)
    }

    /// The routine error of RFC 2744 section 3.9.1, without calling errors and supplementary bits.
    pub(crate) fn routine_error(&self) -> u32 {
        self.major & 0x00ff_0000
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (major {:#x}, minor {})",
            self.text, self.major, self.minor
        )
    }
}

/// A credential of the library. It holds a raw pointer, so it stays on its thread: a shared one
/// would serialise all who use it on a lock inside.
pub(crate) struct Credential(gss_cred_id_t);

impl Credential {
    /// An accepting credential for every key that the stored keytab has.
    pub(crate) fn acceptor(store: &[(&CStr, &CStr)]) -> Result<Self, Status> {
        acquire(None, sys::GSS_C_ACCEPT, store).map(Self)
    }
}

impl Drop for Credential {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the handle came from gss_acquire_cred_from, is owned by this value alone, and is
        // not used again.
        unsafe { sys::gss_release_cred(&mut minor, &mut self.0) };
    }
}

/// An initiating credential from a store, handed to libgssapi, which the initiator is built on.
pub(crate) fn initiator(
    principal: Option<&str>,
    store: &[(&CStr, &CStr)],
) -> Result<libgssapi::credential::Cred, Status> {
    let name = principal.map(Name::import_principal).transpose()?;
    let handle = acquire(name.as_ref(), sys::GSS_C_INITIATE, store)?;
    // SAFETY: `handle` is fresh from gss_acquire_cred_from and its only owner is the Cred made
    // here.
    Ok(unsafe { libgssapi::credential::Cred::from_c(handle) })
}

fn acquire(
    name: Option<&Name>,
    usage: u32,
    store: &[(&CStr, &CStr)],
) -> Result<gss_cred_id_t, Status> {
    let mut elements: Vec<sys::gss_key_value_element_desc> = store
        .iter()
        .map(|(key, value)| sys::gss_key_value_element_desc {
            key: key.as_ptr(),
            value: value.as_ptr(),
        })
        .collect();
    let store = sys::gss_key_value_set_desc {
        count: elements.len() as OM_uint32, // a handful, written out by the callers
        elements: elements.as_mut_ptr(),
    };
    let mut mech = krb5_oid();
    let mut mechs = sys::gss_OID_set_desc {
        count: 1,
        elements: &mut mech,
    };
    let mut handle: gss_cred_id_t = ptr::null_mut();
    let mut minor = 0;
    // SAFETY: every pointer is to a local that outlives the call, or null where RFC 2744 and
    // gssapi_ext.h allow it (name, actual mechanisms, lifetime). The strings are nul-terminated and
    // borrowed for longer than the call; the library copies what it keeps and writes to none of
    // them.
    let major = unsafe {
        sys::gss_acquire_cred_from(
            &mut minor,
            name.map_or(ptr::null_mut(), |name| name.0),
            sys::_GSS_C_INDEFINITE,
            &mut mechs,
            usage as sys::gss_cred_usage_t,
            &store,
            &mut handle,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    if is_error(major) {
        return Err(Status::of(major, minor));
    }
    Ok(handle)
}

/// A name as the library holds it.
pub(crate) struct Name(gss_name_t);

impl Name {
    fn import_principal(principal: &str) -> Result<Self, Status> {
        let mut text = borrowed(principal.as_bytes());
        let mut kind = oid(KRB5_PRINCIPAL_NAME);
        let mut handle: gss_name_t = ptr::null_mut();
        let mut minor = 0;
        // SAFETY: `text` and `kind` point to memory that outlives the call and is only read; the
        // library copies the name into the handle that it makes.
        let major = unsafe { sys::gss_import_name(&mut minor, &mut text, &mut kind, &mut handle) };
        if is_error(major) {
            return Err(Status::of(major, minor));
        }
        Ok(Self(handle))
    }

    /// The escaped principal, and whether the library holds it for anonymous.
    pub(crate) fn display(&self) -> Result<DisplayedName, Status> {
        let mut text = Buffer::empty();
        let mut kind: sys::gss_OID = ptr::null_mut();
        let mut minor = 0;
        // SAFETY: the name is live; `text` is an empty buffer that the library fills and Buffer
        // frees; `kind` receives a pointer to static storage (RFC 2744 section 5.10).
        let major = unsafe { sys::gss_display_name(&mut minor, self.0, &mut text.0, &mut kind) };
        if is_error(major) {
            return Err(Status::of(major, minor));
        }
        // SAFETY: a non-null `kind` points to a static object identifier with `length` bytes at
        // `elements`.
        let anonymous = !kind.is_null() && unsafe { oid_bytes(&*kind) } == NT_ANONYMOUS;
        Ok(DisplayedName {
            text: String::from_utf8(text.bytes().to_vec()).ok(),
            anonymous,
        })
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the handle is owned by this value alone and not used again; the library accepts
        // null.
        unsafe { sys::gss_release_name(&mut minor, &mut self.0) };
    }
}

pub(crate) struct DisplayedName {
    /// `None` if the name is not UTF-8.
    pub(crate) text: Option<String>,
    pub(crate) anonymous: bool,
}

/// A security context after its one accepting step.
pub(crate) struct Established {
    /// The authenticated client; attributes of the ticket hang on this name.
    pub(crate) client: Name,
    /// The name whose key opened the ticket.
    pub(crate) target: Option<Name>,
    /// The answer to the client; empty if it asked for none.
    pub(crate) reply: Vec<u8>,
    pub(crate) flags: u32,
    /// Seconds until the ticket ends.
    pub(crate) lifetime: u32,
    /// Whether another token is expected before the context is complete.
    pub(crate) continue_needed: bool,
}

/// One call of gss_accept_sec_context on a fresh context. A delegated credential is not asked for,
/// so a forwarded ticket is never kept.
pub(crate) fn accept(
    credential: &Credential,
    token: &[u8],
    bindings: Option<&[u8]>,
) -> Result<Established, Status> {
    let mut token = borrowed(token);
    let mut bindings = bindings.map(|data| sys::gss_channel_bindings_struct {
        initiator_addrtype: 0,
        initiator_address: borrowed(&[]),
        acceptor_addrtype: 0,
        acceptor_address: borrowed(&[]),
        application_data: borrowed(data),
    });
    let mut context = Context(ptr::null_mut());
    let mut client = Name(ptr::null_mut());
    let mut reply = Buffer::empty();
    let (mut minor, mut flags, mut lifetime) = (0, 0, 0);
    // SAFETY: all pointers are to locals that outlive the call. The inputs (token, bindings) are
    // only read. The outputs start null or empty and are owned, on success and on failure alike, by
    // guards that free them. Null is allowed for mechanism and delegated credential (RFC 2744
    // section 5.1).
    let major = unsafe {
        sys::gss_accept_sec_context(
            &mut minor,
            &mut context.0,
            credential.0,
            &mut token,
            bindings
                .as_mut()
                .map_or(ptr::null_mut(), |bindings| bindings as *mut _),
            &mut client.0,
            ptr::null_mut(),
            &mut reply.0,
            &mut flags,
            &mut lifetime,
            ptr::null_mut(),
        )
    };
    if is_error(major) {
        return Err(Status::of(major, minor));
    }
    let continue_needed = major & sys::_GSS_S_CONTINUE_NEEDED != 0;
    let target = if continue_needed {
        None
    } else {
        context.target()?
    };
    Ok(Established {
        client,
        target,
        reply: reply.bytes().to_vec(),
        flags,
        lifetime,
        continue_needed,
    })
}

struct Context(gss_ctx_id_t);

impl Context {
    fn target(&self) -> Result<Option<Name>, Status> {
        let mut target = Name(ptr::null_mut());
        let mut minor = 0;
        // SAFETY: the context is live and complete; `target` receives a name that its guard frees;
        // all other results are declined with null (RFC 2744 section 5.21).
        let major = unsafe {
            sys::gss_inquire_context(
                &mut minor,
                self.0,
                ptr::null_mut(),
                &mut target.0,
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        if is_error(major) {
            return Err(Status::of(major, minor));
        }
        Ok((!target.0.is_null()).then_some(target))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if self.0.is_null() {
            return;
        }
        let mut minor = 0;
        // SAFETY: the handle is owned by this value alone and not used again; no token is wanted.
        unsafe { sys::gss_delete_sec_context(&mut minor, &mut self.0, ptr::null_mut()) };
    }
}

/// A buffer that the library allocated.
struct Buffer(gss_buffer_desc);

impl Buffer {
    fn empty() -> Self {
        Self(gss_buffer_desc {
            length: 0,
            value: ptr::null_mut(),
        })
    }

    fn bytes(&self) -> &[u8] {
        if self.0.value.is_null() || self.0.length == 0 {
            return &[];
        }
        // SAFETY: the library filled the buffer with `length` initialised bytes at `value`; they
        // live until the buffer is released, which the borrow of `self` prevents.
        unsafe { slice::from_raw_parts(self.0.value.cast(), self.0.length) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the buffer is empty, or was allocated by the library and is released once.
        unsafe { sys::gss_release_buffer(&mut minor, &mut self.0) };
    }
}

/// An input buffer; the library reads it and never writes or frees it.
fn borrowed(bytes: &[u8]) -> gss_buffer_desc {
    gss_buffer_desc {
        length: bytes.len(),
        value: bytes.as_ptr().cast_mut().cast::<c_void>(),
    }
}

fn krb5_oid() -> sys::gss_OID_desc {
    oid(KRB5_MECHANISM)
}

fn oid(bytes: &'static [u8]) -> sys::gss_OID_desc {
    sys::gss_OID_desc {
        length: bytes.len() as OM_uint32, // eleven bytes at most
        elements: bytes.as_ptr().cast_mut().cast::<c_void>(),
    }
}

/// # Safety
/// `oid.elements` points to `oid.length` bytes that live as long as the borrow.
unsafe fn oid_bytes(oid: &sys::gss_OID_desc) -> &[u8] {
    // SAFETY: by the contract of this function.
    unsafe { slice::from_raw_parts(oid.elements.cast_const().cast(), oid.length as usize) }
}

fn is_error(major: OM_uint32) -> bool {
    // Calling errors and routine errors; the low half holds supplementary bits (RFC 2744 section
    // 3.9.1).
    major & 0xffff_0000 != 0
}

fn display_status(code: OM_uint32, kind: u32) -> String {
    let mut parts = Vec::new();
    let mut more: OM_uint32 = 0;
    // A code has one or two messages; the bound guards against a library that never says "no more".
    for _ in 0..4 {
        let mut text = Buffer::empty();
        let mut minor = 0;
        let mut mech = krb5_oid();
        // SAFETY: all pointers are to locals that outlive the call; the buffer is filled by the
        // library and freed by its guard; `more` is the library's own cursor, first zero.
        let major = unsafe {
            sys::gss_display_status(
                &mut minor,
                code,
                kind as c_int,
                &mut mech,
                &mut more,
                &mut text.0,
            )
        };
        if is_error(major) {
            break;
        }
        parts.push(String::from_utf8_lossy(text.bytes()).into_owned());
        if more == 0 {
            break;
        }
    }
    parts.join("; ")
}

/// 1.2.840.113554.1.2.2, without tag and length, as GSSAPI wants it.
const KRB5_MECHANISM: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";
/// 1.2.840.113554.1.2.2.1
const KRB5_PRINCIPAL_NAME: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01";
/// 1.3.6.1.5.6.3
const NT_ANONYMOUS: &[u8] = b"\x2b\x06\x01\x05\x06\x03";
