//! An AP-REQ, opened with a keytab (RFC 4120 section 3.2.3): libkrb5 decrypts ticket and authenticator, holds one against
//! the other, and checks times, the realms that the ticket came through and the PAC's signature.

use std::cell::RefCell;
use std::ffi::{CStr, c_uint};
use std::time::{Duration, SystemTime};
use std::{ptr, slice};

use super::keytab::{MemoryKeytab, key_block};
use super::sys::{
    AUTH_CONTEXT_DO_SEQUENCE, AUTH_CONTEXT_USE_SUBKEY, AUTHDATA_AP_OPTIONS, AUTHDATA_WIN2K_PAC,
    AuthData, Authenticator, Data, EncTicketPart, PAC_LOGON_INFO, RawAuthContext, RawKeytab,
    RawPac, RawPrincipal, RawTicket, krb5_auth_con_free, krb5_auth_con_getauthenticator,
    krb5_auth_con_init, krb5_auth_con_setflags, krb5_find_authdata, krb5_free_authdata,
    krb5_free_authenticator, krb5_free_data_contents, krb5_free_ticket, krb5_free_unparsed_name,
    krb5_kt_close, krb5_kt_resolve, krb5_mk_rep, krb5_pac_free, krb5_pac_get_buffer,
    krb5_pac_parse, krb5_pac_verify, krb5_rd_req, krb5_unparse_name,
};
use super::{Context, Krb5Error};
use crate::keytab::KeytabEntry;

/// A request that libkrb5 has opened and found good. Everything that it says is said under the ticket's session key, or
/// by the KDC.
pub(crate) struct OpenRequest<'c> {
    context: &'c Context,
    keytab: *mut RawKeytab,
    auth: *mut RawAuthContext,
    ticket: *mut RawTicket,
    authenticator: *mut Authenticator,
}

impl<'c> OpenRequest<'c> {
    /// `message` is the AP-REQ without a frame. Any key of the keytab may open it, whatever service the ticket names:
    /// that name is a label, which whoever carries the ticket can change.
    pub(crate) fn open(
        context: &'c Context,
        keytab: &MemoryKeytab,
        message: &[u8],
    ) -> Result<Self, Krb5Error> {
        let data = Data {
            magic: 0,
            length: c_uint::try_from(message.len()).map_err(|_| Krb5Error {
                code: 0,
                text: "the request is too large".to_owned(),
            })?,
            data: message.as_ptr().cast_mut().cast(),
        };
        let mut open = Self {
            context,
            keytab: ptr::null_mut(),
            auth: ptr::null_mut(),
            ticket: ptr::null_mut(),
            authenticator: ptr::null_mut(),
        };
        let raw = context.raw();
        // SAFETY: the context is live and used by this thread alone; all results go to fields of `open`, which start
        // null and are freed by its guard. The name is nul-terminated and the request is only read. The flags leave out
        // DO_TIME, and with it the replay cache (krb5.h, krb5_auth_con_setflags): replays are refused elsewhere. Null is
        // allowed for the server (any of the keytab) and the options. The authenticator is asked for only after
        // krb5_rd_req has succeeded and so has stored one, and krb5.h gives it to the caller as a copy.
        unsafe {
            context.check(krb5_kt_resolve(
                raw,
                keytab.name().as_ptr(),
                &mut open.keytab,
            ))?;
            context.check(krb5_auth_con_init(raw, &mut open.auth))?;
            let flags = AUTH_CONTEXT_DO_SEQUENCE | AUTH_CONTEXT_USE_SUBKEY;
            context.check(krb5_auth_con_setflags(raw, open.auth, flags))?;
            context.check(krb5_rd_req(
                raw,
                &mut open.auth,
                &data,
                ptr::null(),
                open.keytab,
                ptr::null_mut(),
                &mut open.ticket,
            ))?;
            context.check(krb5_auth_con_getauthenticator(
                raw,
                open.auth,
                &mut open.authenticator,
            ))?;
        }
        if open.ticket.is_null() || open.ticket_part().is_none() {
            return Err(Krb5Error {
                code: 0,
                text: "no ticket was handed out".to_owned(),
            });
        }
        Ok(open)
    }

    /// The client, escaped, with its realm. `None` if the name is not UTF-8.
    pub(crate) fn client(&self) -> Result<Option<String>, Krb5Error> {
        match self.ticket_part() {
            Some(part) => self.name(part.client),
            None => Ok(None),
        }
    }

    /// The name in the keytab whose key opened the ticket.
    pub(crate) fn target(&self) -> Result<Option<String>, Krb5Error> {
        self.name(self.ticket().server)
    }

    /// When the client made the request, by its own clock.
    pub(crate) fn time(&self) -> SystemTime {
        let authenticator = self.authenticator();
        let micros = Duration::from_micros(u64::try_from(authenticator.cusec).unwrap_or(0));
        time(authenticator.ctime) + micros
    }

    /// When the ticket ends.
    pub(crate) fn ends(&self) -> SystemTime {
        let ends = self.ticket_part().map_or(0, |part| part.times.endtime);
        time(ends)
    }

    /// The authenticator's checksum: its type, and its bytes. GSSAPI keeps other things there.
    pub(crate) fn checksum(&self) -> Option<(i32, &[u8])> {
        // SAFETY: the pointer is null or leads to a checksum that lives as long as the authenticator.
        let checksum = unsafe { self.authenticator().checksum.as_ref() }?;
        // SAFETY: libkrb5 has decoded `length` bytes to `contents`; they live as long as the authenticator, which the
        // borrow of `self` keeps.
        let bytes = unsafe { bytes(checksum.contents, checksum.length) };
        Some((checksum.checksum_type, bytes))
    }

    /// What the client says in KERB_AP_OPTIONS (MS-KILE section 2.2.5), as libkrb5 reads them; none if it says nothing.
    pub(crate) fn ap_options(&self) -> Result<Option<u32>, Krb5Error> {
        let list = self.authenticator().authorization_data;
        let found = self.find(ptr::null_mut(), list, AUTHDATA_AP_OPTIONS)?;
        match found.elements().collect::<Vec<_>>().as_slice() {
            [] => Ok(None),
            [options] => match <[u8; 4]>::try_from(*options) {
                Ok(options) => Ok(Some(u32::from_le_bytes(options))),
                Err(_) => Err(Krb5Error {
                    code: 0,
                    text: "the options in the authenticator are not of 32 bits".to_owned(),
                }),
            },
            _ => Err(Krb5Error {
                code: 0,
                text: "the authenticator has options twice".to_owned(),
            }),
        }
    }

    /// The KERB_VALIDATION_INFO of the ticket's PAC. `keys` are those that may have signed it: the target's.
    pub(crate) fn logon_info<'k>(
        &self,
        keys: impl Iterator<Item = &'k KeytabEntry>,
    ) -> Result<LogonInfo, Krb5Error> {
        let Some(part) = self.ticket_part() else {
            return Ok(LogonInfo::Absent);
        };
        // Of the ticket alone: what the client adds to its request is nobody's word but its own.
        let found = self.find(part.authorization_data, ptr::null_mut(), AUTHDATA_WIN2K_PAC)?;
        let pacs: Vec<&[u8]> = found.elements().collect();
        let pac = match pacs.as_slice() {
            [] => return Ok(LogonInfo::Absent),
            [pac] => Pac::parse(self.context, pac),
            // Which of them a signature is of is not to be guessed.
            _ => return Ok(LogonInfo::Unverified),
        };
        let Ok(pac) = pac else {
            return Ok(LogonInfo::Unverified);
        };
        let Some(info) = pac.logon_info() else {
            return Ok(LogonInfo::Absent);
        };
        let enctype = self.ticket().enc_part.enctype;
        let mut keys = keys.filter(|key| key.enctype().number() == enctype);
        Ok(match keys.any(|key| pac.is_signed_by(part, key)) {
            true => LogonInfo::Verified(info),
            false => LogonInfo::Unverified,
        })
    }

    /// The AP-REP, for a client that wants to know whom it talks to. With a sequence number and a subkey (RFC 4121 section
    /// 2), although no messages are to come: it is what clients have always got from MIT's GSSAPI.
    pub(crate) fn reply(&self) -> Result<Vec<u8>, Krb5Error> {
        let mut reply = Allocated::new(self.context);
        // SAFETY: context and auth context are live; the reply starts empty and its guard frees it.
        let code = unsafe { krb5_mk_rep(self.context.raw(), self.auth, &mut reply.data) };
        self.context.check(code)?;
        Ok(reply.bytes().to_vec())
    }

    fn ticket(&self) -> &RawTicket {
        // SAFETY: `open` gives no value whose ticket is null; it is owned by `self` and nobody changes it.
        unsafe { &*self.ticket }
    }

    fn ticket_part(&self) -> Option<&EncTicketPart> {
        // SAFETY: the pointer is null or leads to the decrypted part, which lives as long as the ticket.
        unsafe { self.ticket().enc_part2.as_ref() }
    }

    fn authenticator(&self) -> &Authenticator {
        // SAFETY: `open` gives no value without one: krb5_auth_con_getauthenticator has succeeded. It is owned by `self`
        // and nobody changes it.
        unsafe { &*self.authenticator }
    }

    fn name(&self, principal: *const RawPrincipal) -> Result<Option<String>, Krb5Error> {
        if principal.is_null() {
            return Ok(None);
        }
        let mut text = ptr::null_mut();
        // SAFETY: the context is live and the principal is a part of the ticket; the result is nul-terminated, and freed
        // after it was copied.
        unsafe {
            let raw = self.context.raw();
            self.context
                .check(krb5_unparse_name(raw, principal, &mut text))?;
            let name = CStr::from_ptr(text).to_str().ok().map(str::to_owned);
            krb5_free_unparsed_name(raw, text);
            Ok(name)
        }
    }

    /// Authorization data of a type, of a ticket or of a request, inside of AD-IF-RELEVANT as well.
    fn find(
        &self,
        ticket: *const *mut AuthData,
        request: *const *mut AuthData,
        kind: i32,
    ) -> Result<Found<'_>, Krb5Error> {
        let mut list = ptr::null_mut();
        // SAFETY: the context is live; either list is null, which krb5.h allows, or a part of this request, ended by a
        // null; the result is a new list, which its guard frees.
        let code =
            unsafe { krb5_find_authdata(self.context.raw(), ticket, request, kind, &mut list) };
        let found = Found {
            context: self.context,
            list,
        };
        self.context.check(code)?;
        Ok(found)
    }
}

impl Drop for OpenRequest<'_> {
    fn drop(&mut self) {
        let raw = self.context.raw();
        // SAFETY: each pointer is null or was given by libkrb5 in this context, is owned by this value alone and freed
        // once, before the context.
        unsafe {
            if !self.authenticator.is_null() {
                krb5_free_authenticator(raw, self.authenticator);
            }
            if !self.ticket.is_null() {
                krb5_free_ticket(raw, self.ticket);
            }
            if !self.auth.is_null() {
                krb5_auth_con_free(raw, self.auth);
            }
            if !self.keytab.is_null() {
                krb5_kt_close(raw, self.keytab);
            }
        }
    }
}

/// What a ticket says of its user's groups.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LogonInfo {
    /// It has no PAC, or one without that part.
    Absent,
    /// No key of the target's has signed the PAC for this client, or it cannot be read.
    Unverified,
    Verified(Vec<u8>),
}

/// The time that a client wrote into its request, by its own clock; for requests that libkrb5 has refused because of the
/// clock, so everything else is checked, and the time is not.
pub(crate) fn client_time(keytab: &MemoryKeytab, message: &[u8]) -> Result<SystemTime, Krb5Error> {
    thread_local! {
        /// A context costs more than a request, so each thread that needs one keeps it.
        static TIMELESS: RefCell<Option<Context>> = const { RefCell::new(None) };
    }
    TIMELESS.with_borrow_mut(|timeless| {
        let context = match timeless {
            Some(context) => context,
            None => timeless.insert(Context::timeless()?),
        };
        Ok(OpenRequest::open(context, keytab, message)?.time())
    })
}

/// krb5_timestamp is signed and counts on through 2038 as if it were not.
fn time(seconds: i32) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(seconds as u32))
}

/// # Safety
/// `contents` is null or points to `length` initialised bytes that nobody changes during `'a`.
unsafe fn bytes<'a>(contents: *const u8, length: c_uint) -> &'a [u8] {
    if contents.is_null() || length == 0 {
        return &[];
    }
    // SAFETY: by the contract of this function.
    unsafe { slice::from_raw_parts(contents, length as usize) }
}

/// A list of authorization data.
struct Found<'c> {
    context: &'c Context,
    /// Null, or ended by a null.
    list: *mut *mut AuthData,
}

impl Found<'_> {
    fn elements(&self) -> impl Iterator<Item = &[u8]> {
        let mut next = self.list;
        std::iter::from_fn(move || {
            if next.is_null() {
                return None;
            }
            // SAFETY: `next` is within the list, at its terminating null at the furthest: there it stays. Elements live
            // as long as the list, which the borrow of `self` keeps.
            unsafe {
                let element = (*next).as_ref()?;
                next = next.add(1);
                Some(bytes(element.contents, element.length))
            }
        })
    }
}

impl Drop for Found<'_> {
    fn drop(&mut self) {
        if !self.list.is_null() {
            // SAFETY: the list is owned by this value alone and not used again.
            unsafe { krb5_free_authdata(self.context.raw(), self.list) };
        }
    }
}

struct Pac<'c> {
    context: &'c Context,
    raw: *mut RawPac,
}

impl<'c> Pac<'c> {
    fn parse(context: &'c Context, pac: &[u8]) -> Result<Self, Krb5Error> {
        let mut raw = ptr::null_mut();
        // SAFETY: the context is live; libkrb5 copies the bytes; the result is owned by the guard that is made of it.
        let code =
            unsafe { krb5_pac_parse(context.raw(), pac.as_ptr().cast(), pac.len(), &mut raw) };
        context.check(code)?;
        Ok(Self { context, raw })
    }

    fn logon_info(&self) -> Option<Vec<u8>> {
        let mut info = Allocated::new(self.context);
        // SAFETY: context and PAC are live; the buffer starts empty and its guard frees it.
        let code = unsafe {
            krb5_pac_get_buffer(self.context.raw(), self.raw, PAC_LOGON_INFO, &mut info.data)
        };
        (code == 0).then(|| info.bytes().to_vec())
    }

    /// The service's signature is of this key, and the PAC is of the ticket's client and login.
    fn is_signed_by(&self, ticket: &EncTicketPart, key: &KeytabEntry) -> bool {
        let key = key_block(key);
        // SAFETY: context, PAC and ticket are live; the key points into the entry, which outlives the call, and is only
        // read; krb5.h allows null for the KDC's key.
        let code = unsafe {
            krb5_pac_verify(
                self.context.raw(),
                self.raw,
                ticket.times.authtime,
                ticket.client,
                &key,
                ptr::null(),
            )
        };
        code == 0
    }
}

impl Drop for Pac<'_> {
    fn drop(&mut self) {
        // SAFETY: the PAC is owned by this value alone and not used again.
        unsafe { krb5_pac_free(self.context.raw(), self.raw) };
    }
}

/// Bytes that libkrb5 allocates.
struct Allocated<'c> {
    context: &'c Context,
    data: Data,
}

impl<'c> Allocated<'c> {
    fn new(context: &'c Context) -> Self {
        let data = Data {
            magic: 0,
            length: 0,
            data: ptr::null_mut(),
        };
        Self { context, data }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: the data is empty, or libkrb5 has filled it; it lives until it is freed, which the borrow of `self`
        // prevents.
        unsafe { bytes(self.data.data.cast(), self.data.length) }
    }
}

impl Drop for Allocated<'_> {
    fn drop(&mut self) {
        // SAFETY: the data is empty, or was allocated by libkrb5 and is freed once.
        unsafe { krb5_free_data_contents(self.context.raw(), &mut self.data) };
    }
}
