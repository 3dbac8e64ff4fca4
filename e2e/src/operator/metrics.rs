//! Reading the text format of Prometheus.

/// The sum of the samples called `name` whose labels include `labels`.
pub(super) fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    text.lines()
        .filter_map(sample)
        .filter(|sample| sample.name == name)
        .filter(|sample| {
            labels
                .iter()
                .all(|(key, value)| sample.labels.iter().any(|(k, v)| k == key && v == value))
        })
        .map(|sample| sample.value)
        .sum()
}

struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, String)>,
    value: f64,
}

fn sample(line: &str) -> Option<Sample<'_>> {
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    // An exemplar or a time may follow the value.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name, labels, value })
}

/// Labels up to the closing brace, and what follows it.
fn labels(mut text: &str) -> Option<(Vec<(&str, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        text = text.trim_start_matches(',');
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (key, rest) = text.split_once("=\"")?;
        let (value, rest) = quoted(rest)?;
        labels.push((key, value));
        text = rest;
    }
}

/// A value up to its closing quote, with escapes undone, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::sum;

    const TEXT: &str = r#"# HELP a_total Things.
# TYPE a counter
a_total{kind="McpServer",text="with \"quotes\", } and \\ in it"} 2
a_total{kind="McpClient"} 3 1700000000
a_created{kind="McpClient"} 9
b 1.5
# EOF
"#;

    #[test]
    fn samples_are_summed_by_label() {
        type Labels = &'static [(&'static str, &'static str)];
        let table: [(&str, Labels, f64); 6] = [
            ("a_total", &[], 5.0),
            ("a_total", &[("kind", "McpClient")], 3.0),
            ("a_total", &[("text", r#"with "quotes", } and \ in it"#)], 2.0),
            ("a_total", &[("kind", "Service")], 0.0),
            ("b", &[], 1.5),
            ("missing", &[], 0.0),
        ];
        for (name, labels, expected) in table {
            assert!(
                (sum(TEXT, name, labels) - expected).abs() < f64::EPSILON,
                "{name} {labels:?}"
            );
        }
    }
}
