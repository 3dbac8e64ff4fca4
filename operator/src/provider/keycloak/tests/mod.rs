mod memory;
mod plans;
mod properties;
mod realm;
mod server;

use std::{collections::BTreeSet, time::Duration};

use crate::provider::{Authentication, ClientSpec, Grant, Mark, ResourceSpec};

fn mark(kind: &str, name: &str) -> Mark {
    Mark {
        installation: "prod".into(),
        kind: kind.into(),
        namespace: "team".into(),
        name: name.into(),
        uid: "uid-1".into(),
    }
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn agent() -> ClientSpec {
    ClientSpec {
        mark: mark("McpClient", "agent"),
        client_id: "prod.team.agent".into(),
        display_name: "Agent".into(),
        enabled: true,
        grants: [Grant::AuthorizationCode, Grant::RefreshToken].into(),
        redirect_uris: set(&["https://app.example.com/cb"]),
        authentication: Authentication::ClientSecret,
        consent: true,
        token_lifetime: Duration::from_secs(300),
        scopes: set(&["orders:read"]),
        adopt: false,
    }
}

fn orders() -> ResourceSpec {
    ResourceSpec {
        mark: mark("McpServer", "orders"),
        resource: "https://mcp.example.com/orders".into(),
        display_name: "orders".into(),
        scopes: [
            ("orders:read".to_owned(), "Read orders".to_owned()),
            ("orders:write".to_owned(), String::new()),
        ]
        .into(),
        exchange_scopes: BTreeSet::new(),
        exchange_token_lifetime: Duration::from_secs(300),
        adopt: false,
        adopt_scopes: BTreeSet::new(),
    }
}
