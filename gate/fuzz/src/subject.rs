//! What is compared: bodies, targets of requests, URIs of resources.

/// Says what something is taken for by the gate, or that it is refused.
pub type Judge = fn(&[u8]) -> Option<String>;

/// What something is taken for by somebody who refuses nothing.
pub type Sight = fn(&[u8]) -> String;

/// Who sees it, and what they see.
pub type View = (String, String);

/// Something that the gate reads, and others after it.
#[derive(Clone, Copy)]
pub struct Subject {
    /// What it is, which is also what readers are asked to read.
    pub name: &'static str,
    /// Makes one from a seed: always the same one.
    pub make: fn(u64) -> Vec<u8>,
    /// What the gate takes it for.
    pub judge: Judge,
    /// What comes to readers of it.
    pub shown: fn(&[u8]) -> Vec<u8>,
    /// What others in this process take it for, by name.
    pub beside: &'static [(&'static str, Sight)],
    /// Whether all take it for the same; the gate is the first.
    pub agree: fn(&[View]) -> bool,
    /// What every reader must be able to read, and must take for the same as the gate.
    pub probe: &'static [u8],
}

impl Subject {
    /// What is seen in this process: by the gate first.
    pub(crate) fn views(&self, made: &[u8]) -> Vec<View> {
        let gate = ("gate".to_owned(), (self.judge)(made).unwrap_or_default());
        let beside = self.beside.iter();
        let beside = beside.map(|(name, read)| ((*name).to_owned(), read(made)));
        [gate].into_iter().chain(beside).collect()
    }
}

/// All of them.
pub const ALL: [Subject; 3] = [
    crate::bodies::SUBJECT,
    crate::targets::SUBJECT,
    crate::uris::SUBJECT,
];

/// It comes to readers as it is.
pub(crate) fn as_it_is(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}
