//! The initiating side: a context that is built step by step, and the wrapping of messages in it.

use std::ptr;
use std::sync::Arc;

use libgssapi_sys as sys;

use super::{
    Buffer, Context, Name, SharedCredential, Status, borrowed, channel_bindings, is_error, krb5_oid,
};

/// A context with one service.
pub(crate) struct ClientContext {
    context: Context,
    /// Kept for the steps to come.
    credential: Arc<SharedCredential>,
    target: Name,
    bindings: Option<Vec<u8>>,
    wanted: u32,
    complete: bool,
}

// SAFETY: a context and a name hold no data of the thread that made them, and MIT's library asks
// only that two threads do not use one context at the same time, which moving it does not do. It is
// not Sync: every use of the context takes `&mut self`.
unsafe impl Send for ClientContext {}

impl ClientContext {
    /// `wanted` are the flags to ask for (RFC 2744 section 5.19). Nothing is asked of anybody yet.
    pub(crate) fn new(
        credential: Arc<SharedCredential>,
        target: Name,
        wanted: u32,
        bindings: Option<&[u8]>,
    ) -> Self {
        Self {
            context: Context(ptr::null_mut()),
            credential,
            target,
            bindings: bindings.map(<[u8]>::to_vec),
            wanted,
            complete: false,
        }
    }

    /// Takes the peer's token, if there is one, and gives the next token for it, which may be
    /// empty. The first step asks the KDC for a ticket where there is none in the cache. Not to be
    /// called again after an error.
    pub(crate) fn step(&mut self, token: Option<&[u8]>) -> Result<Vec<u8>, Status> {
        let mut token = token.map(borrowed);
        let mut bindings = self.bindings.as_deref().map(channel_bindings);
        let mut mech = krb5_oid();
        let mut output = Buffer::empty();
        let (mut minor, mut flags) = (0, 0);
        // SAFETY: all pointers are to locals or to fields of `self` that outlive the call, or null
        // where RFC 2744 section 5.19 allows it (bindings, the token of the first step, actual
        // mechanism, lifetime). Inputs are only read. The context and the output are owned by guards
        // that free them, on success and on failure alike; on failure the library leaves the
        // context as it was or sets it to null.
        let major = unsafe {
            sys::gss_init_sec_context(
                &mut minor,
                self.credential.handle(),
                &mut self.context.0,
                self.target.0,
                &mut mech,
                self.wanted,
                0,
                bindings
                    .as_mut()
                    .map_or(ptr::null_mut(), |bindings| bindings as *mut _),
                token
                    .as_mut()
                    .map_or(ptr::null_mut(), |token| token as *mut _),
                ptr::null_mut(),
                &mut output.0,
                &mut flags,
                ptr::null_mut(),
            )
        };
        if is_error(major) {
            return Err(Status::of(major, minor));
        }
        self.complete = major & sys::_GSS_S_CONTINUE_NEEDED == 0;
        Ok(output.bytes().to_vec())
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Signs a message and, with `encrypt`, encrypts it.
    pub(crate) fn wrap(&mut self, encrypt: bool, message: &[u8]) -> Result<Vec<u8>, Status> {
        self.must_be_complete()?;
        let mut message = borrowed(message);
        let mut output = Buffer::empty();
        let (mut minor, mut encrypted) = (0, 0);
        // SAFETY: the context is live and complete; all pointers are to locals that outlive the
        // call; the message is only read; the output is filled by the library and freed by its
        // guard.
        let major = unsafe {
            sys::gss_wrap(
                &mut minor,
                self.context.0,
                encrypt.into(),
                sys::GSS_C_QOP_DEFAULT,
                &mut message,
                &mut encrypted,
                &mut output.0,
            )
        };
        if major != sys::GSS_S_COMPLETE {
            return Err(Status::of(major, minor));
        }
        if encrypt && encrypted == 0 {
            return Err(Status::own("the mechanism did not encrypt"));
        }
        Ok(output.bytes().to_vec())
    }

    /// Verifies a wrapped message; says as well whether it was encrypted. A message that is
    /// repeated, old or out of order is refused.
    pub(crate) fn unwrap(&mut self, message: &[u8]) -> Result<(Vec<u8>, bool), Status> {
        self.must_be_complete()?;
        let mut message = borrowed(message);
        let mut output = Buffer::empty();
        let (mut minor, mut encrypted) = (0, 0);
        // SAFETY: as in `wrap`; the quality of protection is declined with null (RFC 2744 section
        // 5.33).
        let major = unsafe {
            sys::gss_unwrap(
                &mut minor,
                self.context.0,
                &mut message,
                &mut output.0,
                &mut encrypted,
                ptr::null_mut(),
            )
        };
        // Not `is_error`: the supplementary bits are what tells of replays and gaps.
        if major != sys::GSS_S_COMPLETE {
            return Err(Status::of(major, minor));
        }
        Ok((output.bytes().to_vec(), encrypted != 0))
    }

    /// The longest message whose wrapping has at most `wrapped` bytes.
    pub(crate) fn wrap_size_limit(&self, encrypt: bool, wrapped: u32) -> Result<u32, Status> {
        self.must_be_complete()?;
        let (mut minor, mut limit) = (0, 0);
        // SAFETY: the context is live and complete; the results are locals.
        let major = unsafe {
            sys::gss_wrap_size_limit(
                &mut minor,
                self.context.0,
                encrypt.into(),
                sys::GSS_C_QOP_DEFAULT,
                wrapped,
                &mut limit,
            )
        };
        if is_error(major) {
            return Err(Status::of(major, minor));
        }
        Ok(limit)
    }

    fn must_be_complete(&self) -> Result<(), Status> {
        match self.complete && !self.context.0.is_null() {
            true => Ok(()),
            false => Err(Status::own("the context is not complete")),
        }
    }
}
