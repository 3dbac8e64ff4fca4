//! How requests are told apart: two readers of one connection must never disagree on that.

use crate::gate::case::{Case, Difference, Expect, Framing, NOT_JSON, call, passes};

const WRITING: &str = "notes:write mcp:use";

pub(crate) fn cases() -> Vec<Case> {
    [chunks(), lengths(), pipelines()].into_iter().flatten().collect()
}

fn chunks() -> Vec<Case> {
    let broken = |why, body: &'static str| {
        let framing = Framing::As(&[("transfer-encoding", "chunked")]);
        Case::new(why)
            .body(body)
            .framing(framing)
            .expect(Expect::Front(&[400, 413]))
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
            .bad(crate::gate::case::NOT_A_MESSAGE),
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

fn pipelines() -> Vec<Case> {
    let request = |tool: &str, more: &str| {
        let body = call(tool);
        let length = body.len();
        format!(
            "POST /a/mcp HTTP/1.1\r\nhost: mcp.example\r\nauthorization: Bearer {{token}}\r\nx-case: {{case}}\r\n\
             content-type: application/json\r\n{more}content-length: {length}\r\n\r\n{body}"
        )
    };
    let close = "connection: close\r\n";
    let raw = |why, bytes: String, statuses| {
        Case::new(why)
            .body(bytes)
            .framing(Framing::Raw)
            .expect(Expect::Several(statuses))
    };
    let two = |first: &str, second: &str| request(first, "") + &request(second, close);
    let front = |case: Case, statuses| case.expect(Expect::Front(statuses));
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
        raw(
            "a request that says to be continued",
            request("read_note", "expect: 100-continue\r\nconnection: close\r\n"),
            &[200],
        ),
        raw(
            "HTTP/1.0",
            request("read_note", close).replace("HTTP/1.1", "HTTP/1.0"),
            &[200],
        )
        .envoy(Difference::OwnRefusal, Expect::Front(&[426])),
        front(
            raw(
                "no host",
                request("read_note", close).replace("host: mcp.example\r\n", ""),
                &[],
            ),
            &[400],
        ),
        front(
            raw(
                "a folded header",
                request("read_note", "x-a: b\r\n c\r\nconnection: close\r\n"),
                &[],
            ),
            &[400],
        ),
        front(
            raw(
                "a header without a name",
                request("read_note", ": b\r\nconnection: close\r\n"),
                &[],
            ),
            &[400],
        ),
        front(
            raw(
                "NUL in a header",
                request("read_note", "x-a: b\0c\r\nconnection: close\r\n"),
                &[],
            ),
            &[400],
        ),
        front(
            raw(
                "a line end in a header",
                request("read_note", "x-a: b\rc\r\nconnection: close\r\n"),
                &[],
            ),
            &[400],
        ),
        front(
            raw(
                "a version that nobody speaks",
                request("read_note", close).replace("HTTP/1.1", "HTTP/9.9"),
                &[],
            ),
            &[400],
        ),
        front(
            raw("no HTTP at all", "\u{16}\u{3}\u{1}\r\n\r\n".to_owned(), &[]),
            &[400],
        ),
        Case::new("the token named as a header of the connection")
            .header("connection", "authorization")
            .expect(passes()),
        Case::new("the version named as a header of the connection")
            .header("connection", "mcp-protocol-version")
            .stateless(&[("mcp-method", "ping")])
            .passes_with(&[("mcp-method", "ping"), ("mcp-protocol-version", "2026-07-28")]),
    ]
}
