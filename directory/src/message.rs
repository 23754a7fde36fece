//! What a server may send: LDAP messages of bounded size and depth, in the shape of RFC 4511.
//!
//! The LDAP library decodes BER recursively, waits for as many bytes as a length promises, and
//! panics on an answer whose parts are missing. Nothing of that is left to a server's goodwill:
//! a message is looked at here before the library sees it, without recursion or allocation.

/// Why bytes are not passed on; completes the sentence "the server sent ...".
pub(crate) type Fault = &'static str;

/// Largest message taken, in bytes: room for an entry with a hundred thousand values.
pub(crate) const MAX_MESSAGE: usize = 16 << 20;
/// Deepest nesting of elements. Answers to binds and searches reach 5.
const MAX_NESTING: usize = 16;

const NOT_LDAP: Fault = "something that is not LDAP";
const BROKEN: Fault = "a broken message";
const PAGED_RESULTS: &[u8] = b"1.2.840.113556.1.4.319";

/// How many bytes at the front of `buffer` are whole messages, all of them checked.
pub(crate) fn whole_messages(buffer: &[u8]) -> Result<usize, Fault> {
    let mut at = 0;
    while let Some(header) = Header::read(&buffer[at..])? {
        if header.tag != 0x30 {
            return Err(NOT_LDAP);
        }
        if header.contents > MAX_MESSAGE {
            return Err("a message too large");
        }
        let start = at + header.length;
        let end = start + header.contents;
        if end > buffer.len() {
            break;
        }
        check_nesting(&buffer[at..end])?;
        check_message(&buffer[start..end]).ok_or(BROKEN)?;
        at = end;
    }
    Ok(at)
}

/// How long the message at the front of `buffer` is, header included; `None` while that cannot be said.
pub(crate) fn message_length(buffer: &[u8]) -> Result<Option<usize>, Fault> {
    match Header::read(buffer)? {
        Some(header) if header.tag != 0x30 => Err(NOT_LDAP),
        Some(header) => Ok(Some(header.length + header.contents)),
        None => Ok(None),
    }
}

/// The result code of the extendedResp (RFC 4511 §4.12) that is the whole of `bytes` and answers message `id`.
pub(crate) fn extended_result(bytes: &[u8], id: u8) -> Result<u32, Fault> {
    if whole_messages(bytes)? != bytes.len() {
        return Err(BROKEN);
    }
    let code = || {
        let mut parts = Elements(bytes).next()?.parts();
        let answered = parts.next()?;
        let response = parts.next()?;
        let is_it = answered.contents == [id] && response.tag == 0x78;
        let code = response.parts().next()?;
        is_it.then(|| number(code.contents))
    };
    code().ok_or("an answer to something else")
}

/// Of an INTEGER or ENUMERATED of at most four bytes that is not negative.
fn number(contents: &[u8]) -> u32 {
    contents
        .iter()
        .fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

/// Walks one element and all in it.
fn check_nesting(element: &[u8]) -> Result<(), Fault> {
    let mut ends = [0; MAX_NESTING];
    let mut depth = 0;
    let mut limit = element.len();
    let mut at = 0;
    loop {
        while at == limit {
            if depth == 0 {
                return Ok(());
            }
            depth -= 1;
            limit = ends[depth];
        }
        let header = Header::read(&element[at..limit])?.ok_or(BROKEN)?;
        at += header.length;
        if header.contents > limit - at {
            return Err(BROKEN);
        }
        let end = at + header.contents;
        if header.tag & 0x20 == 0 {
            at = end;
        } else {
            if depth == MAX_NESTING {
                return Err("a message nested too deeply");
            }
            ends[depth] = limit;
            depth += 1;
            limit = end;
        }
    }
}

/// LDAPMessage (RFC 4511 §4.1.1) without its header: messageID, protocolOp, perhaps controls.
fn check_message(contents: &[u8]) -> Option<()> {
    let mut parts = Elements(contents);
    let id = parts.next()?;
    if id.tag != 0x02 || !(1..=4).contains(&id.contents.len()) {
        return None;
    }
    let operation = parts.next()?;
    match operation.tag {
        // searchResEntry is read by src/session.rs with its own checks; intermediateResponse is
        // passed over unread.
        0x64 | 0x79 => {}
        // searchResRef
        0x73 => operation.parts().try_for_each(|uri| uri.text())?,
        // bindResponse, searchResDone, extendedResp
        0x61 | 0x65 | 0x78 => check_result(operation.parts())?,
        // Answers to requests that are never made.
        _ => return None,
    }
    match parts.next() {
        None => {}
        Some(controls) if controls.tag == 0xa0 => controls.parts().try_for_each(check_control)?,
        // Active Directory puts the responseName of its notice of disconnection here.
        Some(misplaced) if misplaced.tag == 0x8a => {}
        Some(_) => return None,
    }
    parts.0.is_empty().then_some(())
}

/// LDAPResult and what an operation appends to it (RFC 4511 §4.1.9).
fn check_result(mut parts: Elements<'_>) -> Option<()> {
    let code = parts.next()?;
    if code.tag != 0x0a || !(1..=4).contains(&code.contents.len()) {
        return None;
    }
    parts.next()?.text()?;
    parts.next()?.text()?;
    parts.try_for_each(|more| match more.tag & 0x1f {
        // referral
        3 if more.is_constructed() => more.parts().try_for_each(|uri| uri.text()),
        3 => None,
        // serverSaslCreds, responseValue
        7 | 11 => more.value().map(drop),
        // responseName
        10 => more.text(),
        _ => Some(()),
    })
}

/// Control (RFC 4511 §4.1.11), and the value of the one that is used (RFC 2696).
fn check_control(control: Element<'_>) -> Option<()> {
    if !control.is_constructed() {
        return None;
    }
    let mut parts = control.parts();
    let name = parts.next()?;
    name.text()?;
    let value = match parts.next() {
        Some(critical) if critical.tag == 0x01 => {
            critical.value().filter(|byte| !byte.is_empty())?;
            parts.next()
        }
        other => other,
    };
    match value {
        Some(value) if value.tag != 0x04 => return None,
        Some(value) if name.contents == PAGED_RESULTS => {
            check_nesting(value.contents).ok()?;
            let paged = Elements(value.contents)
                .next()
                .filter(Element::is_constructed)?;
            let mut paged = paged.parts();
            paged.next().filter(|size| size.tag == 0x02)?;
            paged.next()?.value()?;
        }
        None if name.contents == PAGED_RESULTS => return None,
        _ => {}
    }
    parts.0.is_empty().then_some(())
}

/// The tag and length at the front of a BER element.
struct Header {
    tag: u8,
    /// Bytes of tag and length.
    length: usize,
    /// Bytes of contents.
    contents: usize,
}

impl Header {
    /// `None`: more bytes are needed. LDAP uses definite lengths and small tags alone (RFC 4511 §5.1).
    fn read(bytes: &[u8]) -> Result<Option<Self>, Fault> {
        let [tag, first, rest @ ..] = bytes else {
            return Ok(None);
        };
        if tag & 0x1f == 0x1f {
            return Err(NOT_LDAP);
        }
        if *first < 0x80 {
            return Ok(Some(Self {
                tag: *tag,
                length: 2,
                contents: usize::from(*first),
            }));
        }
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return Err(NOT_LDAP);
        }
        let Some(digits) = rest.get(..count) else {
            return Ok(None);
        };
        let contents = digits
            .iter()
            .fold(0, |sum, digit| sum << 8 | usize::from(*digit));
        Ok(Some(Self {
            tag: *tag,
            length: 2 + count,
            contents,
        }))
    }
}

#[derive(Clone, Copy)]
struct Element<'a> {
    tag: u8,
    contents: &'a [u8],
}

impl<'a> Element<'a> {
    fn is_constructed(&self) -> bool {
        self.tag & 0x20 != 0
    }

    fn parts(&self) -> Elements<'a> {
        Elements(self.contents)
    }

    /// The bytes of a primitive element.
    fn value(&self) -> Option<&'a [u8]> {
        (!self.is_constructed()).then_some(self.contents)
    }

    /// Is it a primitive element of UTF-8?
    fn text(&self) -> Option<()> {
        std::str::from_utf8(self.value()?).ok().map(drop)
    }
}

/// The elements one after another in bytes whose lengths have been checked.
struct Elements<'a>(&'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = Element<'a>;

    fn next(&mut self) -> Option<Element<'a>> {
        let header = Header::read(self.0).ok()??;
        let end = header.length.checked_add(header.contents)?;
        let contents = self.0.get(header.length..end)?;
        self.0 = &self.0[end..];
        Some(Element {
            tag: header.tag,
            contents,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
        let length = contents.len();
        let mut bytes = vec![tag];
        match u8::try_from(length) {
            Ok(short @ 0..=0x7f) => bytes.push(short),
            _ => {
                bytes.push(0x84);
                bytes.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
            }
        }
        bytes.extend_from_slice(contents);
        bytes
    }

    fn message(operation: &[u8]) -> Vec<u8> {
        element(0x30, &[&[2, 1, 1], operation].concat())
    }

    fn nest(depth: usize) -> Vec<u8> {
        (0..depth).fold(Vec::new(), |inner, _| element(0x30, &inner))
    }

    const DONE: &[u8] = &[0x65, 7, 10, 1, 0, 4, 0, 4, 0];

    #[test]
    fn the_code_of_an_extended_answer_is_read_however_its_lengths_are_written() {
        let openldap = b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00";
        // Active Directory writes every length of a sequence in four bytes.
        let windows = b"\x30\x84\x00\x00\x00\x28\x02\x01\x01\x78\x84\x00\x00\x00\x1f\x0a\x01\x00\x04\x00\x04\x00\x8a\x161.3.6.1.4.1.1466.20037";
        for answer in [openldap.as_slice(), windows] {
            assert_eq!(message_length(answer), Ok(Some(answer.len())));
            assert_eq!(extended_result(answer, 1), Ok(0));
            assert!(extended_result(answer, 2).is_err());
            assert!(extended_result(&answer[..answer.len() - 1], 1).is_err());
            assert!(extended_result(&[answer, b"\x30"].concat(), 1).is_err());
            for length in 0..2 {
                assert_eq!(message_length(&answer[..length]), Ok(None));
            }
        }
        let mut unavailable = windows.to_vec();
        unavailable[17] = 52;
        assert_eq!(extended_result(&unavailable, 1), Ok(52));
        assert!(message_length(b"HTTP/1.1 400 Bad Request").is_err());
        // searchResDone
        let other = b"\x30\x0c\x02\x01\x01\x65\x07\x0a\x01\x00\x04\x00\x04\x00";
        assert!(extended_result(other, 1).is_err());
    }

    #[test]
    fn whole_messages_pass_and_the_rest_waits() {
        let one = message(DONE);
        let two = one.repeat(2);
        for cut in 0..=two.len() {
            let whole = cut / one.len() * one.len();
            assert_eq!(whole_messages(&two[..cut]), Ok(whole));
        }
    }

    #[test]
    fn the_answers_of_real_servers_pass() {
        let entry = [element(4, b"uid=x"), element(0x30, &[])].concat();
        let referral = element(4, b"ldap://elsewhere/");
        let refused = [
            &[10, 1, 10, 4, 0, 4, 0],
            element(0xa3, &referral).as_slice(),
        ]
        .concat();
        let pages = element(0x30, &[&[2, 1, 0][..], &element(4, b"cookie")].concat());
        let paged = [element(4, PAGED_RESULTS), element(4, &pages)].concat();
        let critical = [
            element(4, PAGED_RESULTS),
            vec![1, 1, 0xff],
            element(4, &pages),
        ]
        .concat();
        let oid = element(0x8a, b"1.3.6.1.4.1.1466.20036");
        for operation in [
            element(0x64, &entry),
            element(0x73, &referral),
            element(0x65, &refused),
            element(0x61, &[&DONE[2..], &element(0x87, b"sasl")].concat()),
            element(0x78, &[&DONE[2..], &oid].concat()),
            // Active Directory's notice of disconnection.
            [element(0x78, &DONE[2..]), oid].concat(),
            [DONE, &element(0xa0, &element(0x30, &paged))].concat(),
            [DONE, &element(0xa0, &element(0x30, &critical))].concat(),
            [DONE, &element(0xa0, &[])].concat(),
        ] {
            let message = message(&operation);
            assert_eq!(whole_messages(&message), Ok(message.len()), "{message:x?}");
        }
    }

    #[test]
    fn answers_with_missing_or_wrong_parts_are_stopped() {
        let control = |parts: &[u8]| [DONE, &element(0xa0, &element(0x30, parts))].concat();
        let nested = nest(MAX_NESTING + 1);
        for operation in [
            vec![],
            element(0x65, &[]),
            element(0x65, &[10, 1, 0, 4, 0]),
            element(0x65, &[10, 0, 4, 0, 4, 0]),
            element(0x65, &[2, 1, 0, 4, 0, 4, 0]),
            element(0x65, &[10, 1, 0, 4, 1, 0xff, 4, 0]),
            element(0x65, &[10, 1, 0, 4, 0, 0x24, 0]),
            element(0x65, &[&DONE[2..], &[0x83, 0]].concat()),
            element(0x61, &[&DONE[2..], &[0xa7, 0]].concat()),
            element(0x73, &[0x30, 0]),
            element(0x6b, &DONE[2..]),
            element(0x7e, &[]),
            [DONE, &[0xa1, 0]].concat(),
            [DONE, DONE].concat(),
            control(&[]),
            control(&[4, 1, 0xff]),
            control(&[4, 1, b'1', 1, 0]),
            control(&[4, 1, b'1', 2, 1, 0]),
            control(&element(4, PAGED_RESULTS)),
            control(&[element(4, PAGED_RESULTS), element(4, &[])].concat()),
            control(&[element(4, PAGED_RESULTS), element(4, &[0x30, 0])].concat()),
            control(&[element(4, PAGED_RESULTS), element(4, &[0x30, 3, 2, 1, 0])].concat()),
            control(&[element(4, PAGED_RESULTS), element(4, &nested)].concat()),
        ] {
            assert_eq!(
                whole_messages(&message(&operation)),
                Err(BROKEN),
                "{operation:x?}"
            );
        }
        assert_eq!(whole_messages(&[0x30, 0]), Err(BROKEN));
        assert_eq!(whole_messages(&[0x30, 3, 2, 1, 1]), Err(BROKEN));
        // The element inside is longer than the message around it.
        assert_eq!(whole_messages(&[0x30, 2, 4, 9]), Err(BROKEN));
    }

    #[test]
    fn a_message_nested_deeply_is_stopped_before_the_decoder() {
        assert_eq!(check_nesting(&nest(MAX_NESTING)), Ok(()));
        let too_deep = Err("a message nested too deeply");
        assert_eq!(check_nesting(&nest(MAX_NESTING + 1)), too_deep);
        assert_eq!(whole_messages(&nest(20_000)).map(drop), too_deep);
    }

    #[test]
    fn sizes_and_lengths_that_are_not_ldap_are_stopped() {
        assert_eq!(whole_messages(b"HTTP/1.1 400"), Err(NOT_LDAP));
        assert_eq!(whole_messages(&[0x30, 0x80]), Err(NOT_LDAP));
        assert_eq!(whole_messages(&[0x30, 0x85, 0, 0, 0, 0, 1]), Err(NOT_LDAP));
        let huge = [0x30, 0x84, 0x7f, 0, 0, 0];
        assert_eq!(whole_messages(&huge), Err("a message too large"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let message = element(0x30, &bytes);
            if whole_messages(&message).is_ok() {
                // What passes, the library's own decoder reads to the end.
                prop_assert!(ldap3::asn1::parse_tag(&message).is_ok_and(|(rest, _)| rest.is_empty()));
            }
        }

        #[test]
        fn a_flipped_byte_is_judged_without_a_panic(at in 0usize..64, byte in any::<u8>()) {
            let pages = element(0x30, &[&[2, 1, 0][..], &element(4, b"cookie")].concat());
            let paged = [element(4, PAGED_RESULTS), element(4, &pages)].concat();
            let mut message = message(&[DONE, &element(0xa0, &element(0x30, &paged))].concat());
            let at = at % message.len();
            message[at] = byte;
            let _ = whole_messages(&message);
        }
    }
}
