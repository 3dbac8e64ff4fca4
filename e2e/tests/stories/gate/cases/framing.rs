//! How requests are told apart: two readers of one connection must never disagree on that.

use crate::gate::case::{Case, Challenge, Difference, Expect, Framing, NOT_JSON, REFUSED, call};

const WRITING: &str = "notes:write mcp:use";

pub(crate) fn cases() -> Vec<Case> {
    [chunks(), lengths(), pipelines(), heads()]
        .into_iter()
        .flatten()
        .collect()
}

fn chunks() -> Vec<Case> {
    let read = call("read_note");
    let broken = |why, body: &'static str| {
        let framing = Framing::As(&[("transfer-encoding", "chunked")]);
        Case::new(why)
            .body(body)
            .framing(framing)
            .expect(Expect::Front(&[400, 413]))
            .traefik(Difference::OwnRefusal, Expect::Front(&[500]))
    };
    vec![
        Case::new("a body in chunks")
            .call("read_note")
            .framing(Framing::Chunks(7)),
        Case::new("a body in chunks of a byte")
            .call("read_note")
            .framing(Framing::Chunks(1)),
        Case::new("a forbidden call in chunks")
            .call("write_note")
            .framing(Framing::Chunks(7))
            .needs(WRITING),
        Case::new("nonsense in chunks")
            .body("{")
            .framing(Framing::Chunks(7))
            .bad(NOT_JSON),
        Case::new("no body in chunks")
            .body("")
            .framing(Framing::Chunks(1))
            .bad(crate::gate::case::NOT_A_MESSAGE)
            .traefik(Difference::OwnRefusal, Expect::Front(&[500])),
        Case::new("chunks with words behind their size")
            .body(format!("{:x};a=\"b\"\r\n{read}\r\n0\r\n\r\n", read.len()))
            .framing(Framing::As(&[("transfer-encoding", "chunked")]))
            .expect(Expect::Several(&[200])),
        Case::new("the token behind the chunks")
            .body(format!(
                "{:x}\r\n{read}\r\n0\r\nx-trailer: {{token}}\r\n\r\n",
                read.len()
            ))
            .framing(Framing::As(&[
                ("transfer-encoding", "chunked"),
                ("trailer", "x-trailer"),
            ]))
            .expect(Expect::Several(&[200])),
        broken("a chunk of no size", "x\r\n{}\r\n0\r\n\r\n"),
        broken("a chunk of a negative size", "-1\r\n{}\r\n0\r\n\r\n"),
        broken(
            "a chunk of a size beyond all bounds",
            "fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        ),
        broken("a chunk that is longer than its size", "1\r\n{}\r\n0\r\n\r\n"),
    ]
}

/// Headers of framing that contradict themselves or each other. The body is what one reader would take for a second
/// request.
fn lengths() -> Vec<Case> {
    const SMUGGLED: &str =
        "POST /a/mcp HTTP/1.1\r\nhost: h\r\nx-case: smuggled\r\ncontent-length: 2\r\n\r\n{}";
    let broken = |why, framing: &'static [(&'static str, &'static str)]| {
        Case::new(why)
            .body(format!("0\r\n\r\n{SMUGGLED}"))
            .framing(Framing::As(framing))
            .expect(Expect::Front(&[400, 501]))
            .traefik(Difference::OwnRefusal, Expect::Front(&[400, 500, 501]))
    };
    vec![
        broken(
            "a length and chunks",
            &[("content-length", "5"), ("transfer-encoding", "chunked")],
        ),
        broken(
            "chunks and a length",
            &[("transfer-encoding", "chunked"), ("content-length", "5")],
        ),
        broken("two lengths", &[("content-length", "5"), ("content-length", "6")]),
        broken("two lengths in one header", &[("content-length", "5, 6")]),
        broken("a length with a sign", &[("content-length", "+5")]),
        broken("a negative length", &[("content-length", "-5")]),
        broken("a length in another base", &[("content-length", "0x5")]),
        broken("chunks by another name", &[("transfer-encoding", "xchunked")]),
        broken(
            "chunks that are not the last encoding",
            &[("transfer-encoding", "chunked, gzip")],
        ),
        broken(
            "chunks behind compression",
            &[("transfer-encoding", "gzip, chunked")],
        ),
        broken(
            "chunks twice",
            &[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        ),
        broken("a space before the colon", &[("content-length ", "5")]),
    ]
}

const CLOSE: &str = "connection: close\r\n";

/// A whole request that calls a tool, with more headers.
fn written(tool: &str, more: &str) -> String {
    let body = call(tool);
    let length = body.len();
    format!(
        "POST /a/mcp HTTP/1.1\r\nhost: mcp.example\r\nauthorization: Bearer {{token}}\r\nx-case: {{case}}\r\n\
         content-type: application/json\r\n{more}content-length: {length}\r\n\r\n{body}"
    )
}

/// These bytes and no others, and the answers to them.
fn raw(why: &'static str, bytes: String, statuses: &'static [u16]) -> Case {
    let case = Case::new(why).body(bytes).framing(Framing::Raw);
    case.expect(Expect::Several(statuses))
}

fn pipelines() -> Vec<Case> {
    let two = |first: &str, second: &str| written(first, "") + &written(second, CLOSE);
    let continued = written("read_note", "expect: 100-continue\r\nconnection: close\r\n");
    vec![
        raw("two requests at once", two("read_note", "read_note"), &[200, 200]),
        raw(
            "a forbidden request behind a good one",
            two("read_note", "write_note"),
            &[200, 403],
        ),
        raw(
            "a good request behind a forbidden one",
            two("write_note", "read_note"),
            &[403, 200],
        ),
        raw(
            "two forbidden requests",
            two("write_note", "write_note"),
            &[403, 403],
        ),
        raw("a request that says to be continued", continued, &[200]),
        Case::new("the token named as a header of the connection")
            .header("connection", "authorization")
            .engines(
                Difference::ConnectionHeaders,
                &Expect::Answers {
                    status: 401,
                    challenge: Challenge::Missing,
                    code: Some(REFUSED),
                },
            ),
        Case::new("the version named as a header of the connection")
            .header("connection", "mcp-protocol-version")
            .stateless(&[("mcp-method", "ping")])
            .passes_with(&[("mcp-method", "ping"), ("mcp-protocol-version", "2026-07-28")])
            .engines(
                Difference::ConnectionHeaders,
                &Expect::Passes {
                    gone: vec!["mcp-method", "mcp-protocol-version"],
                    kept: Vec::new(),
                },
            ),
    ]
}

/// Heads that are not quite HTTP.
fn heads() -> Vec<Case> {
    let refused = |why, bytes: String| raw(why, bytes, &[]).expect(Expect::Front(&[400]));
    let with = |why, more: &str| refused(why, written("read_note", &format!("{more}\r\n{CLOSE}")));
    let changed = |from: &str, to: &str| written("read_note", CLOSE).replace(from, to);
    let accepted = Expect::Several(&[200]);
    vec![
        raw("HTTP/1.0", changed("HTTP/1.1", "HTTP/1.0"), &[200])
            .envoy(Difference::OwnRefusal, Expect::Front(&[426])),
        refused("no host", changed("host: mcp.example\r\n", "")),
        with("two hosts", "host: evil.example").envoy(Difference::OwnReading, accepted.clone()),
        with("a folded header", "x-a: b\r\n c").engines(Difference::OwnReading, &accepted),
        with("a line end in a header", "x-a: b\rc").envoy(Difference::OwnReading, accepted),
        with("a header without a name", ": b"),
        with("a header without a colon", "x-a"),
        with("a space in the name of a header", "x a: b"),
        with("NUL in a header", "x-a: b\0c"),
        refused("a version that nobody speaks", changed("HTTP/1.1", "HTTP/9.9"))
            .envoy(Difference::OwnRefusal, Expect::Front(&[426]))
            .traefik(Difference::OwnRefusal, Expect::Front(&[505])),
        refused(
            "no HTTP at all",
            "hello, is anybody here who speaks no HTTP at all?\r\n\r\n".to_owned(),
        ),
    ]
}
