//! The initiating side of GSSAPI behind types that cannot be misused: credentials, names, and a context with its wrapping.
//!
//! Only the Kerberos mechanism is called, never the library's SPNEGO: its minor codes come through
//! unchanged (the mechanism glue renumbers codes that reach it through a second mechanism), and
//! `spnego.rs` reads and writes the outer frame.
//!
//! Written on `libgssapi-sys`. The crate `libgssapi` hides what is needed here: credential stores,
//! returned flags, whether an unwrapped message was encrypted.

mod credential;
mod initiate;

use std::ffi::{c_int, c_void};
use std::{fmt, ptr, slice};

use libgssapi_sys as sys;
use libgssapi_sys::{OM_uint32, gss_buffer_desc, gss_ctx_id_t, gss_name_t};

pub(crate) use credential::{Credential, SharedCredential};
pub(crate) use initiate::ClientContext;

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

    /// A fault that was found on this side.
    pub(super) fn own(text: &str) -> Self {
        Self {
            major: sys::_GSS_S_FAILURE,
            minor: 0,
            text: text.to_owned(),
        }
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

/// A name as the library holds it.
pub(crate) struct Name(gss_name_t);

impl Name {
    /// A principal as it is written, without a look at DNS.
    pub(crate) fn principal(principal: &str) -> Result<Self, Status> {
        Self::import(principal, KRB5_PRINCIPAL_NAME)
    }

    /// `service@host`; krb5.conf says how the host's name becomes canonical.
    pub(crate) fn host_based(service: &str) -> Result<Self, Status> {
        Self::import(service, HOST_BASED_SERVICE)
    }

    fn import(text: &str, kind: &'static [u8]) -> Result<Self, Status> {
        let mut text = borrowed(text.as_bytes());
        let mut kind = oid(kind);
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
}

impl Drop for Name {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the handle is owned by this value alone and not used again; the library accepts
        // null.
        unsafe { sys::gss_release_name(&mut minor, &mut self.0) };
    }
}

struct Context(gss_ctx_id_t);

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

fn channel_bindings(data: &[u8]) -> sys::gss_channel_bindings_struct {
    sys::gss_channel_bindings_struct {
        initiator_addrtype: 0,
        initiator_address: borrowed(&[]),
        acceptor_addrtype: 0,
        acceptor_address: borrowed(&[]),
        application_data: borrowed(data),
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
/// 1.2.840.113554.1.2.1.4
const HOST_BASED_SERVICE: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x01\x04";
