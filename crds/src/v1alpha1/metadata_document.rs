//! A client that is what a document of its maker says (OAuth Client ID Metadata Document).

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{mcp_client::GrantType, rules};

/// A client whose metadata is a document that its maker publishes. The operator registers it and has it follow its document,
/// as long as all redirect URIs in there are such as the namespace may have.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MetadataDocument {
    /// The address of the document, which is the client id. Immutable.
    #[schemars(length(min = 1, max = 120))]
    #[x_kube(
        validation = rules::document_address(),
        validation = rules::document_path(),
        validation = rules::immutable("another document is another client: create another McpClient")
    )]
    pub url: String,

    /// How the client may get tokens, as far as its document says so too: authorization_code and refresh_token, or
    /// authorization_code alone; both when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(g, g != 'client_credentials')")
            .message("no document makes a client that acts for itself: leave client_credentials out"),
        validation = Rule::new("self.size() == 0 || 'authorization_code' in self")
            .message("refresh_token needs authorization_code")
    )]
    pub grant_types: Vec<GrantType>,
}
