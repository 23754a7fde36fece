//! Writes a KERB_VALIDATION_INFO as a domain controller does (MS-PAC section 2.5), with whatever a
//! test wants in it.

use obol_kerberos::Sid;

#[derive(Clone, Debug)]
pub struct LogonInfo {
    pub user_name: String,
    pub user_rid: u32,
    pub primary_group_rid: u32,
    pub groups: Vec<(u32, u32)>,
    pub user_flags: u32,
    pub domain_name: String,
    pub domain: Option<Sid>,
    pub extra_sids: Vec<(Sid, u32)>,
    pub resource_domain: Option<Sid>,
    pub resource_groups: Vec<(u32, u32)>,
}

impl Default for LogonInfo {
    fn default() -> Self {
        Self {
            user_name: "grace".to_owned(),
            user_rid: 1104,
            primary_group_rid: 513,
            groups: vec![(513, 7)],
            user_flags: 0,
            domain_name: "AD".to_owned(),
            domain: Some("S-1-5-21-1-2-3".parse().unwrap()),
            extra_sids: Vec::new(),
            resource_domain: None,
            resource_groups: Vec::new(),
        }
    }
}

impl LogonInfo {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer {
            bytes: vec![0; 16],
            behind: Vec::new(),
            pointers: 0,
        };
        out.pointer(true);
        for time in [
            0x01dd_7a3f_40c8_0720_u64,
            NEVER,
            NEVER,
            0x01dd_7a3f_21ba_b3f0,
            0,
            NEVER,
        ] {
            out.bytes.extend(time.to_le_bytes());
        }
        for text in [self.user_name.as_str(), "Grace Hopper", "", "", "", ""] {
            out.string(text);
        }
        out.u32(0);
        out.u32(self.user_rid);
        out.u32(self.primary_group_rid);
        out.groups(&self.groups);
        out.u32(self.user_flags);
        out.bytes.extend([0; 16]);
        out.string("DC1");
        out.string(&self.domain_name);
        out.sid(self.domain.as_ref());
        out.u32(0);
        out.u32(0);
        out.u32(0x10);
        out.bytes.extend([0; 28]);
        out.u32(self.extra_sids.len() as u32);
        out.pointer(!self.extra_sids.is_empty());
        if !self.extra_sids.is_empty() {
            let mut array = (self.extra_sids.len() as u32).to_le_bytes().to_vec();
            for (index, (_, attributes)) in self.extra_sids.iter().enumerate() {
                array.extend((0x0003_0000 + 4 * index as u32).to_le_bytes());
                array.extend(attributes.to_le_bytes());
            }
            for (sid, _) in &self.extra_sids {
                array.extend(rpc_sid(sid));
            }
            out.behind(array);
        }
        out.sid(self.resource_domain.as_ref());
        out.groups(&self.resource_groups);

        let mut bytes = out.bytes;
        bytes.extend(out.behind);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let length = (bytes.len() - 16) as u32;
        bytes[..8].copy_from_slice(b"\x01\x10\x08\0\xcc\xcc\xcc\xcc");
        bytes[8..12].copy_from_slice(&length.to_le_bytes());
        bytes
    }
}

struct Writer {
    bytes: Vec<u8>,
    /// What pointers point to; all of it a multiple of four bytes.
    behind: Vec<u8>,
    pointers: u32,
}

impl Writer {
    fn u32(&mut self, number: u32) {
        self.bytes.extend(number.to_le_bytes());
    }

    fn pointer(&mut self, set: bool) {
        self.pointers += 4;
        self.u32(if set { 0x0002_0000 + self.pointers } else { 0 });
    }

    fn behind(&mut self, bytes: Vec<u8>) {
        self.behind.extend(bytes);
        self.behind.resize(self.behind.len().next_multiple_of(4), 0);
    }

    fn string(&mut self, text: &str) {
        let units: Vec<u16> = text.encode_utf16().collect();
        let bytes = (2 * units.len() as u16).to_le_bytes();
        self.bytes.extend(bytes);
        self.bytes.extend(bytes);
        self.pointer(true);
        let count = units.len() as u32;
        let mut array: Vec<u8> = [count, 0, count]
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        array.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        self.behind(array);
    }

    fn sid(&mut self, sid: Option<&Sid>) {
        self.pointer(sid.is_some());
        if let Some(sid) = sid {
            self.behind(rpc_sid(sid));
        }
    }

    fn groups(&mut self, groups: &[(u32, u32)]) {
        self.u32(groups.len() as u32);
        self.pointer(!groups.is_empty());
        if !groups.is_empty() {
            let numbers = groups
                .iter()
                .flat_map(|(rid, attributes)| [*rid, *attributes]);
            let numbers = std::iter::once(groups.len() as u32).chain(numbers);
            self.behind(numbers.flat_map(u32::to_le_bytes).collect());
        }
    }
}

fn rpc_sid(sid: &Sid) -> Vec<u8> {
    let mut out = (sid.sub_authorities().len() as u32).to_le_bytes().to_vec();
    out.extend(sid.to_bytes());
    out
}

const NEVER: u64 = 0x7fff_ffff_ffff_ffff;
