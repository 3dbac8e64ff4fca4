//! Event streams (WHATWG HTML, 9.2), event by event as they come, so that what events carry can be replaced.
//!
//! What is not replaced keeps its bytes: comments, ids, other fields, and whichever line ends the server uses.

/// An event that is larger than what is kept of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is too large")]
pub struct TooLarge;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Splits a stream into events and replaces what they carry.
#[derive(Debug)]
pub struct Rewriter {
    /// What came of the event that is not complete.
    pending: Vec<u8>,
    /// Whether nothing of the present line has come.
    at_line_start: bool,
    /// Whether the last byte was a carriage return: a line feed after it belongs to it.
    after_return: bool,
    is_first: bool,
    largest: usize,
}

impl Rewriter {
    /// For a stream from its beginning, with events of at most `largest` bytes.
    pub fn new(largest: usize) -> Self {
        Self {
            pending: Vec::new(),
            at_line_start: true,
            after_return: false,
            is_first: true,
            largest,
        }
    }

    /// How much is kept of the event that is not complete, in bytes.
    pub fn kept(&self) -> usize {
        self.pending.len()
    }

    /// Takes the next piece of the stream, and appends to `out` the events that are complete. `change` gives for the
    /// data of an event what to put in its place, or `None` to leave the event as it is.
    ///
    /// # Errors
    /// [`TooLarge`]: the stream cannot go on.
    pub fn push(
        &mut self,
        piece: &[u8],
        out: &mut Vec<u8>,
        mut change: impl FnMut(&[u8]) -> Option<Vec<u8>>,
    ) -> Result<(), TooLarge> {
        let mut taken = 0;
        for (at, byte) in piece.iter().enumerate() {
            let ends_line = match byte {
                b'\n' => !std::mem::take(&mut self.after_return),
                b'\r' => {
                    self.after_return = true;
                    true
                }
                _ => {
                    self.after_return = false;
                    self.at_line_start = false;
                    false
                }
            };
            if !ends_line {
                continue;
            }
            let is_blank = std::mem::replace(&mut self.at_line_start, true);
            if is_blank || self.begins_with_comment(&piece[taken..=at]) {
                self.pending.extend_from_slice(&piece[taken..=at]);
                taken = at + 1;
                self.emit(out, &mut change);
            }
        }
        self.pending.extend_from_slice(&piece[taken..]);
        if self.pending.len() > self.largest {
            return Err(TooLarge);
        }
        Ok(())
    }

    /// Whether the first line that is pending, with what follows it, is a comment: it belongs to no event, and keeps
    /// connections alive that would be given up while it waits for one.
    fn begins_with_comment(&self, more: &[u8]) -> bool {
        // A line feed at the beginning belongs to the line before.
        let mut bytes = self.pending.iter().chain(more).skip_while(|byte| **byte == b'\n');
        bytes.next() == Some(&b':')
    }

    /// What is left when the stream ends. Readers ignore an event that is not complete; those that do not must not see
    /// more in it either.
    pub fn finish(&mut self, out: &mut Vec<u8>, mut change: impl FnMut(&[u8]) -> Option<Vec<u8>>) {
        self.emit(out, &mut change);
    }

    fn emit(&mut self, out: &mut Vec<u8>, change: &mut impl FnMut(&[u8]) -> Option<Vec<u8>>) {
        let event = std::mem::take(&mut self.pending);
        let (mark, lines) = match event.strip_prefix(BYTE_ORDER_MARK) {
            Some(lines) if self.is_first => (BYTE_ORDER_MARK, lines),
            _ => (&b""[..], &event[..]),
        };
        self.is_first = false;
        out.extend_from_slice(mark);
        rewrite(lines, out, change);
    }
}

/// Appends an event to `out`, with other data if `change` gives any.
fn rewrite(event: &[u8], out: &mut Vec<u8>, change: &mut impl FnMut(&[u8]) -> Option<Vec<u8>>) {
    let mut data: Option<Vec<u8>> = None;
    for value in lines(event).filter_map(|(line, _)| data_of(line)) {
        match &mut data {
            Some(data) => {
                data.push(b'\n');
                data.extend_from_slice(value);
            }
            None => data = Some(value.to_vec()),
        }
    }
    let Some(changed) = data.and_then(|data| change(&data)) else {
        out.extend_from_slice(event);
        return;
    };
    let mut changed = Some(changed);
    for (line, end) in lines(event) {
        if data_of(line).is_none() {
            out.extend_from_slice(line);
            out.extend_from_slice(end);
        } else if let Some(changed) = changed.take() {
            for part in changed.split(|byte| *byte == b'\n') {
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(part);
                out.extend_from_slice(end);
            }
        }
    }
}

/// The value of a line, if it is one of data.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    match line.strip_prefix(b"data")? {
        b"" => Some(b""),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

/// The lines of an event, each with its end. A line feed at the beginning belongs to the event before.
fn lines(mut rest: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let length = length.unwrap_or(rest.len());
        let end = match rest[length..] {
            [b'\r', b'\n', ..] => 2,
            [] => 0,
            _ => 1,
        };
        let (line, after) = rest.split_at(length);
        let (end, after) = after.split_at(end);
        rest = after;
        Some((line, end))
    })
}

#[cfg(test)]
mod tests;
