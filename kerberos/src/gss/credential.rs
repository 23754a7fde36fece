//! Credentials: from a credential store (a keytab, a ticket cache), or from a password.

use std::any::Any;
use std::ffi::CStr;
use std::ptr;
use std::sync::Arc;

use libgssapi_sys as sys;
use libgssapi_sys::{OM_uint32, gss_cred_id_t};

use super::{Name, Status, borrowed, is_error, krb5_oid};

/// A credential of the library. It holds a raw pointer, so it stays on its thread: a shared one
/// would serialise all who use it on a lock inside.
pub(crate) struct Credential(gss_cred_id_t);

impl Credential {
    /// An initiating credential. The library looks into the store when it is first used, and asks
    /// the KDC only then: see [`Credential::lifetime`].
    pub(crate) fn initiator(
        principal: Option<&str>,
        store: &[(&CStr, &CStr)],
    ) -> Result<Self, Status> {
        let name = principal.map(Name::principal).transpose()?;
        acquire(name.as_ref(), store)
    }

    /// An initiating credential for a password. Its tickets lie in a cache in memory that the
    /// library makes for it alone and destroys with it.
    pub(crate) fn password(principal: &str, password: &str) -> Result<Self, Status> {
        let name = Name::principal(principal)?;
        let mut password = borrowed(password.as_bytes());
        let mut mech = krb5_oid();
        let mut mechs = sys::gss_OID_set_desc {
            count: 1,
            elements: &mut mech,
        };
        let mut credential = Self(ptr::null_mut());
        let mut minor = 0;
        // SAFETY: every pointer is to a local that outlives the call, or null where gssapi_ext.h
        // allows it (actual mechanisms, lifetime). The library copies the password and writes to no
        // input. The handle starts null and its guard releases it.
        let major = unsafe {
            sys::gss_acquire_cred_with_password(
                &mut minor,
                name.0,
                &mut password,
                sys::_GSS_C_INDEFINITE,
                &mut mechs,
                sys::GSS_C_INITIATE as sys::gss_cred_usage_t,
                &mut credential.0,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        if is_error(major) {
            return Err(Status::of(major, minor));
        }
        Ok(credential)
    }

    /// Seconds until an initiating credential ends. The library resolves it for that: it reads the
    /// ticket cache or asks the KDC, and says what is wrong.
    pub(crate) fn lifetime(&self) -> Result<u32, Status> {
        let (mut minor, mut lifetime) = (0, 0);
        // SAFETY: the credential is live; all results but the lifetime are declined with null (RFC
        // 2744 section 5.22).
        let major = unsafe {
            sys::gss_inquire_cred(
                &mut minor,
                self.0,
                ptr::null_mut(),
                &mut lifetime,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        if is_error(major) {
            return Err(Status::of(major, minor));
        }
        Ok(lifetime)
    }

    /// For a call that borrows the credential.
    pub(super) fn handle(&self) -> gss_cred_id_t {
        self.0
    }
}

impl Drop for Credential {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the handle is null, which the library accepts, or came from it, is owned by this
        // value alone, and is not used again.
        unsafe { sys::gss_release_cred(&mut minor, &mut self.0) };
    }
}

/// A credential that several threads may use. Initiators are few and wait for the KDC; the lock
/// inside does not matter to them.
pub(crate) struct SharedCredential {
    credential: Credential,
    /// What the credential's store names and libkrb5 may still look into; dropped after it.
    _store: Option<Arc<dyn Any + Send + Sync>>,
}

impl SharedCredential {
    pub(crate) fn new(credential: Credential, store: Option<Arc<dyn Any + Send + Sync>>) -> Self {
        Self {
            credential,
            _store: store,
        }
    }

    pub(super) fn handle(&self) -> gss_cred_id_t {
        self.credential.handle()
    }
}

// SAFETY: the Kerberos mechanism guards the contents of a credential with a mutex of its own (MIT's
// documentation, "Thread safety": handles other than contexts may be shared), and keeps nothing
// that belongs to one thread in it.
unsafe impl Send for SharedCredential {}
// SAFETY: as above. All that a shared reference allows is a call that takes that mutex.
unsafe impl Sync for SharedCredential {}

fn acquire(name: Option<&Name>, store: &[(&CStr, &CStr)]) -> Result<Credential, Status> {
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
    let mut credential = Credential(ptr::null_mut());
    let mut minor = 0;
    // SAFETY: every pointer is to a local that outlives the call, or null where RFC 2744 and
    // gssapi_ext.h allow it (name, actual mechanisms, lifetime). The strings are nul-terminated and
    // borrowed for longer than the call; the library copies what it keeps and writes to none of
    // them. The handle starts null and its guard releases it.
    let major = unsafe {
        sys::gss_acquire_cred_from(
            &mut minor,
            name.map_or(ptr::null_mut(), |name| name.0),
            sys::_GSS_C_INDEFINITE,
            &mut mechs,
            sys::GSS_C_INITIATE as sys::gss_cred_usage_t,
            &store,
            &mut credential.0,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    if is_error(major) {
        return Err(Status::of(major, minor));
    }
    Ok(credential)
}
