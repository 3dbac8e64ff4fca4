//! What the journal was to say and perhaps does not: writing it down failed, and the process lives. Pure.

use super::Book;

/// A journal that was to be written. As long as whoever knows it lives, what an authorization server said once is not lost.
#[derive(Clone, Debug)]
pub struct Missed {
    /// What it said before.
    before: Book,
    /// What it was to say.
    book: Book,
    /// It announces something that was not done, because announcing it failed.
    is_undone: bool,
}

impl Missed {
    /// Writing `book` over `before` failed.
    pub fn new(before: &Book, book: &Book) -> Self {
        Self {
            before: before.clone(),
            book: book.clone(),
            is_undone: before.intent.is_none() && book.intent.is_some(),
        }
    }

    /// What the journal must say now that this was found in it; `None`: what it says.
    pub fn beyond(&self, found: &Book) -> Option<Book> {
        let version = |book: &Book| Book {
            version: found.version.clone(),
            ..book.clone()
        };
        if version(&self.before) == *found {
            // It did not get there.
            return (!self.is_undone).then(|| version(&self.book));
        }
        // It did; if it is anything else, somebody wrote it who knows better.
        (self.is_undone && version(&self.book) == *found).then(|| found.not_begun())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Reason;

    #[test]
    fn what_was_learnt_is_written_again_and_what_was_only_announced_is_taken_back() {
        let at = |version: &str, book: &Book| Book {
            version: Some(version.to_owned()),
            ..book.clone()
        };
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let empty = at("1", &Book::default());
        let begun = empty.begun(Reason::First, None, None, now);
        let answered = begun.left_behind(1, now, None);

        let announced = Missed::new(&empty, &begun);
        assert_eq!(announced.beyond(&empty), None);
        assert_eq!(
            announced.beyond(&at("2", &begun)),
            Some(at("2", &begun.not_begun()))
        );
        assert_eq!(announced.beyond(&at("3", &answered)), None);

        let learnt = Missed::new(&at("2", &begun), &answered);
        // Somebody put a label on it meanwhile.
        assert_eq!(learnt.beyond(&at("9", &begun)), Some(at("9", &answered)));
        assert_eq!(learnt.beyond(&at("3", &answered)), None);
        assert_eq!(learnt.beyond(&at("3", &begun.ended(now).not_begun())), None);

        // An intent that is older than what failed was carried out.
        let other = Book {
            refusal: Some("other".to_owned()),
            ..begun.clone()
        };
        let tidied = Missed::new(&at("2", &begun), &at("2", &other));
        assert_eq!(tidied.beyond(&at("3", &other)), None);
        assert_eq!(tidied.beyond(&at("2", &begun)), Some(at("2", &other)));
    }
}
