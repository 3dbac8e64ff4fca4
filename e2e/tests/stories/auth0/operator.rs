//! The operator itself at the stand-in: the main job's samples with another AuthorizationServer, and all that is left when
//! they are gone.

mod clients;
mod documents;
mod door;
mod gates;
mod kills;
mod samples;
pub(crate) mod scene;
mod settings;

use mcp_auth_e2e::runner::Story;

pub(super) fn stories() -> Vec<Story> {
    let mut stories = samples::stories();
    stories.extend(clients::stories());
    stories.extend(door::stories());
    stories.extend(documents::stories());
    stories.extend(gates::stories());
    stories.extend(kills::stories());
    stories.extend(settings::stories());
    stories
}
