//! Who a user is and which groups they are in, as the domain controller wrote it into the ticket:
//! the KERB_VALIDATION_INFO of the privilege attribute certificate (MS-PAC section 2.5). Only the
//! contents are read here. Whether they are to be believed is libkrb5's word, which checks the
//! signature with the service's key: the acceptor decodes nothing that it does not vouch for.

mod ndr;

use std::time::{Duration, SystemTime};

use thiserror::Error;

use crate::sid::{Sid, SidError};
use ndr::Reader;

/// What the domain controller says about the user. Identifiers, never names of groups. Which
/// domains may name which groups is for the caller: see [`Sid::is_in_domain`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pac {
    /// The user's domain: its identifier and its NetBIOS name.
    pub logon_domain_sid: Sid,
    pub logon_domain_name: String,
    /// The domain controller's NetBIOS name.
    pub logon_server: String,
    /// The account's name in its domain (sAMAccountName).
    pub user_name: String,
    pub full_name: String,
    /// Zero if the account is not of the logon domain: see [`Pac::user_sid`].
    pub user_rid: u32,
    pub primary_group_rid: u32,
    /// Groups of the logon domain, by relative identifier.
    pub groups: Vec<GroupMembership>,
    /// Groups of other domains, and well-known ones.
    pub extra_sids: Vec<SidAndAttributes>,
    /// The domain that the resource groups are of: the service's.
    pub resource_group_domain: Option<Sid>,
    pub resource_groups: Vec<GroupMembership>,
    /// UserFlags of MS-PAC section 2.5.
    pub user_flags: u32,
    /// The userAccountControl bits of MS-SAMR section 2.2.1.12.
    pub user_account_control: u32,
    /// `None` where the domain controller says "never" or does not say.
    pub logon_time: Option<SystemTime>,
    pub password_last_set: Option<SystemTime>,
    pub password_must_change: Option<SystemTime>,
}

/// A group of a domain that is stated elsewhere, with SE_GROUP attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupMembership {
    pub rid: u32,
    pub attributes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SidAndAttributes {
    pub sid: Sid,
    pub attributes: u32,
}

impl Pac {
    /// Decodes a KERB_VALIDATION_INFO, which is the value of the name attribute
    /// `urn:mspac:logon-info`. Says nothing about who wrote it.
    pub fn decode(bytes: &[u8]) -> Result<Self, PacError> {
        if bytes.len() > MAX_PAC_BYTES {
            return Err(PacError::TooLarge { bytes: bytes.len() });
        }
        let mut ndr = Reader::new(bytes)?;
        if !ndr.pointer("the logon information")?.is_set() {
            return Err(PacError::NoReferent {
                what: "the logon information",
            });
        }
        // The fixed part. NDR puts what its pointers point to behind it, in the same order.
        let logon_time = time(ndr.filetime("LogonTime")?);
        ndr.filetime("LogoffTime")?;
        ndr.filetime("KickOffTime")?;
        let password_last_set = time(ndr.filetime("PasswordLastSet")?);
        ndr.filetime("PasswordCanChange")?;
        let password_must_change = time(ndr.filetime("PasswordMustChange")?);
        let user_name = ndr.string_head("EffectiveName")?;
        let full_name = ndr.string_head("FullName")?;
        let logon_script = ndr.string_head("LogonScript")?;
        let profile_path = ndr.string_head("ProfilePath")?;
        let home_directory = ndr.string_head("HomeDirectory")?;
        let home_drive = ndr.string_head("HomeDirectoryDrive")?;
        ndr.u16("LogonCount")?;
        ndr.u16("BadPasswordCount")?;
        let user_rid = ndr.u32("UserId")?;
        let primary_group_rid = ndr.u32("PrimaryGroupId")?;
        let group_count = ndr.u32("GroupCount")?;
        let groups = ndr.pointer("GroupIds")?;
        let user_flags = ndr.u32("UserFlags")?;
        ndr.take(16, "UserSessionKey")?;
        let logon_server = ndr.string_head("LogonServer")?;
        let logon_domain_name = ndr.string_head("LogonDomainName")?;
        let logon_domain_sid = ndr.pointer("LogonDomainId")?;
        ndr.take(8, "Reserved1")?;
        let user_account_control = ndr.u32("UserAccountControl")?;
        // SubAuthStatus, two times, FailedILogonCount and Reserved3: of interactive logons.
        ndr.take(28, "the interactive logons")?;
        let extra_count = ndr.u32("SidCount")?;
        let extra_sids = ndr.pointer("ExtraSids")?;
        let resource_group_domain = ndr.pointer("ResourceGroupDomainSid")?;
        let resource_count = ndr.u32("ResourceGroupCount")?;
        let resource_groups = ndr.pointer("ResourceGroupIds")?;

        let user_name = ndr.string(user_name, "EffectiveName")?;
        let full_name = ndr.string(full_name, "FullName")?;
        ndr.string(logon_script, "LogonScript")?;
        ndr.string(profile_path, "ProfilePath")?;
        ndr.string(home_directory, "HomeDirectory")?;
        ndr.string(home_drive, "HomeDirectoryDrive")?;
        let groups = memberships(&mut ndr, groups, group_count, "GroupIds")?;
        let logon_server = ndr.string(logon_server, "LogonServer")?;
        let logon_domain_name = ndr.string(logon_domain_name, "LogonDomainName")?;
        if !logon_domain_sid.is_set() {
            return Err(PacError::NoReferent {
                what: "LogonDomainId",
            });
        }
        let logon_domain_sid = ndr.sid("LogonDomainId")?;
        let extra_sids = extras(&mut ndr, extra_sids, extra_count)?;
        let resource_group_domain = match resource_group_domain.is_set() {
            true => Some(ndr.sid("ResourceGroupDomainSid")?),
            false => None,
        };
        let resource_groups = memberships(
            &mut ndr,
            resource_groups,
            resource_count,
            "ResourceGroupIds",
        )?;

        // Every relative identifier below has a place behind its domain's.
        for domain in [Some(logon_domain_sid), resource_group_domain] {
            if let Some(Err(error)) = domain.map(|domain| domain.with_rid(0)) {
                let what = "a domain's identifier";
                return Err(PacError::Sid { what, error });
            }
        }
        if resource_group_domain.is_none() && !resource_groups.is_empty() {
            return Err(PacError::NoReferent {
                what: "ResourceGroupDomainSid",
            });
        }
        if user_rid == 0 && (user_flags & EXTRA_SIDS == 0 || extra_sids.is_empty()) {
            return Err(PacError::NoUser);
        }
        Ok(Self {
            logon_domain_sid,
            logon_domain_name,
            logon_server,
            user_name,
            full_name,
            user_rid,
            primary_group_rid,
            groups,
            extra_sids,
            resource_group_domain,
            resource_groups,
            user_flags,
            user_account_control,
            logon_time,
            password_last_set,
            password_must_change,
        })
    }

    /// The user's own identifier. Where UserId is zero, the first of the extra identifiers is the
    /// account (MS-PAC section 2.5, UserId).
    pub fn user_sid(&self) -> Sid {
        match (self.user_rid, self.extra_sids.first()) {
            (0, Some(account)) => account.sid,
            (rid, _) => in_domain(self.logon_domain_sid, rid),
        }
    }

    /// The groups that the user is in by the domain controller's word: those of the logon domain
    /// with the primary group, then the extra ones and the resource groups where UserFlags says that
    /// they are there. Sorted, each once. A group that is not enabled, or that counts for denials
    /// alone, is left out.
    pub fn group_sids(&self) -> Vec<Sid> {
        let mut sids: Vec<Sid> = enabled(&self.groups)
            .map(|rid| in_domain(self.logon_domain_sid, rid))
            .collect();
        // Domain controllers list the primary group among the groups as well. Where they do, its
        // attributes count.
        if self.user_rid != 0
            && self.primary_group_rid != 0
            && !self
                .groups
                .iter()
                .any(|group| group.rid == self.primary_group_rid)
        {
            sids.push(in_domain(self.logon_domain_sid, self.primary_group_rid));
        }
        if self.user_flags & EXTRA_SIDS != 0 {
            let extra = self.extra_sids.iter();
            sids.extend(
                extra
                    .skip(usize::from(self.user_rid == 0))
                    .filter(|extra| is_enabled(extra.attributes))
                    .map(|extra| extra.sid),
            );
        }
        if self.user_flags & RESOURCE_GROUPS != 0
            && let Some(domain) = self.resource_group_domain
        {
            sids.extend(enabled(&self.resource_groups).map(|rid| in_domain(domain, rid)));
        }
        // Domain controllers write most of them in order, which the stable sort is quick with.
        sids.sort();
        sids.dedup();
        sids
    }
}

/// What became of the PAC of an accepted ticket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PacState {
    /// Nobody asked for it ([`crate::AcceptorOptions::decode_pac`]).
    #[default]
    NotRead,
    /// The ticket carries none, or none with logon information (MIT and Heimdal realms).
    Absent,
    /// Its signature is not of the service's key, or it was made for another client or time, or there are two. It is not
    /// decoded.
    Unverified,
    /// Verified, and not readable.
    Malformed(PacError),
    Verified(Box<Pac>),
}

impl PacState {
    /// The PAC, if it may be believed.
    pub fn verified(&self) -> Option<&Pac> {
        match self {
            Self::Verified(pac) => Some(pac),
            _ => None,
        }
    }
}

/// Why logon information cannot be read. Carries no contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PacError {
    #[error("the logon information has {bytes} bytes, more than any ticket holds")]
    TooLarge { bytes: usize },
    #[error("the logon information is not serialized as version 1, little-endian")]
    Header,
    #[error("the logon information ends before {what} (byte {offset})")]
    Truncated { what: &'static str, offset: usize },
    #[error("the lengths of {what} do not agree")]
    Length { what: &'static str },
    #[error("{what} is missing")]
    NoReferent { what: &'static str },
    #[error("{what} is not UTF-16")]
    NotText { what: &'static str },
    #[error("{what}: {error}")]
    Sid { what: &'static str, error: SidError },
    #[error("neither UserId nor ExtraSids names the account")]
    NoUser,
}

fn memberships(
    ndr: &mut Reader<'_>,
    pointer: ndr::Pointer,
    count: u32,
    what: &'static str,
) -> Result<Vec<GroupMembership>, PacError> {
    if !pointer.is_set() {
        return match count {
            0 => Ok(Vec::new()),
            _ => Err(PacError::NoReferent { what }),
        };
    }
    let count = ndr.array_head(count, 8, what)?;
    (0..count)
        .map(|_| {
            Ok(GroupMembership {
                rid: ndr.u32(what)?,
                attributes: ndr.u32(what)?,
            })
        })
        .collect()
}

/// The array holds pointers, and the identifiers follow the array.
fn extras(
    ndr: &mut Reader<'_>,
    pointer: ndr::Pointer,
    count: u32,
) -> Result<Vec<SidAndAttributes>, PacError> {
    let what = "ExtraSids";
    if !pointer.is_set() {
        return match count {
            0 => Ok(Vec::new()),
            _ => Err(PacError::NoReferent { what }),
        };
    }
    // A pointer, attributes, and at least the head of an identifier each.
    let count = ndr.array_head(count, 8 + 12, what)?;
    let mut attributes = Vec::with_capacity(count);
    for _ in 0..count {
        if !ndr.pointer(what)?.is_set() {
            return Err(PacError::NoReferent { what });
        }
        attributes.push(ndr.u32(what)?);
    }
    attributes
        .into_iter()
        .map(|attributes| {
            Ok(SidAndAttributes {
                sid: ndr.sid(what)?,
                attributes,
            })
        })
        .collect()
}

fn enabled(groups: &[GroupMembership]) -> impl Iterator<Item = u32> {
    groups
        .iter()
        .filter(|group| is_enabled(group.attributes))
        .map(|group| group.rid)
}

fn is_enabled(attributes: u32) -> bool {
    attributes & SE_GROUP_ENABLED != 0 && attributes & SE_GROUP_USE_FOR_DENY_ONLY == 0
}

/// `Pac`'s fields are public; a domain that somebody filled to the brim gives itself, which no
/// group is.
fn in_domain(domain: Sid, rid: u32) -> Sid {
    domain.with_rid(rid).unwrap_or(domain)
}

/// A FILETIME counts tenths of a microsecond since 1601; zero and the largest number mean "not
/// set" and "never".
fn time(filetime: u64) -> Option<SystemTime> {
    if filetime == 0 || filetime >= NEVER {
        return None;
    }
    let since_1970 = filetime.checked_sub(FILETIME_OF_1970)?;
    let since_1970 = Duration::new(
        since_1970 / FILETIME_SECOND,
        (since_1970 % FILETIME_SECOND) as u32 * 100,
    );
    SystemTime::UNIX_EPOCH.checked_add(since_1970)
}

/// Twice the largest token: a ticket is a part of one.
const MAX_PAC_BYTES: usize = 2 * crate::spnego::MAX_TOKEN_BYTES;

/// UserFlags of MS-PAC section 2.5.
const EXTRA_SIDS: u32 = 0x20;
const RESOURCE_GROUPS: u32 = 0x200;
/// MS-PAC section 2.2.1, and winnt.h for the second, which a domain controller does not send.
const SE_GROUP_ENABLED: u32 = 0x4;
const SE_GROUP_USE_FOR_DENY_ONLY: u32 = 0x10;

const NEVER: u64 = 0x7fff_ffff_ffff_ffff;
const FILETIME_SECOND: u64 = 10_000_000;
const FILETIME_OF_1970: u64 = 11_644_473_600 * FILETIME_SECOND;
