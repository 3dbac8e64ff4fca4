//! The proxy on real sockets, raw ones where libraries would tidy up.

mod answers;
mod fixture;
mod forwarding;
mod framing;
mod http2;
mod limits;
mod lists;
mod server;
mod sessions;
mod stopping;
mod streams;
mod suspension;
