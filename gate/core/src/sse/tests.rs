use proptest::prelude::*;

use super::*;

/// Replaces data that holds `secret`, by all that it says without it.
fn without_secret(data: &[u8]) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(data);
    text.contains("secret")
        .then(|| text.replace("secret", "").into_bytes())
}

fn rewritten(pieces: &[&[u8]]) -> Vec<u8> {
    let (mut rewriter, mut out) = (Rewriter::new(1 << 20), Vec::new());
    for piece in pieces {
        rewriter.push(piece, &mut out, without_secret).unwrap();
    }
    rewriter.finish(&mut out, without_secret);
    out
}

#[test]
fn only_data_is_replaced() {
    for (stream, expected, why) in [
        ("data: a secret\n\n", "data: a \n\n", "one line"),
        ("data:secret\n\n", "data: \n\n", "no blank after the colon"),
        (
            ": secret\nid: secret\nevent: message\nretry: 5\ndata: x\n\n",
            ": secret\nid: secret\nevent: message\nretry: 5\ndata: x\n\n",
            "comments and other fields stay",
        ),
        (
            "id: 1\ndata: {\"a\":\ndata: \"secret\"}\nevent: x\n\ndata: y\n\n",
            "id: 1\ndata: {\"a\":\ndata: \"\"}\nevent: x\n\ndata: y\n\n",
            "data of several lines is one text",
        ),
        (
            "data: se\r\ndata: cret\r\n\r\n",
            "data: se\r\ndata: cret\r\n\r\n",
            "lines are joined with a line feed",
        ),
        (
            "data: secret\r\rdata: b\r\n\r\ndata: secret\n\r\n",
            "data: \r\rdata: b\r\n\r\ndata: \n\r\n",
            "every kind of line end, mixed",
        ),
        ("data\n\ndata:\n\n", "data\n\ndata:\n\n", "empty data"),
        (
            "dataset: secret\n\nDATA: secret\n\n data: secret\n\n",
            "dataset: secret\n\nDATA: secret\n\n data: secret\n\n",
            "other fields",
        ),
        (
            "\u{feff}data: secret\n\n",
            "\u{feff}data: \n\n",
            "behind a byte order mark",
        ),
        (
            "data: x\n\n\u{feff}data: secret\n\n",
            "data: x\n\n\u{feff}data: secret\n\n",
            "which is one only at the beginning",
        ),
        ("data: x\n\ndata: secret\n", "data: x\n\ndata: \n", "cut off"),
        ("data: secret", "data: ", "cut off within a line"),
        ("\n\n\r\n\r\r", "\n\n\r\n\r\r", "nothing at all"),
    ] {
        let out = String::from_utf8(rewritten(&[stream.as_bytes()])).unwrap();
        assert_eq!(out, expected, "{why}");
    }
}

#[test]
fn an_event_is_passed_on_as_soon_as_it_is_complete() {
    let (mut rewriter, mut out) = (Rewriter::new(100), Vec::new());
    for (piece, expected) in [
        ("data: a", ""),
        ("\r", ""),
        // The second return ends the event; whether a line feed follows cannot be waited for.
        ("\n\r", "data: a\r\n\r"),
        ("\n: ping\n", "\n: ping\n"),
        ("\n", "\n"),
        ("data: b\n\ndata: c\n\nda", "data: b\n\ndata: c\n\n"),
    ] {
        out.clear();
        rewriter.push(piece.as_bytes(), &mut out, |_| None).unwrap();
        assert_eq!(String::from_utf8_lossy(&out), expected, "{piece:?}");
    }
}

#[test]
fn an_event_has_a_bound_and_a_stream_has_none() {
    let (mut rewriter, mut out) = (Rewriter::new(20), Vec::new());
    for _ in 0..100 {
        rewriter.push(b"data: 0123456\n\n", &mut out, |_| None).unwrap();
    }
    assert_eq!(rewriter.push(b"data: 0123456", &mut out, |_| None), Ok(()));
    assert_eq!(rewriter.push(b"01234567", &mut out, |_| None), Err(TooLarge));
}

proptest! {
    #[test]
    fn however_a_stream_is_cut_the_same_comes_out(
        stream in prop::collection::vec(
            prop::sample::select(vec!["data", ":", " ", "secret", "\n", "\r", "\r\n", "id", "x", "\u{feff}"]), 0..60,
        ).prop_map(|parts| parts.concat().into_bytes()),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        prop_assert_eq!(rewritten(&pieces), rewritten(&[&stream]));
    }

    #[test]
    fn what_is_not_changed_keeps_its_bytes(stream in prop::collection::vec(any::<u8>(), 0..200)) {
        let (mut rewriter, mut out) = (Rewriter::new(1 << 20), Vec::new());
        rewriter.push(&stream, &mut out, |_| None).unwrap();
        rewriter.finish(&mut out, |_| None);
        prop_assert_eq!(out, stream);
    }

    /// A reader that splits the whole text as the specification says finds no secret in any data.
    #[test]
    fn no_reader_finds_what_was_to_be_replaced(
        stream in prop::collection::vec(
            prop::sample::select(vec!["data", ":", ": ", "secret", "\n", "\r", "\r\n", "\n\n", "id"]), 0..60,
        ).prop_map(|parts| parts.concat()),
    ) {
        let out = String::from_utf8(rewritten(&[stream.as_bytes()])).unwrap();
        let text = out.replace("\r\n", "\n").replace('\r', "\n");
        for event in text.split("\n\n") {
            let data: Vec<&str> = event
                .lines()
                .filter_map(|line| line.strip_prefix("data:"))
                .map(|value| value.strip_prefix(' ').unwrap_or(value))
                .collect();
            prop_assert!(!data.join("\n").contains("secret"), "{stream:?} gave {out:?}");
        }
    }
}

#[test]
fn comments_do_not_wait_for_an_event() {
    let mut rewriter = Rewriter::new(1 << 20);
    for (piece, passed, why) in [
        (": ping\n", ": ping\n", "at once"),
        (": pi", "", "not before it is there"),
        ("ng\n: pong\n", ": ping\n: pong\n", "two of them"),
        (": ping\r\n", ": ping\r", "with both line ends"),
        (": ping\r\n", "\n: ping\r", "which go out in two"),
        ("id: 1\n", "", "an event begins"),
        (": within\n", "", "a comment within it stays in its place"),
        (
            "data: secret\n\n",
            "\nid: 1\n: within\ndata: \n\n",
            "until it is complete",
        ),
        (": ping\ndata: x\n", ": ping\n", "before an event"),
        ("\n", "data: x\n\n", "which follows"),
    ] {
        let mut out = Vec::new();
        rewriter.push(piece.as_bytes(), &mut out, without_secret).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), passed, "{why}");
    }
}
