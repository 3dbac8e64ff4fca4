//! What kind of place an IP address is.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The kind of place that an address leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressClass {
    /// Somewhere in the Internet.
    Public,
    /// A range for use within an organisation: 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10,
    /// 198.18.0.0/15, fc00::/7, fec0::/10.
    Private,
    /// This very machine.
    Loopback,
    /// No address: 0.0.0.0/8, which many systems treat as this machine, and ::.
    Unspecified,
    /// The local network segment, where cloud metadata services live.
    LinkLocal,
    /// A metadata or platform service of a cloud outside of the link-local ranges.
    CloudMetadata,
    /// Many machines at once.
    Multicast,
    /// All machines of a network.
    Broadcast,
    /// An IPv6 form that stands for an IPv4 address, by which a check of one family could be evaded.
    Embedded,
    /// Set aside for documentation, protocols or the future.
    Reserved,
}

impl AddressClass {
    /// For messages: what an address of this class is.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "a public address",
            Self::Private => "a private address",
            Self::Loopback => "a loopback address",
            Self::Unspecified => "an unspecified address",
            Self::LinkLocal => "a link-local address",
            Self::CloudMetadata => "a metadata service of a cloud",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "a broadcast address",
            Self::Embedded => "an IPv6 address that stands for an IPv4 address",
            Self::Reserved => "a reserved address",
        }
    }
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Classifies an address by the registries of RFC 6890 and the clouds' documentation.
pub const fn classify(address: IpAddr) -> AddressClass {
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => classify_v6(address),
    }
}

const fn classify_v4(address: Ipv4Addr) -> AddressClass {
    match address.octets() {
        // Alibaba Cloud's metadata service, and the host services of an Azure machine.
        [100, 100, 100, 200] | [168, 63, 129, 16] => AddressClass::CloudMetadata,
        [0, ..] => AddressClass::Unspecified,
        [127, ..] => AddressClass::Loopback,
        [169, 254, ..] => AddressClass::LinkLocal,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] | [198, 18..=19, ..] => {
            AddressClass::Private
        }
        [224..=239, ..] => AddressClass::Multicast,
        [255, 255, 255, 255] => AddressClass::Broadcast,
        // Protocol assignments, documentation, former 6to4 relays, and class E.
        [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] | [192, 88, 99, _] | [240..=255, ..] => {
            AddressClass::Reserved
        }
        _ => AddressClass::Public,
    }
}

const fn classify_v6(address: Ipv6Addr) -> AddressClass {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => AddressClass::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => AddressClass::Loopback,
        // The metadata services of Amazon EC2, its pod identity agent, and Google Cloud.
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254 | 0x23] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => {
            AddressClass::CloudMetadata
        }
        // RFC 6052: where the network is IPv6 only, its resolver translates every IPv4 address to this prefix, so it
        // must work; and it must not be used for any but public ones.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => match classify_v4(joined(high, low)) {
            AddressClass::Public => AddressClass::Public,
            _ => AddressClass::Embedded,
        },
        // No other form that stands for an IPv4 address is let through at all: `translated` relies on that.
        // IPv4-compatible, -mapped and -translated; a network's own NAT64 prefix (RFC 8215); 6to4; Teredo; ISATAP.
        [0, 0, 0, 0, 0, 0 | 0xffff, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, 1, ..]
        | [0x2002, ..]
        | [0x2001, 0, ..]
        | [_, _, _, _, 0 | 0x200, 0x5efe, _, _] => AddressClass::Embedded,
        [0xfe80..=0xfebf, ..] => AddressClass::LinkLocal,
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => AddressClass::Private,
        [0xff00..=0xffff, ..] => AddressClass::Multicast,
        // Only 2000::/3 is in use as unicast; within it, protocol assignments and documentation are not.
        [0x2001, 0x1..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => AddressClass::Reserved,
        [0x2000..=0x3fff, ..] => AddressClass::Public,
        _ => AddressClass::Reserved,
    }
}

/// The IPv4 address that an address is translated to on its way, if it is one that may be connected to.
pub(super) const fn translated(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => match address.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(joined(high, low)),
            _ => None,
        },
    }
}

/// The IPv4 address in two segments of an IPv6 address.
const fn joined(high: u16, low: u16) -> Ipv4Addr {
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Ipv4Addr::new(a, b, c, d)
}
