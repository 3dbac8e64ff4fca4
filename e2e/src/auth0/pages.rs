//! Lists in pages: by offset (`page`, `per_page`, `include_totals`), by checkpoint (`from`, `take`), or both, as each
//! endpoint documents it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    errors::Refusal,
    wire::{Answer, Object, Request},
};

/// How one endpoint lists.
pub(super) struct Listing {
    /// The name of the list where the answer is an object.
    pub(super) name: &'static str,
    pub(super) checkpoint: bool,
    pub(super) offset: bool,
    /// The other parameters of the query.
    pub(super) filters: &'static [&'static str],
    /// How many `take` may ask for.
    pub(super) most: usize,
    /// How deep an offset may reach, where that is limited.
    pub(super) deepest: usize,
}

/// What most lists do.
pub(super) const LISTING: Listing = Listing {
    name: "",
    checkpoint: false,
    offset: false,
    filters: &[],
    most: 100,
    deepest: usize::MAX,
};

/// How many there are on a page if the caller does not say. A caller that reads one page only and has more objects than
/// this does not see all of them.
const PAGE: usize = 50;
const BY_OFFSET: [&str; 3] = ["page", "per_page", "include_totals"];
const BY_CHECKPOINT: [&str; 2] = ["from", "take"];

impl Listing {
    /// The page that was asked for, of objects with their numbers.
    pub(super) fn answer(
        &self,
        request: &Request,
        rows: impl Iterator<Item = (u64, Object)>,
    ) -> Result<Answer, Refusal> {
        let has = |names: &[&str]| {
            request
                .query
                .iter()
                .any(|(name, _)| names.contains(&name.as_str()))
        };
        for (name, _) in &request.query {
            let known = self.filters.contains(&name.as_str())
                || (self.offset && BY_OFFSET.contains(&name.as_str()))
                || (self.checkpoint && BY_CHECKPOINT.contains(&name.as_str()));
            if !known {
                let problem = format!("Additional properties not allowed: {name}");
                return Err(Refusal::query(&problem));
            }
        }
        if has(&BY_OFFSET) && has(&BY_CHECKPOINT) {
            return Err(Refusal::query("page and from cannot be used together"));
        }
        let rows: Vec<_> = rows
            .map(|(number, row)| (number, projected(request, row)))
            .collect();
        if has(&BY_CHECKPOINT) || !self.offset {
            return self.checkpointed(request, rows);
        }
        self.paged(request, rows)
    }

    fn checkpointed(&self, request: &Request, rows: Vec<(u64, Object)>) -> Result<Answer, Refusal> {
        let take = number(request, "take", PAGE)?;
        if take == 0 || take > self.most {
            return Err(Refusal::query(&format!("take must be from 1 to {}", self.most)));
        }
        let after = match request.query("from") {
            None => 0,
            Some(from) => read_checkpoint(from).ok_or_else(|| Refusal::query("from is no checkpoint"))?,
        };
        let mut rest = rows.into_iter().filter(|(number, _)| *number > after).peekable();
        let (mut page, mut last) = (Vec::new(), after);
        while let Some((number, row)) = rest.next_if(|_| page.len() < take) {
            page.push(Value::Object(row));
            last = number;
        }
        let mut answer = json!({self.name: page});
        if rest.peek().is_some() {
            answer["next"] = json!(checkpoint(last));
        }
        Ok(Answer::ok(answer))
    }

    fn paged(&self, request: &Request, rows: Vec<(u64, Object)>) -> Result<Answer, Refusal> {
        let (page, limit) = (number(request, "page", 0)?, number(request, "per_page", PAGE)?);
        if limit == 0 || limit > 100 {
            return Err(Refusal::query("per_page must be from 1 to 100"));
        }
        let start = page.saturating_mul(limit);
        if start.saturating_add(limit) > self.deepest {
            let problem = format!("only the first {} can be read in pages", self.deepest);
            return Err(Refusal::query(&problem));
        }
        let total = rows.len();
        let rows = rows.into_iter().skip(start).take(limit);
        let rows: Vec<Value> = rows.map(|(_, row)| Value::Object(row)).collect();
        match request.query("include_totals") {
            None | Some("false") => Ok(Answer::ok(rows)),
            Some("true") => Ok(Answer::ok(json!({
                "start": start, "limit": limit, "length": rows.len(), "total": total, self.name: rows,
            }))),
            Some(_) => Err(Refusal::query("include_totals must be true or false")),
        }
    }
}

/// Only the fields that `fields` names, or all but those with `include_fields=false`.
pub(super) fn projected(request: &Request, row: Object) -> Object {
    let Some(fields) = request.query("fields") else {
        return row;
    };
    let include = request.query("include_fields") != Some("false");
    let named = |name: &str| fields.split(',').any(|field| field.trim() == name);
    row.into_iter()
        .filter(|(name, _)| named(name) == include)
        .collect()
}

/// A filter that is true or false.
pub(super) fn flag(request: &Request, name: &str) -> Result<Option<bool>, Refusal> {
    match request.query(name) {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(Refusal::query(&format!("{name} must be true or false"))),
    }
}

fn number(request: &Request, name: &str, absent: usize) -> Result<usize, Refusal> {
    match request.query(name) {
        None => Ok(absent),
        Some(text) => text
            .parse()
            .map_err(|_| Refusal::query(&format!("{name} must be a number"))),
    }
}

/// Opaque to callers.
fn checkpoint(number: u64) -> String {
    URL_SAFE_NO_PAD.encode(format!("after:{number}"))
}

fn read_checkpoint(text: &str) -> Option<u64> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    String::from_utf8(bytes)
        .ok()?
        .strip_prefix("after:")?
        .parse()
        .ok()
}
