//! Blocks of addresses (`10.0.0.0/8`, `2001:db8::/32`, `192.0.2.7`): the one reader of them.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Error, Result};

/// Reads a block; an address alone is a block of one. `None`: neither.
pub fn parse(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse()
        .ok()
        .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Checks the blocks that `field` of a configuration names. The error says which one is wrong, not how it reads.
pub fn parse_list(field: &str, blocks: &[String]) -> Result<Vec<IpNet>> {
    let read = |(index, text): (usize, &String)| {
        parse(text).ok_or_else(|| {
            Error::bad_request(format!(
                "{field}: number {} is neither an address nor a block such as 10.0.0.0/8",
                index + 1
            ))
        })
    };
    blocks.iter().enumerate().map(read).collect()
}

/// Whether a peer may come from where it comes. No blocks: from anywhere. An unknown address is in no block.
pub fn allows(blocks: &[IpNet], peer: Option<IpAddr>) -> bool {
    // A listener on [::] sees IPv4 peers as ::ffff:a.b.c.d.
    let peer = peer.map(|peer| peer.to_canonical());
    blocks.is_empty() || peer.is_some_and(|peer| blocks.iter().any(|block| block.contains(&peer)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_single_addresses_are_read_and_compared() {
        let texts = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"].map(str::to_owned);
        let blocks = parse_list("token_bound_cidrs", &texts).unwrap();
        for (peer, allowed) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(allows(&blocks, peer.parse().ok()), allowed, "{peer}");
        }
        assert!(!allows(&blocks, None));
        assert!(allows(&[], None));
    }

    #[test]
    fn what_is_no_block_is_refused_by_its_place() {
        for wrong in ["10.0.0.0/33", "example.com", "10.0.0", "10.0.0.0/8/8", ""] {
            let error = parse_list("token_bound_cidrs", &["10.0.0.1".into(), wrong.into()])
                .unwrap_err()
                .to_string();
            assert!(error.contains("token_bound_cidrs: number 2"), "{error}");
            assert!(
                wrong.is_empty() || !error.contains(wrong) || wrong == "10.0.0",
                "{error}"
            );
        }
    }
}
