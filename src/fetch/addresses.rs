//! Which addresses belong to the whole world, and which to this machine, a house or a provider: a server that fetches what
//! strangers name must not be led to those.
//!
//! Source: IANA's special-purpose registries for IPv4 and IPv6 (RFC 6890 and its updates), read strictly: what is not
//! globally reachable, and what carries another address inside, is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// First address of a block, and how many of its bits count.
const REFUSED_V4: [(Ipv4Addr, u32); 15] = [
    // this network, private ones, providers' own (CGNAT), loopback, link local (metadata services)
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    // documentation, relays of 6to4, private, benchmarks, documentation
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // multicast; reserved, with broadcast
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Global unicast is 2000::/3 and nothing else, so unspecified, loopback, mapped, NAT64, local, link local and multicast
/// addresses are out at once.
const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const REFUSED_V6: [(Ipv6Addr, u32); 5] = [
    // protocols of the IETF, Teredo among them; documentation; 6to4; what a test network gave back; documentation
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3ffe, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Whether everybody in the world means the same machine by `address`.
pub fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let is_in = |(block, n_bits): &(Ipv4Addr, u32)| {
                (u32::from(address) ^ u32::from(*block)) >> (32 - n_bits) == 0
            };
            !REFUSED_V4.iter().any(is_in)
        }
        IpAddr::V6(address) => {
            let is_in = |(block, n_bits): &(Ipv6Addr, u32)| {
                (u128::from(address) ^ u128::from(*block)) >> (128 - n_bits) == 0
            };
            is_in(&GLOBAL_V6) && !REFUSED_V6.iter().any(is_in)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_worlds_addresses_are_global() {
        let global = [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.88.100.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "198.51.101.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2001:200::",
            "2001:db7:ffff::",
            "2001:db9::",
            "2003::",
            "2a00:1450:4001:80b::200e",
            "3ffd:ffff::",
            "2000::",
            "3fff:1000::",
        ];
        let refused = [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.0.0",
            "169.254.169.254",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.0",
            "192.0.0.170",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.0",
            "192.168.255.255",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.0",
            "255.255.255.255",
            // unspecified, loopback, compatible, mapped, NAT64, discard, local, link local, site local, multicast
            "::",
            "::1",
            "::7f00:1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "fc00::1",
            "fdff:ffff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "ff0e::1",
            "4000::",
            "1fff:ffff::",
            // Teredo, benchmarks, ORCHID, documentation, 6to4 around a private and a public address, 6bone
            "2001::1",
            "2001:2::1",
            "2001:10::1",
            "2001:20::1",
            "2001:1ff:ffff::",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::",
            "3ffe::1",
            "3fff::1",
            "3fff:fff:ffff::",
            "5f00::1",
        ];
        for (addresses, expected) in [(&global[..], true), (&refused[..], false)] {
            for text in addresses {
                assert_eq!(is_global(text.parse().unwrap()), expected, "{text}");
            }
        }
    }
}
