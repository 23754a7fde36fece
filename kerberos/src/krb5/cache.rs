//! Tickets in memory, and their end.

use std::ffi::{CStr, CString};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Context;
use super::sys::{krb5_cc_destroy, krb5_cc_resolve};

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
            if krb5_cc_resolve(context.raw(), self.0.as_ptr(), &mut cache) == 0 {
                krb5_cc_destroy(context.raw(), cache);
            }
        }
    }
}
