use std::net::{IpAddr, Ipv6Addr};

/// Whose requests are counted together. Whoever has one address of IPv6 has the 2^64 of its network
/// at hand, and one of IPv4 only that one.
pub fn requester(address: &str) -> String {
    match address.trim().parse() {
        Ok(IpAddr::V6(address)) => match address.to_ipv4_mapped() {
            Some(address) => address.to_string(),
            None => format!("{}/64", network(address)),
        },
        Ok(IpAddr::V4(address)) => address.to_string(),
        // Nothing of the platform's, but nobody's way past the count.
        Err(_) => address.trim().to_owned(),
    }
}

fn network(address: Ipv6Addr) -> Ipv6Addr {
    let [a, b, c, d, ..] = address.segments();
    Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        for (address, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
            ("2001:DB8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
            (" 2001:db8::1 ", "2001:db8::/64"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::1", "::/64"),
            ("unknown", "unknown"),
        ] {
            assert_eq!(requester(address), expected, "{address}");
        }
    }
}
