//! Tickets with any PAC in them, from real ones: who has the service's key can open a ticket,
//! change what is inside and close it again, as a KDC does. libkrb5 does the cryptography and signs
//! the PAC.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_uint};
use std::ptr;

use obol_kerberos::{ApRequest, Keytab, KeytabEntry, NegotiateToken};

/// A PAC to put into a ticket.
pub struct ForgedPac<'a> {
    pub logon_info: &'a [u8],
    /// Whose PAC it says it is.
    pub client: &'a str,
    /// Signed with this key in place of the service's.
    pub server_key: Option<&'a [u8]>,
    /// Added to the time in the PAC, which must be the ticket's.
    pub late: i32,
    /// Changes it after it was signed.
    pub alter: fn(&mut Vec<u8>),
}

impl<'a> ForgedPac<'a> {
    pub fn new(logon_info: &'a [u8]) -> Self {
        Self {
            logon_info,
            client: "grace@EXAMPLE.COM",
            server_key: None,
            late: 0,
            alter: |_| (),
        }
    }
}

/// The request in `token` again, with a ticket that carries the PACs and no other authorization
/// data.
pub fn with_pacs(token: &[u8], keytab: &Keytab, pacs: &[&ForgedPac<'_>]) -> Vec<u8> {
    reticketed(token, keytab, &|fields, key| {
        let pacs = pacs.iter().map(|pac| signed(pac, fields, key));
        let data: Vec<u8> = pacs.flat_map(|pac| if_relevant(128, &pac)).collect();
        replaced(fields, 0xaa, &tlv(0x30, &data))
    })
}

/// The request in `token` again, with a ticket without a PAC and an authenticator with one.
pub fn with_pac_of_the_client(token: &[u8], keytab: &Keytab, pac: &ForgedPac<'_>) -> Vec<u8> {
    let token = with_pacs(token, keytab, &[]);
    let bytes = RefCell::new(Vec::new());
    reticketed(&token, keytab, &|fields, key| {
        *bytes.borrow_mut() = signed(pac, fields, key);
        fields
            .iter()
            .flat_map(|(tag, value)| tlv(*tag, value))
            .collect()
    });
    with_client_data(&token, keytab, 128, &bytes.borrow())
}

/// The request in `token` again, with this authorization data and no other in its authenticator.
pub fn with_client_data(token: &[u8], keytab: &Keytab, kind: u8, data: &[u8]) -> Vec<u8> {
    let data = tlv(0x30, &if_relevant(kind, data));
    reauthenticated(token, keytab, &|fields| replaced(fields, 0xa8, &data))
}

/// The request in `token` again, with another checksum in its authenticator, or with none. `change` is given what GSSAPI
/// had put there.
pub fn with_checksum(
    token: &[u8],
    keytab: &Keytab,
    kind: u16,
    change: impl Fn(Vec<u8>) -> Option<Vec<u8>>,
) -> Vec<u8> {
    reauthenticated(token, keytab, &|fields| {
        let (_, old) = *fields.iter().find(|(tag, _)| *tag == 0xa3).unwrap();
        let (_, old) = elements(value(old))[1];
        match change(value(old).to_vec()) {
            Some(new) => {
                let [high, low] = kind.to_be_bytes();
                let kind = tlv(0xa0, &tlv(0x02, &[0, high, low]));
                let new = tlv(0xa1, &tlv(0x04, &new));
                replaced(fields, 0xa3, &tlv(0x30, &[kind, new].concat()))
            }
            None => {
                let others = fields.iter().filter(|(tag, _)| *tag != 0xa3);
                others.flat_map(|(tag, value)| tlv(*tag, value)).collect()
            }
        }
    })
}

/// The request in `token` again, with a ticket that ended at this time, `20261122050637Z`.
pub fn with_end(token: &[u8], keytab: &Keytab, end: &str) -> Vec<u8> {
    reticketed(token, keytab, &|fields, _| {
        let change = |(tag, value): &(u8, &[u8])| match tag {
            0xa7 => tlv(0xa7, &tlv(0x18, end.as_bytes())),
            tag => tlv(*tag, value),
        };
        fields.iter().flat_map(change).collect()
    })
}

fn signed(pac: &ForgedPac<'_>, fields: &Fields<'_>, key: &KeytabEntry) -> Vec<u8> {
    let (_, authtime) = *fields.iter().find(|(tag, _)| *tag == 0xa5).unwrap();
    let mut bytes = sign(pac, seconds(value(authtime)) + pac.late, key);
    (pac.alter)(&mut bytes);
    bytes
}

/// The fields in their order, one of them, which may have been there, with this value.
fn replaced(fields: &Fields<'_>, which: u8, new: &[u8]) -> Vec<u8> {
    let others = fields.iter().filter(|(tag, _)| *tag != which);
    let mut all: Vec<(u8, &[u8])> = others.copied().chain([(which, new)]).collect();
    all.sort_by_key(|(tag, _)| *tag);
    all.iter()
        .flat_map(|(tag, value)| tlv(*tag, value))
        .collect()
}

/// The request in `token` again, with a change to the fields of its Authenticator.
fn reauthenticated(
    token: &[u8],
    keytab: &Keytab,
    change: &dyn Fn(&Fields<'_>) -> Vec<u8>,
) -> Vec<u8> {
    let session = RefCell::new((0, Vec::new()));
    let token = reticketed(token, keytab, &|fields, _| {
        let (_, key) = *fields.iter().find(|(tag, _)| *tag == 0xa1).unwrap();
        let key = elements(value(key));
        let kind = value(key[0].1)
            .iter()
            .fold(0, |n, byte| n << 8 | i32::from(*byte));
        *session.borrow_mut() = (kind, value(key[1].1).to_vec());
        fields
            .iter()
            .flat_map(|(tag, value)| tlv(*tag, value))
            .collect()
    });
    let session = session.borrow();
    let key = Keyblock::of(session.0, &session.1);
    let (oid, message) = value(&token).split_at(11);
    let request = edit(value(value(&message[2..])), 0xa4, &|encrypted| {
        let fields = edit(value(encrypted), 0xa2, &|cipher| {
            let opened = decrypt(&key, AUTHENTICATOR, value(cipher));
            let fields = change(&elements(value(value(&opened))));
            let closed = tlv(0x62, &tlv(0x30, &fields));
            tlv(0x04, &encrypt(&key, AUTHENTICATOR, &closed))
        });
        tlv(0x30, &fields)
    });
    let message = tlv(0x6e, &tlv(0x30, &request));
    tlv(0x60, &[oid, &[1, 0], &message].concat())
}

type Fields<'a> = [(u8, &'a [u8])];
type Change<'a> = &'a dyn Fn(&Fields<'_>, &KeytabEntry) -> Vec<u8>;

/// The request in `token` again, with a change to the fields of its ticket's EncTicketPart.
fn reticketed(token: &[u8], keytab: &Keytab, change: Change<'_>) -> Vec<u8> {
    let parsed = NegotiateToken::parse(token).unwrap();
    let framed = parsed.kerberos().unwrap();
    let request = ApRequest::parse(framed).unwrap();
    let key = keytab
        .entries()
        .iter()
        .find(|entry| entry.enctype() == request.ticket_enctype)
        .unwrap();
    let (oid, message) = value(framed).split_at(11);
    let request = edit(value(value(&message[2..])), 0xa3, &|ticket| {
        let fields = edit(value(value(ticket)), 0xa3, &|encrypted| {
            let fields = edit(value(encrypted), 0xa2, &|cipher| {
                let block = Keyblock::new(key, key.key());
                let opened = decrypt(&block, TICKET, value(cipher));
                let fields = change(&elements(value(value(&opened))), key);
                let closed = tlv(0x63, &tlv(0x30, &fields));
                tlv(0x04, &encrypt(&block, TICKET, &closed))
            });
            tlv(0x30, &fields)
        });
        tlv(0x61, &tlv(0x30, &fields))
    });
    let message = tlv(0x6e, &tlv(0x30, &request));
    tlv(0x60, &[oid, &[1, 0], &message].concat())
}

/// The elements again, one of them replaced.
fn edit(bytes: &[u8], which: u8, change: &dyn Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    elements(bytes)
        .into_iter()
        .flat_map(|(tag, value)| match tag == which {
            true => tlv(tag, &change(value)),
            false => tlv(tag, value),
        })
        .collect()
}

/// AD-IF-RELEVANT around other authorization data (RFC 4120 section 5.2.6.1; for a PAC, MS-PAC section 2).
fn if_relevant(kind: u8, data: &[u8]) -> Vec<u8> {
    authorization(1, &tlv(0x30, &authorization(kind, data)))
}

fn authorization(kind: u8, data: &[u8]) -> Vec<u8> {
    let number: &[u8] = if kind < 0x80 { &[kind] } else { &[0, kind] };
    let kind = tlv(0xa0, &tlv(0x02, number));
    tlv(0x30, &[kind, tlv(0xa1, &tlv(0x04, data))].concat())
}

pub fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len();
    let mut out = match length {
        0..0x80 => vec![tag, length as u8],
        0x80..0x100 => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    out.extend(value);
    out
}

pub fn elements(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut out = Vec::new();
    while let [tag, length, rest @ ..] = bytes {
        let digits = usize::from(length & 0x7f);
        let (rest, length) = match length {
            0x80.. => (
                &rest[digits..],
                rest[..digits]
                    .iter()
                    .fold(0, |length, byte| length << 8 | usize::from(*byte)),
            ),
            short => (rest, usize::from(*short)),
        };
        out.push((*tag, &rest[..length]));
        bytes = &rest[length..];
    }
    out
}

pub fn value(bytes: &[u8]) -> &[u8] {
    elements(bytes)[0].1
}

/// A GeneralizedTime of the form 20261122050637Z.
fn seconds(time: &[u8]) -> i32 {
    let number = |range: std::ops::Range<usize>| -> i64 {
        std::str::from_utf8(&time[range]).unwrap().parse().unwrap()
    };
    // Days since 1970 by counting years from March on.
    let (year, month, day) = (number(0..4), number(4..6), number(6..8));
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + of_year - 719_468;
    let seconds = days * 86_400 + number(8..10) * 3600 + number(10..12) * 60 + number(12..14);
    seconds.try_into().unwrap()
}

fn sign(pac: &ForgedPac<'_>, authtime: i32, key: &KeytabEntry) -> Vec<u8> {
    let server_key = Keyblock::new(key, pac.server_key.unwrap_or(key.key()));
    let logon_info = Data::of(pac.logon_info);
    let client = CString::new(pac.client).unwrap();
    let mut out = Data::of(&[]);
    with_context(|context| {
        // SAFETY: every result goes to a local; the inputs live until the end of the block and are
        // only read; the PAC's bytes are copied before they are freed. What a test leaks goes with
        // its process.
        unsafe {
            let (mut handle, mut principal) = (ptr::null_mut(), ptr::null_mut());
            assert_eq!(krb5_pac_init(context, &mut handle), 0);
            assert_eq!(krb5_pac_add_buffer(context, handle, 1, &logon_info), 0);
            assert_eq!(krb5_parse_name(context, client.as_ptr(), &mut principal), 0);
            let signed = krb5_pac_sign(
                context,
                handle,
                authtime,
                principal,
                &server_key,
                &server_key,
                &mut out,
            );
            assert_eq!(signed, 0);
            let bytes = std::slice::from_raw_parts(out.data.cast::<u8>(), out.length as usize);
            let bytes = bytes.to_vec();
            krb5_free_data_contents(context, &mut out);
            krb5_free_principal(context, principal);
            krb5_pac_free(context, handle);
            bytes
        }
    })
}

fn decrypt(key: &Keyblock, usage: i32, cipher: &[u8]) -> Vec<u8> {
    let mut out = vec![0; cipher.len()];
    let input = EncData {
        magic: 0,
        enctype: key.enctype,
        kvno: 0,
        ciphertext: Data::of(cipher),
    };
    let mut output = Data::of(&out);
    // SAFETY: the inputs are only read; the output has room for as much as the input.
    let code = with_context(|context| unsafe {
        krb5_c_decrypt(context, key, usage, ptr::null(), &input, &mut output)
    });
    assert_eq!(code, 0);
    out.truncate(output.length as usize);
    out
}

fn encrypt(key: &Keyblock, usage: i32, plain: &[u8]) -> Vec<u8> {
    let mut out = vec![0; plain.len() + 64];
    let input = Data::of(plain);
    let mut output = EncData {
        magic: 0,
        enctype: key.enctype,
        kvno: 0,
        ciphertext: Data::of(&out),
    };
    // SAFETY: the inputs are only read; no encryption type here adds more than 64 bytes.
    let code = with_context(|context| unsafe {
        krb5_c_encrypt(context, key, usage, ptr::null(), &input, &mut output)
    });
    assert_eq!(code, 0);
    out.truncate(output.ciphertext.length as usize);
    out
}

fn with_context<T>(run: impl FnOnce(*mut Opaque) -> T) -> T {
    let mut context = ptr::null_mut();
    // SAFETY: the context is made here, used by this thread alone and freed once.
    unsafe {
        assert_eq!(krb5_init_context(&mut context), 0);
        let result = run(context);
        krb5_free_context(context);
        result
    }
}

type Opaque = u8;

#[repr(C)]
struct Data {
    magic: i32,
    length: c_uint,
    data: *mut c_char,
}

impl Data {
    fn of(bytes: &[u8]) -> Self {
        Self {
            magic: 0,
            length: bytes.len() as c_uint,
            data: bytes.as_ptr().cast_mut().cast(),
        }
    }
}

#[repr(C)]
struct EncData {
    magic: i32,
    enctype: i32,
    kvno: c_uint,
    ciphertext: Data,
}

#[repr(C)]
struct Keyblock {
    magic: i32,
    enctype: i32,
    length: c_uint,
    contents: *mut u8,
}

impl Keyblock {
    fn new(entry: &KeytabEntry, key: &[u8]) -> Self {
        Self::of(entry.enctype().number(), key)
    }

    fn of(enctype: i32, key: &[u8]) -> Self {
        Self {
            magic: 0,
            enctype,
            length: key.len() as c_uint,
            contents: key.as_ptr().cast_mut(),
        }
    }
}

// libkrb5 is linked by the crate under test already.
#[link(name = "k5crypto")]
unsafe extern "C" {
    fn krb5_init_context(context: *mut *mut Opaque) -> i32;
    fn krb5_free_context(context: *mut Opaque);
    fn krb5_parse_name(context: *mut Opaque, name: *const c_char, out: *mut *mut Opaque) -> i32;
    fn krb5_free_principal(context: *mut Opaque, principal: *mut Opaque);
    fn krb5_free_data_contents(context: *mut Opaque, data: *mut Data);
    fn krb5_pac_init(context: *mut Opaque, pac: *mut *mut Opaque) -> i32;
    fn krb5_pac_free(context: *mut Opaque, pac: *mut Opaque);
    fn krb5_pac_add_buffer(
        context: *mut Opaque,
        pac: *mut Opaque,
        kind: u32,
        data: *const Data,
    ) -> i32;
    fn krb5_pac_sign(
        context: *mut Opaque,
        pac: *mut Opaque,
        authtime: i32,
        principal: *const Opaque,
        server_key: *const Keyblock,
        kdc_key: *const Keyblock,
        out: *mut Data,
    ) -> i32;
    fn krb5_c_decrypt(
        context: *mut Opaque,
        key: *const Keyblock,
        usage: i32,
        state: *const Data,
        input: *const EncData,
        output: *mut Data,
    ) -> i32;
    fn krb5_c_encrypt(
        context: *mut Opaque,
        key: *const Keyblock,
        usage: i32,
        state: *const Data,
        input: *const Data,
        output: *mut EncData,
    ) -> i32;
}

/// The key usages of a ticket's encrypted part and of an authenticator (RFC 4120 section 7.5.1).
const TICKET: i32 = 2;
const AUTHENTICATOR: i32 = 11;
