//! Who a request comes from when a proxy stands before the listener: `X-Forwarded-For`, believed from the peers
//! that the configuration names and from nobody else (threats: `bound-cidr-proxy`).
//!
//! The rules are those of Vault's "TCP listener" page: what the proxies have appended is counted from the right,
//! because everything to the left of it may have been written by the client.

use std::net::IpAddr;

use axum::http::HeaderMap;
use ipnet::IpNet;
use obol_mount::{Error, Result, cidr};

const HEADER: &str = "x-forwarded-for";

/// What the listener is told of its proxies.
#[derive(Debug, Clone)]
pub struct Forwarding {
    /// Peers whose header is believed; empty: the header is not looked at.
    pub authorized: Vec<IpNet>,
    /// How many addresses at the right end are proxies of one's own.
    pub hop_skips: usize,
    /// Refuses requests without the header.
    pub reject_not_present: bool,
    /// Refuses the header from anybody else; otherwise it is not looked at and the peer is who it is.
    pub reject_not_authorized: bool,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self {
            authorized: Vec::new(),
            hop_skips: 0,
            reject_not_present: true,
            reject_not_authorized: true,
        }
    }
}

impl Forwarding {
    /// The address of the client, given who the connection is from. It is the one that bound CIDRs, quotas and
    /// the audit log see.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Result<IpAddr> {
        if self.authorized.is_empty() {
            return Ok(peer);
        }
        if !headers.contains_key(HEADER) {
            return if self.reject_not_present {
                Err(Error::bad_request(
                    "missing x-forwarded-for header and configured to reject when not present",
                ))
            } else {
                Ok(peer)
            };
        }
        if !cidr::allows(&self.authorized, Some(peer)) {
            return if self.reject_not_authorized {
                Err(Error::bad_request(
                    "client address not authorized for x-forwarded-for and configured to reject connection",
                ))
            } else {
                Ok(peer)
            };
        }
        // The same header twice is one list (RFC 9110, section 5.3), so the rightmost is the nearest proxy's.
        let mut chain = Vec::new();
        for value in headers.get_all(HEADER) {
            let text = value.to_str().map_err(|_| malformed())?;
            chain.extend(text.split(',').map(str::trim));
        }
        let Some(at) = chain.len().checked_sub(self.hop_skips + 1) else {
            return Err(Error::bad_request(format!(
                "malformed x-forwarded-for configuration or request, hops to skip ({}) would skip before earliest chain link (chain length {})",
                self.hop_skips,
                chain.len()
            )));
        };
        address(chain[at]).ok_or_else(malformed)
    }
}

/// An address, which some proxies write with a port or, of IPv6, in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    bare.unwrap_or(text)
        .parse::<IpAddr>()
        .ok()
        .or_else(|| Some(text.parse::<std::net::SocketAddr>().ok()?.ip()))
        .map(|address| address.to_canonical())
}

fn malformed() -> Error {
    Error::bad_request("the x-forwarded-for header holds what is no address")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn client(forwarding: &Forwarding, peer: &str, values: &[&str]) -> Result<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_str(value).unwrap());
        }
        forwarding
            .client(peer.parse().unwrap(), &headers)
            .map(|address| address.to_string())
    }

    fn behind(proxies: &[&str]) -> Forwarding {
        let proxies: Vec<String> = proxies.iter().map(|p| (*p).to_owned()).collect();
        Forwarding {
            authorized: cidr::parse_list("proxies", &proxies).unwrap(),
            ..Forwarding::default()
        }
    }

    #[test]
    fn bound_cidr_proxy_without_a_named_proxy_the_header_means_nothing() {
        let nobody = Forwarding::default();
        assert_eq!(
            client(&nobody, "192.0.2.1", &["10.0.0.1"]).unwrap(),
            "192.0.2.1"
        );
        assert_eq!(
            client(&nobody, "192.0.2.1", &["nonsense"]).unwrap(),
            "192.0.2.1"
        );
    }

    #[test]
    fn bound_cidr_proxy_the_right_end_counts_and_only_from_a_named_peer() {
        let mut proxy = behind(&["192.0.2.0/24"]);
        for (values, seen) in [
            (&["10.0.0.1"][..], "10.0.0.1"),
            (&["10.9.9.9, 10.0.0.1"], "10.0.0.1"),
            (&["10.9.9.9", "10.0.0.1"], "10.0.0.1"),
            (&["10.0.0.1:4711"], "10.0.0.1"),
            (&["[2001:db8::1]:4711"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["::ffff:10.0.0.1"], "10.0.0.1"),
        ] {
            assert_eq!(client(&proxy, "192.0.2.1", values).unwrap(), seen);
        }
        for values in [
            &["10.0.0.1,"][..],
            &["unknown"],
            &["10.0.0.1", ""],
            &["10.0.0.1 10.0.0.2"],
        ] {
            assert_eq!(
                client(&proxy, "192.0.2.1", values).unwrap_err().status(),
                400
            );
        }
        assert!(client(&proxy, "198.51.100.1", &["10.0.0.1"]).is_err());
        assert!(client(&proxy, "192.0.2.1", &[]).is_err());
        proxy.reject_not_authorized = false;
        assert_eq!(
            client(&proxy, "198.51.100.1", &["10.0.0.1"]).unwrap(),
            "198.51.100.1"
        );
        proxy.reject_not_present = false;
        assert_eq!(client(&proxy, "192.0.2.1", &[]).unwrap(), "192.0.2.1");
        proxy.hop_skips = 1;
        assert_eq!(
            client(&proxy, "192.0.2.1", &["10.0.0.1, 10.0.0.2"]).unwrap(),
            "10.0.0.1"
        );
        assert!(client(&proxy, "192.0.2.1", &["10.0.0.1"]).is_err());
    }
}
