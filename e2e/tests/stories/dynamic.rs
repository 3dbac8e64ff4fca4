//! Clients at authorization servers at which one can only register: oidc-provider, with rotating registration access
//! tokens, and Keycloak's own registration endpoint.

mod faults;
mod keycloak;
mod kills;
mod lies;
mod life;
pub(crate) mod registrar;
mod resources;
mod rows;
mod samples;
mod scene;
mod signed_in;

use mcp_auth_e2e::runner::Story;

pub(crate) use scene::authorization_server;

pub(crate) fn stories() -> Vec<Story> {
    let mut stories = life::stories();
    stories.extend(faults::stories());
    stories.extend(keycloak::stories());
    stories.extend(kills::stories());
    stories.extend(lies::stories());
    stories.extend(resources::stories());
    stories.extend(rows::stories());
    stories.extend(samples::stories());
    stories
}
