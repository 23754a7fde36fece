//! The accepting side: one token in, and who it was.

use std::ptr;

use libgssapi_sys as sys;

use super::{Buffer, Context, Credential, Name, Status, borrowed, channel_bindings, is_error};

/// A security context after its one accepting step.
pub(crate) struct Established {
    /// The authenticated client; attributes of the ticket hang on this name.
    pub(crate) client: Name,
    /// The name whose key opened the ticket, if it was asked for.
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
    name_target: bool,
) -> Result<Established, Status> {
    let mut token = borrowed(token);
    let mut bindings = bindings.map(channel_bindings);
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
            credential.handle(),
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
    let target = match name_target && !continue_needed {
        true => context.target()?,
        false => None,
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
