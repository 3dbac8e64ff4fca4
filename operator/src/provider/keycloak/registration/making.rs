//! How scopes are made and deleted while clients can register themselves.

use std::time::Duration;

use serde_json::Value;

use super::{
    super::{
        Keycloak,
        documents::{POLICIES, Patch},
        mark::text,
    },
    closing::Closing,
    guards::closed_policy,
    merge,
};
use crate::provider::{Call, Change, ProviderError, Read, Verb};

/// A scope that is made and has no audience yet may be asked about by an answer from so long ago.
const RECENT: Read = Read::Within(Duration::from_mins(1));

impl Keycloak {
    /// Carries out a call that makes, changes or deletes a scope, if it has to be closed before it can do harm. `None`: any
    /// other call.
    pub(in super::super) async fn make_closed(&self, call: &Call) -> Option<Result<(), ProviderError>> {
        if !self.admin.http.limits.closes() {
            return None;
        }
        match call.operation {
            "create_scope" => Some(self.create_closed(call).await),
            "create_mapper" => Some(self.create_mapper(call).await),
            "delete_scope" => Some(self.delete_closed(call).await),
            _ => None,
        }
    }

    async fn create_closed(&self, call: &Call) -> Result<(), ProviderError> {
        let mut bare = call.clone();
        let body = bare.body.get_or_insert_default();
        let mappers = body["protocolMappers"].take();
        body["protocolMappers"] = Value::Array(Vec::new());
        let (name, id) = (text(body, "name"), text(body, "id"));
        let (Some(name), Some(id)) = (name.map(str::to_owned), id.map(str::to_owned)) else {
            return self.admin.write(call).await;
        };
        self.admin.write(&bare).await?;
        self.change_closed(Closing::scope(closed_policy(&self.installation), &name))
            .await?;
        for mapper in mappers.as_array().into_iter().flatten() {
            let add = Call {
                operation: "create_mapper",
                change: Change::Create,
                subject: call.subject.clone(),
                verb: Verb::Post,
                path: format!("/client-scopes/{id}/protocol-mappers/models"),
                body: Some(mapper.clone()),
            };
            self.admin.write(&add).await?;
        }
        Ok(())
    }

    /// A scope that has no audience may not have been closed: whoever made it was killed.
    async fn create_mapper(&self, call: &Call) -> Result<(), ProviderError> {
        let id = scope_id(call);
        let scopes = self.scopes(RECENT).await?;
        let scope = scopes
            .iter()
            .find(|(_, owner)| text(&owner.raw, "id") == Some(id));
        if let Some((name, _)) = scope {
            self.change_closed(Closing::scope(closed_policy(&self.installation), name))
                .await?;
        }
        self.admin.write(call).await
    }

    async fn delete_closed(&self, call: &Call) -> Result<(), ProviderError> {
        let path = format!("/client-scopes/{}", scope_id(call));
        if let Some(scope) = self.read_one("read_scope", &path).await? {
            let mappers = scope["protocolMappers"].as_array().into_iter().flatten();
            for id in mappers.filter_map(|mapper| text(mapper, "id")) {
                let remove = Call {
                    operation: "delete_mapper",
                    change: Change::Revoke,
                    subject: call.subject.clone(),
                    verb: Verb::Delete,
                    path: format!("{path}/protocol-mappers/models/{id}"),
                    body: None,
                };
                self.admin.write(&remove).await?;
            }
            let name = text(&scope, "name").unwrap_or_default();
            let closing = Closing::no_more(closed_policy(&self.installation), name);
            self.change_closed(closing).await?;
        }
        self.admin.write(call).await
    }

    async fn change_closed(&self, closing: Closing) -> Result<(), ProviderError> {
        let patch = Patch {
            closing: Some(closing),
            ..Patch::default()
        };
        let call = merge(&POLICIES, Change::Revoke, "that refuse closed scopes", &patch);
        self.merge_patch(&POLICIES, &patch, &call).await
    }
}

/// The id of the scope that a call is about.
fn scope_id(call: &Call) -> &str {
    call.path.split('/').nth(2).unwrap_or_default()
}
