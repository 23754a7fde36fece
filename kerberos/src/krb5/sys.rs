//! What is called of libkrb5, and the structures that it hands out: written out here from krb5.h and profile.h, whose
//! ABI MIT keeps.

use std::ffi::{c_char, c_int, c_long, c_uint, c_void};
use std::marker::{PhantomData, PhantomPinned};

/// Types of which only pointers are known here, one each, so that they cannot be confused.
macro_rules! opaque {
    ($($name:ident)*) => {$(
        #[repr(C)]
        pub(super) struct $name {
            _bytes: [u8; 0],
            _marker: PhantomData<(*mut u8, PhantomPinned)>,
        }
    )*};
}

opaque! { RawContext RawProfile RawKeytab RawAuthContext RawCache RawPrincipal RawPac }

/// krb5_data
#[repr(C)]
pub(super) struct Data {
    pub(super) magic: i32,
    pub(super) length: c_uint,
    pub(super) data: *mut c_char,
}

/// krb5_keyblock
#[repr(C)]
pub(super) struct KeyBlock {
    pub(super) magic: i32,
    pub(super) enctype: i32,
    pub(super) length: c_uint,
    pub(super) contents: *mut u8,
}

/// krb5_keytab_entry
#[repr(C)]
pub(super) struct RawKeytabEntry {
    pub(super) magic: i32,
    pub(super) principal: *mut RawPrincipal,
    pub(super) timestamp: i32,
    pub(super) vno: c_uint,
    pub(super) key: KeyBlock,
}

/// krb5_authdata
#[repr(C)]
pub(super) struct AuthData {
    pub(super) magic: i32,
    pub(super) ad_type: i32,
    pub(super) length: c_uint,
    pub(super) contents: *mut u8,
}

/// krb5_checksum
#[repr(C)]
pub(super) struct Checksum {
    pub(super) magic: i32,
    pub(super) checksum_type: i32,
    pub(super) length: c_uint,
    pub(super) contents: *mut u8,
}

/// krb5_authenticator
#[repr(C)]
pub(super) struct Authenticator {
    pub(super) magic: i32,
    pub(super) client: *mut RawPrincipal,
    pub(super) checksum: *mut Checksum,
    pub(super) cusec: i32,
    pub(super) ctime: i32,
    pub(super) subkey: *mut KeyBlock,
    pub(super) seq_number: u32,
    pub(super) authorization_data: *mut *mut AuthData,
}

/// krb5_enc_data
#[repr(C)]
pub(super) struct EncData {
    pub(super) magic: i32,
    pub(super) enctype: i32,
    pub(super) kvno: c_uint,
    pub(super) ciphertext: Data,
}

/// krb5_transited
#[repr(C)]
pub(super) struct Transited {
    pub(super) magic: i32,
    pub(super) tr_type: u8,
    pub(super) tr_contents: Data,
}

/// krb5_ticket_times
#[repr(C)]
pub(super) struct TicketTimes {
    pub(super) authtime: i32,
    pub(super) starttime: i32,
    pub(super) endtime: i32,
    pub(super) renew_till: i32,
}

/// krb5_enc_tkt_part
#[repr(C)]
pub(super) struct EncTicketPart {
    pub(super) magic: i32,
    pub(super) flags: i32,
    pub(super) session: *mut KeyBlock,
    pub(super) client: *mut RawPrincipal,
    pub(super) transited: Transited,
    pub(super) times: TicketTimes,
    pub(super) caddrs: *mut *mut c_void,
    pub(super) authorization_data: *mut *mut AuthData,
}

/// krb5_ticket
#[repr(C)]
pub(super) struct RawTicket {
    pub(super) magic: i32,
    pub(super) server: *mut RawPrincipal,
    pub(super) enc_part: EncData,
    pub(super) enc_part2: *mut EncTicketPart,
}

pub(super) const AUTH_CONTEXT_DO_SEQUENCE: i32 = 0x04;
pub(super) const AUTH_CONTEXT_USE_SUBKEY: i32 = 0x20;
pub(super) const AUTHDATA_WIN2K_PAC: i32 = 128;
pub(super) const AUTHDATA_AP_OPTIONS: i32 = 143;
pub(super) const PAC_LOGON_INFO: u32 = 1;

#[link(name = "krb5")]
unsafe extern "C" {
    pub(super) fn krb5_init_context(context: *mut *mut RawContext) -> i32;
    pub(super) fn krb5_init_context_profile(
        profile: *mut RawProfile,
        flags: i32,
        context: *mut *mut RawContext,
    ) -> i32;
    pub(super) fn krb5_free_context(context: *mut RawContext);
    pub(super) fn krb5_get_error_message(context: *mut RawContext, code: i32) -> *const c_char;
    pub(super) fn krb5_free_error_message(context: *mut RawContext, message: *const c_char);

    pub(super) fn krb5_get_profile(context: *mut RawContext, profile: *mut *mut RawProfile) -> i32;
    pub(super) fn profile_init_path(files: *const c_char, profile: *mut *mut RawProfile) -> c_long;
    pub(super) fn profile_get_integer(
        profile: *mut RawProfile,
        name: *const c_char,
        subname: *const c_char,
        subsubname: *const c_char,
        default: c_int,
        value: *mut c_int,
    ) -> c_long;
    pub(super) fn profile_release(profile: *mut RawProfile);

    pub(super) fn krb5_parse_name(
        context: *mut RawContext,
        name: *const c_char,
        principal: *mut *mut RawPrincipal,
    ) -> i32;
    pub(super) fn krb5_free_principal(context: *mut RawContext, principal: *mut RawPrincipal);
    pub(super) fn krb5_unparse_name(
        context: *mut RawContext,
        principal: *const RawPrincipal,
        name: *mut *mut c_char,
    ) -> i32;
    pub(super) fn krb5_free_unparsed_name(context: *mut RawContext, name: *mut c_char);

    pub(super) fn krb5_kt_resolve(
        context: *mut RawContext,
        name: *const c_char,
        keytab: *mut *mut RawKeytab,
    ) -> i32;
    pub(super) fn krb5_kt_add_entry(
        context: *mut RawContext,
        keytab: *mut RawKeytab,
        entry: *mut RawKeytabEntry,
    ) -> i32;
    pub(super) fn krb5_kt_close(context: *mut RawContext, keytab: *mut RawKeytab) -> i32;

    pub(super) fn krb5_auth_con_init(
        context: *mut RawContext,
        auth: *mut *mut RawAuthContext,
    ) -> i32;
    pub(super) fn krb5_auth_con_setflags(
        context: *mut RawContext,
        auth: *mut RawAuthContext,
        flags: i32,
    ) -> i32;
    pub(super) fn krb5_auth_con_free(context: *mut RawContext, auth: *mut RawAuthContext) -> i32;
    pub(super) fn krb5_rd_req(
        context: *mut RawContext,
        auth: *mut *mut RawAuthContext,
        request: *const Data,
        server: *const RawPrincipal,
        keytab: *mut RawKeytab,
        options: *mut i32,
        ticket: *mut *mut RawTicket,
    ) -> i32;
    pub(super) fn krb5_mk_rep(
        context: *mut RawContext,
        auth: *mut RawAuthContext,
        reply: *mut Data,
    ) -> i32;
    pub(super) fn krb5_free_ticket(context: *mut RawContext, ticket: *mut RawTicket);
    pub(super) fn krb5_free_data_contents(context: *mut RawContext, data: *mut Data);
    pub(super) fn krb5_auth_con_getauthenticator(
        context: *mut RawContext,
        auth: *mut RawAuthContext,
        authenticator: *mut *mut Authenticator,
    ) -> i32;
    pub(super) fn krb5_free_authenticator(
        context: *mut RawContext,
        authenticator: *mut Authenticator,
    );

    pub(super) fn krb5_find_authdata(
        context: *mut RawContext,
        ticket: *const *mut AuthData,
        request: *const *mut AuthData,
        ad_type: i32,
        results: *mut *mut *mut AuthData,
    ) -> i32;
    pub(super) fn krb5_free_authdata(context: *mut RawContext, list: *mut *mut AuthData);

    pub(super) fn krb5_pac_parse(
        context: *mut RawContext,
        bytes: *const c_void,
        length: usize,
        pac: *mut *mut RawPac,
    ) -> i32;
    pub(super) fn krb5_pac_verify(
        context: *mut RawContext,
        pac: *const RawPac,
        authtime: i32,
        principal: *const RawPrincipal,
        server: *const KeyBlock,
        privsvr: *const KeyBlock,
    ) -> i32;
    pub(super) fn krb5_pac_get_buffer(
        context: *mut RawContext,
        pac: *mut RawPac,
        kind: u32,
        data: *mut Data,
    ) -> i32;
    pub(super) fn krb5_pac_free(context: *mut RawContext, pac: *mut RawPac);

    pub(super) fn krb5_cc_resolve(
        context: *mut RawContext,
        name: *const c_char,
        cache: *mut *mut RawCache,
    ) -> i32;
    pub(super) fn krb5_cc_destroy(context: *mut RawContext, cache: *mut RawCache) -> i32;
}
