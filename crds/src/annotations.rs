//! Every annotation, label and finalizer key of the project.

/// On an McpClient: any new value rotates its credential once; `status.lastHandledRotateRequest` answers.
pub const ROTATE_REQUESTED_AT: &str = "mcpauth.dev/rotate-requested-at";
/// On an McpClient: any new value replaces its credential at once and lets the old one end with it;
/// `status.lastHandledRevokeRequest` answers.
pub const REVOKE_REQUESTED_AT: &str = "mcpauth.dev/revoke-requested-at";
/// On any of our kinds: `"true"` lets a deletion give up on the authorization server.
pub const ABANDON: &str = "mcpauth.dev/abandon";
/// On any of our kinds: `paused` stops everything but revocation, deletion and loss of permission.
pub const RECONCILE: &str = "mcpauth.dev/reconcile";
/// The value of [`RECONCILE`] that pauses an object.
pub const RECONCILE_PAUSED: &str = "paused";

/// On a Service: the AuthorizationServer, `[namespace/]name`. With [`SERVICE_RESOURCE`] it asks for an McpServer.
pub const SERVICE_AUTHORIZATION_SERVER: &str = "mcpauth.dev/authorization-server";
/// On a Service: the canonical URI of the MCP server behind it.
pub const SERVICE_RESOURCE: &str = "mcpauth.dev/resource";
/// On a Service: scope names, separated by spaces.
pub const SERVICE_SCOPES: &str = "mcpauth.dev/scopes";
/// On a Service: name or number of the port that speaks MCP.
pub const SERVICE_PORT: &str = "mcpauth.dev/port";
/// On a Service: path of the MCP endpoint on that port.
pub const SERVICE_PATH: &str = "mcpauth.dev/path";
/// On a Service: `enforcement.mode` of the McpServer.
pub const SERVICE_ENFORCEMENT: &str = "mcpauth.dev/enforcement";

/// The annotations that turn a Service into an McpServer, in the order in which documentation lists them.
pub const SERVICE_ALL: [&str; 6] = [
    SERVICE_AUTHORIZATION_SERVER,
    SERVICE_RESOURCE,
    SERVICE_SCOPES,
    SERVICE_PORT,
    SERVICE_PATH,
    SERVICE_ENFORCEMENT,
];

/// On pods of a gate: the policy and credentials that they are to have. A change of it lets the kubelet refresh what is
/// mounted at once.
pub const GATE_VERSION: &str = "mcpauth.dev/gate-version";
/// On pods of a gate: the certificate with which they were started.
pub const GATE_CERTIFICATE: &str = "mcpauth.dev/gate-certificate";
/// On what belongs to a gate, and on ConfigMaps: by what the object that was wanted is told from others. Another value shows that something
/// was given up since.
pub const WANTED: &str = "mcpauth.dev/wanted";
/// Label on what belongs to the gate of an McpServer: its name.
pub const SERVER: &str = "mcpauth.dev/server";

/// Finalizer on each of our kinds: there may be something at the authorization server to clean up.
pub const FINALIZER: &str = "mcpauth.dev/cleanup";

/// Label on everything that the operator creates in the cluster.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`], and the field manager of every server-side apply.
pub const MANAGER: &str = "mcp-auth-operator";
