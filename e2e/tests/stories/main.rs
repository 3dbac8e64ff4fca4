//! Stories against a real API server and a real Keycloak.

use mcp_auth_e2e::world::World;

fn main() -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let world = World::start().await?;
        world
            .control_plane()
            .kubectl()
            .must(&["get", "namespaces"])
            .await?;
        world.stop().await
    })
}
