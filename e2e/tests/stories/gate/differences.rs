//! Where a face cannot do what the proxy does, the documentation says so; and it says nothing that is not so.

use std::{collections::BTreeMap, fs, sync::Arc};

use anyhow::{Context, ensure};
use mcp_auth_e2e::{gate::engines::DECIDED, run_folder::RunFolder, world::checkout};

use super::{case::Difference, cases, scene::Face, table::expected};

/// What the documentation writes where an engine does as the proxy.
const SAME: &str = "as the proxy";
const HEADING: &str = "| what engines do by themselves |";

/// Whether the rows differ with Envoy, and with Traefik.
type Found = BTreeMap<&'static str, [bool; 2]>;

fn found() -> Found {
    let mut found = Found::new();
    for case in cases::all() {
        for (number, face) in [Face::Envoy, Face::Traefik].into_iter().enumerate() {
            if let (_, Some(difference)) = expected(&case, face) {
                found.entry(title(difference)).or_default()[number] = true;
            }
        }
    }
    found
}

/// The first cell of its line in the documentation.
fn title(difference: Difference) -> &'static str {
    match difference {
        Difference::OwnRefusal => "what they take for no request of HTTP",
        Difference::NormalPath => "paths in another form",
        Difference::TooLarge => "a body that is too large",
        Difference::OwnReading => "heads that are not quite HTTP",
        Difference::Upgrades => "requests for another protocol",
        Difference::Sessions => "ids of sessions",
        Difference::HeadersJoined => "a header that is there twice",
        Difference::ConnectionHeaders => "headers that `Connection` names",
        Difference::HoldsToken => "the token, or a name of the gate's, in a header that they do not know",
    }
}

pub(crate) async fn differences_are_documented(_run: Arc<RunFolder>) -> anyhow::Result<()> {
    let text = fs::read_to_string(checkout().join("docs/gate.md"))?;
    let lines = text.lines().skip_while(|line| !line.starts_with(HEADING));
    // The heading and the line below it.
    let lines = lines.skip(2).take_while(|line| line.starts_with('|'));
    let mut documented = BTreeMap::new();
    for line in lines {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [title, envoy, traefik] = cells[..] else {
            anyhow::bail!("not three cells: {line}");
        };
        documented.insert(title, [envoy != SAME, traefik != SAME]);
    }
    for name in DECIDED {
        ensure!(
            text.contains(name),
            "nothing is said of {name} in authResponseHeaders"
        );
    }
    let found = found();
    for (title, differs) in &found {
        let said = documented
            .get(title)
            .with_context(|| format!("nothing is said of {title:?}"))?;
        ensure!(
            said == differs,
            "{title}: Envoy and Traefik differ: {differs:?}, said: {said:?}"
        );
    }
    ensure!(
        documented.len() == found.len(),
        "more is said than is so: {documented:?}"
    );
    Ok(())
}
