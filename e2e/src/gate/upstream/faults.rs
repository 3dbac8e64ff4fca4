//! Answers that no client may take for whole ones.

use std::time::Duration;

use tokio::{io::AsyncWriteExt, net::tcp::OwnedWriteHalf};

const SLOWLY: Duration = Duration::from_millis(200);

/// What the server does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// These bytes, and the end of the connection.
    Bytes(&'static str),
    /// A head of more than a mebibyte.
    HugeHead,
    /// Headers for as long as anybody reads them.
    EndlessHead,
    /// A head that never gets on.
    SlowHead,
}

/// All of them, by the name that a request asks for them by.
pub(super) const NAMES: [(&str, Fault); 10] = [
    ("garbage", Fault::Bytes("\u{0}\u{1}SSH-2.0-none\r\n\r\n")),
    ("nothing", Fault::Bytes("")),
    (
        "half-a-head",
        Fault::Bytes("HTTP/1.1 200 OK\r\ncontent-type: appl"),
    ),
    (
        "two-lengths",
        Fault::Bytes("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}x"),
    ),
    (
        "cut-json",
        Fault::Bytes(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"jsonrpc\":",
        ),
    ),
    (
        "cut-chunk",
        Fault::Bytes(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
        ),
    ),
    (
        "cut-stream",
        Fault::Bytes(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\na\r\ndata: {}\n\n\r\n",
        ),
    ),
    ("huge-head", Fault::HugeHead),
    ("endless-head", Fault::EndlessHead),
    ("slow-head", Fault::SlowHead),
];

/// The fault of this name.
pub(super) fn of(name: &str) -> Option<Fault> {
    let mut all = NAMES.iter().filter(|(known, _)| *known == name);
    all.next().map(|(_, fault)| *fault)
}

impl Fault {
    /// Does it. No request follows on the connection.
    pub(super) async fn commit(self, sink: &mut OwnedWriteHalf) -> anyhow::Result<()> {
        const BEGIN: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
        match self {
            Self::Bytes(bytes) => sink.write_all(bytes.as_bytes()).await?,
            Self::HugeHead => {
                let line = format!("x-huge: {}\r\n", "x".repeat(2 << 20));
                sink.write_all(format!("{BEGIN}{line}content-length: 2\r\n\r\n{{}}").as_bytes())
                    .await?;
            }
            Self::EndlessHead | Self::SlowHead => {
                sink.write_all(BEGIN.as_bytes()).await?;
                for number in 0_u64.. {
                    sink.write_all(format!("x-{number}: {number}\r\n").as_bytes())
                        .await?;
                    if self == Self::SlowHead {
                        tokio::time::sleep(SLOWLY).await;
                    }
                }
            }
        }
        sink.shutdown().await?;
        anyhow::bail!("as it was asked to")
    }
}
