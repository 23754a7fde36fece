//! A keytab where libkrb5 finds it and nobody else does: in its own memory. Read from a file for each request, even
//! from one in memory, it made an accept a third dearer.

use std::ffi::{CStr, CString, c_uint};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::sys::{
    KeyBlock, RawKeytab, RawKeytabEntry, RawPrincipal, krb5_free_principal, krb5_kt_add_entry,
    krb5_kt_close, krb5_kt_resolve, krb5_parse_name,
};
use super::{Context, Krb5Error};
use crate::keytab::{Keytab, KeytabEntry};

/// A keytab of libkrb5's kind `MEMORY`, under a name that nobody else has. libkrb5 wipes the keys when the last handle
/// is closed: the one in here outlives those of single requests.
pub(crate) struct MemoryKeytab {
    name: CString,
    handle: *mut RawKeytab,
}

// SAFETY: the handle is not used between its making and its closing, for which whoever drops the value has it alone.
// libkrb5 keeps the keytab's entries in a list of the process under a lock of its own, and nothing that belongs to a
// thread.
unsafe impl Send for MemoryKeytab {}
// SAFETY: as above; a shared reference gives the name alone.
unsafe impl Sync for MemoryKeytab {}

impl MemoryKeytab {
    pub(crate) fn new(keytab: &Keytab) -> Result<Self, Krb5Error> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let context = Context::new()?;
        let mut made = Self {
            name: CString::new(format!("MEMORY:obol-keytab-{number}"))
                .expect("a number and a constant hold no NUL"),
            handle: ptr::null_mut(),
        };
        // SAFETY: the context is live and the name nul-terminated; the handle is owned by `made`, which closes it.
        context.check(unsafe {
            krb5_kt_resolve(context.raw(), made.name.as_ptr(), &mut made.handle)
        })?;
        // libkrb5 tries the keys from the last to the first: the newest ones belong there.
        let mut entries: Vec<&KeytabEntry> = keytab.entries().iter().collect();
        entries.sort_by_key(|entry| entry.kvno());
        for entry in entries {
            made.add(&context, entry)?;
        }
        Ok(made)
    }

    fn add(&mut self, context: &Context, entry: &KeytabEntry) -> Result<(), Krb5Error> {
        let principal = ParsedName::new(context, &entry.principal().to_string())?;
        let mut raw = RawKeytabEntry {
            magic: 0,
            principal: principal.raw,
            timestamp: entry.timestamp() as i32, // libkrb5 keeps unsigned times in a signed type
            vno: entry.kvno(),
            key: key_block(entry),
        };
        // SAFETY: context and handle are live; libkrb5 copies the entry, to which nothing was added that it would free,
        // and changes nothing of it.
        context.check(unsafe { krb5_kt_add_entry(context.raw(), self.handle, &mut raw) })
    }

    pub(crate) fn name(&self) -> &CStr {
        &self.name
    }
}

impl Drop for MemoryKeytab {
    fn drop(&mut self) {
        if self.handle.is_null() {
            return;
        }
        // One that does not need krb5.conf: the keys are to be wiped whatever has become of that. Without memory for it,
        // there is nothing to be done about it here.
        let Ok(context) = Context::timeless() else {
            return;
        };
        // SAFETY: the handle is owned by this value alone and not used again.
        unsafe { krb5_kt_close(context.raw(), self.handle) };
    }
}

/// The key as libkrb5 wants to see it; it points into the entry.
pub(super) fn key_block(entry: &KeytabEntry) -> KeyBlock {
    KeyBlock {
        magic: 0,
        enctype: entry.enctype().number(),
        length: entry.key().len() as c_uint, // at most 65,535: the keytab counts it in two bytes
        contents: entry.key().as_ptr().cast_mut(),
    }
}

struct ParsedName<'c> {
    context: &'c Context,
    raw: *mut RawPrincipal,
}

impl<'c> ParsedName<'c> {
    fn new(context: &'c Context, name: &str) -> Result<Self, Krb5Error> {
        let text = CString::new(name).map_err(|_| Krb5Error {
            code: 0,
            text: "a principal's name holds a NUL".to_owned(),
        })?;
        let mut raw = ptr::null_mut();
        // SAFETY: the context is live, the name nul-terminated; the result is owned by the guard that is made of it.
        context.check(unsafe { krb5_parse_name(context.raw(), text.as_ptr(), &mut raw) })?;
        Ok(Self { context, raw })
    }
}

impl Drop for ParsedName<'_> {
    fn drop(&mut self) {
        // SAFETY: the name is owned by this value alone and not used again.
        unsafe { krb5_free_principal(self.context.raw(), self.raw) };
    }
}
