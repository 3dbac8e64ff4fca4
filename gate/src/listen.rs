//! Listening, for both families of addresses at once where that is wanted.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Once,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// How many connections wait until they are accepted.
const BACKLOG: i32 = 1024;

/// Listens at an address. `[::]` stands for all addresses, those of IPv4 as well, whatever the system makes of it by
/// default; where there is no IPv6, it stands for those of IPv4.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn listen(face: &'static str, address: SocketAddr) -> io::Result<TcpListener> {
    let listener = if is_everything(address) {
        everywhere(address, ipv6).await?
    } else {
        TcpListener::bind(address).await?
    };
    // With port 0 it is a free one.
    let address = listener.local_addr().unwrap_or(address);
    tracing::info!(face, %address, "listening");
    Ok(listener)
}

fn is_everything(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

/// Listens at all addresses. `socket` makes a socket of IPv6.
async fn everywhere(address: SocketAddr, socket: fn() -> io::Result<Socket>) -> io::Result<TcpListener> {
    // What is wrong with sockets of both families, IPv4 tells as well.
    let bound = socket().and_then(|socket| socket.bind(&address.into()).map(|()| socket));
    match bound {
        Ok(socket) => {
            socket.listen(BACKLOG)?;
            TcpListener::from_std(socket.into())
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(error) => {
            static SAID: Once = Once::new();
            SAID.call_once(|| tracing::info!(%error, "there is no IPv6 here: listening for IPv4 alone"));
            TcpListener::bind((IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port())).await
        }
    }
}

/// A socket of IPv6 that takes IPv4 as well.
fn ipv6() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_only_v6(false)?;
    // As tokio does: a gate that starts again can have the port of the one before.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use tokio::net::TcpStream;

    use super::*;

    const EVERYTHING: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
    const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    fn no_ipv6() -> io::Result<Socket> {
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }

    /// Whether a connection to the listener's port at this address is taken by it.
    async fn answers(listener: &TcpListener, address: IpAddr) -> bool {
        let port = listener.local_addr().unwrap().port();
        let Ok(stream) = TcpStream::connect((address, port)).await else {
            return false;
        };
        let (_, from) = listener.accept().await.unwrap();
        from.port() == stream.local_addr().unwrap().port()
    }

    #[tokio::test]
    async fn everything_is_both_families_where_there_are_both() {
        let listener = listen("proxy", EVERYTHING).await.unwrap();
        assert!(answers(&listener, V4).await);
        let has_ipv6 = TcpListener::bind((V6, 0)).await.is_ok();
        assert_eq!(answers(&listener, V6).await, has_ipv6);
    }

    #[tokio::test]
    async fn without_ipv6_everything_is_ipv4() {
        let listener = everywhere(EVERYTHING, no_ipv6).await.unwrap();
        assert!(answers(&listener, V4).await);
        assert!(!answers(&listener, V6).await);
    }

    #[tokio::test]
    async fn one_address_is_no_other() {
        let listener = listen("proxy", SocketAddr::new(V4, 0)).await.unwrap();
        assert!(answers(&listener, V4).await);
        assert!(!answers(&listener, V6).await);
    }

    #[tokio::test]
    async fn a_port_that_somebody_has_is_not_shared() {
        let first = listen("proxy", EVERYTHING).await.unwrap();
        let taken = first.local_addr().unwrap();
        let refused = listen("admin", taken).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }
}
