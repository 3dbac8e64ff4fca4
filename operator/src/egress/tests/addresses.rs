use AddressClass::{CloudMetadata, Embedded, LinkLocal, Loopback, Private, Unspecified};

use super::*;

/// A class and addresses of it, a line each.
const CLASSES: &str = "\
Public 1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0
Public 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.167.255.255 192.169.0.0
Public 198.17.255.255 198.20.0.0 223.255.255.255 168.63.129.15
Public 2001:4860:4860::8888 2606:4700::1111 2a00::1 2001:200::1 64:ff9b::8.8.8.8
Private 10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255
Private 100.64.0.0 100.127.255.255 198.18.0.1 198.19.255.255
Private fc00::1 fd00::1 fdff:ffff::1 fec0::1 fd00:ec2::253 fd00:ec2::254:0
Loopback 127.0.0.1 127.0.0.0 127.255.255.255 127.1.2.3 ::1
Unspecified 0.0.0.0 0.0.0.1 0.255.255.255 ::
LinkLocal 169.254.0.0 169.254.169.254 169.254.170.2 169.254.255.255 fe80::1 febf:ffff::1
CloudMetadata 100.100.100.200 168.63.129.16 fd00:ec2::254 fd00:ec2::23 fd20:ce::254
Multicast 224.0.0.1 239.255.255.255 ff02::1 ff00::
Broadcast 255.255.255.255
# Mapped, compatible, translated.
Embedded ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:169.254.169.254 ::127.0.0.1 ::8.8.8.8 ::2
Embedded ::ffff:0:127.0.0.1
# NAT64: the well-known prefix for what is not public, and a network's own.
Embedded 64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b:1::8.8.8.8
# 6to4, Teredo, ISATAP.
Embedded 2002:7f00:1:: 2002:808:808::1 2001::1 2001:0:1:: 2001:db9::5efe:127.0.0.1
Embedded 2a00::200:5efe:10.0.0.1
Reserved 192.0.0.1 192.0.0.192 192.0.2.1 198.51.100.1 203.0.113.255 192.88.99.1 240.0.0.1
Reserved 255.255.255.254 2001:db8::1 2001:2::1 2001:1ff::1 3fff::1 100::1 4000::1 5f00::1
Reserved 64:ff9b:0:1::1 e000::1 fe00::1";

#[test]
fn every_address_has_its_class() {
    for line in CLASSES.lines().filter(|line| !line.starts_with('#')) {
        let (class, addresses) = line.split_once(' ').unwrap();
        for address in addresses.split(' ') {
            assert_eq!(
                format!("{:?}", classify(address.parse().unwrap())),
                class,
                "{address}"
            );
        }
    }
}

fn rules(policy: EgressPolicy, audience: Audience) -> Rules {
    let cluster = ClusterAddresses::default();
    cluster.replace(
        ["203.0.114.7", "10.9.9.9", "2a00::77"]
            .map(|address| address.parse().unwrap())
            .into(),
    );
    Rules {
        policy,
        audience,
        cluster,
    }
}

#[test]
fn who_may_reach_what() {
    let (server, tenant) = (Audience::AuthorizationServer, Audience::Tenant);
    let strict = EgressPolicy::default();
    let private = EgressPolicy {
        allow_private_for_tenants: true,
        ..strict
    };
    let development = EgressPolicy {
        insecure_allow_loopback: true,
        ..strict
    };
    let check =
        |policy, audience, address: &str| rules(policy, audience).check_address(address.parse().unwrap());
    for (policy, audience, address) in [
        (strict, server, "8.8.8.8"),
        (strict, tenant, "8.8.8.8"),
        (strict, tenant, "64:ff9b::203.0.114.8"),
        (strict, server, "10.0.0.1"),
        (strict, server, "fd00::1"),
        (private, tenant, "10.0.0.1"),
        (development, tenant, "127.0.0.1"),
        (development, server, "::1"),
        (development, server, "10.9.9.9"),
    ] {
        assert_eq!(
            check(policy, audience, address),
            Ok(()),
            "{policy:?} {audience:?} {address}"
        );
    }
    for (policy, audience, address, refusal) in [
        (strict, tenant, "10.0.0.1", Refusal::Address(Private)),
        (development, tenant, "10.0.0.1", Refusal::Address(Private)),
        (strict, server, "127.0.0.1", Refusal::Address(Loopback)),
        (private, tenant, "::1", Refusal::Address(Loopback)),
        (
            development,
            server,
            "169.254.169.254",
            Refusal::Address(LinkLocal),
        ),
        (
            development,
            server,
            "fd00:ec2::254",
            Refusal::Address(CloudMetadata),
        ),
        (development, server, "0.0.0.0", Refusal::Address(Unspecified)),
        (
            development,
            server,
            "::ffff:127.0.0.1",
            Refusal::Address(Embedded),
        ),
        (strict, server, "203.0.114.7", Refusal::Cluster),
        (private, server, "10.9.9.9", Refusal::Cluster),
        (strict, server, "2a00::77", Refusal::Cluster),
        (strict, server, "::ffff:203.0.114.7", Refusal::Cluster),
        (strict, server, "64:ff9b::203.0.114.7", Refusal::Cluster),
        (private, tenant, "64:ff9b::203.0.114.7", Refusal::Cluster),
        // A network's own NAT64 prefix, and 6to4.
        (
            strict,
            server,
            "64:ff9b:1:cb00:72:700::",
            Refusal::Address(Embedded),
        ),
        (strict, server, "2002:cb00:7207::1", Refusal::Address(Embedded)),
    ] {
        assert_eq!(
            check(policy, audience, address),
            Err(refusal),
            "{policy:?} {audience:?} {address}"
        );
    }
}

#[test]
fn urls_that_are_refused_by_their_text() {
    let strict = rules(EgressPolicy::default(), Audience::AuthorizationServer);
    let plain = rules(PLAIN, Audience::AuthorizationServer);
    for (rules, url, expected) in [
        (&strict, "https://example.com/", Ok(())),
        (&strict, "https://10.0.0.1:8443/", Ok(())),
        (&strict, "http://example.com/", Err(Refusal::Scheme)),
        (&plain, "http://example.com/", Ok(())),
        (&plain, "ftp://example.com/", Err(Refusal::Scheme)),
        (&plain, "file:///etc/passwd", Err(Refusal::Scheme)),
        (&plain, "data:text/plain,x", Err(Refusal::Scheme)),
        (&strict, "https://user@example.com/", Err(Refusal::Userinfo)),
        (&strict, "https://:secret@example.com/", Err(Refusal::Userinfo)),
        (&strict, "https://127.0.0.1/", Err(Refusal::Address(Loopback))),
        // What a URL parser makes of odd spellings is what counts.
        (&strict, "https://0x7f.1/", Err(Refusal::Address(Loopback))),
        (&strict, "https://2130706433/", Err(Refusal::Address(Loopback))),
        (&strict, "https://017700000001/", Err(Refusal::Address(Loopback))),
        (&strict, "https://127。0。0。1/", Err(Refusal::Address(Loopback))),
        (&strict, "https://[::1]/", Err(Refusal::Address(Loopback))),
        (
            &strict,
            "https://[::ffff:7f00:1]/",
            Err(Refusal::Address(Embedded)),
        ),
        (&strict, "https://[fe80::1]/", Err(Refusal::Address(LinkLocal))),
        (
            &strict,
            "https://169.254.169.254/latest/meta-data",
            Err(Refusal::Address(LinkLocal)),
        ),
        (&strict, "https://203.0.114.7/", Err(Refusal::Cluster)),
    ] {
        assert_eq!(rules.check_url(&url.parse().unwrap()), expected, "{url}");
    }
}
